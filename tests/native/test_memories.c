/* test_memories.c: memories that are not their slot's heap: several, shared ones, and guests that wait for each other. */

#include <pthread.h>
#include <sched.h>

#include "hosts.h"

enum { OWN = 1, LONG, BYTES, MINE, MEMORIES };

static lucet_externtype shared_type(u64 minimum, u64 maximum) {
    return (lucet_externtype){
        .kind = LUCET_MEMORY, .is_shared = true, .page_size_log2 = 16, .limits = {minimum, maximum}};
}

static lucet_memory *new_shared(u64 minimum, u64 maximum) {
    lucet_externtype type = shared_type(minimum, maximum);
    lucet_memory *memory = lucet_shared_memory_new(&type, NULL, &last_error);
    CHECK(memory);
    return memory;
}

static lucet_linkage *link_memories(lucet_memory *memory) {
    lucet_module *module = load_guest("memories");
    lucet_import import = {.from = LUCET_IMPORT_MEMORY, .memory = memory};
    lucet_linkage *linkage = link_guest(module, &import, 1);
    lucet_module_release(module);
    return linkage;
}

/* ---- what a module has ---- */

static void check_new(lucet_instance *instance) {
    static const struct {
        u64 size;
        const char *function, *bytes;
        u64 address;
    } all[MEMORIES] = {{0, NULL, NULL, 0},
                       {WASM_PAGE, "load own", "own", 7},
                       {WASM_PAGE, "load long", "64 bit", 65530},
                       {100, "load bytes", "end", 97},
                       {WASM_PAGE, "load mine", "mine", 0}};
    for (u32 i = OWN; i < MEMORIES; i++) {
        lucet_memory *memory = lucet_instance_memory(instance, i);
        CHECK_EQUAL(lucet_memory_size(memory), all[i].size);
        const u8 *base = lucet_memory_base(memory);
        u64 length = strlen(all[i].bytes);
        for (u64 at = 0; at < all[i].size; at++) {
            bool inside = at >= all[i].address && at < all[i].address + length;
            CHECK_EQUAL(base[at], inside ? all[i].bytes[at - all[i].address] : 0);
        }
        for (u64 at = 0; at < length; at++)
            CHECK_EQUAL(CALL(instance, all[i].function, all[i].address + at), all[i].bytes[at]);
        CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, all[i].function, all[i].size);
    }
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "load long", UINT64_MAX);
    CHECK(!lucet_instance_memory(instance, MEMORIES));
    CHECK_EQUAL(lucet_memory_size(NULL), 0);
    CHECK(!lucet_memory_base(NULL));
}

static void restored(void) {
    lucet_memory *shared = new_shared(1, 4);
    lucet_linkage *linkage = link_memories(shared);
    lucet_region *region = small_region(2);
    for (u32 i = 0; i < 5; i++) {
        lucet_instance *instance = started_instance(region, linkage);
        check_new(instance);
        for (u32 round = 0; round < 2; round++) {
            CALL(instance, "fill", 0xdd);
            lucet_memory_base(lucet_instance_memory(instance, MINE))[9] = 1;
            CHECK_EQUAL(CALL(instance, "grow"), 1);
            CALL(instance, "fill", 0xee);
            CHECK(lucet_instance_reset(instance, &last_error));
            CHECK_EQUAL(lucet_instance_start(instance, &last_outcome, &last_error), LUCET_RETURNED);
            check_new(instance);
        }
        CALL(instance, "grow");
        CALL(instance, "fill", 0xee);
        lucet_instance_free(instance);
    }
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    lucet_memory_release(shared);
}

static void types_and_sizes(void) {
    lucet_memory *shared = new_shared(1, 4);
    lucet_linkage *linkage = link_memories(shared);
    lucet_region *region = small_region(1);
    lucet_instance *instance = started_instance(region, linkage);
    CHECK(lucet_instance_memory(instance, 0) == shared);
    CHECK(lucet_memory_type(lucet_instance_memory(instance, LONG)).is_64);
    CHECK_EQUAL(lucet_memory_type(lucet_instance_memory(instance, BYTES)).page_size_log2, 0);
    CHECK(lucet_memory_type(lucet_instance_memory(instance, MINE)).is_shared);
    CHECK(!lucet_memory_type(lucet_instance_memory(instance, OWN)).is_shared);
    lucet_memory *bytes = lucet_instance_memory(instance, BYTES);
    CHECK_EQUAL(lucet_memory_grow(bytes, 7), 100);
    CHECK_EQUAL(lucet_memory_size(bytes), 107);
    CHECK(lucet_memory_will_write(bytes, 100, 7));
    CHECK(!lucet_memory_will_write(bytes, 100, 8));
    CHECK(!lucet_memory_will_write(bytes, UINT64_MAX, 2));
    CHECK_EQUAL(lucet_memory_grow(bytes, 70000), UINT64_MAX);
    CHECK_EQUAL(lucet_memory_grow(bytes, UINT64_MAX), UINT64_MAX);
    CHECK_EQUAL(lucet_memory_grow(shared, 3), 1);
    CHECK_EQUAL(lucet_memory_grow(shared, 1), UINT64_MAX);
    CHECK_EQUAL(CALL(instance, "load shared", 4 * WASM_PAGE - 1), 0);
    /* The module's own shared memory lives on. */
    lucet_memory *mine = lucet_instance_memory(instance, MINE);
    lucet_memory_retain(mine);
    lucet_instance_free(instance);
    CHECK(memcmp(lucet_memory_base(mine), "mine", 4) == 0);
    lucet_memory_release(mine);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    lucet_memory_release(shared);
}

static void wrong_ones(void) {
    lucet_module *module = load_guest("memories");
    static const struct {
        u64 minimum, maximum;
        bool is_64;
        u8 page_size_log2;
    } types[] = {{0, 4, false, 16}, {1, 5, false, 16}, {1, 4, true, 16}, {1, 4, false, 0}};
    for (u32 i = 0; i < sizeof types / sizeof *types; i++) {
        lucet_externtype type = shared_type(types[i].minimum, types[i].maximum);
        type.is_64 = types[i].is_64;
        type.page_size_log2 = types[i].page_size_log2;
        lucet_memory *memory = lucet_shared_memory_new(&type, NULL, &last_error);
        CHECK(memory);
        lucet_import import = {.from = LUCET_IMPORT_MEMORY, .memory = memory};
        CHECK(!lucet_link(module, &import, 1, &last_error));
        CHECK_EQUAL(last_error.code, LUCET_ERROR_LINK);
        lucet_memory_release(memory);
    }
    lucet_import none = {.from = LUCET_IMPORT_MEMORY};
    CHECK(!lucet_link(module, &none, 1, &last_error));
    lucet_module_release(module);
    lucet_externtype bad[] = {shared_type(2, 1), shared_type(0, 65537), shared_type(0, UINT64_MAX), shared_type(0, 1),
                              shared_type(0, UINT64_MAX)};
    bad[3].page_size_log2 = 12;
    bad[4].is_64 = true;
    bad[4].page_size_log2 = 0;
    for (u32 i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!lucet_shared_memory_new(&bad[i], NULL, &last_error));
        CHECK_EQUAL(last_error.code, i < 4 ? LUCET_ERROR_ARGUMENT : LUCET_ERROR_LIMITS);
    }
}

/* ---- threads ---- */

enum { THREADS = 4 };
static lucet_linkage *linkage;
static lucet_region *region;

static void *count(void *unused) {
    (void)unused;
    lucet_instance *instance = started_instance(region, linkage);
    for (u32 i = 0; i < scaled(20000); i++)
        CALL(instance, "add", 16);
    lucet_instance_free(instance);
    return NULL;
}

static void *wait_for_it(void *instance) {
    return (void *)(uintptr_t)CALL(instance, "wait", 8, 0, UINT64_MAX);
}

static void *be_interrupted(void *instance) {
    CHECK_TRAPS(TRAP_INTERRUPTED, instance, "wait", 8, 0, UINT64_MAX);
    return NULL;
}

static void several_threads(void) {
    lucet_memory *memory = new_shared(1, 4);
    linkage = link_memories(memory);
    region = small_region(THREADS);
    pthread_t threads[THREADS];
    for (u32 i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, count, NULL) == 0);
    for (u32 i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    u32 sum;
    memcpy(&sum, lucet_memory_base(memory) + 16, sizeof sum);
    CHECK_EQUAL(sum, THREADS * scaled(20000));
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    lucet_memory_release(memory);
}

static void waiting(void) {
    lucet_memory *memory = new_shared(1, 4);
    linkage = link_memories(memory);
    region = small_region(THREADS);
    lucet_instance *instances[THREADS];
    pthread_t threads[THREADS];
    for (u32 i = 0; i < THREADS; i++)
        instances[i] = started_instance(region, linkage);
    CHECK(!lucet_instances_linked(instances[0], instances[1]));
    for (u32 round = 0; round < scaled(200); round++) {
        u32 waiters = 1 + round % THREADS, woken = 0;
        for (u32 i = 0; i < waiters; i++)
            CHECK(pthread_create(&threads[i], NULL, round % 2 ? wait_for_it : be_interrupted, instances[i]) == 0);
        for (u32 i = 0; round % 2 && woken < waiters; i++) {
            woken += i % 2 && waiters < THREADS ? CALL(instances[THREADS - 1], "notify", 8, 1)
                                                : lucet_memory_notify(memory, 8, 2);
            sched_yield();
        }
        for (u32 i = 0; i < waiters; i++) {
            /* As often as it takes: before the run there is nothing to interrupt. */
            while (round % 2 == 0 && !lucet_instance_interrupt(instances[i]))
                sched_yield();
            void *result;
            CHECK(pthread_join(threads[i], &result) == 0);
            CHECK(!result);
        }
        CHECK_EQUAL(lucet_memory_notify(memory, 8, UINT32_MAX), 0);
    }
    CHECK_EQUAL(CALL(instances[0], "wait", 8, 1, UINT64_MAX), 1);
    CHECK_EQUAL(CALL(instances[0], "wait", 8, 0, 1000), 2);
    CHECK_TRAPS(TRAP_UNALIGNED_ATOMIC, instances[0], "wait", 7, 0, 0);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instances[0], "notify", WASM_PAGE, 0);
    lucet_instance_set_timeout(instances[0], 10000000);
    CHECK_TRAPS(TRAP_TIMED_OUT, instances[0], "wait", 8, 0, UINT64_MAX);
    CHECK_EQUAL(lucet_memory_notify(memory, 9, 1), 0);
    CHECK_EQUAL(lucet_memory_notify(memory, WASM_PAGE, 1), 0);
    for (u32 i = 0; i < THREADS; i++)
        lucet_instance_free(instances[i]);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    lucet_memory_release(memory);
}

MAIN(TEST(restored), TEST(types_and_sizes), TEST(wrong_ones), TEST(several_threads), TEST(waiting))
