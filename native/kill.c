/* kill.c: ending a run from outside: by another thread, by a deadline, by a signal such as Ctrl-C. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

#include "internal.h"

static void interrupt_all(struct lucet_activation *top, u32 trap) {
    /* All of them: a host function in between may go on as if nothing had happened. */
    for (struct lucet_activation *a = top; a; a = a->outer)
        __atomic_store_n(&a->interrupt, trap, __ATOMIC_RELEASE);
}

bool lucet_instance_interrupt(lucet_instance *instance) {
    groups_hold(); /* so that the instance stays in this group, and the group exists */
    struct group *group = group_of(instance);
    group_visit(group);
    struct lucet_activation *top = group_top(group);
    interrupt_all(top, TRAP_INTERRUPTED);
    SYNC_POINT("interrupt");
    if (top && !atomic_load_explicit(&top->suspended, memory_order_acquire))
        signals_interrupt(top);
    group_unvisit(group);
    groups_release();
    return top != NULL;
}

/* ---- host functions that wait ---- */

const u64 *interrupt_word(const lucet_instance *instance) {
    static const u64 never;
    const struct lucet_activation *top = instance ? group_top(group_of(instance)) : NULL;
    return top ? &top->interrupt : &never;
}

bool lucet_instance_is_ending(const lucet_instance *instance) {
    return __atomic_load_n(interrupt_word(instance), __ATOMIC_ACQUIRE) != 0;
}

int lucet_wait(const lucet_instance *instance, struct pollfd *fds, size_t count, const struct timespec *timeout) {
    struct timespec left = {0, 0};
    if (timeout)
        left = *timeout; /* the kernel changes it */
    long ready = lucet_switch_syscall(interrupt_word(instance), SYS_ppoll, (long)fds, (long)count,
                                      timeout ? (long)&left : 0, 0, 0);
    if (ready >= 0)
        return (int)ready;
    errno = (int)-ready;
    return -1;
}

/* ---- deadlines: one thread for the process, asleep until the earliest; a binary heap of activations ---- */

static pthread_cond_t deadlines_changed;
static bool watcher_runs;
static u64 watcher_wakes; /* when it will look again; 0 while it is awake */
static bool was_set;      /* a deadline, since the watcher looked last */
static struct lucet_activation **deadlines;
static u32 deadlines_count, deadlines_capacity;

u64 time_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (u64)time.tv_sec * 1000000000 + (u64)time.tv_nsec;
}

static void place(struct lucet_activation *activation, u32 i) {
    deadlines[i] = activation;
    activation->deadline_index = i;
}

static void sift_up(struct lucet_activation *activation, u32 i) {
    for (; i > 1 && deadlines[i / 2]->due > activation->due; i /= 2)
        place(deadlines[i / 2], i);
    place(activation, i);
}

static void sift_down(struct lucet_activation *activation, u32 i) {
    for (u32 child; (child = 2 * i) <= deadlines_count; i = child) {
        if (child < deadlines_count && deadlines[child + 1]->due < deadlines[child]->due)
            child++;
        if (deadlines[child]->due >= activation->due)
            break;
        place(deadlines[child], i);
    }
    place(activation, i);
}

static void take_out(struct lucet_activation *activation) {
    u32 i = activation->deadline_index;
    struct lucet_activation *last = deadlines[deadlines_count--];
    activation->deadline_index = 0;
    if (last == activation)
        return;
    if (i > 1 && deadlines[i / 2]->due > last->due)
        sift_up(last, i);
    else
        sift_down(last, i);
}

static void set_due(struct lucet_activation *activation) {
    u64 deadline = activation->deadline, slice_end = activation->slice_end;
    activation->due = slice_end && (!deadline || slice_end < deadline) ? slice_end : deadline;
}

/* One that is due. It cannot end before deadline_clear has had the lock. */
static void stop(struct lucet_activation *late, u64 time) {
    enum { AGAIN = 1000000 }; /* ns: it may be in a host function, or have too little stack just then */
    if (late->deadline && late->deadline <= time) {
        take_out(late);
        __atomic_store_n(&late->interrupt, TRAP_TIMED_OUT, __ATOMIC_RELEASE);
    } else {
        late->slice_end = time + AGAIN;
        set_due(late);
        sift_down(late, 1);
        __atomic_store_n(&late->preempt, 1, __ATOMIC_RELEASE);
    }
    signals_interrupt(late);
}

static void *watch(void *unused) {
    enum { SOON = 1000000 }; /* ns */
    (void)unused;
    pthread_mutex_t *lock = process_lock(DEADLINES_LOCK);
    for (;;) {
        u64 time = time_now();
        while (deadlines_count && deadlines[1]->due <= time)
            stop(deadlines[1], time);
        /* Runs that are short and many have ended before it could look: it looks again soon, and need not be woken. */
        watcher_wakes = deadlines_count ? deadlines[1]->due : was_set ? time + SOON : UINT64_MAX;
        was_set = false;
        if (watcher_wakes != UINT64_MAX) {
            struct timespec until = {(time_t)(watcher_wakes / 1000000000), (long)(watcher_wakes % 1000000000)};
            pthread_cond_timedwait(&deadlines_changed, lock, &until);
        } else {
            pthread_cond_wait(&deadlines_changed, lock);
        }
    }
    return NULL;
}

static bool start_watcher(void) {
    pthread_condattr_t attributes;
    pthread_attr_t detached;
    pthread_t thread;
    sigset_t all, before;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&deadlines_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 1 << 17);
    /* The process's signals are not for this thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    watcher_wakes = 0;
    watcher_runs = pthread_create(&thread, &detached, watch, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return watcher_runs;
}

/* The child has one thread only; runs of the others are over there. */
void deadlines_in_child(void) {
    watcher_runs = false;
    for (u32 i = 1; i <= deadlines_count; i++)
        deadlines[i]->deadline_index = 0;
    deadlines_count = 0;
}

static bool reserve_deadline(void) {
    if (deadlines_count + 2 <= deadlines_capacity)
        return true;
    u32 capacity = deadlines_capacity ? deadlines_capacity * 2 : 64;
    struct lucet_activation **larger = realloc(deadlines, capacity * sizeof *larger);
    if (!larger)
        return false;
    deadlines = larger;
    deadlines_capacity = capacity;
    return true;
}

bool deadline_set(struct lucet_activation *activation, lucet_error *error) {
    activation->slice_end = activation->time_slice ? time_now() + activation->time_slice : 0;
    set_due(activation);
    activation->watched = true;
    process_lock(DEADLINES_LOCK);
    bool ok = reserve_deadline() && (watcher_runs || start_watcher());
    if (ok) {
        sift_up(activation, ++deadlines_count);
        was_set = true;
        /* Deadlines come mostly in order: the watcher is woken only for one that is earlier than all others. */
        if (activation->due < watcher_wakes)
            pthread_cond_signal(&deadlines_changed);
    }
    process_unlock(DEADLINES_LOCK);
    return ok || fail(error, LUCET_ERROR_MEMORY, "no memory or thread for a timeout");
}

void deadline_clear(struct lucet_activation *activation) {
    process_lock(DEADLINES_LOCK);
    if (activation->deadline_index)
        take_out(activation);
    process_unlock(DEADLINES_LOCK);
}

void lucet_instance_set_timeout(lucet_instance *instance, uint64_t nanoseconds) {
    instance->timeout = nanoseconds;
}

uint64_t lucet_instance_timeout(const lucet_instance *instance) {
    return instance->timeout;
}

void lucet_instance_set_time_slice(lucet_instance *instance, uint64_t nanoseconds) {
    instance->time_slice = nanoseconds;
}

uint64_t lucet_instance_time_slice(const lucet_instance *instance) {
    return instance->time_slice;
}

void lucet_instance_let_inner_runs_wait(lucet_instance *instance, bool yes) {
    instance->inner_runs_wait = yes;
}

u64 deadline_after(u64 timeout) {
    u64 deadline;
    return __builtin_add_overflow(time_now(), timeout, &deadline) ? UINT64_MAX - 1 : deadline;
}
