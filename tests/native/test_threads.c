/* test_threads.c: many threads, each with instances of its own, in regions and of modules that they share. */

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hosts.h"

enum { THREADS = 8 };

static lucet_region *region;
static lucet_linkage *linkages[3];
static pthread_barrier_t barrier;

static void on_all_threads(void *(*run)(void *)) {
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (u32 i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    pthread_barrier_destroy(&barrier);
}

static void *create_run_free(void *thread) {
    u32 me = (u32)(uintptr_t)thread;
    pthread_barrier_wait(&barrier);
    for (u32 i = 0; i < scaled(20000); i++) {
        lucet_instance *instance = new_instance(region, linkages[(i / 64 + me) % 2]);
        CHECK_EQUAL(VMCTX_WORD(instance->vmctx, VMCTX_CANARY), canary_of(instance));
        CHECK_EQUAL(CALL(instance, "add", i, me), i + me);
        CHECK_EQUAL(CALL(instance, "peek", 40), 0);
        CALL(instance, "poke", 40, me + 1);
        CHECK_EQUAL(CALL(instance, "bump"), 8);
        CHECK_EQUAL(CALL(instance, "peek", 40), me + 1);
        if (i % 16 == 0)
            CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "poke", 0x7fffffff, 1);
        lucet_instance_free(instance);
    }
    return NULL;
}

static void shared_region(void) {
    lucet_region_config config = small_config(THREADS);
    for (int random = 0; random < 2; random++) {
        config.random_slots = random;
        region = new_region(&config);
        linkages[0] = load_linked("plain");
        linkages[1] = load_linked("plain_checked");
        on_all_threads(create_run_free);
        CHECK_EQUAL(lucet_region_used(region), 0);
        lucet_region_release(region);
        lucet_linkage_release(linkages[0]);
        lucet_linkage_release(linkages[1]);
    }
}

/* Fewer slots than threads: whoever gets none is told so. */
static void *compete(void *thread) {
    pthread_barrier_wait(&barrier);
    u32 refused = 0;
    for (u32 i = 0; i < scaled(5000); i++) {
        lucet_error error;
        lucet_instance *instance = lucet_instance_new(region, linkages[0], NULL, &error);
        if (!instance) {
            if (error.code != LUCET_ERROR_REGION_FULL)
                fprintf(stderr, "%s\n", error.message);
            CHECK_EQUAL(error.code, LUCET_ERROR_REGION_FULL);
            refused++;
            continue;
        }
        CHECK_EQUAL(CALL(instance, "add", i, 1), i + 1);
        lucet_instance_free(instance);
    }
    (void)thread;
    return NULL;
}

static void fewer_slots_than_threads(void) {
    region = small_region(3);
    linkages[0] = load_linked("plain");
    on_all_threads(compete);
    CHECK_EQUAL(lucet_region_used(region), 0);
    lucet_region_release(region);
    lucet_linkage_release(linkages[0]);
}

/* Regions come and go while other threads fault. */
static void *regions_and_faults(void *thread) {
    pthread_barrier_wait(&barrier);
    for (u32 i = 0; i < scaled(1500); i++) {
        if ((uintptr_t)thread % 2) {
            lucet_region *own = small_region(1 + i % 4);
            lucet_instance *instance = new_instance(own, linkages[0]);
            CALL(instance, "poke", 8000, 1);
            lucet_instance_free(instance);
            lucet_region_release(own);
        } else {
            lucet_instance *instance = new_instance(region, linkages[i % 3]);
            if (i % 3 != 2)
                CALL(instance, "touch", 0, 20, 1); /* first writes */
            else
                CALL(instance, "touch", 0, 40, 1);
            lucet_instance_free(instance);
        }
    }
    return NULL;
}

static void regions_come_and_go(void) {
    region = small_region(THREADS);
    linkages[0] = load_linked("plain");
    linkages[1] = load_linked("plain_checked");
    linkages[2] = load_linked("heap_mapped");
    on_all_threads(regions_and_faults);
    lucet_region_release(region);
    for (u32 i = 0; i < 3; i++)
        lucet_linkage_release(linkages[i]);
}

/* The last references and the last instances of a region end at once: it goes exactly once, and not before. */
static lucet_instance *lasts[THREADS];

static void *end_together(void *thread) {
    u32 me = (u32)(uintptr_t)thread;
    for (u32 i = 0; i < scaled(1000); i++) {
        if (me == 0) {
            region = small_region(THREADS);
            for (u32 j = 0; j < THREADS; j++)
                lasts[j] = new_instance(region, linkages[0]);
            for (u32 j = 1; j < THREADS; j += 2)
                lucet_region_retain(region);
        }
        pthread_barrier_wait(&barrier);
        if (me % 2) /* while it has its instance, it may ask for the region */
            lucet_region_retain(lucet_instance_region(lasts[me]));
        lucet_instance_free(lasts[me]);
        if (me % 2) {
            CHECK_EQUAL(lucet_region_capacity(region), THREADS);
            lucet_region_release(region);
            lucet_region_release(region);
        } else if (me == 0) {
            lucet_region_release(region);
        }
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void references_and_instances_end_together(void) {
    linkages[0] = load_linked("plain");
    struct usage before = usage_now();
    on_all_threads(end_together);
    struct usage after = usage_now();
    CHECK(after.mappings <= before.mappings + 4 * THREADS); /* what threads left: malloc's arenas, cached stacks */
    lucet_linkage_release(linkages[0]);
}

static void *load_modules(void *thread) {
    static const char *const guests[] = {"plain", "heap_mapped", "exporter", "traps"};
    pthread_barrier_wait(&barrier);
    for (u32 i = 0; i < scaled(300); i++) {
        lucet_linkage *linkage = load_linked(guests[(i + (uintptr_t)thread) % 4]);
        lucet_instance *instance = started_instance(region, linkage);
        lucet_linkage_release(linkage);
        lucet_instance_free(instance);
    }
    return NULL;
}

static void modules_come_and_go(void) {
    if (SANITIZED_THREADS)
        return; /* it sees races inside the dynamic linker, and deadlocks with it when it looks for their names */
    region = small_region(THREADS);
    on_all_threads(load_modules);
    lucet_region_release(region);
}

/* One instance, handed from thread to thread while suspended. */
static struct {
    _Atomic(lucet_instance *) instance;
    atomic_uint turns;
} relay;

static void *take_turns(void *unused) {
    (void)unused;
    on_stop = stop_by_suspending;
    while (atomic_load(&relay.turns) < scaled(2000)) {
        lucet_instance *mine = atomic_exchange(&relay.instance, NULL);
        if (!mine)
            continue;
        lucet_outcome_kind kind = lucet_instance_state(mine) == LUCET_STATE_SUSPENDED
                                      ? resume(mine)
                                      : call_slots(mine, "stop_twice", (u64[1]){1});
        CHECK(kind == LUCET_SUSPENDED || kind == LUCET_RETURNED);
        atomic_fetch_add(&relay.turns, 1);
        atomic_store(&relay.instance, mine);
    }
    return NULL;
}

static void handed_over_while_suspended(void) {
    lucet_instance *instance = hosts_instance(1);
    atomic_store(&relay.turns, 0);
    atomic_store(&relay.instance, instance);
    on_all_threads(take_turns);
    lucet_instance_free(instance);
}

/* Everybody interrupts everybody. */
static _Atomic(lucet_instance *) everybody[THREADS];
static atomic_bool finished;

static void *run_and_interrupt(void *thread) {
    u32 me = (u32)(uintptr_t)thread, interrupted = 0;
    lucet_instance *instance = hosts_instance(1);
    atomic_store(&everybody[me], instance);
    pthread_barrier_wait(&barrier);
    for (u32 i = 0; i < scaled(4000); i++) {
        lucet_instance_interrupt(atomic_load(&everybody[(me + 1 + i % (THREADS - 1)) % THREADS]));
        u64 slots[2] = {i, 1};
        lucet_outcome_kind kind = call_slots(instance, i % 4 ? "call_add" : "sum", slots);
        CHECK(kind == LUCET_RETURNED ? (u32)slots[0] == i + 1
                                     : kind == LUCET_TRAPPED && last_outcome.trap == TRAP_INTERRUPTED);
        interrupted += kind == LUCET_TRAPPED;
    }
    pthread_barrier_wait(&barrier);
    atomic_store(&finished, true);
    pthread_barrier_wait(&barrier);
    CHECK_EQUAL(CALL(instance, "sum", 1, 2), 3);
    lucet_instance_free(instance);
    return NULL;
}

static void everybody_interrupts_everybody(void) {
    on_all_threads(run_and_interrupt);
}

/* Threads that hold each lock of the process most of the time, while one forks. */
static void *hold_locks(void *thread) {
    u32 me = (u32)(uintptr_t)thread;
    while (!atomic_load(&finished)) {
        lucet_region *own = small_region(2);
        lucet_linkage *linkage = load_linked("plain");
        for (u32 i = 0; i < 20; i++) {
            lucet_instance *instance = new_instance(i % 2 ? own : region, linkage);
            lucet_instance_set_timeout(instance, 1000000000);
            CHECK_EQUAL(CALL(instance, "add", i, me), i + me);
            for (u32 j = 0; j < 20; j++)
                lucet_instance_interrupt(instance);
            lucet_instance_free(instance);
        }
        lucet_linkage_release(linkage);
        lucet_region_release(own);
    }
    return NULL;
}

static void *run_once(void *unused) {
    (void)unused;
    lucet_instance *instance = new_instance(region, linkages[0]);
    lucet_instance_set_timeout(instance, 1000000000);
    CHECK_EQUAL(CALL(instance, "add", 1, 2), 3);
    CHECK(!lucet_instance_interrupt(instance));
    lucet_instance_free(instance);
    return NULL;
}

static void fork_while_others_work(void) {
    if (SANITIZED_THREADS)
        return; /* the sanitizer does not allow threads in such a child */
    enum { WORKERS = 3 };
    pthread_t workers[WORKERS];
    lucet_region_config config = small_config(2 * WORKERS + 2);
    region = new_region(&config);
    linkages[0] = load_linked("plain");
    atomic_store(&finished, false);
    for (uintptr_t i = 0; i < WORKERS; i++)
        CHECK(pthread_create(&workers[i], NULL, hold_locks, (void *)i) == 0);
    for (u32 i = 0; i < scaled(200); i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pthread_t thread;
            alarm(60); /* what hangs, ends */
            run_once(NULL);
            CHECK(pthread_create(&thread, NULL, run_once, NULL) == 0);
            CHECK(pthread_join(thread, NULL) == 0);
            lucet_linkage_release(load_linked("plain"));
            lucet_region_release(small_region(2));
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK_EQUAL(status, 0);
    }
    atomic_store(&finished, true);
    for (u32 i = 0; i < WORKERS; i++)
        CHECK(pthread_join(workers[i], NULL) == 0);
    lucet_linkage_release(linkages[0]);
    lucet_region_release(region);
}

MAIN(TEST(shared_region), TEST(fewer_slots_than_threads), TEST(regions_come_and_go),
     TEST(references_and_instances_end_together), TEST(modules_come_and_go), TEST(handed_over_while_suspended),
     TEST(everybody_interrupts_everybody), TEST(fork_while_others_work))
