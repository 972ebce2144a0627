/* hosts.h: linking the guests hosts.wat and start.wat; what their host functions do is a function pointer. */
#ifndef LUCET_TESTS_HOSTS_H
#define LUCET_TESTS_HOSTS_H

#include "kit.h"

static inline lucet_host_result host_add(lucet_instance *instance, u64 *slots, void *data) {
    (void)instance, (void)data;
    slots[0] = (u32)((u32)slots[0] + (u32)slots[1]);
    return LUCET_HOST_OK;
}

/* (i32, i64, f32, f64) -> (f64, i64): the f64 unchanged, the i64 plus the i32 */
static inline lucet_host_result host_wide(lucet_instance *instance, u64 *slots, void *data) {
    (void)instance, (void)data;
    u64 number = slots[3];
    slots[1] += (u32)slots[0];
    slots[0] = number;
    return LUCET_HOST_OK;
}

/* What "stop" does: set by each test, for its thread. */
static _Thread_local lucet_host_result (*on_stop)(lucet_instance *instance, u64 *slots) __attribute__((unused));

static inline lucet_host_result host_stop(lucet_instance *instance, u64 *slots, void *data) {
    (void)data;
    return on_stop ? on_stop(instance, slots) : LUCET_HOST_OK;
}

enum { BASE = 1000, OWN_G = 5 };

static inline lucet_linkage *link_hosts(const char *name) {
    lucet_import imports[] = {
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_add},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_wide},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_stop},
        {.from = LUCET_IMPORT_VALUE, .value = {BASE}},
    };
    lucet_module *module = load_guest(name);
    lucet_linkage *linkage = link_guest(module, imports, 4);
    lucet_module_release(module);
    return linkage;
}

static inline lucet_linkage *link_start(void) {
    lucet_import import = {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_stop};
    lucet_module *module = load_guest("start");
    lucet_linkage *linkage = link_guest(module, &import, 1);
    lucet_module_release(module);
    return linkage;
}

static inline lucet_host_result stop_by_suspending(lucet_instance *instance, u64 *slots) {
    (void)instance, (void)slots;
    return LUCET_HOST_SUSPEND;
}

static inline lucet_host_result stop_by_terminating(lucet_instance *instance, u64 *slots) {
    (void)instance, (void)slots;
    return LUCET_HOST_TERMINATE;
}

/* One instance of hosts.wat in a region of its own; all goes with the instance. */
static inline lucet_instance *hosts_instance(u32 slots) {
    lucet_linkage *linkage = link_hosts("hosts");
    lucet_region *region = small_region(slots);
    lucet_instance *instance = started_instance(region, linkage);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    return instance;
}

static inline lucet_outcome_kind resume(lucet_instance *instance) {
    return lucet_resume(instance, false, &last_outcome, &last_error);
}

static inline lucet_outcome_kind terminate(lucet_instance *instance) {
    return lucet_resume(instance, true, &last_outcome, &last_error);
}

#endif
