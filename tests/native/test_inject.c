/* test_inject.c: the n-th allocation or system call fails, for every n: nothing is lost, nothing is left over, and afterwards all is as
 * before. Every instance that could be made has the right contents even then. */

#undef LUCET_INJECT /* the test's own calls do not fail */

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "hosts.h"

bool lucet_inject(const char *function);

static struct {
    bool armed, for_good, fired;
    u32 at, calls;
    const char *function;
} injection;

bool lucet_inject(const char *function) {
    if (!injection.armed)
        return false;
    injection.calls++;
    if (injection.for_good ? injection.calls < injection.at : injection.calls != injection.at)
        return false;
    if (!injection.fired)
        injection.function = function;
    injection.fired = true;
    errno = ENOMEM;
    return true;
}

/* ---- what stays through all of it ---- */

enum { HEAPS = 4 };
static const char *const heaps[HEAPS] = {"heap_mapped", "heap_small", "heap_runs", "heap_zero"};
static lucet_region *region;
static struct {
    lucet_linkage *linkage;
    u8 *memory;
    u64 size;
} guests[HEAPS];
static lucet_linkage *exporter, *dynamic;
static lucet_module *importer, *memories;

static lucet_host_result do_nothing(lucet_instance *instance, u64 *slots, void *data) {
    (void)instance, (void)slots, (void)data;
    return LUCET_HOST_OK;
}

static lucet_linkage *link_dynamic(lucet_module *module) {
    lucet_import import = {.from = LUCET_IMPORT_HOST_FUNCTION, .function = do_nothing};
    return lucet_link(module, &import, 1, &last_error);
}

static void set_up(bool tracked) {
    lucet_region_config config = small_config(3);
    config.track_writes = tracked;
    region = new_region(&config);
    for (u32 i = 0; i < HEAPS; i++) {
        guests[i].linkage = load_linked(heaps[i]);
        lucet_instance *instance = started_instance(region, guests[i].linkage);
        guests[i].size = lucet_memory_size(lucet_instance_memory(instance, 0));
        guests[i].memory = malloc(guests[i].size + 1);
        memcpy(guests[i].memory, lucet_memory_base(lucet_instance_memory(instance, 0)), guests[i].size);
        lucet_instance_free(instance);
    }
    exporter = load_linked("exporter");
    importer = load_guest("importer");
    memories = load_guest("memories");
    lucet_module *module = load_guest("dynamic");
    dynamic = link_dynamic(module);
    CHECK(dynamic);
    lucet_module_release(module);
}

static void tear_down(void) {
    for (u32 i = 0; i < HEAPS; i++) {
        lucet_linkage_release(guests[i].linkage);
        free(guests[i].memory);
    }
    lucet_linkage_release(exporter);
    lucet_linkage_release(dynamic);
    lucet_module_release(importer);
    lucet_module_release(memories);
    lucet_region_release(region);
}

static void check_memory(lucet_instance *instance, u32 guest) {
    CHECK_EQUAL(lucet_memory_size(lucet_instance_memory(instance, 0)), guests[guest].size);
    CHECK(memcmp(lucet_memory_base(lucet_instance_memory(instance, 0)), guests[guest].memory, guests[guest].size) == 0);
}

/* A call that may only go wrong because something failed. */
static bool try_call(lucet_instance *instance, const char *name, u64 a, u64 b, u64 c) {
    u64 slots[4] = {a, b, c};
    lucet_outcome_kind kind = call_slots(instance, name, slots);
    if (kind != LUCET_RETURNED)
        CHECK(injection.fired);
    return kind == LUCET_RETURNED;
}

static void check_error(void) {
    CHECK(injection.fired);
    CHECK(last_error.code == LUCET_ERROR_MEMORY || last_error.code == LUCET_ERROR_SYSTEM ||
          last_error.code == LUCET_ERROR_REGION_FULL || last_error.code == LUCET_ERROR_LIMITS ||
          last_error.code == LUCET_ERROR_ARTIFACT || last_error.code == LUCET_ERROR_ARGUMENT);
    CHECK(last_error.message[0]);
    memset(&last_error, 0, sizeof last_error);
}

static lucet_instance *try_new(lucet_region *where, lucet_linkage *linkage) {
    lucet_instance *instance = lucet_instance_new(where, linkage, NULL, &last_error);
    if (!instance)
        check_error();
    return instance;
}

/* Dirty in several ways, reset, and free. */
static void life_of_a_heap(u32 guest) {
    lucet_instance *instance = try_new(region, guests[guest].linkage);
    if (!instance)
        return;
    check_memory(instance, guest);
    u64 pages = lucet_memory_size(lucet_instance_memory(instance, 0)) / HOST_PAGE;
    for (u32 page = 0; page < pages && page < 100; page += 9)
        try_call(instance, "touch", page, 1, 1);
    try_call(instance, "touch", 0, pages < 400 ? pages : 400, 1);
    if (pages && !lucet_memory_will_write(lucet_instance_memory(instance, 0), 0,
                                          lucet_memory_size(lucet_instance_memory(instance, 0))))
        CHECK(injection.fired);
    u64 size = lucet_memory_size(lucet_instance_memory(instance, 0));
    if (lucet_memory_grow(lucet_instance_memory(instance, 0), 5) == UINT64_MAX) {
        CHECK(injection.fired);
        CHECK_EQUAL(lucet_memory_size(lucet_instance_memory(instance, 0)), size);
    } else {
        memset(lucet_memory_base(lucet_instance_memory(instance, 0)) + size, 0xee, 5 * WASM_PAGE);
    }
    CHECK_EQUAL(VMCTX_WORD(instance->vmctx, VMCTX_MEMORY_SIZE), lucet_memory_size(lucet_instance_memory(instance, 0)));
    if (lucet_instance_reset(instance, &last_error)) {
        check_memory(instance, guest);
        if (pages)
            try_call(instance, "touch", 1, 3, 1);
    } else {
        check_error();
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_FAULTED);
        CHECK_FAILS(LUCET_ERROR_STATE, instance, "grow", 0);
    }
    lucet_instance_free(instance);
}

static void life_of_tables(void) {
    lucet_instance *instance = try_new(region, dynamic);
    if (!instance)
        return;
    lucet_outcome_kind kind = lucet_instance_start(instance, &last_outcome, &last_error);
    if (kind == LUCET_FAILED) {
        check_error();
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_NOT_STARTED);
    } else if (kind == LUCET_TRAPPED) {
        CHECK(injection.fired);
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_FAULTED);
    } else {
        u64 slots[2] = {30};
        kind = call_slots(instance, "grow", slots);
        if (kind != LUCET_RETURNED || (u32)slots[0] == UINT32_MAX)
            CHECK(injection.fired);
        u32 t = export_index(lucet_instance_module(instance), LUCET_TABLE, "t");
        CHECK_EQUAL(lucet_instance_table_size(instance, t), (u32)slots[0] == 4 ? 34 : 4);
        if (!lucet_instance_funcref(instance, 5))
            CHECK(injection.fired);
        try_call(instance, "call", 1, 0, 0);
    }
    lucet_instance_free(instance);
}

static void life_of_a_group(void) {
    lucet_instance *a = try_new(region, exporter), *b = NULL;
    if (!a)
        return;
    static const struct {
        lucet_kind kind;
        const char *name;
    } names[] = {{LUCET_MEMORY, "memory"},   {LUCET_TABLE, "table"}, {LUCET_GLOBAL, "counter"},
                 {LUCET_GLOBAL, "constant"}, {LUCET_FUNC, "one"},    {LUCET_FUNC, "trap"}};
    lucet_import imports[6];
    for (u32 i = 0; i < 6; i++)
        imports[i] = (lucet_import){.from = LUCET_IMPORT_ITEM,
                                    .instance = a,
                                    .index = export_index(lucet_instance_module(a), names[i].kind, names[i].name)};
    lucet_linkage *linkage = lucet_link(importer, imports, 6, &last_error);
    if (!linkage)
        check_error();
    else if ((b = try_new(region, linkage)) && lucet_instance_start(b, &last_outcome, &last_error) == LUCET_RETURNED) {
        CHECK(lucet_instances_linked(a, b));
        try_call(b, "two", 0, 0, 0);
        try_call(a, "call", 1, 0, 0);
    } else {
        CHECK(injection.fired);
    }
    if (!b) {
        CHECK_EQUAL(lucet_region_used(region), 1); /* what could not be finished has gone */
        CHECK_EQUAL(group_of(a)->live, 1);
        CHECK(!group_of(a)->members->group_next);
    }
    CHECK_EQUAL(atomic_load(&group_of(a)->owner), 0);
    try_call(a, "one", 0, 0, 0);
    if (linkage)
        lucet_linkage_release(linkage);
    lucet_instance_free(a);
    if (b)
        lucet_instance_free(b);
}

static void life_of_memories(void) {
    lucet_externtype type = {
        .kind = LUCET_MEMORY, .is_shared = true, .page_size_log2 = 16, .limits = {.minimum = 1, .maximum = 4}};
    lucet_memory *shared = lucet_shared_memory_new(&type, NULL, &last_error);
    if (!shared) {
        check_error();
        return;
    }
    lucet_import import = {.from = LUCET_IMPORT_MEMORY, .memory = shared};
    lucet_linkage *linkage = lucet_link(memories, &import, 1, &last_error);
    lucet_instance *instance = linkage ? try_new(region, linkage) : (check_error(), NULL);
    if (instance && lucet_instance_start(instance, &last_outcome, &last_error) == LUCET_RETURNED) {
        for (u32 i = 0; i < 2; i++) {
            for (u32 memory = 0; memory < 5; memory++) {
                lucet_memory *one = lucet_instance_memory(instance, memory);
                u64 size = lucet_memory_size(one);
                if (lucet_memory_grow(one, 1) == UINT64_MAX)
                    CHECK(injection.fired || memory == 0);
                CHECK(lucet_memory_size(one) >= size);
                memset(lucet_memory_base(one), 0xdd, lucet_memory_size(one));
            }
            try_call(instance, "fill", 0xee, 0, 0);
            if (!lucet_instance_reset(instance, &last_error)) {
                check_error();
                break;
            }
            u8 own = lucet_memory_base(lucet_instance_memory(instance, 1))[100];
            CHECK_EQUAL(own, 0);
            if (lucet_instance_start(instance, &last_outcome, &last_error) != LUCET_RETURNED)
                CHECK(injection.fired);
        }
    }
    if (instance)
        lucet_instance_free(instance);
    if (linkage)
        lucet_linkage_release(linkage);
    lucet_memory_release(shared);
}

static lucet_host_result throw_it(lucet_instance *instance, u64 *slots, void *tag) {
    lucet_exception *exception = lucet_exception_new(tag, (u64[2]){slots[0], 1}, &last_error);
    if (!exception) {
        check_error();
        return LUCET_HOST_TERMINATE;
    }
    lucet_host_result result = lucet_throw(instance, exception);
    lucet_exception_release(exception);
    return result;
}

static void throw_in(lucet_instance *instance) {
    u64 slots[1] = {3};
    lucet_outcome_kind kind = call_slots(instance, "throw", slots);
    if (kind == LUCET_THREW)
        lucet_exception_release(last_outcome.exception);
    else
        CHECK(injection.fired && (kind == LUCET_FAILED || last_outcome.trap == TRAP_EXCEPTIONS_EXHAUSTED));
    for (u32 i = 0; i < 3; i++) {
        try_call(instance, "catch", i, 0, 0);
        try_call(instance, "stop", 1, 0, 0);
        try_call(instance, "pass", 1, 0, 0);
    }
}

/* The tables of the module are read for the first time, whatever fails then. */
static void load_and_throw(lucet_region *own) {
    lucet_module *module = lucet_module_load(guest_path("exceptions"), &last_error);
    if (!module) {
        check_error();
        return;
    }
    lucet_externtype type;
    CHECK(lucet_module_type(module, LUCET_TAG, 0, &type));
    lucet_tag *tag = lucet_tag_new(&type.functype, &last_error);
    if (!tag) {
        check_error();
        lucet_module_release(module);
        return;
    }
    lucet_import imports[] = {
        {.from = LUCET_IMPORT_TAG, .tag = tag},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = throw_it, .data = tag},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = do_nothing},
    };
    lucet_linkage *linkage = lucet_link(module, imports, 3, &last_error);
    lucet_module_release(module);
    if (!linkage)
        check_error();
    lucet_instance *instance = linkage ? try_new(own, linkage) : NULL;
    if (instance) {
        throw_in(instance);
        lucet_instance_free(instance);
    }
    if (linkage)
        lucet_linkage_release(linkage);
    lucet_tag_release(tag);
}

static void load_and_run_new(void) {
    lucet_region_config config = small_config(2);
    lucet_region *own = lucet_region_new(&config, &last_error);
    if (!own)
        check_error();
    for (u32 i = 0; i < 2; i++) {
        lucet_module *module = NULL;
        if (i == 0) {
            module = lucet_module_load(guest_path("plain"), &last_error);
        } else {
            static u8 bytes[1 << 20];
            FILE *file = fopen(guest_path("heap_mapped"), "rb");
            size_t size = fread(bytes, 1, sizeof bytes, file);
            fclose(file);
            module = lucet_module_load_bytes(bytes, size, &last_error);
        }
        if (!module) {
            check_error();
            continue;
        }
        lucet_linkage *linkage = lucet_link(module, NULL, 0, &last_error);
        lucet_module_release(module);
        if (!linkage) {
            check_error();
            continue;
        }
        lucet_instance *instance = own ? try_new(own, linkage) : NULL;
        if (instance && i == 0)
            try_call(instance, "poke", 16, 1, 0);
        if (instance)
            lucet_instance_free(instance);
        lucet_linkage_release(linkage);
    }
    if (own) {
        load_and_throw(own);
        CHECK_EQUAL(lucet_region_used(own), 0);
        lucet_region_release(own);
    }
}

static void everything(void) {
    for (u32 i = 0; i < HEAPS; i++) {
        life_of_a_heap(i);
        life_of_a_heap(i);
    }
    life_of_tables();
    life_of_memories();
    life_of_a_group();
    life_of_tables();
    life_of_a_heap(1);
}

static void check_all_is_well(void) {
    CHECK_EQUAL(lucet_region_used(region), 0);
    lucet_instance *three[3];
    for (u32 i = 0; i < HEAPS; i++) {
        for (u32 j = 0; j < 3; j++) {
            three[j] = new_instance(region, guests[(i + j) % HEAPS].linkage);
            check_memory(three[j], (i + j) % HEAPS);
        }
        CHECK(!lucet_instance_new(region, guests[0].linkage, NULL, &last_error));
        CHECK_EQUAL(last_error.code, LUCET_ERROR_REGION_FULL);
        for (u32 j = 0; j < 3; j++)
            lucet_instance_free(three[j]);
    }
    everything();
    CHECK_EQUAL(lucet_region_used(region), 0);
}

static void *on_new_thread(void *scenario) {
    (*(void (**)(void))scenario)(); /* a new thread has no signal stack yet */
    return NULL;
}

static void fail_each_call(void (*scenario)(void), bool for_good) {
    check_all_is_well(); /* what is opened once is open then */
    struct usage before = usage_now();
    u32 n = 1;
    for (;; n++) {
        injection.for_good = for_good;
        injection.at = n;
        injection.calls = 0;
        injection.fired = false;
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, on_new_thread, &scenario) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        injection.armed = false;
        CHECK_EQUAL(lucet_region_used(region), 0);
        if (n % 8 == 0 || !injection.fired)
            check_all_is_well();
        if (!injection.fired)
            break;
    }
    CHECK_EQUAL(usage_now().descriptors, before.descriptors);
    CHECK(n > 10);
    printf("(%u calls) ", n - 1);
}

static void armed_everything(void) {
    injection.armed = true;
    everything();
    injection.armed = false;
}

static void armed_load(void) {
    injection.armed = true;
    load_and_run_new();
    injection.armed = false;
}

static void each_life(void) {
    for (int tracked = 0; tracked < 2; tracked++)
        for (int for_good = 0; for_good < 2; for_good++) {
            set_up(tracked);
            fail_each_call(armed_everything, for_good);
            tear_down();
        }
}

static void each_load(void) {
    set_up(true);
    fail_each_call(armed_load, false);
    fail_each_call(armed_load, true);
    tear_down();
}

MAIN(TEST(each_load), TEST(each_life))
