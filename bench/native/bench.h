/* bench.h: what the lifecycle benchmark asks of an engine, so that each experiment is written once. The loops that are timed
 * are the engine's own: no call through a pointer stands inside them. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>

/* One engine with one module loaded and its imports bound. Every module exports functions (i32, i32) -> i32 only, the first
 * of them named "run"; or, if it does not `run`, anything. All but the calls may be used by several threads at once. */
typedef struct subject subject;

enum { COMPACT_MEMORY = 1 << 16 };

struct setup {
    const char *artifact; /* Lucet's */
    const char *wasm;     /* the same module as the peer takes it */
    const char *compiled; /* what the peer loads instead of compiling, once it was prepared; NULL: it compiles */
    bool runs;            /* instances run their function */
    bool compact;         /* 64 KiB of address space for a memory, without a guard */
    uint32_t slots;       /* instances at once */
    subject *shared;      /* use the slots of this one; NULL: own slots */
};

/* Ticks of the time stamp counter, one sample for each cycle. */
struct parts {
    uint64_t *create, *call, *destroy;
};

struct engine {
    const char *name;
    void (*prepare)(const struct setup *setup); /* writes `compiled` */
    subject *(*open)(const struct setup *setup);
    void (*close)(subject *s);
    /* Create an instance, run(a, b) if it runs, destroy it: `count` times. */
    void (*cycles)(subject *s, uint64_t count, uint32_t a, uint32_t b);
    void (*timed_cycles)(subject *s, uint64_t count, uint32_t a, uint32_t b, const struct parts *parts);
    /* `count` instances that all stay, each after run(a, b). */
    void (*hold)(subject *s, uint32_t count, uint32_t a, uint32_t b);
    void (*let_go)(subject *s);
    /* Make one instance and look an export of it up; then call it. calls_checked is the usual call where `calls` is a faster
     * one that trusts its caller. */
    void (*enter)(subject *s, const char *name);
    void (*calls)(subject *s, uint64_t count, uint32_t a, uint32_t b);
    void (*calls_checked)(subject *s, uint64_t count, uint32_t a, uint32_t b);
    void (*leave)(subject *s);
};

extern const struct engine lucet_engine, wasmtime_engine;
void wasmtime_load(const char *library); /* before anything else of wasmtime_engine */

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *allocate(uint64_t size); /* zeros; never NULL */

/* The counter, after all that came before and before all that comes after. */
static inline uint64_t ticks(void) {
    __builtin_ia32_lfence();
    uint64_t now = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return now;
}

#endif
