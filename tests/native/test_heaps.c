/* test_heaps.c: which pages of a slot are writable: exactly those that a reset restores. They become so when they are written, and cease
 * to be when nobody writes them any more. */

#include <errno.h>
#include <fcntl.h>

#include "kit.h"

static lucet_linkage *linkage;
static lucet_region *region;
static u8 *contents; /* of a new instance */
static u64 size;
static int zeros = -1;

static void set_up(const char *guest) {
    zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    linkage = load_linked(guest);
    region = small_region(1);
    lucet_instance *instance = new_instance(region, linkage);
    size = lucet_memory_size(lucet_instance_memory(instance, 0));
    contents = malloc(size);
    memcpy(contents, lucet_memory_base(lucet_instance_memory(instance, 0)), size);
    lucet_instance_free(instance);
}

static void tear_down(void) {
    lucet_linkage_release(linkage);
    lucet_region_release(region);
    free(contents);
    close(zeros);
}

static bool is_recorded(const struct heap *heap, u32 page) {
    u32 extents = 0;
    bool hot = false;
    for (u32 i = 0; i < heap->extents_count; i++)
        extents += page >= heap->writable->extents[i].first && page < heap->writable->extents[i].end;
    for (u32 i = 0; i < heap->hot_count; i++)
        hot |= heap->writable->hot[i] == page;
    CHECK(extents < 2);
    return hot || extents;
}

/* The kernel, too, can write a page if and only if it is recorded. */
static void check_protection(lucet_instance *instance) {
    const struct heap *heap = &instance->heap;
    for (u32 page = 0; page < size / HOST_PAGE; page++) {
        ssize_t written =
            read(zeros, lucet_memory_base(lucet_instance_memory(instance, 0)) + (u64)page * HOST_PAGE + 8, 8);
        if (is_recorded(heap, page))
            CHECK_EQUAL(written, 8);
        else
            CHECK(written == -1 && errno == EFAULT);
    }
}

static lucet_instance *next(void) {
    lucet_instance *instance = new_instance(region, linkage);
    CHECK_EQUAL(lucet_memory_size(lucet_instance_memory(instance, 0)), size);
    CHECK(memcmp(lucet_memory_base(lucet_instance_memory(instance, 0)), contents, size) == 0);
    return instance;
}

static const struct heap *cycle(u32 page, u32 count, u32 step) {
    lucet_instance *instance = next();
    CALL(instance, "touch", page, count, step);
    lucet_instance_free(instance);
    return &instance->heap;
}

static void check_state(void) {
    lucet_instance *instance = next();
    check_protection(instance);
    lucet_instance_free(instance);
}

enum { COOLED = 4 * 9 }; /* resets after which pages are protected that were not written */

static void pages_cool_down(void) {
    set_up("heap_runs");
    CHECK_EQUAL(cycle(0, 40, 1)->hot_count, 40);
    for (u32 round = 0; round < 3; round++) {
        const struct heap *heap = cycle(0, 40, 1);
        CHECK_EQUAL(heap->hot_count, 40);
        for (u32 i = 0; i < COOLED / 2; i++)
            heap = cycle(5, 3, 1);
        CHECK_EQUAL(heap->hot_count, 40);
        for (u32 i = 0; i < COOLED; i++)
            heap = cycle(5, 3, 1);
        CHECK_EQUAL(heap->hot_count, 3); /* those that are still written */
        check_state();
    }
    tear_down();
}

static void few_pages_stay(void) {
    set_up("heap_runs");
    const struct heap *heap = cycle(0, 3, 1);
    for (u32 i = 0; i < 2 * COOLED; i++)
        heap = cycle(0, 0, 1);
    CHECK_EQUAL(heap->hot_count, 3);
    check_state();
    tear_down();
}

static void extents_cool_down(void) {
    set_up("heap_runs");
    for (u32 round = 0; round < 3; round++) {
        const struct heap *heap = cycle(0, 600, 1);
        CHECK(heap->extents_count > 0);
        check_state();
        for (u32 i = 0; i < 2 * COOLED; i++)
            heap = cycle(3, 1, 1);
        CHECK_EQUAL(heap->extents_count, 0);
        CHECK_EQUAL(heap->hot_count, 1);
        check_state();
    }
    tear_down();
}

/* An extent that is written stays, others go. */
static void some_extents_stay(void) {
    set_up("heap_large");
    const struct heap *heap = cycle(0, 2000, 5);
    u32 before = heap->extents_count;
    CHECK(before > 1);
    for (u32 i = 0; i < 2 * COOLED; i++)
        heap = cycle(9000, 2, 1);
    CHECK(heap->extents_count < before);
    CHECK(heap->extents_count >= 1);
    CHECK(is_recorded(heap, 9000));
    tear_down();
}

/* Pages that became hot one by one, in the midst of extents that came later; either cools down first. */
static void hot_pages_in_extents(void) {
    set_up("heap_runs");
    for (u32 round = 0; round < 4; round++) {
        cycle(0, 60, 8);
        cycle(3, 60, 8);
        const struct heap *heap = cycle(5, 60, 8);
        CHECK(heap->extents_count > 0 && heap->hot_count > 0);
        check_state();
        for (u32 i = 0; i < 2 * COOLED; i++)
            cycle(round % 2 ? 8 * (i % 60) : 3 + 8 * (i % 60), round < 2 ? 1 : 3, 8);
        check_state();
        for (u32 i = 0; i < 2 * COOLED; i++)
            heap = cycle(600, 1, 1);
        CHECK(is_recorded(heap, 600));
        u32 recorded = 0;
        for (u32 page = 0; page < 384; page++) /* further away than an extent is large */
            recorded += is_recorded(heap, page);
        CHECK(recorded <= 3); /* which are too few to be looked at */
        check_state();
    }
    tear_down();
}

/* The kernel's writes are declared in ranges that overlap in every way. */
static void ranges_overlap(void) {
    set_up("heap_runs");
    u64 random = 99;
    for (u32 i = 0; i < scaled(600); i++) {
        lucet_instance *instance = next();
        for (u32 k = 0; k < 1 + i % 7; k++) {
            random = random * 6364136223846793005ULL + 1442695040888963407ULL;
            u64 offset = (random >> 20) % size, length = (random >> 44) % (i % 3 ? 9000 : 400000);
            length = length < size - offset ? length : size - offset;
            CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), offset, length));
            if (i % 2 && length)
                CHECK_EQUAL(read(zeros, lucet_memory_base(lucet_instance_memory(instance, 0)) + offset, length),
                            length);
            CALL(instance, "touch", (random >> 16) % 600, 5, 8);
        }
        if (i % 8 == 0)
            check_protection(instance);
        lucet_instance_free(instance);
        if (i % 100 == 99)
            for (u32 k = 0; k < 2 * COOLED; k++)
                cycle(0, 1, 1);
    }
    tear_down();
}

/* Heavy guests now and then among light ones, with resets in place. */
static void light_and_heavy(void) {
    static const char *const names[] = {"heap_runs", "heap_mapped", "heap_small", "heap_bare"};
    for (u32 guest = 0; guest < 4; guest++) {
        set_up(names[guest]);
        u32 pages = (u32)(size / HOST_PAGE);
        u64 random = 7 + guest;
        for (u32 i = 0; i < scaled(2000); i++) {
            random = random * 6364136223846793005ULL + 1442695040888963407ULL;
            u32 step = 1 + (u32)(random >> 40) % 4;
            u32 count = (random >> 60) == 0 ? pages / step : (u32)(random >> 50) % 4;
            lucet_instance *instance = next();
            CALL(instance, "touch", 0, count, step);
            if (i % 7 == 0) {
                CHECK(lucet_instance_reset(instance, &last_error));
                CHECK(memcmp(lucet_memory_base(lucet_instance_memory(instance, 0)), contents, size) == 0);
                CALL(instance, "touch", 1, 2, 1);
            }
            if (i % 50 == 0)
                check_protection(instance);
            lucet_instance_free(instance);
        }
        tear_down();
    }
}

/* ---- another module in the slot ---- */

/* Modules with small images take turns in the pages that are there. */
static void modules_take_turns(void) {
    set_up("heap_small");
    lucet_linkage *linkages[2] = {linkage, load_linked("plain")};
    lucet_instance *instance = new_instance(region, linkages[1]);
    CHECK_EQUAL(lucet_memory_size(lucet_instance_memory(instance, 0)), size);
    u8 *memories[2] = {contents, malloc(size)};
    memcpy(memories[1], lucet_memory_base(lucet_instance_memory(instance, 0)), size);
    CHECK(memcmp(memories[0], memories[1], size) != 0);
    lucet_instance_free(instance);
    for (u32 i = 0; i < 300; i++) {
        u32 now = i / (1 + i / 50) % 2;
        instance = new_instance(region, linkages[now]);
        CHECK(memcmp(lucet_memory_base(lucet_instance_memory(instance, 0)), memories[now], size) == 0);
        CHECK(instance->heap.hot_count > 0); /* not made afresh */
        CHECK(instance->heap.hot_count < 10);
        check_protection(instance);
        CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), 8192 + i % 3 * HOST_PAGE, 2));
        memset(lucet_memory_base(lucet_instance_memory(instance, 0)) + 8192 + i % 3 * HOST_PAGE, 0xee, 2);
        lucet_instance_free(instance);
        if (i % 20 == 0) { /* the only other holder of a module whose image the slot has */
            lucet_linkage *again = load_linked("plain");
            instance = new_instance(region, again);
            lucet_linkage_release(again);
            CHECK(memcmp(lucet_memory_base(lucet_instance_memory(instance, 0)), memories[1], size) == 0);
            lucet_instance_free(instance);
        }
    }
    linkage = linkages[0];
    lucet_linkage_release(linkages[1]);
    free(memories[1]);
    tear_down();
}

MAIN(TEST(pages_cool_down), TEST(few_pages_stay), TEST(extents_cool_down), TEST(some_extents_stay),
     TEST(hot_pages_in_extents), TEST(ranges_overlap), TEST(light_and_heavy), TEST(modules_take_turns))
