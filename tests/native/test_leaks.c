/* test_leaks.c: nothing of a guest is left for the next one in its slot. Every guest, having dirtied its memory in every way, is followed
 * by every other on one slot, whose whole memory is then compared with that of an instance in a region nobody has used. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kit.h"

static const char *const names[] = {"heap_zero", "heap_bare",   "heap_small", "heap_mapped",
                                    "heap_runs", "heap_sparse", "heap_large", "exporter"};
enum { GUESTS = sizeof names / sizeof *names, GROWN_PAGES = 660 };

static struct guest {
    lucet_linkage *linkage;
    u8 *memory; /* of an instance in a fresh region */
    u64 size;
} guests[GUESTS];

/* What a guest does to its memory: count host pages, `step` apart. */
static const struct dirt {
    const char *name;
    u32 grow_to; /* WebAssembly pages; 0: stays as it is */
    u32 count, step;
    bool by_kernel, by_host;
} dirts[] = {
    {"nothing", 0, 0, 1, false, false},
    {"grown", GROWN_PAGES, 0, 1, false, false},
    {"1 page", 0, 1, 1, false, false},
    {"63 pages", 0, 63, 1, false, false},
    {"64 pages", 0, 64, 1, false, false},
    {"65 pages", 0, 65, 1, false, false},
    {"128 pages", 0, 128, 1, false, false},
    {"130 pages apart", 0, 130, 3, false, false},
    {"400 pages far apart", 0, 400, 25, false, false},
    {"1000 pages", 0, 1000, 1, false, false},
    {"10000 pages", 0, 10000, 1, false, false},
    {"10000 pages, grown", GROWN_PAGES, 10000, 1, false, false},
    {"5000 pages apart, grown", GROWN_PAGES, 5000, 2, false, false},
    {"1 page, by the kernel", 0, 1, 1, true, false},
    {"200 pages, by the kernel", 0, 200, 2, true, false},
    {"1000 pages, by the host", 0, 1000, 1, false, true},
};
enum { DIRTS = sizeof dirts / sizeof *dirts };

static lucet_region *one_slot(bool tracked) {
    lucet_region_config config = small_config(1);
    config.track_writes = tracked;
    return new_region(&config);
}

static void load_all(void) {
    for (u32 i = 0; i < GUESTS; i++) {
        guests[i].linkage = load_linked(names[i]);
        lucet_region *region = one_slot(true);
        lucet_instance *instance = started_instance(region, guests[i].linkage);
        guests[i].size = lucet_memory_size(lucet_instance_memory(instance, 0));
        guests[i].memory = malloc(guests[i].size + 1);
        memcpy(guests[i].memory, lucet_memory_base(lucet_instance_memory(instance, 0)), guests[i].size);
        lucet_instance_free(instance);
        lucet_region_release(region);
    }
}

static void release_all(void) {
    for (u32 i = 0; i < GUESTS; i++) {
        lucet_linkage_release(guests[i].linkage);
        free(guests[i].memory);
    }
}

/* The images are what the texts say: some are not empty. */
static void references_are_right(void) {
    load_all();
    static const struct {
        const char *guest, *text;
        u64 at;
    } contents[] = {{"heap_small", "small", 16},
                    {"heap_small", "image", 70000},
                    {"heap_mapped", "page 7", 4096 * 7 + 7},
                    {"heap_runs", "run 9 page 7", 196608 * 9 + 4096 * 7 + 49},
                    {"heap_sparse", "far 39", 65536 * 39 + 5039},
                    {"heap_large", "somewhere", 1000000}};
    for (u32 c = 0; c < sizeof contents / sizeof *contents; c++)
        for (u32 i = 0; i < GUESTS; i++)
            if (strcmp(names[i], contents[c].guest) == 0)
                CHECK(memcmp(guests[i].memory + contents[c].at, contents[c].text, strlen(contents[c].text)) == 0);
    release_all();
}

static void write_page(lucet_instance *instance, const struct dirt *dirt, u64 offset, int zeros) {
    u8 *at = lucet_memory_base(lucet_instance_memory(instance, 0)) + offset;
    if (dirt->by_host) {
        memset(at, 0xdd, 64);
        return;
    }
    CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), offset, 64));
    CHECK_EQUAL(read(zeros, at, 64), 64);
    memset(at, 0xcc, 8);
}

static void make_dirty(lucet_instance *instance, const struct dirt *dirt) {
    static int urandom = -1;
    if (urandom < 0)
        urandom = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    u64 pages = lucet_memory_size(lucet_instance_memory(instance, 0)) / WASM_PAGE;
    bool has_functions = lucet_module_find_export(lucet_instance_module(instance), "touch", 5, &(lucet_export_info){0});
    if (dirt->grow_to > pages)
        lucet_memory_grow(lucet_instance_memory(instance, 0),
                          dirt->grow_to - pages); /* the exporter cannot by so much */
    u64 host_pages = lucet_memory_size(lucet_instance_memory(instance, 0)) / HOST_PAGE, count = dirt->count;
    while (count && (count - 1) * dirt->step >= host_pages)
        count--;
    if (dirt->by_kernel || dirt->by_host || !has_functions)
        for (u64 i = 0; i < count; i++)
            write_page(instance, dirt, i * dirt->step * HOST_PAGE + 100, urandom);
    else
        CALL(instance, "touch", 0, count, dirt->step);
}

static void check_memory(lucet_instance *instance, const struct guest *guest) {
    CHECK_EQUAL(lucet_memory_size(lucet_instance_memory(instance, 0)), guest->size);
    const u8 *memory = lucet_memory_base(lucet_instance_memory(instance, 0));
    if (memcmp(memory, guest->memory, guest->size) != 0)
        for (u64 i = 0; i < guest->size; i++)
            if (memory[i] != guest->memory[i]) {
                fprintf(stderr, "byte %#llx is %#x, not %#x\n", (unsigned long long)i, memory[i], guest->memory[i]);
                abort();
            }
}

/* What is not memory is not accessible, and is zero when it becomes memory. */
static void check_end(lucet_instance *instance, const struct guest *guest) {
    if (!lucet_module_find_export(lucet_instance_module(instance), "touch", 5, &(lucet_export_info){0}))
        return;
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "touch", guest->size / HOST_PAGE, 1, 1);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "touch", GROWN_PAGES * 16 - 1 + guest->size / HOST_PAGE, 1,
                1);
    CHECK_EQUAL(CALL(instance, "grow", 3), guest->size / WASM_PAGE);
    for (const u8 *at = lucet_memory_base(lucet_instance_memory(instance, 0)) + guest->size, *end = at + 3 * WASM_PAGE;
         at < end; at += 8)
        CHECK(*(const u64 *)at == 0);
}

static void pair(lucet_region *region, u32 first, const struct dirt *dirt, u32 second) {
    lucet_instance *instance = started_instance(region, guests[first].linkage);
    check_memory(instance, &guests[first]);
    make_dirty(instance, dirt);
    lucet_instance_free(instance);
    instance = started_instance(region, guests[second].linkage);
    check_memory(instance, &guests[second]);
    check_end(instance, &guests[second]);
    lucet_instance_free(instance);
}

static void matrix(bool tracked) {
    load_all();
    lucet_region *region = one_slot(tracked);
    /* Reading every page of the large one takes its time; it stands for itself in some of them. */
    for (u32 dirt = 0; dirt < DIRTS; dirt++)
        for (u32 first = 0; first < GUESTS; first++)
            for (u32 second = 0; second < GUESTS; second++) {
                bool slow = strcmp(names[first], "heap_large") == 0 || strcmp(names[second], "heap_large") == 0;
                if (slow && (first + second + dirt) % (SANITIZED ? 8 : 4))
                    continue;
                pair(region, first, &dirts[dirt], second);
            }
    lucet_region_release(region);
    release_all();
}

static void every_pair_tracked(void) {
    matrix(true);
}

static void every_pair_untracked(void) {
    matrix(false);
}

/* What the first dirtied and the second did not is not forgotten by the third: the slot's memory of writes adds up. */
static void long_sequences(void) {
    load_all();
    lucet_region *region = one_slot(true);
    u64 random = 12345;
    for (u32 i = 0; i < scaled(1000); i++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        u32 guest = (u32)(random >> 60) % GUESTS, dirt = (u32)(random >> 50) % DIRTS;
        if (i % 3) /* mostly the same guest again: warm slots */
            guest = (u32)(i / 50) % GUESTS;
        if (strcmp(names[guest], "heap_large") == 0 && i % 10)
            continue;
        lucet_instance *instance = started_instance(region, guests[guest].linkage);
        check_memory(instance, &guests[guest]);
        make_dirty(instance, &dirts[dirt]);
        if (i % 5 == 0) {
            CHECK(lucet_instance_reset(instance, &last_error));
            check_memory(instance, &guests[guest]);
            make_dirty(instance, &dirts[(dirt + 1) % DIRTS]);
        }
        lucet_instance_free(instance);
    }
    lucet_region_release(region);
    release_all();
}

static void reset_in_place(void) {
    load_all();
    for (int tracked = 0; tracked < 2; tracked++)
        for (u32 guest = 0; guest < GUESTS; guest++) {
            lucet_region *region = one_slot(tracked);
            lucet_instance *instance = started_instance(region, guests[guest].linkage);
            for (u32 dirt = 0; dirt < DIRTS; dirt++) {
                make_dirty(instance, &dirts[dirt]);
                CHECK(lucet_instance_reset(instance, &last_error));
                check_memory(instance, &guests[guest]);
            }
            check_end(instance, &guests[guest]);
            lucet_instance_free(instance);
            lucet_region_release(region);
        }
    release_all();
}

/* A child sees its own copies: whether its pages were written is not asked of its parent. */
static void after_fork(void) {
    load_all();
    for (u32 guest = 0; guest < GUESTS; guest++)
        for (u32 dirt = 0; dirt < DIRTS; dirt += 4) {
            lucet_region *region = one_slot(true);
            /* Opens what the process keeps open for this. */
            pair(region, guest, &dirts[10], guest);
            lucet_instance *instance = started_instance(region, guests[guest].linkage);
            make_dirty(instance, &dirts[dirt]);
            pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                make_dirty(instance, &dirts[(dirt + 5) % DIRTS]); /* pages that the parent never wrote */
                lucet_instance_free(instance);
                for (u32 i = 0; i < 3; i++) {
                    instance = started_instance(region, guests[guest].linkage);
                    check_memory(instance, &guests[guest]);
                    make_dirty(instance, &dirts[DIRTS - 1 - i]);
                    lucet_instance_free(instance);
                }
                pair(region, guest, &dirts[9], (guest + 1) % GUESTS);
                _exit(0);
            }
            int status;
            CHECK(waitpid(child, &status, 0) == child && status == 0);
            lucet_instance_free(instance);
            instance = started_instance(region, guests[guest].linkage);
            check_memory(instance, &guests[guest]);
            lucet_instance_free(instance);
            lucet_region_release(region);
        }
    release_all();
}

/* Pages that a child wrote and its parent does not even have: the parent's page tables must not be asked. */
static void written_by_the_child_only(void) {
    load_all();
    enum { LARGE = 6, FIRST = 6000, COUNT = 50 };
    lucet_region *region = one_slot(true);
    lucet_instance *instance = started_instance(region, guests[LARGE].linkage);
    CALL(instance, "touch", 0, 10000, 1); /* writable from now on; most are given back to the kernel */
    lucet_instance_free(instance);
    instance = started_instance(region, guests[LARGE].linkage);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CALL(instance, "touch", FIRST, COUNT, 1);
        lucet_instance_free(instance);
        instance = started_instance(region, guests[LARGE].linkage);
        check_memory(instance, &guests[LARGE]);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    lucet_instance_free(instance);
    lucet_region_release(region);
    release_all();
}

/* ---- what the kernel may write ---- */

static void kernel_writes(void) {
    load_all();
    lucet_region *region = one_slot(true);
    int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    CHECK(zeros >= 0);
    for (u32 round = 0; round < 3; round++) {
        lucet_instance *instance = started_instance(region, guests[2].linkage);
        u8 *base = lucet_memory_base(lucet_instance_memory(instance, 0));
        u64 fresh_page = (20 + 2 * round) * HOST_PAGE; /* on a fresh slot, then on a used one */
        CHECK(read(zeros, base + fresh_page, 10) == -1 && errno == EFAULT);
        CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), fresh_page, 10));
        CHECK_EQUAL(read(zeros, base + fresh_page, 10), 10);
        CHECK_EQUAL(read(zeros, base + fresh_page, 10), 10);
        /* Across pages, and at the ends. */
        CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), fresh_page + HOST_PAGE - 1, 2));
        CHECK_EQUAL(read(zeros, base + fresh_page + HOST_PAGE - 1, 2), 2);
        CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), guests[2].size - 1, 1));
        CHECK_EQUAL(read(zeros, base + guests[2].size - 1, 1), 1);
        CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), guests[2].size, 0));
        CHECK(!lucet_memory_will_write(lucet_instance_memory(instance, 0), guests[2].size, 1));
        CHECK(!lucet_memory_will_write(lucet_instance_memory(instance, 0), guests[2].size - 1, 2));
        CHECK(!lucet_memory_will_write(lucet_instance_memory(instance, 0), UINT64_MAX, 1));
        CHECK(!lucet_memory_will_write(lucet_instance_memory(instance, 0), 1, UINT64_MAX));
        CHECK(!lucet_memory_will_write(lucet_instance_memory(instance, 0), UINT64_MAX, UINT64_MAX));
        /* Grown pages, with and without, and a range across the old end. */
        CHECK_EQUAL(lucet_memory_grow(lucet_instance_memory(instance, 0), 2), guests[2].size / WASM_PAGE);
        CHECK_EQUAL(read(zeros, base + guests[2].size + 5, 5), 5);
        if (round == 2) { /* after that, nothing is protected any more */
            CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), 0,
                                          lucet_memory_size(lucet_instance_memory(instance, 0))));
            CHECK_EQUAL(read(zeros, base, lucet_memory_size(lucet_instance_memory(instance, 0))),
                        lucet_memory_size(lucet_instance_memory(instance, 0)));
        }
        lucet_instance_free(instance);
        instance = started_instance(region, guests[2].linkage);
        check_memory(instance, &guests[2]);
        lucet_instance_free(instance);
    }
    close(zeros);
    lucet_region_release(region);
    release_all();
}

/* Pages that were paged out count as written: asked for with madvise where swap exists, and without effect elsewhere. */
static void paged_out(void) {
    load_all();
    lucet_region *region = one_slot(true);
    lucet_instance *instance = started_instance(region, guests[6].linkage);
    make_dirty(instance, &dirts[10]);
    madvise(lucet_memory_base(lucet_instance_memory(instance, 0)),
            lucet_memory_size(lucet_instance_memory(instance, 0)), MADV_PAGEOUT);
    lucet_instance_free(instance);
    instance = started_instance(region, guests[6].linkage);
    check_memory(instance, &guests[6]);
    lucet_instance_free(instance);
    lucet_region_release(region);
    release_all();
}

static void huge_pages(void) {
    load_all();
    lucet_region *region = one_slot(true);
    for (u32 round = 0; round < 3; round++) {
        lucet_instance *instance = started_instance(region, guests[6].linkage);
        madvise(lucet_memory_base(lucet_instance_memory(instance, 0)),
                lucet_memory_size(lucet_instance_memory(instance, 0)), MADV_HUGEPAGE);
        CHECK(lucet_memory_will_write(lucet_instance_memory(instance, 0), 0,
                                      lucet_memory_size(lucet_instance_memory(instance, 0))));
        make_dirty(instance, &dirts[10]);
        lucet_instance_free(instance);
        instance = started_instance(region, guests[6].linkage);
        check_memory(instance, &guests[6]);
        lucet_instance_free(instance);
    }
    lucet_region_release(region);
    release_all();
}

/* A guest faults on first writes while another thread declares writes: every page is accounted for. */
static struct {
    lucet_instance *instance;
    atomic_bool go;
} racing;

static void *declare_writes(void *unused) {
    (void)unused;
    while (!atomic_load(&racing.go)) {
    }
    for (u32 page = 1; page < 400; page += 2)
        CHECK(lucet_memory_will_write(lucet_instance_memory(racing.instance, 0), page * HOST_PAGE, 9000));
    for (u32 page = 1; page < 400; page += 2)
        lucet_memory_base(lucet_instance_memory(racing.instance, 0))[page * HOST_PAGE + 5] = 0xab;
    return NULL;
}

static void concurrent_first_writes(void) {
    load_all();
    lucet_region *region = one_slot(true);
    for (u32 round = 0; round < scaled(100); round++) {
        lucet_instance *instance = started_instance(region, guests[6].linkage);
        check_memory(instance, &guests[6]);
        racing.instance = instance;
        atomic_store(&racing.go, false);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, declare_writes, NULL) == 0);
        atomic_store(&racing.go, true);
        CALL(instance, "touch", 0, 400, 1);
        CHECK(pthread_join(thread, NULL) == 0);
        lucet_instance_free(instance);
        if (round % 4 == 0) { /* another image: writes begin anew */
            instance = started_instance(region, guests[1].linkage);
            lucet_instance_free(instance);
        }
    }
    lucet_region_release(region);
    release_all();
}

MAIN(TEST(references_are_right), TEST(every_pair_tracked), TEST(every_pair_untracked), TEST(long_sequences),
     TEST(reset_in_place), TEST(after_fork), TEST(written_by_the_child_only), TEST(kernel_writes), TEST(paged_out),
     TEST(huge_pages), TEST(concurrent_first_writes))
