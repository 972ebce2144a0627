/* engine_wasmtime.c: the benchmark's loops on the peer, through its C API. It comes as a shared library without headers, so
 * what is used of it is declared here. Its fastest ways are taken: slots from a pool whose pages stay resident, imports
 * resolved beforehand (InstancePre), exports by index, calls that check no types. */

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* ---- the part of the API that is used ---- */

typedef struct opaque opaque; /* whatever the API only gives pointers to */

struct wasmtime_func {
    uint64_t store;
    void *private;
};

struct wasmtime_extern {
    uint8_t kind; /* 0: a function */
    struct wasmtime_func func;
    uint64_t rest[2];
};

struct wasmtime_instance {
    uint64_t store;
    size_t private;
};

union wasmtime_val_raw {
    int32_t i32;
    uint8_t v128[16];
};

struct wasmtime_val {
    uint8_t kind; /* 0: an i32 */
    union {
        int32_t i32;
        uint64_t rest[3];
    } of;
};

struct byte_vec {
    size_t size;
    char *data;
};

struct valtype_vec {
    size_t size;
    opaque **data;
};

typedef opaque *(*unchecked_callback)(void *env, opaque *caller, union wasmtime_val_raw *values, size_t count);

/* FUNCTION(result, name, parameters) */
#define FUNCTIONS                                                                                                      \
    FUNCTION(opaque *, wasm_config_new, (void))                                                                        \
    FUNCTION(opaque *, wasm_engine_new_with_config, (opaque * config))                                                 \
    FUNCTION(void, wasm_engine_delete, (opaque * engine))                                                              \
    FUNCTION(opaque *, wasm_functype_new, (struct valtype_vec * params, struct valtype_vec * results))                 \
    FUNCTION(void, wasm_functype_delete, (opaque * type))                                                              \
    FUNCTION(opaque *, wasm_valtype_new, (uint8_t kind))                                                               \
    FUNCTION(void, wasm_valtype_vec_new, (struct valtype_vec * vec, size_t size, opaque *const *types))                \
    FUNCTION(void, wasmtime_config_concurrency_support_set, (opaque * config, bool on))                                \
    FUNCTION(opaque *, wasmtime_pooling_allocation_config_new, (void))                                                 \
    FUNCTION(void, wasmtime_pooling_allocation_config_delete, (opaque * pool))                                         \
    FUNCTION(void, wasmtime_pooling_allocation_config_total_core_instances_set, (opaque * pool, uint32_t n))           \
    FUNCTION(void, wasmtime_pooling_allocation_config_total_memories_set, (opaque * pool, uint32_t n))                 \
    FUNCTION(void, wasmtime_pooling_allocation_config_total_tables_set, (opaque * pool, uint32_t n))                   \
    FUNCTION(void, wasmtime_pooling_allocation_config_max_unused_warm_slots_set, (opaque * pool, uint32_t n))          \
    FUNCTION(void, wasmtime_pooling_allocation_config_linear_memory_keep_resident_set, (opaque * pool, size_t size))   \
    FUNCTION(void, wasmtime_pooling_allocation_config_table_keep_resident_set, (opaque * pool, size_t size))           \
    FUNCTION(void, wasmtime_pooling_allocation_strategy_set, (opaque * config, opaque * pool))                         \
    FUNCTION(opaque *, wasmtime_module_new, (opaque * engine, const uint8_t *wasm, size_t size, opaque **module))      \
    FUNCTION(opaque *, wasmtime_module_serialize, (opaque * module, struct byte_vec * bytes))                          \
    FUNCTION(opaque *, wasmtime_module_deserialize_file, (opaque * engine, const char *path, opaque **module))         \
    FUNCTION(void, wasm_byte_vec_delete, (struct byte_vec * bytes))                                                    \
    FUNCTION(void, wasmtime_config_memory_reservation_set, (opaque * config, uint64_t size))                           \
    FUNCTION(void, wasmtime_config_memory_guard_size_set, (opaque * config, uint64_t size))                            \
    FUNCTION(void, wasmtime_pooling_allocation_config_max_memory_size_set, (opaque * pool, size_t size))               \
    FUNCTION(void, wasmtime_pooling_allocation_config_table_elements_set, (opaque * pool, size_t count))               \
    FUNCTION(opaque *, wasmtime_linker_define_unknown_imports_as_traps, (opaque * linker, opaque * module))            \
    FUNCTION(void, wasmtime_module_delete, (opaque * module))                                                          \
    FUNCTION(opaque *, wasmtime_linker_new, (opaque * engine))                                                         \
    FUNCTION(void, wasmtime_linker_delete, (opaque * linker))                                                          \
    FUNCTION(opaque *, wasmtime_linker_define_func_unchecked,                                                          \
             (opaque * linker, const char *module, size_t module_size, const char *name, size_t name_size,             \
              opaque *type, unchecked_callback callback, void *env, void (*finalizer)(void *)))                        \
    FUNCTION(opaque *, wasmtime_linker_instantiate_pre, (opaque * linker, opaque * module, opaque * *pre))             \
    FUNCTION(void, wasmtime_instance_pre_delete, (opaque * pre))                                                       \
    FUNCTION(opaque *, wasmtime_store_new, (opaque * engine, void *data, void (*finalizer)(void *)))                   \
    FUNCTION(void, wasmtime_store_delete, (opaque * store))                                                            \
    FUNCTION(opaque *, wasmtime_store_context, (opaque * store))                                                       \
    FUNCTION(opaque *, wasmtime_instance_pre_instantiate,                                                              \
             (opaque * pre, opaque * context, struct wasmtime_instance * instance, opaque * *trap))                    \
    FUNCTION(bool, wasmtime_instance_export_nth,                                                                       \
             (opaque * context, struct wasmtime_instance * instance, size_t i, char **name, size_t *name_size,         \
              struct wasmtime_extern *item))                                                                           \
    FUNCTION(bool, wasmtime_instance_export_get,                                                                       \
             (opaque * context, struct wasmtime_instance * instance, const char *name, size_t name_size,               \
              struct wasmtime_extern *item))                                                                           \
    FUNCTION(opaque *, wasmtime_func_call_unchecked,                                                                   \
             (opaque * context, const struct wasmtime_func *func, union wasmtime_val_raw *values, size_t count,        \
              opaque **trap))                                                                                          \
    FUNCTION(opaque *, wasmtime_func_call,                                                                             \
             (opaque * context, const struct wasmtime_func *func, const struct wasmtime_val *arguments,                \
              size_t arguments_count, struct wasmtime_val *results, size_t results_count, opaque **trap))              \
    FUNCTION(void, wasmtime_error_message, (opaque * error, struct byte_vec * message))

#define FUNCTION(result, name, parameters) static result(*name) parameters;
FUNCTIONS
#undef FUNCTION

void wasmtime_load(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        die("%s", dlerror());
#define FUNCTION(result, name, parameters)                                                                             \
    *(void **)&name = dlsym(library, #name);                                                                           \
    if (!name)                                                                                                         \
        die("%s has no function %s", path, #name);
    FUNCTIONS
#undef FUNCTION
}

static void check(opaque *error, const opaque *trap) {
    if (__builtin_expect(!error && !trap, 1))
        return;
    struct byte_vec message = {4, "trap"};
    if (error)
        wasmtime_error_message(error, &message);
    die("wasmtime: %.*s", (int)message.size, message.data);
}

/* ---- the subject ---- */

enum { KEPT_RESIDENT = 1 << 20 };

struct live {
    opaque *store, *context;
    struct wasmtime_instance instance;
};

struct subject {
    opaque *engine, *linker, *module, *pre;
    bool shares_engine, runs;
    opaque **held;
    uint32_t held_count;
    struct live called;
    struct wasmtime_func function; /* of it */
};

static opaque *host(void *env, opaque *caller, union wasmtime_val_raw *values, size_t count) {
    (void)env, (void)caller, (void)values, (void)count; /* the result is the argument */
    return NULL;
}

static opaque *new_engine(const struct setup *setup) {
    uint32_t slots = setup->slots;
    opaque *config = wasm_config_new(), *pool = wasmtime_pooling_allocation_config_new();
    wasmtime_pooling_allocation_config_total_core_instances_set(pool, slots);
    wasmtime_pooling_allocation_config_total_memories_set(pool, slots);
    wasmtime_pooling_allocation_config_total_tables_set(pool, slots);
    wasmtime_pooling_allocation_config_max_unused_warm_slots_set(pool, slots);
    wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, KEPT_RESIDENT);
    wasmtime_pooling_allocation_config_table_keep_resident_set(pool, KEPT_RESIDENT);
    if (setup->compact) { /* tables of the size that the guests have */
        wasmtime_config_memory_reservation_set(config, COMPACT_MEMORY);
        wasmtime_config_memory_guard_size_set(config, 0);
        wasmtime_pooling_allocation_config_max_memory_size_set(pool, COMPACT_MEMORY);
        wasmtime_pooling_allocation_config_table_elements_set(pool, 8);
    }
    wasmtime_pooling_allocation_strategy_set(config, pool);
    wasmtime_pooling_allocation_config_delete(pool);
    wasmtime_config_concurrency_support_set(config, false); /* makes stores cheaper; only async calls need it */
    opaque *engine = wasm_engine_new_with_config(config);
    if (!engine)
        die("wasmtime: no engine with %u slots", slots);
    return engine;
}

static uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        die("%s cannot be read", path);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = allocate(*size + 1);
    if (fread(bytes, 1, *size, file) != *size)
        die("%s cannot be read", path);
    fclose(file);
    return bytes;
}

static void define_host(opaque *linker) {
    enum { I32 = 0 };
    struct valtype_vec params, results;
    opaque *param = wasm_valtype_new(I32), *result = wasm_valtype_new(I32);
    wasm_valtype_vec_new(&params, 1, &param);
    wasm_valtype_vec_new(&results, 1, &result);
    opaque *type = wasm_functype_new(&params, &results);
    check(wasmtime_linker_define_func_unchecked(linker, "env", 3, "host", 4, type, host, NULL, NULL), NULL);
    wasm_functype_delete(type);
}

static struct live create(const subject *s) {
    struct live live;
    opaque *trap = NULL;
    live.store = wasmtime_store_new(s->engine, NULL, NULL);
    live.context = wasmtime_store_context(live.store);
    check(wasmtime_instance_pre_instantiate(s->pre, live.context, &live.instance, &trap), trap);
    return live;
}

static opaque *compile(opaque *engine, const struct setup *setup) {
    opaque *module;
    size_t size;
    uint8_t *wasm = read_file(setup->wasm, &size);
    check(wasmtime_module_new(engine, wasm, size, &module), NULL);
    free(wasm);
    return module;
}

static void prepare(const struct setup *setup) {
    struct byte_vec bytes;
    opaque *engine = new_engine(setup), *module = compile(engine, setup);
    check(wasmtime_module_serialize(module, &bytes), NULL);
    FILE *file = fopen(setup->compiled, "wb");
    if (!file || fwrite(bytes.data, 1, bytes.size, file) != bytes.size || fclose(file) != 0)
        die("%s cannot be written", setup->compiled);
    wasm_byte_vec_delete(&bytes);
    wasmtime_module_delete(module);
    wasm_engine_delete(engine);
}

static subject *open_(const struct setup *setup) {
    subject *s = allocate(sizeof *s);
    s->shares_engine = setup->shared != NULL;
    s->runs = setup->runs;
    s->engine = setup->shared ? setup->shared->engine : new_engine(setup);
    if (setup->compiled)
        check(wasmtime_module_deserialize_file(s->engine, setup->compiled, &s->module), NULL);
    else
        s->module = compile(s->engine, setup);
    s->linker = wasmtime_linker_new(s->engine);
    define_host(s->linker);
    check(wasmtime_linker_define_unknown_imports_as_traps(s->linker, s->module), NULL);
    check(wasmtime_linker_instantiate_pre(s->linker, s->module, &s->pre), NULL);
    return s;
}

static void close_(subject *s) {
    wasmtime_instance_pre_delete(s->pre);
    wasmtime_linker_delete(s->linker);
    wasmtime_module_delete(s->module);
    if (!s->shares_engine)
        wasm_engine_delete(s->engine);
    free(s);
}

/* ---- the loops ---- */

static inline void call(struct live *live, const struct wasmtime_func *func, uint32_t a, uint32_t b) {
    opaque *trap = NULL;
    union wasmtime_val_raw values[2] = {{.i32 = (int32_t)a}, {.i32 = (int32_t)b}};
    check(wasmtime_func_call_unchecked(live->context, func, values, 2, &trap), trap);
}

static void run(struct live *live, uint32_t a, uint32_t b) {
    struct wasmtime_extern item;
    char *name;
    size_t size;
    if (!wasmtime_instance_export_nth(live->context, &live->instance, 0, &name, &size, &item) || item.kind != 0)
        die("wasmtime: the first export is no function");
    call(live, &item.func, a, b);
}

static void cycles(subject *s, uint64_t count, uint32_t a, uint32_t b) {
    for (uint64_t i = 0; i < count; i++) {
        struct live live = create(s);
        if (s->runs)
            run(&live, a, b);
        wasmtime_store_delete(live.store);
    }
}

static void timed_cycles(subject *s, uint64_t count, uint32_t a, uint32_t b, const struct parts *parts) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t t0 = ticks();
        struct live live = create(s);
        uint64_t t1 = ticks();
        if (s->runs)
            run(&live, a, b);
        uint64_t t2 = ticks();
        wasmtime_store_delete(live.store);
        uint64_t t3 = ticks();
        parts->create[i] = t1 - t0;
        parts->call[i] = t2 - t1;
        parts->destroy[i] = t3 - t2;
    }
}

static void hold(subject *s, uint32_t count, uint32_t a, uint32_t b) {
    s->held = allocate(count * sizeof *s->held);
    s->held_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct live live = create(s);
        s->held[i] = live.store;
        if (s->runs)
            run(&live, a, b);
    }
}

static void let_go(subject *s) {
    for (uint32_t i = 0; i < s->held_count; i++)
        wasmtime_store_delete(s->held[i]);
    free(s->held);
    s->held = NULL;
    s->held_count = 0;
}

static void enter(subject *s, const char *name) {
    struct wasmtime_extern item;
    s->called = create(s);
    if (!wasmtime_instance_export_get(s->called.context, &s->called.instance, name, strlen(name), &item) ||
        item.kind != 0)
        die("wasmtime: no function is exported as \"%s\"", name);
    s->function = item.func;
}

static void calls(subject *s, uint64_t count, uint32_t a, uint32_t b) {
    for (uint64_t i = 0; i < count; i++)
        call(&s->called, &s->function, a, b);
}

static void calls_checked(subject *s, uint64_t count, uint32_t a, uint32_t b) {
    for (uint64_t i = 0; i < count; i++) {
        opaque *trap = NULL;
        struct wasmtime_val result, arguments[2] = {{0, {.i32 = (int32_t)a}}, {0, {.i32 = (int32_t)b}}};
        check(wasmtime_func_call(s->called.context, &s->function, arguments, 2, &result, 1, &trap), trap);
    }
}

static void leave(subject *s) {
    wasmtime_store_delete(s->called.store);
}

const struct engine wasmtime_engine = {
    .name = "wasmtime",
    .prepare = prepare,
    .open = open_,
    .close = close_,
    .cycles = cycles,
    .timed_cycles = timed_cycles,
    .hold = hold,
    .let_go = let_go,
    .enter = enter,
    .calls = calls,
    .calls_checked = calls_checked,
    .leave = leave,
};
