/* sync.h: stopping a thread at a named place of the runtime. For programs that are linked with the core built with LUCET_SYNC_POINTS. */
#ifndef LUCET_TESTS_SYNC_H
#define LUCET_TESTS_SYNC_H

#include <pthread.h>

#include "kit.h"

/* Only threads that ask for it are stopped, once for each request. */
static _Thread_local const char *stop_at;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopped, may_go;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void lucet_sync_point(const char *name) {
    if (!stop_at || strcmp(stop_at, name) != 0)
        return;
    stop_at = NULL;
    pthread_mutex_lock(&gate.lock);
    gate.is_stopped = true;
    pthread_cond_broadcast(&gate.changed);
    while (!gate.may_go)
        pthread_cond_wait(&gate.changed, &gate.lock);
    gate.is_stopped = gate.may_go = false;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

/* By another thread: until the one that asked for it has come there. */
static inline void wait_until_stopped(void) {
    pthread_mutex_lock(&gate.lock);
    while (!gate.is_stopped)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static inline void let_go(void) {
    pthread_mutex_lock(&gate.lock);
    gate.may_go = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

#endif
