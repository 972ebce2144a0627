/* engine_lucet.c: the benchmark's loops on Lucet, through its public C API. */

#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "lucet.h"

struct subject {
    lucet_module *module;
    lucet_linkage *linkage;
    lucet_region *region;
    bool runs;
    uint32_t run;
    lucet_instance **held;
    uint32_t held_count;
    lucet_instance *called;
    uint32_t function; /* of it */
};

static lucet_host_result host(lucet_instance *instance, uint64_t *slots, void *data) {
    (void)instance, (void)slots, (void)data; /* the result is the argument */
    return LUCET_HOST_OK;
}

static uint32_t function_index(const lucet_module *module, const char *name) {
    lucet_export_info found;
    if (!lucet_module_find_export(module, name, strlen(name), &found) || found.kind != LUCET_FUNC)
        die("lucet: no function is exported as \"%s\"", name);
    return found.index;
}

static subject *open_(const struct setup *setup) {
    lucet_error error;
    subject *s = allocate(sizeof *s);
    if (!(s->module = lucet_module_load(setup->artifact, &error)))
        die("lucet: %s", error.message);
    uint32_t count = lucet_module_imports_count(s->module);
    lucet_import *imports = allocate((count + 1) * sizeof *imports);
    for (uint32_t i = 0; i < count; i++)
        imports[i] = (lucet_import){.from = LUCET_IMPORT_HOST_FUNCTION, .function = host};
    if (!(s->linkage = lucet_link(s->module, imports, count, &error)))
        die("lucet: %s", error.message);
    free(imports);
    if (setup->shared) {
        s->region = setup->shared->region;
        lucet_region_retain(s->region);
    } else {
        lucet_region_config config = lucet_region_defaults();
        config.slots = setup->slots;
        if (setup->compact) { /* as `compact` of bench/density.py */
            config.memory_reserved = config.memory_limit = COMPACT_MEMORY;
            config.memory_guard = 0;
            config.instance_area = 512;
            config.track_writes = false;
        }
        if (!(s->region = lucet_region_new(&config, &error)))
            die("lucet: %s", error.message);
    }
    s->runs = setup->runs;
    s->run = s->runs ? function_index(s->module, "run") : 0;
    return s;
}

/* Artifacts are compiled by bench/lifecycle.py. */
static void prepare(const struct setup *setup) {
    (void)setup;
}

static void close_(subject *s) {
    lucet_region_release(s->region);
    lucet_linkage_release(s->linkage);
    lucet_module_release(s->module);
    free(s);
}

static inline lucet_instance *create(subject *s) {
    lucet_error error;
    lucet_outcome outcome;
    lucet_instance *instance = lucet_instance_new(s->region, s->linkage, NULL, &error);
    if (!instance)
        die("lucet: %s", error.message);
    if (lucet_instance_needs_start(instance) && lucet_instance_start(instance, &outcome, &error) != LUCET_RETURNED)
        die("lucet: the start function failed");
    return instance;
}

static inline void call(lucet_instance *instance, uint32_t function, uint32_t a, uint32_t b) {
    lucet_error error;
    lucet_outcome outcome;
    uint64_t slots[2] = {a, b};
    if (lucet_call(instance, function, slots, &outcome, &error) != LUCET_RETURNED)
        die("lucet: the call failed: %s", outcome.kind == LUCET_FAILED ? error.message : lucet_trap_name(outcome.trap));
}

static void cycles(subject *s, uint64_t count, uint32_t a, uint32_t b) {
    for (uint64_t i = 0; i < count; i++) {
        lucet_instance *instance = create(s);
        if (s->runs)
            call(instance, s->run, a, b);
        lucet_instance_free(instance);
    }
}

static void timed_cycles(subject *s, uint64_t count, uint32_t a, uint32_t b, const struct parts *parts) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t t0 = ticks();
        lucet_instance *instance = create(s);
        uint64_t t1 = ticks();
        if (s->runs)
            call(instance, s->run, a, b);
        uint64_t t2 = ticks();
        lucet_instance_free(instance);
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
        s->held[i] = create(s);
        if (s->runs)
            call(s->held[i], s->run, a, b);
    }
}

static void let_go(subject *s) {
    for (uint32_t i = 0; i < s->held_count; i++)
        lucet_instance_free(s->held[i]);
    free(s->held);
    s->held = NULL;
    s->held_count = 0;
}

static void enter(subject *s, const char *name) {
    s->called = create(s);
    s->function = function_index(s->module, name);
}

static void calls(subject *s, uint64_t count, uint32_t a, uint32_t b) {
    for (uint64_t i = 0; i < count; i++)
        call(s->called, s->function, a, b);
}

static void leave(subject *s) {
    lucet_instance_free(s->called);
}

const struct engine lucet_engine = {
    .name = "lucet",
    .prepare = prepare,
    .open = open_,
    .close = close_,
    .cycles = cycles,
    .timed_cycles = timed_cycles,
    .hold = hold,
    .let_go = let_go,
    .enter = enter,
    .calls = calls,
    .calls_checked = calls,
    .leave = leave,
};
