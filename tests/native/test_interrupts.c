/* test_interrupts.c: the kill switch: no interrupt is lost and none strikes the wrong run, wherever it arrives. */

#include <pthread.h>

#include "hosts.h"
#include "stepping.h"

/* ---- at every single instruction ---- */

static void every_instruction_of(const char *name, u32 most) {
    lucet_instance *instance = hosts_instance(1);
    on_stop = NULL;
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, name);
    CALL(instance, "call_add", 1, 2); /* the thread is prepared */
    u64 reached = 0;
    for (u64 at = 1; at < most; at += SANITIZED ? 29 : 1) {
        alarm(20);
        u64 slots[2] = {0};
        CHECK_EQUAL(stepped_call(instance, function, slots, NULL, at, false), LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
        reached = stepping.steps;
    }
    alarm(0);
    CHECK(reached + 1 >= most - 29);
    CHECK_EQUAL(CALL(instance, "call_add", 40, 2), 42);
    lucet_instance_free(instance);
}

static void at_every_instruction(void) {
    if (!can_step())
        return;
    every_instruction_of("spin", SANITIZED ? 1500 : 300);
    every_instruction_of("stop_and_spin", SANITIZED ? 2500 : 450);
}

/* ---- at random ---- */

static struct {
    _Atomic(lucet_instance *) victim;
    atomic_bool stop;
    atomic_uint accepted;
} killer;

static void *kill_at_random(void *unused) {
    (void)unused;
    u64 random = 99;
    while (!atomic_load(&killer.stop)) {
        lucet_instance *victim = atomic_load(&killer.victim);
        if (victim && lucet_instance_interrupt(victim))
            atomic_fetch_add(&killer.accepted, 1);
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        for (u64 i = random >> 54; i > 0; i--)
            __builtin_ia32_pause();
        if (random >> 62 == 0)
            usleep((unsigned)(random >> 40) % 200);
    }
    return NULL;
}

static pthread_t start_killer(void) {
    pthread_t thread;
    atomic_store(&killer.stop, false);
    atomic_store(&killer.accepted, 0);
    CHECK(pthread_create(&thread, NULL, kill_at_random, NULL) == 0);
    return thread;
}

static void stop_killer(pthread_t thread) {
    atomic_store(&killer.stop, true);
    CHECK(pthread_join(thread, NULL) == 0);
    atomic_store(&killer.victim, NULL);
}

static lucet_host_result call_bystander(lucet_instance *instance, u64 *slots) {
    lucet_instance *bystander = lucet_instance_context(instance);
    for (u32 i = 0; i < 10; i++)
        CHECK_EQUAL(CALL(bystander, "sum", i, 1), i + 1);
    slots[0] = 0;
    return LUCET_HOST_OK;
}

/* Endless guests always end; another instance that runs on the same thread, before, after or nested, is never hit. */
static void at_random_moments(void) {
    lucet_instance *victim = hosts_instance(1), *bystander = hosts_instance(1);
    lucet_instance_set_context(victim, bystander);
    atomic_store(&killer.victim, victim);
    pthread_t thread = start_killer();
    static const char *const functions[] = {"spin",     "call_for_ever", "stop_and_spin", "call_stop",
                                            "call_add", "stop_twice",    "recurse_host"};
    u32 trapped = 0;
    for (u32 i = 0; i < scaled(3000); i++) {
        alarm(60);
        on_stop = call_bystander;
        u64 slots[2] = {0, 0};
        lucet_outcome_kind kind = call_slots(victim, functions[i % 7], slots);
        CHECK(kind == LUCET_RETURNED || kind == LUCET_TRAPPED);
        if (kind == LUCET_TRAPPED && last_outcome.trap != TRAP_CALL_STACK_EXHAUSTED) {
            CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
            trapped++;
        }
        if (i % 7 < 3)
            CHECK_EQUAL(kind, LUCET_TRAPPED);
        CHECK_EQUAL(CALL(bystander, "sum", i, 1), i + 1);
        CHECK_EQUAL(lucet_instance_state(victim), LUCET_STATE_READY);
    }
    alarm(0);
    CHECK(trapped >= scaled(3000) * 3 / 7);
    stop_killer(thread);
    CHECK(atomic_load(&killer.accepted) >= trapped);
    CHECK_EQUAL(CALL(victim, "call_add", 1, 2), 3);
    lucet_instance_free(victim);
    lucet_instance_free(bystander);
}

static void suspended_at_random_moments(void) {
    lucet_instance *victim = hosts_instance(2);
    atomic_store(&killer.victim, victim);
    pthread_t thread = start_killer();
    on_stop = stop_by_suspending;
    u32 completed = 0;
    for (u32 i = 0; i < scaled(3000); i++) {
        alarm(60);
        u64 slots[2] = {0, 0};
        lucet_outcome_kind kind = call_slots(victim, "stop_twice", slots);
        for (u32 j = 0; kind == LUCET_SUSPENDED; j++)
            kind = i % 5 == 4 && j == 1 ? terminate(victim) : resume(victim);
        CHECK(kind == LUCET_RETURNED || kind == LUCET_TERMINATED ||
              (kind == LUCET_TRAPPED && last_outcome.trap == TRAP_INTERRUPTED));
        completed += kind == LUCET_RETURNED;
        CHECK_EQUAL(lucet_instance_state(victim), LUCET_STATE_READY);
    }
    alarm(0);
    stop_killer(thread);
    CHECK(completed > 0);
    lucet_instance_free(victim);
}

static lucet_host_result wait_a_little(lucet_instance *instance, u64 *slots) {
    (void)instance;
    for (u32 i = 0; i < 300; i++)
        __builtin_ia32_pause();
    slots[0] = 1;
    return LUCET_HOST_OK;
}

static void during_start(void) {
    lucet_linkage *linkage = link_start();
    lucet_region *region = small_region(1);
    lucet_instance *instance = new_instance(region, linkage);
    on_stop = wait_a_little;
    atomic_store(&killer.victim, instance);
    pthread_t thread = start_killer();
    u32 faulted = 0, ready = 0;
    for (u32 i = 0; i < scaled(20000) && !(faulted > 50 && ready > 50); i++) {
        lucet_outcome_kind kind = lucet_instance_start(instance, &last_outcome, &last_error);
        if (kind == LUCET_TRAPPED) {
            CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
            CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_FAULTED);
            faulted++;
        } else {
            CHECK_EQUAL(kind, LUCET_RETURNED);
            CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
            ready++;
        }
        CHECK(lucet_instance_reset(instance, &last_error));
    }
    CHECK(faulted > 0);
    stop_killer(thread);
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

/* ---- bulk operations, growth, nested runs ---- */

static void during_bulk_operations(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(1);
    lucet_instance *instance = started_instance(region, linkage);
    atomic_store(&killer.victim, instance);
    pthread_t thread = start_killer();
    for (u32 i = 0; i < scaled(300); i++) {
        alarm(60);
        u64 slots[3] = {0, 7, 2 * WASM_PAGE};
        lucet_outcome_kind kind = call_slots(instance, "fill", slots);
        /* All of it or nothing, and never half of it. */
        if (kind == LUCET_RETURNED)
            for (u32 at = 0; at < 2 * WASM_PAGE; at += 1000)
                CHECK_EQUAL(lucet_memory_base(lucet_instance_memory(instance, 0))[at], 7);
        CHECK_TRAPS(TRAP_INTERRUPTED, instance, "grow_for_ever");
        CHECK_TRAPS(TRAP_INTERRUPTED, instance, "spin_in_calls");
        CHECK(lucet_instance_reset(instance, &last_error));
    }
    alarm(0);
    stop_killer(thread);
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

static lucet_host_result spin_and_go_on(lucet_instance *instance, u64 *slots) {
    /* The inner run is ended; this host function does not care. */
    CHECK_TRAPS(TRAP_INTERRUPTED, instance, "spin");
    slots[0] = 0;
    return LUCET_HOST_OK;
}

static void *interrupt_once(void *instance) {
    usleep(20000);
    while (!lucet_instance_interrupt(instance))
        usleep(1000);
    return NULL;
}

static void nested_runs_end_together(void) {
    lucet_instance *instance = hosts_instance(3);
    on_stop = spin_and_go_on;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, interrupt_once, instance) == 0);
    alarm(20);
    CHECK_TRAPS(TRAP_INTERRUPTED, instance, "stop_and_spin", 0);
    alarm(0);
    pthread_join(thread, NULL);
    on_stop = NULL;
    CHECK_EQUAL(CALL(instance, "call_stop", 1), 1 + OWN_G + BASE);
    lucet_instance_free(instance);
}

static void place_of_an_interrupt(void) {
    lucet_instance *instance = hosts_instance(3);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, interrupt_once, instance) == 0);
    CHECK_TRAPS(TRAP_INTERRUPTED, instance, "spin");
    CHECK(last_outcome.module == lucet_instance_module(instance));
    CHECK_EQUAL(last_outcome.function, export_index(lucet_instance_module(instance), LUCET_FUNC, "spin"));
    pthread_join(thread, NULL);
    lucet_instance_free(instance);
}

MAIN(TEST(at_every_instruction), TEST(at_random_moments), TEST(suspended_at_random_moments), TEST(during_start),
     TEST(during_bulk_operations), TEST(nested_runs_end_together), TEST(place_of_an_interrupt))
