/* stepping.h: a call that is stepped through, instruction by instruction; from the n-th on, as soon as there is something to interrupt or
 * to preempt, it is, as if by another thread. A guest that would run for ever and loses its interrupt is noticed by an alarm. */
#ifndef LUCET_TESTS_STEPPING_H
#define LUCET_TESTS_STEPPING_H

#include <signal.h>
#include <ucontext.h>

#include "kit.h"

enum { TRAP_FLAG = 0x100 };

static struct {
    lucet_instance *instance;
    u64 at, steps;
    bool preempt, done;
} stepping;

static void interrupt_or_preempt(void) {
    struct group *group = group_of(stepping.instance);
    struct lucet_activation *top = group_top(group);
    if (!stepping.preempt) {
        bool is_locked = *(volatile u8 *)&group->lock; /* another thread would wait for this one */
        stepping.done = !is_locked && lucet_instance_interrupt(stepping.instance);
    } else if (top && top == lucet_current) {
        top->preempt = 1;
        signals_interrupt(top);
        stepping.done = true;
    }
}

static void on_step(int signal, siginfo_t *info, void *context_pointer) {
    (void)signal, (void)info;
    ucontext_t *context = context_pointer;
    if (++stepping.steps >= stepping.at && !stepping.done)
        interrupt_or_preempt();
    if (stepping.done)
        context->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

/* False where nothing can be stepped through: valgrind has no trap flag, and the thread sanitizer would be interrupted while it holds
 * its own locks. */
static bool can_step(void) {
    if (getenv("LUCET_TEST_VALGRIND") || SANITIZED_THREADS)
        return false;
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    /* So that the interrupt arrives where the step was, as it would from outside. */
    sigaddset(&action.sa_mask, SIGURG);
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    return true;
}

/* With rows: for each of them, and no slots. stepping.steps says afterwards how far it came, stepping.done whether it was struck. */
static lucet_outcome_kind stepped_call(lucet_instance *instance, u32 function, u64 *slots, lucet_rows *rows, u64 at,
                                       bool preempt) {
    stepping.instance = instance;
    stepping.at = at;
    stepping.steps = 0;
    stepping.preempt = preempt;
    stepping.done = false;
    __asm__ volatile("pushfq\n\torq %0, (%%rsp)\n\tpopfq" ::"i"(TRAP_FLAG) : "memory", "cc");
    lucet_outcome_kind kind = rows ? lucet_call_many(instance, function, rows, &last_outcome, NULL)
                                   : lucet_call(instance, function, slots, &last_outcome, NULL);
    __asm__ volatile("pushfq\n\tandq %0, (%%rsp)\n\tpopfq" ::"i"(~TRAP_FLAG) : "memory", "cc");
    return kind;
}

#endif
