/* gil.c: the GIL while guest code runs.
 *
 * Giving the GIL up and taking it back costs several times what a short call does, so a run begins with the GIL held. A thread,
 * the ticker, looks every millisecond: a run that it saw before is made to give the GIL up, in the signal handler, when guest
 * code is running (which holds no lock of the host). Runs of an instance that turn out to last begin without the GIL. */

#include "binding.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FAST_TLS __attribute__((tls_model("initial-exec")))

static _Thread_local PyThreadState *gil_state FAST_TLS; /* of this thread, while guest code runs without the GIL */

enum {
    TICK = 1000000,      /* ns between two looks */
    IDLE_TICKS = 50,     /* without any run: the ticker sleeps until the next one */
    LONG_RUN = 64,       /* score from which runs begin without the GIL */
    SCORE_MAX = 256,     /* so that an instance is forgiven after as many short runs */
    SCORE_OF_A_TICK = 16 /* for a run during which the ticker looked: runs of more than TICK / 17 gain on average */
};

/* Of the thread that holds the GIL; changed only by whoever holds it. */
static struct {
    volatile uint64_t sequence; /* odd while guest code runs */
    volatile pthread_t thread;
} holder;

/* Not for runs in time slices, which come back by themselves: there an event loop is to deal with Ctrl-C. */
static volatile bool retakes_break;

static volatile uint64_t ticks;
static volatile bool ticker_sleeps = true; /* or was never started */
static bool ticker_started;
static pthread_mutex_t ticker_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ticker_wakes = PTHREAD_COND_INITIALIZER;
static _Thread_local volatile bool holds_gil FAST_TLS; /* and runs guest code */

/* In the signal handler, on top of guest code. */
static void give_up(void) {
    if (!holds_gil)
        return;
    holds_gil = false;
    holder.sequence++;
    gil_state = PyEval_SaveThread();
}

static void *tick(void *unused) {
    (void)unused;
    uint64_t seen = 0, idle = 0;
    for (;;) {
        const struct timespec pause = {0, TICK};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        ticks++;
        uint64_t sequence = holder.sequence;
        if ((sequence & 1) && sequence == seen) {
            if (retakes_break)
                lucet_interrupt_again();
            lucet_poke(holder.thread);
        }
        idle = sequence == seen && !(sequence & 1) ? idle + 1 : 0;
        seen = sequence;
        if (idle < IDLE_TICKS)
            continue;
        pthread_mutex_lock(&ticker_lock);
        ticker_sleeps = true;
        /* A run that has begun meanwhile did not see that the ticker sleeps; whoever begins one does so without a fence. */
        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
        while (ticker_sleeps && holder.sequence == seen)
            pthread_cond_wait(&ticker_wakes, &ticker_lock);
        ticker_sleeps = false;
        pthread_mutex_unlock(&ticker_lock);
        idle = 0;
    }
    return NULL;
}

static void wake_ticker(void) {
    pthread_mutex_lock(&ticker_lock);
    if (!ticker_started) {
        pthread_t thread;
        sigset_t all, before;
        lucet_set_poked(give_up);
        sigfillset(&all); /* the process's signals are not for this thread */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        ticker_started = pthread_create(&thread, NULL, tick, NULL) == 0;
        if (ticker_started)
            pthread_detach(thread);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (ticker_started) {
        ticker_sleeps = false;
        pthread_cond_signal(&ticker_wakes);
    }
    pthread_mutex_unlock(&ticker_lock);
}

/* The child of a fork has no ticker. */
static void in_child(void) {
    pthread_mutex_init(&ticker_lock, NULL);
    pthread_cond_init(&ticker_wakes, NULL);
    ticker_started = false;
    ticker_sleeps = true;
}

void gil_initialise(void) {
    pthread_atfork(NULL, NULL, in_child);
}

static void hold(void) {
    gil_state = NULL;
    holder.thread = pthread_self();
    holder.sequence++;
    holds_gil = true;
    if (ticker_sleeps)
        wake_ticker();
}

/* False: the ticker, or somebody before, has given the GIL up. */
static bool still_held(void) {
    if (!holds_gil)
        return false;
    holds_gil = false;
    /* A poke that arrives from here on does nothing. */
    holder.sequence++;
    return true;
}

GilFrame run_begin(InstanceObject *instance) {
    instance->calls++; /* before the GIL may be given up */
    GilFrame frame = {gil_state, ticks};
    retakes_break = lucet_instance_time_slice(instance->instance) == 0;
    if (instance->long_runs < LONG_RUN) {
        hold();
        if (ticker_started)
            return frame;
        still_held();
    }
    if (retakes_break)
        lucet_interrupt_again();
    gil_state = PyEval_SaveThread();
    return frame;
}

void run_end(InstanceObject *instance, GilFrame frame) {
    if (!still_held())
        PyEval_RestoreThread(gil_state);
    gil_state = frame.outer;
    if (ticks == frame.ticks)
        instance->long_runs -= instance->long_runs > 0;
    else if (instance->long_runs < SCORE_MAX)
        instance->long_runs += SCORE_OF_A_TICK;
    instance->calls--;
}

bool gil_call_begin(void) {
    if (still_held())
        return true;
    PyEval_RestoreThread(gil_state);
    return false;
}

void gil_call_end(bool held) {
    if (held)
        hold();
    else
        gil_state = PyEval_SaveThread();
}

void gil_let_go(void) {
    if (!still_held())
        return;
    if (retakes_break)
        lucet_interrupt_again();
    gil_state = PyEval_SaveThread();
}

bool gil_signals_raise(void) {
    PyEval_RestoreThread(gil_state);
    bool raised = PyErr_CheckSignals() < 0;
    gil_state = PyEval_SaveThread();
    return raised;
}
