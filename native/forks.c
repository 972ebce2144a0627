/* forks.c: the locks of the whole process, and what becomes of them in a forked child: it has only the thread that forked, and nobody
 * would give back what another thread held. What other threads were running stays as it was, running, for good. */

#include <pthread.h>

#include "internal.h"

static pthread_mutex_t locks[PROCESS_LOCKS] = {
#define PROCESS_LOCK(name) [name] = PTHREAD_MUTEX_INITIALIZER,
    EACH_PROCESS_LOCK
#undef PROCESS_LOCK
};

pthread_mutex_t *process_lock(enum process_lock lock) {
    pthread_mutex_lock(&locks[lock]);
    return &locks[lock];
}

void process_unlock(enum process_lock lock) {
    pthread_mutex_unlock(&locks[lock]);
}

static void unlock_all(void) {
    regions_unlock();
    for (u32 i = PROCESS_LOCKS; i-- > 0;)
        process_unlock((enum process_lock)i);
}

static void before_fork(void) {
    for (u32 i = 0; i < PROCESS_LOCKS; i++)
        process_lock((enum process_lock)i);
    regions_lock();
}

static void in_child(void) {
    deadlines_in_child();
    kept_stacks_in_child();
    waiters_in_child();
    unlock_all();
}

static void install(void) {
    pthread_atfork(before_fork, unlock_all, in_child);
}

void forks_install(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
}
