/* wait.c: memory.atomic.wait and notify: threads that wait at an address of a shared memory, and waking them.
 *
 * Who waits sleeps on a futex word of his own, in the list of a bucket that the address chooses. The word says why it was woken;
 * it leaves WAITING once: by a notify, which also takes the waiter out of the list, or by the signal handler of the waiting
 * thread, for an interrupt. A waiter lives on its thread's stack, so there are as many at most as threads. */

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

enum { WAITING, NOTIFIED, WOKEN };
enum { BUCKETS = 256 };

struct waiter {
    struct waiter *next, *previous;
    const u8 *address;
    _Atomic u32 why;
};

static struct waiter *buckets[BUCKETS]; /* the head of each ring: latest first, so its `previous` has waited longest */

static struct waiter **bucket_of(const u8 *address) {
    return &buckets[((u64)(uintptr_t)address * 0x9e3779b97f4a7c15ULL) >> 56];
}

static void put_in(struct waiter *waiter) {
    struct waiter **bucket = bucket_of(waiter->address), *first = *bucket;
    if (first) {
        waiter->next = first;
        waiter->previous = first->previous;
        first->previous->next = waiter;
        first->previous = waiter;
    } else {
        waiter->next = waiter->previous = waiter;
    }
    *bucket = waiter;
}

static void take_out(struct waiter *waiter) {
    struct waiter **bucket = bucket_of(waiter->address);
    waiter->next->previous = waiter->previous;
    waiter->previous->next = waiter->next;
    if (*bucket == waiter)
        *bucket = waiter->next == waiter ? NULL : waiter->next;
}

/* In a forked child, whose other threads wait no more. */
void waiters_in_child(void) {
    for (u32 i = 0; i < BUCKETS; i++)
        buckets[i] = NULL;
}

/* Until the word changes, or the deadline; UINT64_MAX: none. Signals may wake it early. */
static void sleep_on(_Atomic u32 *word, u64 deadline) {
    struct timespec until = {(time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, WAITING, deadline == UINT64_MAX ? NULL : &until, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

/* Called in the signal handler: the thread's interrupt flag is set. */
NO_TSAN void wait_interrupt(struct lucet_activation *activation) {
    _Atomic u32 *word = atomic_load_explicit(&activation->waits, memory_order_relaxed);
    u32 waiting = WAITING;
    /* The thread itself is in the system call, or about to be: it looks at the word again when the handler has returned. */
    if (word)
        atomic_compare_exchange_strong(word, &waiting, WOKEN);
}

static bool is_equal(const u8 *address, u64 expected, bool is_64) {
    return is_64 ? __atomic_load_n((const u64 *)(const void *)address, __ATOMIC_SEQ_CST) == expected
                 : __atomic_load_n((const u32 *)(const void *)address, __ATOMIC_SEQ_CST) == (u32)expected;
}

u32 memory_wait(struct lucet_activation *activation, const u8 *address, u64 expected, bool is_64, i64 timeout) {
    enum { OK, NOT_EQUAL, TIMED_OUT };
    u64 deadline = timeout < 0 ? UINT64_MAX : deadline_after((u64)timeout);
    struct waiter waiter = {.address = address};
    process_lock(WAITERS_LOCK);
    /* Under the lock: a store and notify that come after this find the waiter. */
    bool equal = is_equal(address, expected, is_64);
    if (equal && timeout)
        put_in(&waiter);
    process_unlock(WAITERS_LOCK);
    if (!equal || !timeout)
        return equal ? TIMED_OUT : NOT_EQUAL;
    before_blocking();
    atomic_store(&activation->waits, &waiter.why);
    while (atomic_load(&waiter.why) == WAITING && !__atomic_load_n(&activation->interrupt, __ATOMIC_ACQUIRE) &&
           (deadline == UINT64_MAX || time_now() < deadline))
        sleep_on(&waiter.why, deadline);
    atomic_store(&activation->waits, NULL);
    process_lock(WAITERS_LOCK);
    bool notified = atomic_load(&waiter.why) == NOTIFIED;
    if (!notified)
        take_out(&waiter);
    process_unlock(WAITERS_LOCK);
    return notified ? OK : TIMED_OUT;
}

u32 memory_notify(const u8 *address, u32 count) {
    u32 woken = 0;
    process_lock(WAITERS_LOCK);
    struct waiter *first = *bucket_of(address);
    /* From who has waited longest. One whose thread is interrupted takes itself out. */
    for (struct waiter *at = first ? first->previous : NULL, *next; at && woken < count; at = next) {
        next = at == first ? NULL : at->previous;
        u32 waiting = WAITING;
        if (at->address != address || !atomic_compare_exchange_strong(&at->why, &waiting, NOTIFIED))
            continue;
        take_out(at);
        woken++;
        /* It stays on its thread's stack at least until that has had the lock. */
        syscall(SYS_futex, &at->why, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    process_unlock(WAITERS_LOCK);
    return woken;
}
