/* test_hosts.c: host functions in C: values, nested calls, suspending, resuming, ending. */

#include <fenv.h>
#include <pthread.h>
#include <xmmintrin.h>

#include "hosts.h"

static void values(void) {
    lucet_instance *instance = hosts_instance(1);
    CHECK_EQUAL(CALL(instance, "call_add", 40, 2), 42);
    double number = 0.25;
    u64 slots[4] = {7, 1ULL << 40, 0, 0};
    memcpy(&slots[3], &number, 8);
    CHECK_EQUAL(call_slots(instance, "call_wide", slots), LUCET_RETURNED);
    CHECK(memcmp(&slots[0], &number, 8) == 0);
    CHECK_EQUAL(slots[1], (1ULL << 40) + 7);
    /* An import that is exported again can be called from the host. */
    CHECK_EQUAL(CALL(instance, "imported", 1, 2), 3);
    CHECK_EQUAL(CALL(instance, "call_stop", 1), 1 + OWN_G + BASE);
    lucet_instance_free(instance);
}

/* The second guest in a slot gets its imports and dropped segments back. */
static void warm_slot(void) {
    lucet_linkage *linkage = link_hosts("hosts");
    lucet_region *region = small_region(1);
    on_stop = NULL;
    for (u32 round = 0; round < 3; round++) {
        lucet_instance *instance = started_instance(region, linkage);
        CHECK_EQUAL(CALL(instance, "call_add", 40, 2), 42);
        CHECK_EQUAL(CALL(instance, "call_stop", 1), 1 + OWN_G + BASE);
        CALL(instance, "init", 3);
        CALL(instance, "drop");
        CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "init", 1);
        CALL(instance, "set_g", 12345);
        if (round == 1) {
            CHECK(lucet_instance_reset(instance, &last_error));
            CHECK_EQUAL(CALL(instance, "call_add", 40, 2), 42);
            CHECK_EQUAL(CALL(instance, "call_stop", 1), 1 + OWN_G + BASE);
            CALL(instance, "init", 3);
        }
        lucet_instance_free(instance);
    }
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

/* ---- nested ---- */

static lucet_host_result call_sum(lucet_instance *instance, u64 *slots) {
    CHECK(!lucet_current); /* a fault here is the host's */
    slots[0] = CALL(instance, "sum", slots[0], 100);
    return LUCET_HOST_OK;
}

static lucet_host_result call_stop_again(lucet_instance *instance, u64 *slots) {
    u32 depth = (u32)slots[0];
    slots[0] = depth ? CALL(instance, "call_stop", depth - 1) : 0;
    return LUCET_HOST_OK;
}

static lucet_host_result trap_inside(lucet_instance *instance, u64 *slots) {
    CHECK_TRAPS(TRAP_UNREACHABLE, instance, "trap");
    CHECK_TRAPS(TRAP_CALL_STACK_EXHAUSTED, instance, "recurse_host", 0);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_RUNNING);
    slots[0] = 1;
    return LUCET_HOST_OK;
}

static void nested(void) {
    lucet_instance *instance = hosts_instance(1);
    on_stop = call_sum;
    CHECK_EQUAL(CALL(instance, "call_stop", 5), 105 + OWN_G + BASE);
    on_stop = call_stop_again;
    CHECK_EQUAL(CALL(instance, "call_stop", 50), 51 * (OWN_G + BASE));
    on_stop = trap_inside;
    CHECK_EQUAL(CALL(instance, "call_stop", 5), 1 + OWN_G + BASE);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    lucet_instance_free(instance);
}

/* A deep guest calls a host function right above the guard of its stack. */
static void host_calls_near_the_guard(void) {
    lucet_instance *instance = hosts_instance(1);
    for (u32 i = 0; i < 20; i++) {
        CHECK_TRAPS(TRAP_CALL_STACK_EXHAUSTED, instance, "recurse_host", 0);
        /* The guest's function, or the import's thunk. */
        if (last_outcome.function != 0)
            CHECK_EQUAL(last_outcome.function,
                        export_index(lucet_instance_module(instance), LUCET_FUNC, "recurse_host"));
        CHECK_EQUAL(CALL(instance, "call_add", 1, 2), 3);
    }
    lucet_instance_free(instance);
}

static void terminated(void) {
    lucet_instance *instance = hosts_instance(1);
    on_stop = stop_by_terminating;
    u64 slots[1] = {0};
    for (u32 i = 0; i < 100; i++) {
        CHECK_EQUAL(call_slots(instance, "call_stop", slots), LUCET_TERMINATED);
        CHECK_EQUAL(last_outcome.kind, LUCET_TERMINATED);
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    }
    on_stop = NULL;
    CHECK_EQUAL(CALL(instance, "call_stop", 1), 1 + OWN_G + BASE);
    lucet_instance_free(instance);
}

/* ---- suspended ---- */

static void suspended(void) {
    lucet_instance *instance = hosts_instance(2);
    on_stop = stop_by_suspending;
    u64 slots[1] = {77};
    CHECK_EQUAL(call_slots(instance, "stop_twice", slots), LUCET_SUSPENDED);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_SUSPENDED);
    CHECK(last_outcome.suspended_instance == instance);
    CHECK_EQUAL(last_outcome.suspended_function, 2);
    CHECK_EQUAL((u32)last_outcome.suspended_slots[0], 77);
    CHECK_FAILS(LUCET_ERROR_STATE, instance, "sum", 1, 2);
    CHECK(!lucet_instance_reset(instance, &last_error));
    last_outcome.suspended_slots[0] = 3;
    CHECK_EQUAL(resume(instance), LUCET_SUSPENDED);
    CHECK_EQUAL((u32)last_outcome.suspended_slots[0], 78);
    last_outcome.suspended_slots[0] = 4;
    CHECK_EQUAL(resume(instance), LUCET_RETURNED);
    CHECK_EQUAL((u32)slots[0], 3004);
    CHECK_EQUAL(resume(instance), LUCET_FAILED);
    CHECK_EQUAL(last_error.code, LUCET_ERROR_STATE);
    /* Dropped instead. */
    CHECK_EQUAL(call_slots(instance, "stop_twice", slots), LUCET_SUSPENDED);
    CHECK_EQUAL(terminate(instance), LUCET_TERMINATED);
    CHECK_EQUAL(terminate(instance), LUCET_FAILED);
    CHECK_EQUAL(CALL(instance, "sum", 1, 2), 3);
    /* Freed while suspended. */
    CHECK_EQUAL(call_slots(instance, "stop_twice", slots), LUCET_SUSPENDED);
    lucet_region *region = lucet_instance_region(instance);
    lucet_region_retain(region);
    lucet_instance_free(instance);
    CHECK_EQUAL(lucet_region_used(region), 0);
    CHECK_EQUAL(region->stacks_made, 1); /* which was given back each time */
    lucet_region_release(region);
}

/* Interrupted while suspended: the trap comes on resumption; terminating works as well. */
static void interrupted_while_suspended(void) {
    lucet_instance *instance = hosts_instance(2);
    on_stop = stop_by_suspending;
    u64 slots[1] = {0};
    CHECK_EQUAL(call_slots(instance, "call_stop", slots), LUCET_SUSPENDED);
    CHECK(lucet_instance_interrupt(instance));
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_SUSPENDED);
    CHECK_EQUAL(resume(instance), LUCET_TRAPPED);
    CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
    CHECK_EQUAL(call_slots(instance, "call_stop", slots), LUCET_SUSPENDED);
    CHECK(lucet_instance_interrupt(instance));
    CHECK_EQUAL(terminate(instance), LUCET_TERMINATED);
    /* The next run has nothing to do with it, on the same stack. */
    on_stop = NULL;
    CHECK_EQUAL(CALL(instance, "call_stop", 1), 1 + OWN_G + BASE);
    CHECK(!lucet_instance_interrupt(instance));
    CHECK_EQUAL(CALL(instance, "call_stop", 1), 1 + OWN_G + BASE);
    lucet_instance_free(instance);
}

static lucet_host_result suspend_inside(lucet_instance *instance, u64 *slots) {
    on_stop = stop_by_suspending;
    u64 inner[1] = {0};
    CHECK_EQUAL(call_slots(instance, "call_stop", inner), LUCET_SUSPENDED);
    /* It stands on this host function's frames: it is this thread's. */
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_RUNNING);
    CHECK(!group_top(group_of(instance))->outer == false);
    CHECK(atomic_load(&group_of(instance)->owner) != 0);
    CHECK_FAILS(LUCET_ERROR_STATE, instance, "sum", 1, 2);
    if (slots[0] == 1) {
        last_outcome.suspended_slots[0] = 20;
        u64 *result = inner;
        CHECK_EQUAL(resume(instance), LUCET_RETURNED);
        slots[0] = result[0];
    } /* else it is dropped */
    return LUCET_HOST_OK;
}

static void suspended_inside_a_host_function(void) {
    lucet_instance *instance = hosts_instance(2);
    on_stop = suspend_inside;
    CHECK_EQUAL(CALL(instance, "call_stop", 1), 20 + 2 * (OWN_G + BASE));
    on_stop = suspend_inside;
    CHECK_EQUAL(CALL(instance, "call_stop", 2), 2 + OWN_G + BASE);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    CHECK_EQUAL(lucet_instance_region(instance)->stacks_made, 2);
    lucet_instance_free(instance);
}

struct from_another_thread {
    lucet_instance *instance;
    u32 expected;
    bool refused;
};

static void *resume_it(void *data) {
    struct from_another_thread *given = data;
    lucet_outcome outcome;
    lucet_error error;
    on_stop = stop_by_suspending;
    lucet_outcome_kind kind = lucet_resume(given->instance, false, &outcome, &error);
    given->refused = kind == LUCET_FAILED;
    return NULL;
}

static void on_thread(struct from_another_thread *given) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, resume_it, given) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void resumed_on_other_threads(void) {
    lucet_instance *instance = hosts_instance(2);
    u64 slots[1] = {1};
    for (u32 i = 0; i < 50; i++) {
        on_stop = stop_by_suspending;
        slots[0] = 1;
        CHECK_EQUAL(call_slots(instance, "stop_twice", slots), LUCET_SUSPENDED);
        last_outcome.suspended_slots[0] = 8;
        struct from_another_thread given = {.instance = instance};
        on_thread(&given); /* suspends again, there */
        CHECK(!given.refused);
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_SUSPENDED);
        group_top(group_of(instance))->suspended_slots[0] = 9;
        CHECK_EQUAL(resume(instance), LUCET_RETURNED);
        CHECK_EQUAL((u32)slots[0], 8009);
    }
    lucet_instance_free(instance);
}

static lucet_host_result let_others_try(lucet_instance *instance, u64 *slots) {
    on_stop = stop_by_suspending;
    u64 inner[1] = {0};
    struct from_another_thread given = {.instance = instance};
    on_thread(&given);
    CHECK(given.refused); /* it runs */
    CHECK_EQUAL(call_slots(instance, "call_stop", inner), LUCET_SUSPENDED);
    given.refused = false;
    on_thread(&given);
    CHECK(given.refused); /* what is suspended stands on frames of this thread */
    slots[0] = 5;
    return LUCET_HOST_OK;
}

static void other_threads_are_refused(void) {
    lucet_instance *instance = hosts_instance(2);
    on_stop = let_others_try;
    CHECK_EQUAL(CALL(instance, "call_stop", 1), 5 + OWN_G + BASE);
    lucet_instance_free(instance);
}

/* ---- floating-point modes ---- */

static u32 mode_seen;

static lucet_host_result round_down_meanwhile(lucet_instance *instance, u64 *slots) {
    (void)instance, (void)slots;
    u32 before = _mm_getcsr();
    mode_seen = before & 0x6000;
    _mm_setcsr((before & ~0x6000U) | 0x2000);
    _mm_setcsr(before);
    return LUCET_HOST_OK;
}

static u32 third_by(lucet_instance *instance, const char *function) {
    float one = 1, three = 3;
    u64 slots[2] = {0};
    memcpy(&slots[0], &one, 4);
    memcpy(&slots[1], &three, 4);
    CHECK_EQUAL(call_slots(instance, function, slots), LUCET_RETURNED);
    return (u32)slots[0];
}

static u32 third(lucet_instance *instance) {
    return third_by(instance, "divide");
}

static lucet_host_result third_inside(lucet_instance *instance, u64 *slots) {
    slots[0] = third(instance);
    return LUCET_HOST_OK;
}

static void floating_point_modes(void) {
    lucet_instance *instance = hosts_instance(2);
    /* A third is rounded up to the nearest: rounding down shows. */
    u32 nearest = third(instance), before = _mm_getcsr();
    /* The host's mode is not the guest's, and comes back. */
    _mm_setcsr((before & ~0x6000U) | 0x2000);
    CHECK_EQUAL(third(instance), nearest);
    CHECK_EQUAL(_mm_getcsr() & 0x6000, 0x2000);
    on_stop = third_inside;
    CHECK_EQUAL(CALL(instance, "call_stop", 1), nearest + OWN_G + BASE);
    CHECK_EQUAL(_mm_getcsr() & 0x6000, 0x2000);
    CHECK_TRAPS(TRAP_UNREACHABLE, instance, "trap");
    CHECK_EQUAL(_mm_getcsr() & 0x6000, 0x2000);
    /* A host function has the host's mode, and after it the guest has its own again. */
    on_stop = round_down_meanwhile;
    CHECK_EQUAL(third_by(instance, "call_and_divide"), nearest);
    CHECK_EQUAL(mode_seen, 0x2000);
    CHECK_EQUAL(_mm_getcsr() & 0x6000, 0x2000);
    _mm_setcsr(before);
    CHECK_EQUAL(third_by(instance, "call_and_divide"), nearest);
    CHECK_EQUAL(mode_seen, 0);
    CHECK_EQUAL(_mm_getcsr() & 0x6000, 0);
    lucet_instance_free(instance);
}

static void context(void) {
    lucet_instance *instance = hosts_instance(1);
    int mine;
    CHECK(!lucet_instance_context(instance));
    lucet_instance_set_context(instance, &mine);
    CHECK(lucet_instance_context(instance) == &mine);
    lucet_linkage *linkage = instance->linkage;
    lucet_region *region = instance->region;
    lucet_linkage_retain(linkage);
    lucet_region_retain(region);
    lucet_instance_free(instance);
    instance = new_instance(region, linkage);
    CHECK(!lucet_instance_context(instance)); /* nobody sees the one before */
    lucet_instance_free(instance);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

static void limited_calls(void) {
    lucet_instance *instance = hosts_instance(2);
    CHECK_EQUAL(lucet_instance_host_calls(instance), LUCET_HOST_CALLS_UNLIMITED);
    CHECK_EQUAL(CALL(instance, "call_add", 1, 2), 3);
    lucet_instance_set_host_calls(instance, 2);
    CHECK_EQUAL(CALL(instance, "call_add", 1, 2), 3);
    CHECK_EQUAL(lucet_instance_host_calls(instance), 1);
    CHECK_EQUAL(CALL(instance, "imported", 1, 2), 3);
    for (int i = 0; i < 2; i++)
        CHECK_TRAPS(TRAP_HOST_CALLS_EXHAUSTED, instance, "call_add", 1, 2);
    CHECK_EQUAL(lucet_instance_host_calls(instance), 0);
    CHECK_EQUAL(lucet_instance_usage(instance).host_calls, 3); /* those that were made */
    CHECK_EQUAL(CALL(instance, "one"), 1);                     /* which makes none */
    lucet_instance_set_host_calls(instance, 1000);
    CHECK_TRAPS(TRAP_HOST_CALLS_EXHAUSTED, instance, "call_for_ever");
    CHECK_EQUAL(lucet_instance_usage(instance).host_calls, 1003);
    lucet_instance_set_host_calls(instance, 7);
    CHECK(lucet_instance_reset(instance, &last_error));
    CHECK_EQUAL(lucet_instance_host_calls(instance), 7);
    CHECK_EQUAL(lucet_instance_usage(instance).host_calls, 0);
    lucet_instance_set_host_calls(instance, LUCET_HOST_CALLS_UNLIMITED);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(CALL(instance, "call_add", 1, 2), 3);
    CHECK_EQUAL(lucet_instance_host_calls(instance), LUCET_HOST_CALLS_UNLIMITED);
    for (int64_t calls = -1; calls < 2; calls++) {
        lucet_instance_limits limits = {.host_calls = calls};
        lucet_instance *other = lucet_instance_new(instance->region, instance->linkage, &limits, &last_error);
        CHECK(other);
        CHECK_EQUAL(lucet_instance_host_calls(other), calls < 0 ? 0 : calls ? 1 : LUCET_HOST_CALLS_UNLIMITED);
        lucet_instance_free(other);
    }
    lucet_instance_free(instance);
}

MAIN(TEST(values), TEST(warm_slot), TEST(nested), TEST(host_calls_near_the_guard), TEST(terminated), TEST(suspended),
     TEST(interrupted_while_suspended), TEST(suspended_inside_a_host_function), TEST(resumed_on_other_threads),
     TEST(other_threads_are_refused), TEST(floating_point_modes), TEST(context), TEST(limited_calls))
