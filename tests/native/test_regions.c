/* test_regions.c: slots, limits, order of use, making and releasing regions. */

#include "hosts.h"

static void full(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(5);
    lucet_instance *instances[5];
    CHECK_EQUAL(lucet_region_capacity(region), 5);
    for (u32 round = 0; round < 3; round++) {
        for (u32 i = 0; i < 5; i++) {
            instances[i] = new_instance(region, linkage);
            CHECK_EQUAL(lucet_region_used(region), i + 1);
            for (u32 j = 0; j < i; j++)
                CHECK(instances[i] != instances[j]);
        }
        for (u32 i = 0; i < 3; i++) {
            CHECK(!lucet_instance_new(region, linkage, NULL, &last_error));
            CHECK_EQUAL(last_error.code, LUCET_ERROR_REGION_FULL);
        }
        for (u32 i = 0; i < 5; i++)
            lucet_instance_free(instances[(i + round) % 5]);
        CHECK_EQUAL(lucet_region_used(region), 0);
    }
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

static void last_freed_first(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(8);
    lucet_instance *instances[8];
    for (u32 i = 0; i < 8; i++)
        instances[i] = new_instance(region, linkage);
    for (u32 i = 0; i < 8; i++)
        lucet_instance_free(instances[i]);
    for (u32 i = 0; i < 8; i++)
        CHECK(new_instance(region, linkage) == instances[7 - i]);
    for (u32 i = 0; i < 8; i++)
        lucet_instance_free(instances[i]);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

/* Every slot is used, none twice, and the order is not that of the list. */
static void random_slots(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region_config config = small_config(64);
    config.random_slots = true;
    lucet_region *region = new_region(&config);
    lucet_instance *instances[64];
    u32 predictable = 0;
    for (u32 round = 0; round < 10; round++) {
        lucet_instance *last = NULL;
        for (u32 i = 0; i < 64; i++) {
            instances[i] = new_instance(region, linkage);
            for (u32 j = 0; j < i; j++)
                CHECK(instances[i] != instances[j]);
        }
        CHECK(!lucet_instance_new(region, linkage, NULL, &last_error));
        for (u32 i = 0; i < 64; i++)
            lucet_instance_free(last = instances[i]);
        lucet_instance *next = new_instance(region, linkage);
        predictable += next == last;
        lucet_instance_free(next);
    }
    CHECK(predictable < 6);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

static bool is_refused(lucet_region_config config, lucet_error_code code) {
    lucet_region *region = lucet_region_new(&config, &last_error);
    if (region)
        lucet_region_release(region);
    return !region && last_error.code == code;
}

static void configurations(void) {
    lucet_region_config c = lucet_region_defaults();
#define REFUSED(field, value, code)                                                                                    \
    do {                                                                                                               \
        c = lucet_region_defaults();                                                                                   \
        c.field = value;                                                                                               \
        CHECK(is_refused(c, code));                                                                                    \
    } while (0)
    REFUSED(slots, 0, LUCET_ERROR_ARGUMENT);
    REFUSED(slots, UINT32_MAX, LUCET_ERROR_ARGUMENT);
    REFUSED(slots, 10000000, LUCET_ERROR_LIMITS); /* 40 PiB */
    REFUSED(memory_reserved, 65535, LUCET_ERROR_ARGUMENT);
    REFUSED(memory_reserved, UINT64_MAX << 16, LUCET_ERROR_ARGUMENT);
    REFUSED(memory_guard, 4096, LUCET_ERROR_ARGUMENT);
    REFUSED(memory_guard, UINT64_MAX << 16, LUCET_ERROR_ARGUMENT);
    REFUSED(stack_size, 0, LUCET_ERROR_ARGUMENT);
    REFUSED(stack_size, 12288, LUCET_ERROR_ARGUMENT);
    REFUSED(stack_size, 16385, LUCET_ERROR_ARGUMENT);
    REFUSED(stack_size, 1ULL << 33, LUCET_ERROR_ARGUMENT);
    REFUSED(instance_area, 0, LUCET_ERROR_ARGUMENT);
    REFUSED(instance_area, 4097, LUCET_ERROR_ARGUMENT);
    REFUSED(instance_area, 1U << 31, LUCET_ERROR_ARGUMENT);
#undef REFUSED
}

static void memory_limits(void) {
    lucet_linkage *linkage = load_linked("plain"); /* two pages, at most ten */
    lucet_region_config config = small_config(2);
    config.memory_limit = 5 * WASM_PAGE + 100;
    lucet_region *region = new_region(&config);
    lucet_instance *instance = new_instance(region, linkage);
    CHECK_EQUAL(CALL(instance, "grow", 4), UINT32_MAX);
    CHECK_EQUAL(CALL(instance, "grow", 3), 2);
    CHECK_EQUAL(CALL(instance, "grow", 1), UINT32_MAX);
    CHECK_EQUAL(CALL(instance, "grow", 0), 5);
    CHECK_EQUAL(CALL(instance, "grow", 0xffffffff), UINT32_MAX);
    CHECK_EQUAL(lucet_memory_grow(lucet_instance_memory(instance, 0), UINT64_MAX), UINT64_MAX);
    CHECK_EQUAL(lucet_memory_grow(lucet_instance_memory(instance, 0), UINT64_MAX / WASM_PAGE + 2), UINT64_MAX);
    CHECK_EQUAL(CALL(instance, "size"), 5);
    CALL(instance, "poke", 5 * WASM_PAGE - 1, 1);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "poke", 5 * WASM_PAGE, 1);
    CHECK(lucet_instance_reset(instance, &last_error));
    CHECK_EQUAL(CALL(instance, "size"), 2);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "poke", 2 * WASM_PAGE, 1);
    lucet_instance_limits limits = {.memory = 3 * WASM_PAGE};
    lucet_instance *limited = lucet_instance_new(region, linkage, &limits, &last_error);
    CHECK_EQUAL(CALL(limited, "grow", 2), UINT32_MAX);
    CHECK_EQUAL(CALL(limited, "grow", 1), 2);
    lucet_instance_free(limited);
    limits.memory = WASM_PAGE;
    CHECK(!lucet_instance_new(region, linkage, &limits, &last_error) && last_error.code == LUCET_ERROR_LIMITS);
    limits.memory = 6 * WASM_PAGE;
    CHECK(!lucet_instance_new(region, linkage, &limits, &last_error) && last_error.code == LUCET_ERROR_LIMITS);
    limits.memory = UINT64_MAX;
    CHECK(!lucet_instance_new(region, linkage, &limits, &last_error) && last_error.code == LUCET_ERROR_LIMITS);
    CHECK_EQUAL(lucet_region_used(region), 1);
    lucet_instance_free(instance);
    lucet_region_release(region);
    config.memory_limit = WASM_PAGE;
    region = new_region(&config);
    CHECK(!lucet_instance_new(region, linkage, NULL, &last_error) && last_error.code == LUCET_ERROR_LIMITS);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

/* The module's own maximum. */
static void memory_maximum(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(1);
    lucet_instance *instance = new_instance(region, linkage);
    CHECK_EQUAL(CALL(instance, "grow", 9), UINT32_MAX);
    CHECK_EQUAL(CALL(instance, "grow", 8), 2);
    CHECK_EQUAL(lucet_memory_grow(lucet_instance_memory(instance, 0), 1), UINT64_MAX);
    CHECK_EQUAL(lucet_memory_grow(lucet_instance_memory(instance, 0), 0), 10);
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

/* Compact regions: only for code that checks, which reaches nothing beyond its memory. */
static void compact(void) {
    lucet_region_config config = small_config(3);
    config.memory_reserved = 4 * WASM_PAGE;
    config.memory_guard = 0;
    config.instance_area = HOST_PAGE;
    lucet_linkage *guarded = load_linked("plain"), *checked = load_linked("plain_checked");
    for (int tracked = 0; tracked < 2; tracked++) {
        config.track_writes = tracked;
        lucet_region *region = new_region(&config);
        CHECK(!lucet_instance_new(region, guarded, NULL, &last_error) && last_error.code == LUCET_ERROR_LIMITS);
        for (u32 round = 0; round < 3; round++) {
            lucet_instance *three[3];
            for (u32 i = 0; i < 3; i++) {
                three[i] = new_instance(region, checked);
                CHECK_EQUAL(CALL(three[i], "grow", 2), 2);
                CHECK_EQUAL(CALL(three[i], "grow", 1), UINT32_MAX);
            }
            for (u32 i = 0; i < 3; i++) {
                CALL(three[i], "poke", 4 * WASM_PAGE - 1, i + 1);
                static const u32 outside[] = {4 * WASM_PAGE, 4 * WASM_PAGE + HOST_PAGE - 8, 8 * WASM_PAGE, 0x7fffffff,
                                              0xffffffff};
                for (u32 j = 0; j < 5; j++) {
                    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, three[i], "poke", outside[j], 1);
                    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, three[i], "peek", outside[j], 1);
                }
            }
            for (u32 i = 0; i < 3; i++) {
                CHECK_EQUAL(CALL(three[i], "peek", 4 * WASM_PAGE - 1), i + 1);
                CHECK_EQUAL(CALL(three[i], "peek", 16), 'h');
                CHECK_EQUAL(VMCTX_WORD(three[i]->vmctx, VMCTX_CANARY), canary_of(three[i]));
                lucet_instance_free(three[i]);
            }
        }
        lucet_region_release(region);
    }
    lucet_linkage_release(guarded);
    lucet_linkage_release(checked);
}

static void stacks_are_limited(void) {
    lucet_region_config config = small_config(4);
    config.stacks = 2;
    lucet_region *region = new_region(&config);
    lucet_linkage *linkage = link_hosts("hosts");
    lucet_instance *three[3];
    on_stop = stop_by_suspending;
    for (u32 i = 0; i < 3; i++)
        three[i] = new_instance(region, linkage);
    CHECK_EQUAL(call_slots(three[0], "call_stop", (u64[1]){0}), LUCET_SUSPENDED);
    CHECK_EQUAL(call_slots(three[1], "call_stop", (u64[1]){0}), LUCET_SUSPENDED);
    CHECK_FAILS(LUCET_ERROR_REGION_FULL, three[2], "sum", 1, 2);
    CHECK_EQUAL(lucet_instance_state(three[2]), LUCET_STATE_READY);
    CHECK_EQUAL(terminate(three[0]), LUCET_TERMINATED);
    CHECK_EQUAL(CALL(three[2], "sum", 1, 2), 3);
    for (u32 i = 0; i < 3; i++)
        lucet_instance_free(three[i]);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

/* Released while instances are alive: it goes with the last. */
static void released_early(void) {
    struct usage before = usage_now();
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(3);
    lucet_instance *a = new_instance(region, linkage), *b = new_instance(region, linkage);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    CHECK_EQUAL(CALL(a, "add", 1, 2), 3);
    lucet_instance_free(a);
    CHECK_EQUAL(CALL(b, "add", 1, 2), 3);
    /* An instance is enough to have it again, and to make others. */
    CHECK(lucet_instance_region(b) == region);
    lucet_region_retain(region);
    lucet_linkage *again = load_linked("plain");
    lucet_instance_free(b);
    CHECK_EQUAL(lucet_region_used(region), 0);
    a = new_instance(region, again);
    lucet_region_release(region);
    lucet_linkage_release(again);
    CHECK_EQUAL(CALL(a, "add", 1, 2), 3);
    lucet_instance_free(a);
    struct usage after = usage_now();
    CHECK(after.mappings <= before.mappings + 2); /* the thread's signal stack */
}

static void many_regions_one_after_the_other(void) {
    lucet_linkage *linkage = load_linked("plain");
    struct usage before = {0, 0};
    for (u32 i = 0; i < scaled(10000); i++) {
        lucet_region_config config = small_config(1 + i % 3);
        config.memory_guard = (32ULL << 20) + (i % 5) * WASM_PAGE;
        config.track_writes = i % 2;
        lucet_region *region = new_region(&config);
        lucet_instance *instance = new_instance(region, linkage);
        CHECK_EQUAL(CALL(instance, "peek", 16), 'h');
        CALL(instance, "poke", 5000, 1);
        lucet_instance_free(instance);
        lucet_region_release(region);
        if (i == 10)
            before = usage_now();
    }
    struct usage after = usage_now();
    CHECK_EQUAL(after.descriptors, before.descriptors);
    CHECK(after.mappings <= before.mappings);
    lucet_linkage_release(linkage);
}

/* As many as the registry has room for: one more is refused, and room is made again. */
static void many_regions_at_once(void) {
    enum { MANY = 4097 };
    static lucet_region *regions[MANY];
    lucet_region_config config = small_config(1);
    config.memory_reserved = WASM_PAGE;
    config.memory_guard = 0;
    config.instance_area = HOST_PAGE;
    lucet_linkage *linkage = load_linked("heap_bare_checked");
    config.memory_reserved = 4 * WASM_PAGE;
    u32 made = 0;
    while (made < MANY && (regions[made] = lucet_region_new(&config, &last_error)))
        made++;
    CHECK_EQUAL(made, 4096);
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LIMITS);
    lucet_instance *instance = new_instance(regions[4095], linkage);
    CALL(instance, "touch", 0, 40, 1); /* faults find the last region, too */
    lucet_instance_free(instance);
    lucet_region_release(regions[17]);
    regions[17] = new_region(&config);
    for (u32 i = 0; i < made; i++)
        lucet_region_release(regions[i]);
    lucet_linkage_release(linkage);
}

MAIN(TEST(full), TEST(last_freed_first), TEST(random_slots), TEST(configurations), TEST(memory_limits),
     TEST(memory_maximum), TEST(compact), TEST(stacks_are_limited), TEST(released_early),
     TEST(many_regions_one_after_the_other), TEST(many_regions_at_once))
