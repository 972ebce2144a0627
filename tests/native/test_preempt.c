/* test_preempt.c: guests that are suspended between any two of their instructions when their time slice is over. */

#include <pthread.h>

#include "kit.h"
#include "stepping.h"

enum { TURNS = 3 };

static lucet_host_result (*on_call)(lucet_instance *instance, u64 *slots);

static lucet_host_result host_call(lucet_instance *instance, u64 *slots, void *data) {
    (void)data;
    return on_call ? on_call(instance, slots) : LUCET_HOST_OK;
}

static lucet_linkage *link_preempt(void) {
    lucet_import import = {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_call};
    lucet_module *module = load_guest("preempt");
    lucet_linkage *linkage = link_guest(module, &import, 1);
    lucet_module_release(module);
    return linkage;
}

static lucet_instance *preempt_instance(u32 slots) {
    on_call = NULL;
    lucet_linkage *linkage = link_preempt();
    lucet_region *region = small_region(slots);
    lucet_instance *instance = started_instance(region, linkage);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    return instance;
}

/* What other code does to the registers while the guest waits. */
static void clobber_vectors(void) {
    __asm__ volatile(
        "pcmpeqd %%xmm0, %%xmm0\n\tpcmpeqd %%xmm1, %%xmm1\n\tpcmpeqd %%xmm2, %%xmm2\n\tpcmpeqd %%xmm3, %%xmm3\n\t"
        "pcmpeqd %%xmm4, %%xmm4\n\tpcmpeqd %%xmm5, %%xmm5\n\tpcmpeqd %%xmm6, %%xmm6\n\tpcmpeqd %%xmm7, %%xmm7\n\t"
        "pcmpeqd %%xmm8, %%xmm8\n\tpcmpeqd %%xmm9, %%xmm9\n\tpcmpeqd %%xmm10, %%xmm10\n\t"
        "pcmpeqd %%xmm11, %%xmm11\n\tpcmpeqd %%xmm12, %%xmm12\n\tpcmpeqd %%xmm13, %%xmm13\n\t"
        "pcmpeqd %%xmm14, %%xmm14\n\tpcmpeqd %%xmm15, %%xmm15" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
              "xmm13", "xmm14", "xmm15", "cc");
}

static lucet_outcome_kind resume(lucet_instance *instance) {
    clobber_vectors();
    return lucet_resume(instance, false, &last_outcome, &last_error);
}

static void *resume_there(void *instance) {
    return (void *)(uintptr_t)resume(instance);
}

static lucet_outcome_kind resume_on_another_thread(lucet_instance *instance) {
    pthread_t thread;
    void *kind;
    CHECK(pthread_create(&thread, NULL, resume_there, instance) == 0);
    CHECK(pthread_join(thread, &kind) == 0);
    return (lucet_outcome_kind)(uintptr_t)kind;
}

/* ---- at every single instruction ---- */

static void at_every_instruction(void) {
    if (!can_step())
        return;
    lucet_instance *instance = preempt_instance(2);
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, "mix");
    u64 expected[2] = {TURNS}, preempted = 0;
    CHECK_EQUAL(lucet_call(instance, function, expected, &last_outcome, NULL), LUCET_RETURNED);
    bool whole = false;
    for (u64 at = 1; !whole; at += SANITIZED ? 13 : 1) {
        u64 slots[2] = {TURNS};
        CHECK(lucet_instance_reset(instance, &last_error));
        lucet_outcome_kind kind = stepped_call(instance, function, slots, NULL, at, true);
        whole = !stepping.done;
        if (kind == LUCET_PREEMPTED) {
            preempted++;
            CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_SUSPENDED);
            kind = at % 16 ? resume(instance) : resume_on_another_thread(instance);
        }
        CHECK_EQUAL(kind, LUCET_RETURNED);
        CHECK_EQUAL(slots[0], expected[0]);
        CHECK_EQUAL(slots[1], expected[1]);
    }
    CHECK(preempted > (SANITIZED ? 10 : 150));
    lucet_instance_free(instance);
}

/* ---- by the clock ---- */

enum { SLICE = 200000 };

static void many_guests_take_turns(void) {
    enum { GUESTS = 10, WORK = 2000000 };
    lucet_linkage *linkage = link_preempt();
    lucet_region *region = small_region(GUESTS);
    lucet_instance *instances[GUESTS];
    lucet_outcome_kind kinds[GUESTS];
    u64 expected[2] = {scaled(WORK)}, slots[GUESTS][2];
    u32 function = 0, turns = 0, busy = GUESTS;
    for (u32 i = 0; i < GUESTS; i++)
        instances[i] = started_instance(region, linkage);
    function = export_index(lucet_instance_module(instances[0]), LUCET_FUNC, "mix");
    CHECK_EQUAL(lucet_call(instances[0], function, expected, &last_outcome, NULL), LUCET_RETURNED);
    CHECK(lucet_instance_reset(instances[0], &last_error));
    for (u32 i = 0; i < GUESTS; i++) {
        lucet_instance_set_time_slice(instances[i], SLICE);
        slots[i][0] = scaled(WORK);
        kinds[i] = lucet_call(instances[i], function, slots[i], &last_outcome, &last_error);
    }
    while (busy) {
        busy = 0;
        for (u32 i = 0; i < GUESTS; i++)
            if (kinds[i] == LUCET_PREEMPTED) {
                kinds[i] = turns++ % 50 ? resume(instances[i]) : resume_on_another_thread(instances[i]);
                busy++;
            }
    }
    CHECK(turns > GUESTS);
    for (u32 i = 0; i < GUESTS; i++) {
        CHECK_EQUAL(kinds[i], LUCET_RETURNED);
        CHECK_EQUAL(slots[i][0], expected[0]);
        CHECK_EQUAL(slots[i][1], expected[1]);
        lucet_instance_free(instances[i]);
    }
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

static void deep_stacks(void) {
    lucet_instance *instance = preempt_instance(1);
    u64 expected[2] = {40, 20}, slots[2] = {40, 20};
    CHECK_EQUAL(call_slots(instance, "deep", expected), LUCET_RETURNED);
    CHECK(lucet_instance_reset(instance, &last_error));
    lucet_instance_set_time_slice(instance, 1000);
    lucet_outcome_kind kind = call_slots(instance, "deep", slots);
    while (kind == LUCET_PREEMPTED)
        kind = resume(instance);
    CHECK_EQUAL(kind, LUCET_RETURNED);
    CHECK_EQUAL(slots[0], expected[0]);
    /* Near the end of the stack there is no room for the registers: it goes on, and overflows. */
    for (u32 i = 0; i < scaled(50); i++) {
        slots[0] = 0;
        kind = call_slots(instance, "overflow", slots);
        while (kind == LUCET_PREEMPTED)
            kind = resume(instance);
        CHECK_EQUAL(kind, LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_CALL_STACK_EXHAUSTED);
    }
    lucet_instance_free(instance);
}

/* ---- with everything else that ends or suspends a run ---- */

static void ended_while_it_waits(void) {
    lucet_instance *instance = preempt_instance(1);
    lucet_instance_set_time_slice(instance, SLICE);
    alarm(60);
    for (u32 i = 0; i < 5; i++) {
        u64 slots[2] = {0};
        CHECK_EQUAL(call_slots(instance, "spin", slots), LUCET_PREEMPTED);
        CHECK(last_outcome.suspended_instance == instance);
        CHECK(lucet_is_suspended(instance, last_outcome.suspended_run));
        CHECK(lucet_instance_interrupt(instance));
        CHECK_EQUAL(resume(instance), LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
        CHECK_EQUAL(call_slots(instance, "spin", slots), LUCET_PREEMPTED);
        CHECK_EQUAL(lucet_resume(instance, true, &last_outcome, &last_error), LUCET_TERMINATED);
        lucet_instance_set_timeout(instance, 20 * SLICE);
        lucet_outcome_kind kind = call_slots(instance, "spin", slots);
        while (kind == LUCET_PREEMPTED)
            kind = resume(instance);
        CHECK_EQUAL(kind, LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_TIMED_OUT);
        lucet_instance_set_timeout(instance, 0);
    }
    u64 slots[2] = {0};
    CHECK_EQUAL(call_slots(instance, "spin", slots), LUCET_PREEMPTED);
    lucet_instance_free(instance); /* suspended */
    alarm(0);
}

static atomic_bool stop;
static lucet_instance *_Atomic victim;

static void *interrupt_often(void *unused) {
    while (!atomic_load(&stop))
        if (atomic_load(&victim))
            lucet_instance_interrupt(atomic_load(&victim));
    return unused;
}

/* Interrupts that arrive at every moment of being suspended and going on: none is lost. */
static void interrupted_at_random_moments(void) {
    lucet_instance *instance = preempt_instance(1);
    pthread_t thread;
    atomic_store(&victim, instance);
    CHECK(pthread_create(&thread, NULL, interrupt_often, NULL) == 0);
    lucet_instance_set_time_slice(instance, 1000);
    alarm(100);
    for (u32 i = 0; i < scaled(30); i++) {
        u64 slots[2] = {0};
        lucet_outcome_kind kind = call_slots(instance, "spin", slots);
        while (kind == LUCET_PREEMPTED)
            kind = resume(instance);
        CHECK_EQUAL(kind, LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
    }
    alarm(0);
    atomic_store(&stop, true);
    CHECK(pthread_join(thread, NULL) == 0);
    lucet_instance_free(instance);
}

static lucet_host_result work_a_while(lucet_instance *instance, u64 *slots) {
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_RUNNING);
    usleep(3 * SLICE / 1000); /* is not preempted: it is the host's */
    slots[0] = TURNS;
    return LUCET_HOST_OK;
}

static lucet_host_result suspend_it(lucet_instance *instance, u64 *slots) {
    (void)instance, (void)slots;
    return LUCET_HOST_SUSPEND;
}

static void with_host_functions(void) {
    lucet_instance *instance = preempt_instance(1);
    u64 expected[2] = {TURNS}, slots[2] = {1};
    CHECK_EQUAL(call_slots(instance, "mix", expected), LUCET_RETURNED);
    CHECK(lucet_instance_reset(instance, &last_error));
    lucet_instance_set_time_slice(instance, SLICE);
    on_call = work_a_while;
    lucet_outcome_kind kind = call_slots(instance, "call_and_mix", slots);
    while (kind == LUCET_PREEMPTED)
        kind = resume(instance);
    CHECK_EQUAL(kind, LUCET_RETURNED);
    CHECK_EQUAL(slots[0], expected[0]);
    on_call = suspend_it;
    CHECK(lucet_instance_reset(instance, &last_error));
    kind = call_slots(instance, "call_and_mix", slots);
    while (kind == LUCET_PREEMPTED)
        kind = resume(instance);
    CHECK_EQUAL(kind, LUCET_SUSPENDED);
    last_outcome.suspended_slots[0] = TURNS;
    kind = resume(instance);
    while (kind == LUCET_PREEMPTED)
        kind = resume(instance);
    CHECK_EQUAL(kind, LUCET_RETURNED);
    CHECK_EQUAL(slots[0], expected[0]);
    lucet_instance_free(instance);
}

static lucet_host_result yield(lucet_instance *instance, u64 *slots) {
    (void)instance;
    usleep(20);
    slots[0] = 1;
    return LUCET_HOST_OK;
}

/* One that is hardly ever found in its own code. */
static void all_the_time_in_host_functions(void) {
    lucet_instance *instance = preempt_instance(1);
    on_call = yield;
    lucet_instance_set_time_slice(instance, 20 * SLICE);
    alarm(60);
    u64 slots[2] = {0};
    lucet_outcome_kind kind = call_slots(instance, "call_for_ever", slots);
    for (u32 i = 0; i < 20; i++) {
        CHECK_EQUAL(kind, LUCET_PREEMPTED);
        kind = resume(instance);
    }
    CHECK_EQUAL(kind, LUCET_PREEMPTED);
    alarm(0);
    lucet_instance_free(instance);
}

static u64 inner_slots[2];

static lucet_host_result run_inside(lucet_instance *instance, u64 *slots) {
    inner_slots[0] = slots[0];
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, "mix");
    lucet_outcome_kind kind = lucet_call(instance, function, inner_slots, &last_outcome, &last_error);
    slots[0] = TURNS;
    return kind == LUCET_PREEMPTED ? LUCET_HOST_SUSPEND : LUCET_HOST_OK;
}

/* The run that a host function makes is suspended, and then the one that called the host function. */
static void inner_runs(void) {
    lucet_instance *instance = preempt_instance(2);
    u64 expected[2] = {scaled(2000000)}, whole[2] = {TURNS}, slots[2] = {scaled(2000000)};
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, "mix");
    CHECK_EQUAL(lucet_call(instance, function, expected, &last_outcome, NULL), LUCET_RETURNED);
    CHECK_EQUAL(lucet_call(instance, function, whole, &last_outcome, NULL), LUCET_RETURNED);
    CHECK(lucet_instance_reset(instance, &last_error));
    on_call = run_inside;
    lucet_instance_set_time_slice(instance, SLICE);
    lucet_instance_let_inner_runs_wait(instance, true);
    lucet_outcome_kind kind = call_slots(instance, "call_and_mix", slots);
    while (kind == LUCET_PREEMPTED)
        kind = resume(instance);
    CHECK_EQUAL(kind, LUCET_SUSPENDED);
    lucet_outcome outer = last_outcome;
    u32 turns = 0;
    while (!lucet_is_suspended(instance, outer.suspended_run)) {
        turns++;
        kind = resume(instance);
        CHECK(kind == LUCET_PREEMPTED || kind == LUCET_RETURNED);
    }
    CHECK_EQUAL(kind, LUCET_RETURNED);
    CHECK(turns > 1);
    CHECK_EQUAL(inner_slots[0], expected[0]);
    CHECK_EQUAL(inner_slots[1], expected[1]);
    outer.suspended_slots[0] = TURNS;
    for (kind = resume(instance); kind == LUCET_PREEMPTED;)
        kind = resume(instance);
    CHECK_EQUAL(kind, LUCET_RETURNED);
    lucet_instance_free(instance);
}

MAIN(TEST(at_every_instruction), TEST(many_guests_take_turns), TEST(deep_stacks), TEST(ended_while_it_waits),
     TEST(interrupted_at_random_moments), TEST(with_host_functions), TEST(all_the_time_in_host_functions),
     TEST(inner_runs))
