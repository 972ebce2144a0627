/* lifecycle.c: the benchmark of lifecycles, for bench/lifecycle.py to run: one experiment in each process, both engines in
 * turn in every round. Prints one line for each measurement: series, engine, nanoseconds.
 *
 * usage: lifecycle PEER ROUNDS EXPERIMENT A B (ARTIFACT WASM)...
 *
 * PEER is wasmtime's shared library, or "-": then Lucet is alone.
 *
 * Time is the thread's CPU time, which leaves out what other processes take; threads' is wall-clock time, and parts' are
 * counter ticks: the mean of the middle half of a block, so that the odd interruption does not count. */

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

#include "bench.h"

enum { ENGINES = 2, BLOCK_NS = 4000000, SLOTS = 64 };

static const struct engine *const engines[ENGINES] = {&wasmtime_engine, &lucet_engine};
static uint32_t rounds, given_a, given_b;
static uint32_t first_engine; /* 1 without the peer */
static struct setup setups[2];

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void *allocate(uint64_t size) {
    void *memory = calloc(1, size);
    if (!memory)
        die("out of memory");
    return memory;
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double cpu_time(void) {
    return now(CLOCK_THREAD_CPUTIME_ID);
}

static void report(const char *series, const struct engine *engine, double ns) {
    printf("%s %s %.3f\n", series, engine->name, ns);
}

/* ---- blocks ---- */

typedef void (*body_function)(const struct engine *engine, subject *s, uint64_t count);

/* How often the body runs in a block; running it so often also warms the slot. */
static uint64_t calibrate(const struct engine *engine, subject *s, body_function body) {
    for (uint64_t count = 1;; count *= 2) {
        double start = cpu_time();
        body(engine, s, count);
        if (cpu_time() - start > BLOCK_NS / 2.0)
            return count;
    }
}

/* The engine that is number i in this round. */
static uint32_t in_turn(uint32_t round, uint32_t i) {
    return first_engine ? i : (round + i) % ENGINES;
}

/* Both engines in turn; who is first changes with every round. */
static void measure(const char *series, subject *const subjects[], body_function body, double per_count) {
    uint64_t counts[ENGINES];
    for (uint32_t e = first_engine; e < ENGINES; e++)
        counts[e] = calibrate(engines[e], subjects[e], body);
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t i = first_engine; i < ENGINES; i++) {
            uint32_t e = in_turn(round, i);
            double start = cpu_time();
            body(engines[e], subjects[e], counts[e]);
            report(series, engines[e], (cpu_time() - start) / ((double)counts[e] * per_count));
        }
}

/* The peer is first: then its signal handlers are behind Lucet's, and do not cost it anything. */
static void open_both(subject *subjects[], const struct setup *setup) {
    for (uint32_t e = first_engine; e < ENGINES; e++)
        subjects[e] = engines[e]->open(setup);
}

static void close_both(subject *const subjects[]) {
    for (uint32_t e = first_engine; e < ENGINES; e++)
        engines[e]->close(subjects[e]);
}

/* ---- cycle: create, run(A, B), destroy ---- */

static void cycle_body(const struct engine *engine, subject *s, uint64_t count) {
    engine->cycles(s, count, given_a, given_b);
}

static void cycle(void) {
    subject *subjects[ENGINES];
    open_both(subjects, &setups[0]);
    measure("cycle", subjects, cycle_body, 1);
    close_both(subjects);
}

/* ---- parts of the cycle, by the counter ---- */

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The counter may advance in steps of many ticks: a mean sees more than a median would. */
static double middle_mean(uint64_t *samples, uint64_t count) {
    qsort(samples, count, sizeof *samples, compare);
    double sum = 0;
    for (uint64_t i = count / 4; i < count - count / 4; i++)
        sum += (double)samples[i];
    return sum / (double)(count - 2 * (count / 4));
}

static double ticks_per_ns(void) {
    double start = now(CLOCK_MONOTONIC);
    uint64_t first = ticks();
    while (now(CLOCK_MONOTONIC) - start < 5e7) {
    }
    uint64_t last = ticks();
    return (double)(last - first) / (now(CLOCK_MONOTONIC) - start);
}

enum { SAMPLES = 2000 };

static struct parts new_parts(void) {
    return (struct parts){allocate(SAMPLES * 8), allocate(SAMPLES * 8), allocate(SAMPLES * 8)};
}

static void free_parts(struct parts *parts) {
    free(parts->create);
    free(parts->call);
    free(parts->destroy);
}

/* What reading the counter twice takes. */
static double empty_ticks(void) {
    uint64_t samples[SAMPLES];
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint64_t start = ticks();
        samples[i] = ticks() - start;
    }
    return middle_mean(samples, SAMPLES);
}

static void parts(void) {
    subject *subjects[ENGINES];
    struct parts samples = new_parts();
    double frequency = ticks_per_ns(), empty = empty_ticks();
    open_both(subjects, &setups[0]);
    for (uint32_t round = 0; round <= rounds; round++)
        for (uint32_t i = first_engine; i < ENGINES; i++) {
            uint32_t e = in_turn(round, i);
            engines[e]->timed_cycles(subjects[e], SAMPLES, given_a, given_b, &samples);
            if (round == 0)
                continue; /* to warm the slots */
            report("create", engines[e], (middle_mean(samples.create, SAMPLES) - empty) / frequency);
            report("call", engines[e], (middle_mean(samples.call, SAMPLES) - empty) / frequency);
            report("destroy", engines[e], (middle_mean(samples.destroy, SAMPLES) - empty) / frequency);
        }
    close_both(subjects);
    free_parts(&samples);
}

/* ---- distribution: the same, but every cycle for itself ---- */

static void distribution(void) {
    subject *subjects[ENGINES];
    struct parts samples = new_parts();
    double frequency = ticks_per_ns(), empty = 3 * empty_ticks();
    open_both(subjects, &setups[0]);
    for (uint32_t round = 0; round <= rounds; round++)
        for (uint32_t i = first_engine; i < ENGINES; i++) {
            uint32_t e = in_turn(round, i);
            engines[e]->timed_cycles(subjects[e], SAMPLES, given_a, given_b, &samples);
            for (uint32_t k = 0; round > 0 && k < SAMPLES; k++)
                report("cycle", engines[e],
                       ((double)(samples.create[k] + samples.call[k] + samples.destroy[k]) - empty) / frequency);
        }
    close_both(subjects);
    free_parts(&samples);
}

/* ---- load: from a compiled module in a file to an instance: load, link, reserve slots, create ---- */

static void load(void) {
    enum { LOADS = 25 };
    uint64_t samples[LOADS];
    double frequency = ticks_per_ns(), empty = empty_ticks();
    for (uint32_t e = first_engine; e < ENGINES; e++)
        engines[e]->prepare(&setups[0]);
    for (uint32_t round = 0; round <= rounds; round++)
        for (uint32_t i = first_engine; i < ENGINES; i++) {
            uint32_t e = in_turn(round, i);
            for (uint32_t k = 0; k < LOADS; k++) {
                uint64_t start = ticks();
                subject *s = engines[e]->open(&setups[0]);
                engines[e]->hold(s, 1, 0, 0);
                samples[k] = ticks() - start;
                engines[e]->let_go(s);
                engines[e]->close(s);
            }
            if (round > 0)
                report("load", engines[e], (middle_mean(samples, LOADS) - empty) / frequency);
        }
}

/* ---- held: A instances of one engine (B) that stay, and what the process has of memory, in bytes ---- */

static double memory_of(const char *path, const char *name) {
    char line[256];
    double found = 0;
    size_t size = strlen(name);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, size) == 0 && line[size] == ':')
            found = 1024 * strtod(line + size + 1, NULL);
    if (file)
        fclose(file);
    return found;
}

static void held(void) {
    const struct engine *engine = engines[given_b % ENGINES];
    setups[0].slots = given_a;
    subject *s = engine->open(&setups[0]);
    engine->hold(s, given_a, 1, 2);
    report("resident", engine, memory_of("/proc/self/smaps_rollup", "Rss"));
    report("tables", engine, memory_of("/proc/self/status", "VmPTE"));
}

/* ---- counted: A warm cycles, for a tool that counts instructions; with B, as many calls in one instance instead ---- */

static void counted(void) {
    const struct engine *engine = engines[ENGINES - 1];
    subject *s = engine->open(&setups[0]);
    if (given_b) {
        engine->enter(s, "run");
        engine->calls(s, given_a, 1, 2);
        engine->leave(s);
    } else
        engine->cycles(s, given_a, 1, 2);
    engine->close(s);
}

/* ---- calls: into an instance that is there, and from it to a host function ---- */

enum { LOOPS = 100000 };

static void calls_body(const struct engine *engine, subject *s, uint64_t count) {
    engine->calls(s, count, given_a, given_b);
}

static void checked_body(const struct engine *engine, subject *s, uint64_t count) {
    engine->calls_checked(s, count, given_a, given_b);
}

static void loop_body(const struct engine *engine, subject *s, uint64_t count) {
    engine->calls(s, count, LOOPS, 1);
}

static void calls(void) {
    static const struct {
        const char *series, *export;
        body_function body;
        double per_count;
    } measured[] = {
        {"call", "run", calls_body, 1},
        {"checked_call", "run", checked_body, 1},
        {"host_loop", "host_loop", loop_body, LOOPS},
        {"empty_loop", "empty_loop", loop_body, LOOPS},
    };
    subject *subjects[ENGINES];
    open_both(subjects, &setups[0]);
    for (size_t i = 0; i < sizeof measured / sizeof *measured; i++) {
        for (uint32_t e = first_engine; e < ENGINES; e++)
            engines[e]->enter(subjects[e], measured[i].export);
        measure(measured[i].series, subjects, measured[i].body, measured[i].per_count);
        for (uint32_t e = first_engine; e < ENGINES; e++)
            engines[e]->leave(subjects[e]);
    }
    close_both(subjects);
}

/* ---- heavy: cycles that write one page, in a slot whose guest before wrote A pages, B bytes apart ---- */

static void heavy(void) {
    enum { FOLLOWING = 200 };
    subject *subjects[ENGINES];
    open_both(subjects, &setups[0]);
    for (uint32_t round = 0; round <= rounds; round++)
        for (uint32_t i = first_engine; i < ENGINES; i++) {
            uint32_t e = in_turn(round, i);
            engines[e]->cycles(subjects[e], 3, given_a, given_b);
            double start = cpu_time();
            engines[e]->cycles(subjects[e], FOLLOWING, 1, given_b);
            if (round > 0)
                report("following", engines[e], (cpu_time() - start) / FOLLOWING);
        }
    close_both(subjects);
}

/* ---- cold: each slot for the first time ---- */

static void cold(void) {
    struct setup setup = setups[0];
    setup.slots = SLOTS;
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t i = first_engine; i < ENGINES; i++) {
            uint32_t e = in_turn(round, i);
            subject *s = engines[e]->open(&setup);
            double start = cpu_time();
            engines[e]->hold(s, SLOTS, given_a, given_b);
            double middle = cpu_time();
            engines[e]->let_go(s);
            double end = cpu_time();
            engines[e]->hold(s, SLOTS, given_a, given_b);
            double again = cpu_time();
            engines[e]->let_go(s);
            report("first_create_and_call", engines[e], (middle - start) / SLOTS);
            report("first_destroy", engines[e], (end - middle) / SLOTS);
            report("second_create_and_call", engines[e], (again - end) / SLOTS);
            engines[e]->close(s);
        }
}

/* ---- alternate: two modules in turn in one slot ---- */

static subject *others[ENGINES];

static void alternate_body(const struct engine *engine, subject *s, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        engine->cycles(s, 1, given_a, given_b);
        engine->cycles(others[engine == engines[1]], 1, given_a, given_b);
    }
}

static void alternate(void) {
    subject *subjects[ENGINES];
    open_both(subjects, &setups[0]);
    for (uint32_t e = first_engine; e < ENGINES; e++) {
        setups[1].shared = subjects[e];
        others[e] = engines[e]->open(&setups[1]);
    }
    measure("cycle", subjects, alternate_body, 2);
    close_both(others);
    close_both(subjects);
}

/* ---- threads: A of them, at first each with slots of its own, then all with those of one region or engine ---- */

enum { THREADS_MAX = 64 };

struct worker {
    pthread_t thread;
    const struct engine *engine;
    subject *s;
    uint64_t count;
    pthread_barrier_t *start;
    double begin, end;
};

static void *work(void *argument) {
    struct worker *worker = argument;
    worker->engine->cycles(worker->s, 100, 0, 0); /* its signal stack, its slot */
    pthread_barrier_wait(worker->start);
    worker->begin = now(CLOCK_MONOTONIC);
    worker->engine->cycles(worker->s, worker->count, 0, 0);
    worker->end = now(CLOCK_MONOTONIC);
    return NULL;
}

/* Nanoseconds that one cycle takes each thread, from the first's begin to the last's end. */
static double run_threads(const struct engine *engine, subject *const subjects[], uint64_t count) {
    struct worker workers[THREADS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, given_a);
    for (uint32_t i = 0; i < given_a; i++) {
        workers[i] = (struct worker){.engine = engine, .s = subjects[i], .count = count, .start = &start};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            die("no thread");
    }
    for (uint32_t i = 0; i < given_a; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&start);
    double begin = workers[0].begin, end = workers[0].end;
    for (uint32_t i = 1; i < given_a; i++) {
        begin = workers[i].begin < begin ? workers[i].begin : begin;
        end = workers[i].end > end ? workers[i].end : end;
    }
    return (end - begin) / (double)count;
}

static void threads(void) {
    enum { BLOCK = 3 }; /* times as long as others': starting threads must not count */
    static const char *const series[] = {"own_slots", "shared_slots"};
    subject *subjects[2][ENGINES][THREADS_MAX];
    if (given_a < 1 || given_a > THREADS_MAX)
        die("1 to %d threads", THREADS_MAX);
    for (uint32_t shared = 0; shared < 2; shared++)
        for (uint32_t e = first_engine; e < ENGINES; e++)
            for (uint32_t i = 0; i < given_a; i++)
                subjects[shared][e][i] = shared && i ? subjects[1][e][0] : engines[e]->open(&setups[0]);
    uint64_t counts[ENGINES];
    for (uint32_t e = first_engine; e < ENGINES; e++)
        counts[e] = BLOCK * calibrate(engines[e], subjects[0][e][0], cycle_body);
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t shared = 0; shared < 2; shared++)
            for (uint32_t i = first_engine; i < ENGINES; i++) {
                uint32_t e = in_turn(round, i);
                report(series[shared], engines[e], run_threads(engines[e], subjects[shared][e], counts[e]));
            }
}

/* ---- zero: A thousand warm cycles of one engine (B), and what the kernel saw of them ---- */

static volatile char dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
static volatile int system_calls, first_system_call = -1;

/* Instead of a system call: note it, and let it be made after all. */
static void on_system_call(int signal, siginfo_t *info, void *context) {
    (void)signal;
    dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
    if (system_calls++ == 0)
        first_system_call = info->si_syscall;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    registers[REG_RIP] -= 2;
    registers[REG_RAX] = info->si_syscall;
}

static void zero(void) {
    enum { STEP = 1000 };
    const struct engine *engine = engines[given_b % ENGINES];
    struct sigaction action = {.sa_sigaction = on_system_call, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct rusage before, after;
    subject *s = engine->open(&setups[0]);
    engine->cycles(s, 100, 0, 0);
    sigaction(SIGSYS, &action, NULL);
    bool dispatched = prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &dispatch) == 0;
    getrusage(RUSAGE_SELF, &before);
    for (uint32_t i = 0; i < given_a; i++) {
        dispatch = SYSCALL_DISPATCH_FILTER_BLOCK;
        engine->cycles(s, STEP, 0, 0);
        dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
    }
    getrusage(RUSAGE_SELF, &after);
    report("page_faults", engine, (double)(after.ru_minflt - before.ru_minflt + after.ru_majflt - before.ru_majflt));
    if (dispatched) {
        report("steps_with_system_calls", engine, system_calls);
        report("first_system_call", engine, first_system_call);
    }
    engine->close(s);
}

/* ---- */

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(void);
        bool runs; /* instances run their function */
    } experiments[] = {
        {"cycle", cycle, true},
        {"create_destroy", cycle, false},
        {"parts", parts, true},
        {"bare_parts", parts, false},
        {"distribution", distribution, true},
        {"load", load, false},
        {"held", held, true},
        {"counted", counted, true},
        {"calls", calls, true},
        {"heavy", heavy, true},
        {"cold", cold, true},
        {"alternate", alternate, true},
        {"threads", threads, true},
        {"zero", zero, true},
    };
    if (count != 8 && count != 10)
        die("usage: lifecycle PEER ROUNDS EXPERIMENT A B (ARTIFACT WASM)...");
    if (strcmp(arguments[1], "-") == 0)
        first_engine = 1;
    else
        wasmtime_load(arguments[1]);
    rounds = (uint32_t)strtoul(arguments[2], NULL, 0);
    given_a = (uint32_t)strtoul(arguments[4], NULL, 0);
    given_b = (uint32_t)strtoul(arguments[5], NULL, 0);
    bool two = count > 8;
    size_t i = 0;
    while (i < sizeof experiments / sizeof *experiments && strcmp(experiments[i].name, arguments[3]) != 0)
        i++;
    if (i == sizeof experiments / sizeof *experiments)
        die("no experiment is named \"%s\"", arguments[3]);
    for (uint32_t k = 0; k < 2; k++)
        setups[k] = (struct setup){.artifact = arguments[two && k ? 8 : 6],
                                   .wasm = arguments[two && k ? 9 : 7],
                                   .slots = two || k ? 1 : SLOTS,
                                   .runs = experiments[i].runs};
    char compiled[4096];
    if (experiments[i].run == load) {
        snprintf(compiled, sizeof compiled, "%s.compiled", arguments[7]);
        setups[0].compiled = compiled;
        setups[0].slots = 1;
    }
    setups[0].compact = experiments[i].run == held;
    if (experiments[i].run == counted)
        setups[0].slots = 1;
    experiments[i].run();
    return 0;
}
