/* test_faults.c: what is the guest's becomes a trap, and nothing else does: faults of host code reach whoever had the signals before,
 * or came after us. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "hosts.h"

/* Each test runs in a child, which has its own handlers. */
static void in_child(void (*run)(void), int signal) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run();
        fflush(stderr);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (signal ? !WIFSIGNALED(status) || WTERMSIG(status) != signal : status != 0) {
        fprintf(stderr, "status %#x\n", (unsigned)status);
        abort();
    }
}

static atomic_int handled;
static sigjmp_buf escape;

static void escaping(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    handled++;
    siglongjmp(escape, 1);
}

static void plain_escaping(int signal) {
    (void)signal;
    handled++;
    siglongjmp(escape, 1);
}

static void handle_with(int signal, void (*handler)(int, siginfo_t *, void *), struct sigaction *before) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    CHECK(sigaction(signal, &action, before) == 0);
}

static volatile char *volatile nowhere = (volatile char *)(uintptr_t)16;

static void fault(void) {
    *nowhere = 1;
}

/* ---- faults of the host ---- */

static lucet_host_result fault_here(lucet_instance *instance, u64 *slots) {
    (void)instance;
    if (sigsetjmp(escape, 1) == 0)
        fault();
    slots[0] = 1;
    return LUCET_HOST_OK;
}

static lucet_host_result fault_in_guard(lucet_instance *instance, u64 *slots) {
    /* An address where a guest's fault would be a trap: it is the code that counts. */
    if (sigsetjmp(escape, 1) == 0)
        *(volatile u8 *)(lucet_memory_base(lucet_instance_memory(instance, 0)) +
                         lucet_memory_size(lucet_instance_memory(instance, 0)) + 100) = 1;
    slots[0] = 1;
    return LUCET_HOST_OK;
}

static void in_host_functions(void) {
    handle_with(SIGSEGV, escaping, NULL);
    lucet_instance *instance = hosts_instance(2);
    for (int i = 1; i <= 5; i++) {
        on_stop = i % 2 ? fault_here : fault_in_guard;
        CHECK_EQUAL(CALL(instance, "call_stop", 0), 1 + OWN_G + BASE);
        CHECK_EQUAL(handled, i);
        CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "poke", 1 << 20, 0);
    }
    if (sigsetjmp(escape, 1) == 0)
        fault();
    CHECK_EQUAL(handled, 6);
    lucet_instance_free(instance);
}

static void fault_reaches_previous_handler(void) {
    in_child(in_host_functions, 0);
}

static void plain_handler(void) {
    signal(SIGSEGV, plain_escaping);
    lucet_instance *instance = hosts_instance(2);
    for (int i = 1; i <= 3; i++) {
        if (sigsetjmp(escape, 1) == 0)
            fault();
        CHECK_EQUAL(handled, i);
    }
    CHECK_TRAPS(TRAP_UNREACHABLE, instance, "trap");
    lucet_instance_free(instance);
}

static void fault_reaches_plain_handler(void) {
    in_child(plain_handler, 0);
}

static void dies(void) {
    lucet_instance *instance = hosts_instance(2);
    CHECK_TRAPS(TRAP_UNREACHABLE, instance, "trap");
    fault();
}

static void fault_without_handler(void) {
    in_child(dies, SIGSEGV);
}

static void dies_in_host_function(void) {
    lucet_instance *instance = hosts_instance(2);
    on_stop = fault_here;
    CALL(instance, "call_stop", 0);
}

static void host_fault_without_handler(void) {
    in_child(dies_in_host_function, SIGSEGV);
}

static void dies_although_ignored(void) {
    signal(SIGSEGV, SIG_IGN);
    lucet_instance *instance = hosts_instance(2);
    kill(getpid(), SIGSEGV); /* can be ignored */
    CHECK_TRAPS(TRAP_UNREACHABLE, instance, "trap");
    fault(); /* cannot */
}

static void ignored_faults(void) {
    in_child(dies_although_ignored, SIGSEGV);
}

static void dies_of_a_sent_signal(void) {
    hosts_instance(2);
    kill(getpid(), SIGSEGV);
    _exit(17);
}

static void sent_signals_are_no_faults(void) {
    in_child(dies_of_a_sent_signal, SIGSEGV);
}

/* Sent while guest code runs, they are no traps: they reach the handler before. */
static void *send_signals(void *thread) {
    static const int numbers[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
    for (u32 i = 0; i < 4; i++) {
        usleep(2000);
        int expected = (int)i;
        pthread_kill(*(pthread_t *)thread, numbers[i]);
        for (u32 wait = 0; wait < 2000 && handled == expected; wait++)
            usleep(1000);
        CHECK_EQUAL(handled, expected + 1);
    }
    return NULL;
}

static void counting(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    handled++;
}

static void *interrupt_later(void *instance) {
    while (handled < 4)
        usleep(1000);
    while (!lucet_instance_interrupt(instance))
        usleep(1000);
    return NULL;
}

static void signals_during_a_run(void) {
    static const int numbers[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
    for (u32 i = 0; i < 4; i++)
        handle_with(numbers[i], counting, NULL);
    lucet_instance *instance = hosts_instance(2);
    pthread_t self = pthread_self(), sender, killer;
    pthread_create(&sender, NULL, send_signals, &self);
    pthread_create(&killer, NULL, interrupt_later, instance);
    CHECK_TRAPS(TRAP_INTERRUPTED, instance, "spin");
    pthread_join(sender, NULL);
    pthread_join(killer, NULL);
    lucet_instance_free(instance);
}

static void signals_sent_to_guests(void) {
    in_child(signals_during_a_run, 0);
}

/* ---- handlers one on the other ---- */

static struct sigaction below;
static atomic_int above_calls;

/* As a well-behaved library does: look, then call the one before. */
static void above(int signal, siginfo_t *info, void *context) {
    if (++above_calls > 100)
        _exit(99); /* not by overflowing its stack */
    if (below.sa_flags & SA_SIGINFO)
        below.sa_sigaction(signal, info, context);
}

static void handlers_on_top(void) {
    handle_with(SIGSEGV, escaping, NULL);
    handle_with(SIGURG, counting, NULL);
    lucet_instance *instance = hosts_instance(2);
    handle_with(SIGSEGV, above, &below); /* after us */
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "poke", 1 << 20, 0);
    CHECK_EQUAL(above_calls, 1);
    lucet_region *again = small_region(1); /* us again, on top of it */
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, instance, "poke", 1 << 20, 0);
    CHECK_EQUAL(above_calls, 1);
    /* A fault of the host: us, above, us again, escaping. Three times, because escaping leaves no trace of itself. */
    for (int i = 1; i <= 3; i++) {
        if (sigsetjmp(escape, 1) == 0)
            fault();
        CHECK_EQUAL(handled, i);
        CHECK_EQUAL(above_calls, 1 + i);
        raise(SIGURG);
        CHECK_EQUAL(handled, i + 1);
        handled--;
        CHECK_TRAPS(TRAP_UNREACHABLE, instance, "trap");
    }
    lucet_region_release(again);
    lucet_instance_free(instance);
}

static void handlers_installed_later(void) {
    if (SANITIZED_THREADS)
        return; /* its sigaction does not know of the handlers that were installed past it */
    in_child(handlers_on_top, 0);
}

static void endless_chain(void) {
    lucet_instance *instance = hosts_instance(2);
    handle_with(SIGSEGV, above, &below);
    lucet_region *again = small_region(1);
    (void)again;
    CHECK_TRAPS(TRAP_UNREACHABLE, instance, "trap");
    fault(); /* us, above, us, and nobody */
}

static void no_endless_recursion(void) {
    in_child(endless_chain, SIGSEGV);
}

/* SIGURG that is not ours goes on, ours does not. */
static void urgent(void) {
    handle_with(SIGURG, counting, NULL);
    lucet_instance *instance = hosts_instance(2);
    raise(SIGURG);
    CHECK_EQUAL(handled, 1);
    CHECK(!lucet_instance_interrupt(instance));
    CHECK_EQUAL(handled, 1);
    lucet_instance_free(instance);
}

static lucet_host_result interrupt_self(lucet_instance *instance, u64 *slots) {
    CHECK(lucet_instance_interrupt(instance));
    slots[0] = 0;
    return LUCET_HOST_OK;
}

static void urgent_of_our_own(void) {
    handle_with(SIGURG, counting, NULL);
    lucet_instance *instance = hosts_instance(2);
    on_stop = interrupt_self;
    CHECK_TRAPS(TRAP_INTERRUPTED, instance, "call_stop", 0);
    CHECK_EQUAL(handled, 0);
    lucet_instance_free(instance);
}

static void interrupt_signals(void) {
    in_child(urgent, 0);
    in_child(urgent_of_our_own, 0);
}

/* ---- whose memory ---- */

/* A guest that reaches another instance's memory: not possible from WebAssembly, so its vmctx is lied to. The fault is not its own, and
 * so not a trap. */
static void reaches_another(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(2);
    lucet_instance *a = new_instance(region, linkage), *b = new_instance(region, linkage);
    (void)a;
    u8 *target = b->vmctx + b->heap.size + HOST_PAGE;
    const lucet_module *module = b->module;
    u32 function = export_index(module, LUCET_FUNC, "poke");
    u64 slots[2] = {0, 1};
    struct lucet_activation *activation = region_take_stack(region);
    activation->instance = a;
    activation->interrupt = 0;
    activation->previous = NULL;
    activation->outer = NULL;
    activation->host_mxcsr = 0;
    lucet_current = activation;
    signals_prepare_thread(NULL);
    lucet_switch_enter(activation, activation, module->base + module->types[module->functions[function].type].entry_rva,
                       target, module->base + module->functions[function].code_rva, slots);
    _exit(0); /* trapped: wrong */
}

static void foreign_memory_is_no_trap(void) {
    in_child(reaches_another, SIGSEGV);
}

/* ---- threads and their signal stacks ---- */

static void *overflow_on_thread(void *instance) {
    for (u32 i = 0; i < 3; i++)
        CHECK_TRAPS(TRAP_CALL_STACK_EXHAUSTED, instance, "recurse_host", 0);
    return NULL;
}

static void *overflow_on_thread_with_own_stack(void *instance) {
    stack_t own = {.ss_sp = malloc(1 << 17), .ss_size = 1 << 17}, after;
    CHECK(sigaltstack(&own, NULL) == 0);
    overflow_on_thread(instance);
    CHECK(sigaltstack(NULL, &after) == 0 && after.ss_sp == own.ss_sp);
    own.ss_flags = SS_DISABLE;
    sigaltstack(&own, NULL);
    free(own.ss_sp);
    return NULL;
}

static void *replace_signal_stack(void *instance) {
    overflow_on_thread(instance);
    static char mine[1 << 16];
    stack_t own = {.ss_sp = mine, .ss_size = sizeof mine};
    CHECK(sigaltstack(&own, NULL) == 0);
    overflow_on_thread(instance);
    return NULL;
}

static void signal_stacks(void) {
    lucet_instance *instance = hosts_instance(1);
    void *(*const kinds[])(void *) = {overflow_on_thread, overflow_on_thread_with_own_stack, replace_signal_stack};
    struct usage before = usage_now();
    for (u32 i = 0; i < 60; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, kinds[i % 3], instance) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        if (i == 5)
            before = usage_now();
    }
    if (!SANITIZED_THREADS) /* which maps things of its own for threads */
        CHECK(usage_now().mappings <= before.mappings + 2);
    lucet_instance_free(instance);
}

/* errno is the interrupted code's. */
static void errno_survives(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(1);
    lucet_instance *instance = new_instance(region, linkage);
    for (u32 page = 0; page < 32; page++) {
        errno = 4711;
        lucet_memory_base(lucet_instance_memory(instance, 0))[page * HOST_PAGE] = 1;
        CHECK_EQUAL(errno, 4711);
    }
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

MAIN(TEST(fault_reaches_previous_handler), TEST(fault_reaches_plain_handler), TEST(fault_without_handler),
     TEST(host_fault_without_handler), TEST(ignored_faults), TEST(sent_signals_are_no_faults),
     TEST(signals_sent_to_guests), TEST(handlers_installed_later), TEST(no_endless_recursion), TEST(interrupt_signals),
     TEST(foreign_memory_is_no_trap), TEST(signal_stacks), TEST(errno_survives))
