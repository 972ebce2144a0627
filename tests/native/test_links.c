/* test_links.c: instances that import from each other: what they share, when their slots are given back, foreign objects. */

#include <pthread.h>

#include "hosts.h"

static lucet_import item(lucet_instance *instance, lucet_kind kind, const char *name) {
    return (lucet_import){.from = LUCET_IMPORT_ITEM,
                          .instance = instance,
                          .index = export_index(lucet_instance_module(instance), kind, name)};
}

static lucet_linkage *link_importer(const char *name, lucet_instance *from, lucet_error *error) {
    lucet_import imports[] = {item(from, LUCET_MEMORY, "memory"),  item(from, LUCET_TABLE, "table"),
                              item(from, LUCET_GLOBAL, "counter"), item(from, LUCET_GLOBAL, "constant"),
                              item(from, LUCET_FUNC, "one"),       item(from, LUCET_FUNC, "trap")};
    lucet_module *module = load_guest(name);
    lucet_linkage *linkage = lucet_link(module, imports, 6, error);
    lucet_module_release(module);
    return linkage;
}

static lucet_instance *new_importer(lucet_region *region, lucet_instance *from) {
    lucet_linkage *linkage = link_importer("importer", from, &last_error);
    CHECK(linkage);
    lucet_instance *instance = started_instance(region, linkage);
    lucet_linkage_release(linkage);
    return instance;
}

static lucet_instance *new_exporter(lucet_region *region) {
    lucet_linkage *linkage = load_linked("exporter");
    lucet_instance *instance = started_instance(region, linkage);
    lucet_linkage_release(linkage);
    return instance;
}

static lucet_instance *new_relay(lucet_region *region, lucet_instance *from, const char *name) {
    lucet_import import = item(from, LUCET_FUNC, name);
    lucet_module *module = load_guest("relay");
    lucet_linkage *linkage = link_guest(module, &import, 1);
    lucet_instance *instance = new_instance(region, linkage);
    lucet_linkage_release(linkage);
    lucet_module_release(module);
    return instance;
}

static void everything_is_shared(void) {
    lucet_region *region = small_region(4);
    lucet_instance *a = new_exporter(region), *b = new_importer(region, a);
    CHECK(lucet_instances_linked(a, b));
    CALL(b, "poke", 1234, 56);
    CHECK_EQUAL(CALL(a, "peek", 1234), 56);
    CHECK(lucet_memory_base(lucet_instance_memory(a, 0)) == lucet_memory_base(lucet_instance_memory(b, 0)));
    CHECK_EQUAL(CALL(b, "grow", 2), 1);
    CHECK_EQUAL(lucet_memory_size(lucet_instance_memory(a, 0)), 3 * WASM_PAGE);
    CALL(b, "poke", 3 * WASM_PAGE - 1, 1);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, b, "poke", 3 * WASM_PAGE, 1);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, b, "load", 0xfffffffc);
    CHECK_EQUAL(CALL(b, "grow", 2), UINT32_MAX);
    CHECK_EQUAL(CALL(b, "count"), 101);
    u32 counter = export_index(lucet_instance_module(a), LUCET_GLOBAL, "counter");
    CHECK_EQUAL(*lucet_global_cell(a, counter), 101);
    CHECK_EQUAL(CALL(b, "get_constant"), 77);
    CHECK_EQUAL(CALL(a, "call", 1), 5); /* b's function, in a's table */
    CHECK_EQUAL(CALL(b, "two"), 6);
    CHECK_EQUAL(CALL(b, "one_again"), 1);
    CHECK_EQUAL(call_slots(b, "call_trap", (u64[1]){0}), LUCET_TRAPPED);
    CHECK(last_outcome.module == lucet_instance_module(a));
    CHECK_EQUAL(last_outcome.function, export_index(lucet_instance_module(a), LUCET_FUNC, "trap"));
    CHECK(!lucet_instance_reset(a, &last_error) && last_error.code == LUCET_ERROR_STATE);
    CHECK(!lucet_instance_reset(b, &last_error) && last_error.code == LUCET_ERROR_STATE);
    lucet_instance_free(b);
    CHECK_EQUAL(lucet_region_used(region), 2);
    CHECK_EQUAL(CALL(a, "call", 1), 7); /* it is still there */
    lucet_instance_free(a);
    CHECK_EQUAL(lucet_region_used(region), 0);
    /* The next ones know nothing of it. */
    a = new_exporter(region);
    CHECK_EQUAL(lucet_memory_size(lucet_instance_memory(a, 0)), WASM_PAGE);
    CHECK_EQUAL(CALL(a, "peek", 1234), 0);
    CHECK_TRAPS(TRAP_UNINITIALIZED_ELEMENT, a, "call", 1);
    CHECK_EQUAL(*lucet_global_cell(a, counter), 100);
    lucet_instance_free(a);
    lucet_region_release(region);
}

/* Six orders in which three linked instances are freed: a, b that imports from a, c that imports from b. */
static void freed_in_every_order(void) {
    if (getenv("LUCET_TEST_VALGRIND"))
        return; /* 3.19 fails an assertion of its own when objects are loaded and unloaded again and again at one address */
    static const u8 orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (u32 order = 0; order < 6; order++)
        for (u32 separate = 0; separate < 2; separate++) {
            lucet_region *first = small_region(3), *second = separate ? small_region(2) : first;
            lucet_instance *three[3];
            three[0] = new_exporter(first);
            three[1] = new_importer(second, three[0]);
            three[2] = new_relay(second, three[1], "two");
            for (u32 i = 0; i < 3; i++) {
                lucet_instance_free(three[orders[order][i]]);
                for (u32 left = i + 1; left < 3; left++) {
                    u32 who = orders[order][left];
                    CHECK(CALL(three[who], who == 0 ? "call" : who == 1 ? "two" : "relay", 1) >= 5);
                }
            }
            CHECK_EQUAL(lucet_region_used(first) + lucet_region_used(second), 0);
            if (separate)
                lucet_region_release(second);
            lucet_region_release(first);
        }
}

/* The linkage outlives what it imports from: no new instance then, and no crash. */
static void imported_instance_is_gone(void) {
    lucet_region *region = small_region(4);
    lucet_instance *a = new_exporter(region);
    lucet_linkage *linkage = link_importer("importer", a, &last_error);
    lucet_instance_free(a);
    CHECK(!lucet_instance_new(region, linkage, NULL, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_STATE);
    /* Another one in the same slot is not the same. */
    a = new_exporter(region);
    CHECK(!lucet_instance_new(region, linkage, NULL, &last_error));
    CHECK_EQUAL(lucet_region_used(region), 1);
    lucet_region_release(region); /* kept by the instance and by the linkage */
    lucet_instance_free(a);
    CHECK(!lucet_instance_new(region, linkage, NULL, &last_error));
    lucet_linkage_release(linkage);
}

/* Code compiled for a guard must not get a memory that has none: it would reach its neighbours. */
static void reservations_of_imported_memories(void) {
    lucet_region_config config = small_config(4);
    config.memory_reserved = 1 << 20;
    config.memory_guard = 1 << 16;
    lucet_region *compact = new_region(&config), *full = small_region(2);
    lucet_linkage *exporter = load_linked("exporter_checked"), *unchecked_exporter = load_linked("exporter");
    CHECK(!lucet_instance_new(compact, unchecked_exporter, NULL, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LIMITS);
    lucet_instance *a = started_instance(compact, exporter);
    CHECK(!link_importer("importer", a, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LINK);
    lucet_linkage *checked = link_importer("importer_checked", a, &last_error);
    CHECK(checked);
    lucet_instance *b = started_instance(full, checked);
    CALL(b, "poke", 65535, 1);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, b, "poke", 65536, 1);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, b, "load", 0xffffffff);
    lucet_linkage_release(checked);
    lucet_instance_free(a);
    lucet_instance_free(b);
    lucet_linkage_release(exporter);
    lucet_linkage_release(unchecked_exporter);
    lucet_region_release(compact);
    lucet_region_release(full);
}

static void wrong_imports(void) {
    lucet_region *region = small_region(2);
    lucet_instance *a = new_exporter(region);
    lucet_module *relay = load_guest("relay");
    lucet_import import = item(a, LUCET_FUNC, "peek"); /* another type */
    CHECK(!lucet_link(relay, &import, 1, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LINK);
    import.index = 1000;
    CHECK(!lucet_link(relay, &import, 1, &last_error));
    CHECK(!lucet_link(relay, &import, 0, &last_error));
    CHECK(!lucet_link(relay, &import, 2, &last_error));
    import = (lucet_import){.from = LUCET_IMPORT_HOST_FUNCTION};
    CHECK(!lucet_link(relay, &import, 1, &last_error));
    import = (lucet_import){.from = LUCET_IMPORT_VALUE};
    CHECK(!lucet_link(relay, &import, 1, NULL));
    lucet_module_release(relay);
    lucet_instance_free(a);
    lucet_region_release(region);
}

/* References to functions of instances that are not linked are refused everywhere. */
static void foreign_references(void) {
    lucet_region *region = small_region(4);
    lucet_instance *a = new_exporter(region), *stranger = new_exporter(region);
    const lucet_funcref *foreign =
        lucet_instance_funcref(stranger, export_index(lucet_instance_module(stranger), LUCET_FUNC, "one"));
    CHECK_EQUAL(lucet_call_ref(a, foreign, (u64[1]){0}, &last_outcome, &last_error), LUCET_FAILED);
    CHECK_EQUAL(last_error.code, LUCET_ERROR_ARGUMENT);
    CHECK(!lucet_instance_table_set(a, 0, 0, (void *)foreign));
    CHECK_EQUAL(lucet_instance_table_grow(a, 0, 1, (void *)foreign), UINT64_MAX);
    CHECK_EQUAL(lucet_instance_table_size(a, 0), 4);
    const lucet_funcref *own = lucet_instance_funcref(a, export_index(lucet_instance_module(a), LUCET_FUNC, "one"));
    CHECK(lucet_instance_table_set(a, 0, 3, (void *)own));
    CHECK(!lucet_instance_table_set(a, 0, 4, (void *)own));
    CHECK_EQUAL(CALL(a, "call", 3), 1);
    CHECK_EQUAL(lucet_instance_table_grow(a, 0, 2, (void *)own), 4);
    CHECK_EQUAL(CALL(a, "call", 5), 1);
    CHECK_EQUAL(lucet_instance_table_grow(a, 0, 3, NULL), UINT64_MAX); /* its maximum is 8 */
    CHECK_EQUAL(lucet_instance_table_grow(a, 0, UINT64_MAX, NULL), UINT64_MAX);
    CHECK_EQUAL(lucet_instance_table_grow(a, 7, 0, NULL), UINT64_MAX);
    lucet_instance_free(a);
    lucet_instance_free(stranger);
    lucet_region_release(region);
}

/* ---- groups that become one ---- */

static lucet_instance *other;
static lucet_region *nested_region;

/* While `instance` runs: link it with `other`, which is not linked to it yet. */
static lucet_host_result merge(lucet_instance *instance, u64 *slots) {
    lucet_instance *one = new_relay(nested_region, other, "one");
    lucet_module *module = load_guest("joiner");
    lucet_import imports[] = {item(one, LUCET_FUNC, "relay"), item(instance, LUCET_FUNC, "sum")};
    lucet_linkage *linkage = link_guest(module, imports, 2);
    lucet_instance *joiner = new_instance(nested_region, linkage);
    lucet_linkage_release(linkage);
    lucet_module_release(module);
    CHECK(lucet_instances_linked(joiner, instance) && lucet_instances_linked(joiner, other));
    CHECK_EQUAL(lucet_instance_state(other), LUCET_STATE_RUNNING);
    slots[0] = CALL(joiner, "join", 40); /* calls both */
    lucet_instance_free(one);
    lucet_instance_free(joiner);
    return LUCET_HOST_OK;
}

static void *call_other(void *result) {
    *(lucet_outcome_kind *)result = call_slots(other, "one", (u64[1]){0});
    return NULL;
}

static lucet_host_result merge_and_call(lucet_instance *instance, u64 *slots) {
    merge(instance, slots);
    /* The whole group belongs to this thread now. */
    lucet_outcome_kind kind;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, call_other, &kind) == 0);
    pthread_join(thread, NULL);
    CHECK_EQUAL(kind, LUCET_FAILED);
    CHECK(lucet_instance_interrupt(other)); /* which is in the group that runs */
    return LUCET_HOST_OK;
}

static void groups_merge_while_running(void) {
    lucet_linkage *linkage = link_hosts("hosts");
    nested_region = small_region(8);
    other = new_exporter(nested_region);
    lucet_instance *instance = new_instance(nested_region, linkage);
    on_stop = merge;
    CHECK_EQUAL(CALL(instance, "call_stop", 0), 41 + OWN_G + BASE);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    CHECK_EQUAL(lucet_instance_state(other), LUCET_STATE_READY);
    on_stop = merge_and_call;
    CHECK_TRAPS(TRAP_INTERRUPTED, instance, "call_stop", 0);
    lucet_outcome_kind kind = LUCET_FAILED;
    call_other(&kind);
    CHECK_EQUAL(kind, LUCET_RETURNED);
    lucet_instance_free(instance);
    lucet_instance_free(other);
    CHECK_EQUAL(lucet_region_used(nested_region), 0);
    lucet_region_release(nested_region);
    lucet_linkage_release(linkage);
}

/* Instances that are suspended, or run on another thread, cannot be linked to; nothing has changed afterwards. */
static lucet_outcome_kind refused_kind;

static void *link_it(void *instance) {
    lucet_error error = {0};
    lucet_import import = {.from = LUCET_IMPORT_ITEM,
                           .instance = instance,
                           .index = export_index(lucet_instance_module(instance), LUCET_FUNC, "sum")};
    lucet_import imports[] = {item(other, LUCET_FUNC, "one"), import};
    lucet_module *module = load_guest("joiner");
    lucet_linkage *linkage = lucet_link(module, imports, 2, &error);
    CHECK(linkage);
    CHECK(!lucet_instance_new(nested_region, linkage, NULL, &error));
    CHECK_EQUAL(error.code, LUCET_ERROR_STATE);
    lucet_linkage_release(linkage);
    lucet_module_release(module);
    refused_kind = LUCET_RETURNED;
    return NULL;
}

static lucet_host_result let_other_thread_link(lucet_instance *instance, u64 *slots) {
    (void)slots;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, link_it, instance) == 0);
    pthread_join(thread, NULL);
    return LUCET_HOST_OK;
}

static void linking_what_is_busy(void) {
    lucet_linkage *linkage = link_hosts("hosts");
    nested_region = small_region(8);
    other = new_exporter(nested_region);
    lucet_instance *instance = new_instance(nested_region, linkage);
    on_stop = let_other_thread_link;
    CALL(instance, "call_stop", 0);
    CHECK_EQUAL(refused_kind, LUCET_RETURNED);
    on_stop = stop_by_suspending;
    CHECK_EQUAL(call_slots(instance, "call_stop", (u64[1]){0}), LUCET_SUSPENDED);
    link_it(instance);
    CHECK_EQUAL(terminate(instance), LUCET_TERMINATED);
    CHECK_EQUAL(lucet_region_used(nested_region), 2);
    CHECK(!lucet_instances_linked(instance, other));
    /* Nobody owns what was looked at. */
    CHECK_EQUAL(atomic_load(&group_of(other)->owner), 0);
    CHECK_EQUAL(CALL(other, "one"), 1);
    lucet_instance_free(instance);
    lucet_instance_free(other);
    lucet_region_release(nested_region);
    lucet_linkage_release(linkage);
}

/* ---- tables, globals and segments of the next guest ---- */

static lucet_host_result do_nothing(lucet_instance *instance, u64 *slots, void *data) {
    (void)instance, (void)slots, (void)data;
    return LUCET_HOST_OK;
}

static void check_dynamic(lucet_instance *instance) {
    u32 t = export_index(lucet_instance_module(instance), LUCET_TABLE, "t");
    u32 e = export_index(lucet_instance_module(instance), LUCET_TABLE, "e");
    CHECK_EQUAL(lucet_instance_table_size(instance, t), 4);
    CHECK_EQUAL(lucet_instance_table_size(instance, e), 2);
    void *reference = &reference;
    CHECK(lucet_instance_table_get(instance, t, 0, &reference) && !reference);
    CHECK(lucet_instance_table_get(instance, t, 3, &reference) && !reference);
    CHECK(!lucet_instance_table_get(instance, t, 4, &reference));
    CHECK(lucet_instance_table_get(instance, e, 0, &reference) && !reference);
    CHECK_EQUAL(CALL(instance, "call", 1), 1);
    CHECK_EQUAL(CALL(instance, "call", 2), 2);
    u64 slots[1] = {1};
    CHECK_EQUAL(call_slots(instance, "kept", slots), LUCET_RETURNED);
    CHECK_EQUAL(slots[0], 0);
    u64 *r = lucet_global_cell(instance, export_index(lucet_instance_module(instance), LUCET_GLOBAL, "r"));
    CHECK(lucet_funcref_instance((const lucet_funcref *)(uintptr_t)*r) == instance);
    CALL(instance, "init", 2);
    CALL(instance, "init_bytes", 10);
    CALL(instance, "call_nothing");
    CHECK_EQUAL(CALL(instance, "call", 0), 1);
}

static void tables_and_globals_restored(void) {
    lucet_import import = {.from = LUCET_IMPORT_HOST_FUNCTION, .function = do_nothing};
    lucet_module *module = load_guest("dynamic");
    lucet_linkage *linkage = link_guest(module, &import, 1);
    lucet_region *region = small_region(1);
    for (u32 round = 0; round < 6; round++) {
        lucet_instance *instance = started_instance(region, linkage);
        check_dynamic(instance);
        int object;
        CALL(instance, "keep", (u64)(uintptr_t)&object);
        CHECK_EQUAL(CALL(instance, "grow", 30), 4);
        CHECK_EQUAL(CALL(instance, "call", 33), 2);
        CHECK_EQUAL(CALL(instance, "grow", 7), UINT32_MAX);
        CALL(instance, "set", 3, (u64)(uintptr_t)lucet_instance_funcref(instance, 2));
        CALL(instance, "drop");
        CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, instance, "init", 1);
        CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "init_bytes", 1);
        *lucet_global_cell(instance, export_index(module, LUCET_GLOBAL, "r")) = 0;
        if (round % 2) {
            CHECK(lucet_instance_reset(instance, &last_error));
            CHECK_EQUAL(lucet_instance_start(instance, &last_outcome, &last_error), LUCET_RETURNED);
            check_dynamic(instance);
        }
        lucet_instance_free(instance);
    }
    lucet_linkage_release(linkage);
    lucet_region_release(region);
    lucet_module_release(module);
}

/* A table that one guest made large does not stay so. */
static void large_tables_are_given_up(void) {
    lucet_linkage *linkage = load_linked("growing");
    lucet_region *region = small_region(1);
    lucet_instance *instance = started_instance(region, linkage);
    CHECK_EQUAL(CALL(instance, "grow", 1000000), 3);
    CHECK(instance->own_tables[0].capacity > 1000000);
    lucet_instance_free(instance);
    CHECK(instance->own_tables[0].capacity < 2000);
    instance = started_instance(region, linkage);
    CHECK_EQUAL(CALL(instance, "size"), 3);
    CHECK_EQUAL(CALL(instance, "call", 1), 1);
    lucet_instance_limits limits = {.table = 10};
    lucet_instance_free(instance);
    instance = lucet_instance_new(region, linkage, &limits, &last_error);
    CHECK(instance);
    CHECK_EQUAL(lucet_instance_start(instance, &last_outcome, &last_error), LUCET_RETURNED);
    CHECK_EQUAL(CALL(instance, "grow", 8), UINT32_MAX);
    CHECK_EQUAL(CALL(instance, "grow", 7), 3);
    lucet_instance_free(instance);
    limits.table = 2;
    CHECK(!lucet_instance_new(region, linkage, &limits, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LIMITS);
    limits.table = UINT64_MAX;
    CHECK(!lucet_instance_new(region, linkage, &limits, &last_error));
    CHECK_EQUAL(lucet_region_used(region), 0);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

MAIN(TEST(everything_is_shared), TEST(freed_in_every_order), TEST(imported_instance_is_gone),
     TEST(reservations_of_imported_memories), TEST(wrong_imports), TEST(foreign_references),
     TEST(groups_merge_while_running), TEST(linking_what_is_busy), TEST(tables_and_globals_restored),
     TEST(large_tables_are_given_up))
