/* signals.c: faults of guest code become traps; first writes to protected pages become ordinary; all else is passed on to
 * whoever had the signal before. The handler allocates nothing, calls nothing but mprotect, and takes no lock but a heap's, which
 * nobody holds while he might fault. */

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "internal.h"

enum { SIGNAL_STACK_SIZE = 1 << 16, INTERRUPT_SIGNAL = SIGURG };

/* The last one is that of lucet_interrupt_on, 0 until then. */
static int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, INTERRUPT_SIGNAL, 0};
enum { FAULTS_COUNT = 4, BREAK_SIGNAL = 5, SIGNALS_COUNT = sizeof signals / sizeof *signals };

/* Who had a signal before, latest first. Never freed: a handler may be looking at it. */
struct predecessor {
    struct sigaction action;
    struct predecessor *before;
};
static _Atomic(struct predecessor *) predecessors[SIGNALS_COUNT];

/* ---- classification ---- */

NO_TSAN const lucet_instance *code_owner(const struct lucet_activation *activation, const u8 *pc) {
    for (const lucet_instance *i = group_of(activation->instance)->members; i; i = i->group_next)
        if (module_has_code(i->module, pc))
            return i;
    return NULL;
}

NO_TSAN static bool in_stack_guard(const struct lucet_activation *activation, const u8 *address) {
    return address >= activation->stack_low - STACK_GUARD && address < activation->stack_low;
}

NO_TSAN static bool in_memories(const lucet_instance *instance, const u8 *address) {
    for (u32 i = 0; i < instance->module->header->memories_count; i++) {
        const lucet_memory *memory = instance->memories[i];
        if (memory && address >= memory->base && address < memory->base + memory->reserved + memory->guard)
            return true;
    }
    return false;
}

NO_TSAN static bool in_group_memory(const struct lucet_activation *activation, const u8 *address) {
    for (const lucet_instance *i = group_of(activation->instance)->members; i; i = i->group_next)
        if (in_memories(i, address))
            return true;
    return false;
}

/* The trap code in the immediate of `ud1 imm8(%eax), %eax`, which llvm.ubsantrap becomes; 0 if it is none. */
NO_TSAN static u32 ud1_code(const u8 *pc) {
    return pc[0] == 0x67 && pc[1] == 0x0f && pc[2] == 0xb9 && (pc[3] & 0xc0) == 0x40 ? pc[4] : 0;
}

NO_TSAN static u32 classify(const struct lucet_activation *activation, int signal, const u8 *pc, const u8 *address) {
    switch (signal) {
    case SIGILL:
        return ud1_code(pc);
    case SIGFPE:
        return TRAP_INTEGER_DIVIDE_BY_ZERO;
    case SIGSEGV:
    case SIGBUS:
        if (in_stack_guard(activation, address))
            return TRAP_CALL_STACK_EXHAUSTED;
        if (in_group_memory(activation, address))
            return TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS;
        /* call_ref looks into the function reference without asking whether it is null. Nothing else does that. */
        return address < (const u8 *)sizeof(struct abi_funcref) ? TRAP_NULL_FUNCTION_REFERENCE : 0;
    default:
        return 0;
    }
}

/* ---- the handler ---- */

/* A predecessor that was installed after us the first time calls us as its own predecessor: the one before it is due then. Such a
 * call has the same context as the one under way, and a deeper frame; a new signal on an emptied stack has the same frame. */
static _Thread_local struct passing {
    int signal;
    const void *context, *frame;
    struct predecessor *called;
} passing __attribute__((tls_model("initial-exec")));

NO_TSAN static bool is_fault(int signal, const siginfo_t *info) {
    for (u32 i = 0; i < FAULTS_COUNT; i++)
        if (signals[i] == signal)
            return info->si_code > 0; /* else somebody sent it */
    return false;
}

NO_TSAN static void act_by_default(int signal, const siginfo_t *info) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    if (signal == INTERRUPT_SIGNAL)
        return; /* which is to ignore it */
    sigaction(signal, &standard, NULL);
    /* A fault happens again on return; what somebody sent has to be sent again, and is blocked until then. */
    if (!is_fault(signal, info))
        raise(signal);
}

NO_TSAN static struct predecessor *predecessor_of(int signal, const void *context, const void *frame) {
    if (passing.called && passing.signal == signal && passing.context == context && frame < passing.frame)
        return passing.called->before;
    for (u32 i = 0; i < SIGNALS_COUNT; i++)
        if (signals[i] == signal)
            return atomic_load_explicit(&predecessors[i], memory_order_acquire);
    return NULL;
}

NO_TSAN __attribute__((noinline)) static void pass_on(int signal, siginfo_t *info, void *context) {
    const void *frame = __builtin_frame_address(0);
    struct predecessor *predecessor = predecessor_of(signal, context, frame);
    const struct sigaction *action = predecessor ? &predecessor->action : NULL;
    bool has_handler =
        action && ((action->sa_flags & SA_SIGINFO) || (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN));
    if (!has_handler) {
        if (action && action->sa_handler == SIG_IGN && !is_fault(signal, info))
            return; /* a fault cannot be ignored */
        act_by_default(signal, info);
        return;
    }
    struct passing outer = passing;
    passing = (struct passing){signal, context, frame, predecessor};
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(signal, info, context);
    else
        action->sa_handler(signal);
    passing = outer;
}

/* The place of the guest's call on top of its stack. */
NO_TSAN static const u8 *caller_of_stub(const ucontext_t *context) {
    return *(const u8 **)(uintptr_t)context->uc_mcontext.gregs[REG_RSP] - 1;
}

NO_TSAN static void leave_guest(struct lucet_activation *activation, ucontext_t *context, u32 trap, const u8 *pc) {
    static const int registers[UNWIND_REGISTERS] = {
        [UNWIND_RBX] = REG_RBX, [UNWIND_RBP] = REG_RBP, [UNWIND_R12] = REG_R12,
        [UNWIND_R13] = REG_R13, [UNWIND_R14] = REG_R14, [UNWIND_R15] = REG_R15,
    };
    u64 sp = (u64)context->uc_mcontext.gregs[REG_RSP];
    activation->trap = trap;
    activation->trap_pc = pc;
    activation->trap_sp = 0;
    if (pc && pc != (const u8 *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP])
        sp = pc == caller_of_stub(context) ? sp + sizeof pc : 0;
    if (pc && sp) {
        activation->trap_sp = sp;
        for (u32 i = 0; i < UNWIND_REGISTERS; i++)
            activation->trap_registers[i] = (u64)context->uc_mcontext.gregs[registers[i]];
    }
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)lucet_switch_leave;
    context->uc_mcontext.gregs[REG_RDI] = (greg_t)(uintptr_t)activation;
    context->uc_mcontext.gregs[REG_RSI] = SWITCH_TRAPPED;
}

NO_TSAN static bool is_between(const u8 *pc, const u8 *begin, const u8 *end) {
    return pc >= begin && pc < end;
}

/* The interrupt flag is set: end the run, unless the way back to the guest still leads past a look at the flag. */
NO_TSAN static void interrupt_guest(struct lucet_activation *activation, ucontext_t *context, const u8 *pc) {
    const u8 *place;
    if (is_between(pc, lucet_entering_begin, lucet_entering_end) ||
        is_between(pc, lucet_repeating_begin, lucet_repeating_end) ||
        is_between(pc, lucet_unpreempting_begin, lucet_unpreempting_end))
        place = NULL;
    else if (is_between(pc, lucet_returning_begin, lucet_returning_end))
        place = caller_of_stub(context);
    else if (code_owner(activation, pc))
        place = pc;
    else {
        wait_interrupt(activation);
        return;
    }
    u32 trap = (u32)activation->interrupt;
    activation->interrupt = 0;
    leave_guest(activation, context, trap, place);
}

/* ---- preemption: guest code seems to call lucet_stub_preempted where it is interrupted ---- */

LUCET_INTERNAL u64 lucet_vector_state_mask, lucet_vector_state_size = 512; /* without xsave: what fxsave takes */

/* What of the vector registers guest code may use, and how large the area is that xsave needs for that. */
void preemption_install(void) {
    enum { XSAVE_LEAF = 0xd, OSXSAVE = 1 << 27, LEGACY = 512, HEADER = 64 };
    enum { GUESTS = 1 << 0 | 1 << 1 | 1 << 2 | 7 << 5 }; /* x87, SSE, AVX, AVX-512 */
    u32 a, b, c, d;
    if (lucet_vector_state_mask || !__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
        return;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    u64 mask = a & GUESTS, size = LEGACY + HEADER;
    for (u32 component = 2; component < 32; component++)
        if (mask >> component & 1) {
            __get_cpuid_count(XSAVE_LEAF, component, &a, &b, &c, &d);
            size = a + b > size ? a + b : size; /* its size, and where it begins */
        }
    lucet_vector_state_size = size;
    lucet_vector_state_mask = mask;
}

NO_TSAN static void preempt_guest(struct lucet_activation *activation, ucontext_t *context, const u8 *pc) {
    enum { RED_ZONE = 128, GENERAL = 512 }; /* what the stub needs besides the vectors' */
    greg_t *registers = context->uc_mcontext.gregs;
    u64 sp = (u64)registers[REG_RSP] - RED_ZONE - sizeof pc;
    if (!code_owner(activation, pc) || sp < (uintptr_t)activation->stack_low + GENERAL + lucet_vector_state_size)
        return; /* later */
    activation->preempt = 0;
    *(const u8 **)(uintptr_t)sp = pc;
    registers[REG_RSP] = (greg_t)sp;
    registers[REG_RIP] = (greg_t)(uintptr_t)lucet_stub_preempted;
}

static const u8 interrupt_mark; /* its address comes with the interrupt signals that are ours */

static const u8 poke_mark; /* and with those of lucet_poke */
static void (*_Atomic poked)(void);

void lucet_set_poked(void (*function)(void)) {
    atomic_store(&poked, function);
}

void before_blocking(void) {
    void (*function)(void) = atomic_load(&poked);
    if (function)
        function();
}

void lucet_poke(pthread_t thread) {
    pthread_sigqueue(thread, INTERRUPT_SIGNAL, (union sigval){.sival_ptr = (void *)&poke_mark});
}

NO_TSAN static void on_poke(const struct lucet_activation *activation, const u8 *pc) {
    void (*function)(void) = atomic_load_explicit(&poked, memory_order_acquire);
    if (function && activation && code_owner(activation, pc))
        function();
}

NO_TSAN static void on_interrupt(siginfo_t *info, ucontext_t *context, const u8 *pc) {
    struct lucet_activation *activation = lucet_current;
    /* Whoever sent it: signals of one number that wait are merged. */
    if (activation && __atomic_load_n(&activation->interrupt, __ATOMIC_ACQUIRE))
        interrupt_guest(activation, context, pc);
    else if (activation && __atomic_load_n(&activation->preempt, __ATOMIC_ACQUIRE))
        preempt_guest(activation, context, pc);
    /* Before a system call, or in one that would be made again: whoever makes it looks whether this was for it. */
    if (is_between(pc, lucet_syscall_begin, lucet_syscall_end))
        context->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)lucet_syscall_cancelled;
    if (info->si_code == SI_QUEUE && info->si_value.sival_ptr == &poke_mark)
        on_poke(activation, pc);
    else if (info->si_code != SI_QUEUE || info->si_value.sival_ptr != &interrupt_mark)
        pass_on(INTERRUPT_SIGNAL, info, context);
}

/* Ctrl-C, say: first whoever had it before. */
NO_TSAN static void on_break(int signal, siginfo_t *info, ucontext_t *context, const u8 *pc) {
    struct lucet_activation *activation = lucet_current;
    pass_on(signal, info, context);
    if (activation) {
        activation->interrupt = TRAP_INTERRUPTED;
        interrupt_guest(activation, context, pc);
    }
}

/* First write to a protected page, by whatever code. */
NO_TSAN static bool is_first_write(int signal, const siginfo_t *info, const ucontext_t *context) {
    enum { PAGE_FAULT_WRITE = 2, PAGE_FAULT_FETCH = 16 };
    u64 fault = (u64)context->uc_mcontext.gregs[REG_ERR];
    if (signal != SIGSEGV || info->si_code != SEGV_ACCERR ||
        (fault & (PAGE_FAULT_WRITE | PAGE_FAULT_FETCH)) != PAGE_FAULT_WRITE)
        return false;
    lucet_instance *instance = region_instance_at(info->si_addr);
    return instance && heap_write_fault(&instance->heap, info->si_addr);
}

/* What the kernel reports of guest code, or of the stub that it called. */
NO_TSAN static bool is_trap(struct lucet_activation *activation, int signal, const siginfo_t *info, ucontext_t *context,
                            const u8 *pc) {
    const u8 *address = info->si_addr, *place = pc;
    u32 trap = 0;
    if (info->si_code <= 0)
        return false; /* somebody sent it */
    if (code_owner(activation, pc)) {
        trap = classify(activation, signal, pc, address);
    } else if (signal == SIGSEGV && is_between(pc, lucet_stubs_begin, lucet_stubs_end) &&
               in_stack_guard(activation, address)) {
        /* At the first push of a stub the return address is on top; further down the frame word has been set. */
        trap = TRAP_CALL_STACK_EXHAUSTED;
        place = caller_of_stub(context);
        if (!code_owner(activation, place))
            place = ((const u8 **)(uintptr_t)activation->frame)[1] - 1;
    }
    if (trap)
        leave_guest(activation, context, trap, place);
    return trap != 0;
}

static _Atomic(lucet_fatal_hook) fatal_hook;

void lucet_set_fatal_hook(lucet_fatal_hook hook) {
    atomic_store(&fatal_hook, hook);
}

NO_TSAN static void report_fatal(const struct lucet_activation *activation, int signal, const siginfo_t *info,
                                 const u8 *pc) {
    lucet_fatal_hook hook = atomic_load_explicit(&fatal_hook, memory_order_acquire);
    const lucet_instance *owner = hook && activation && is_fault(signal, info) ? code_owner(activation, pc) : NULL;
    if (owner)
        hook((lucet_instance *)owner, signal, pc, info->si_addr);
}

NO_TSAN static void on_signal(int signal, siginfo_t *info, void *context_pointer) {
    ucontext_t *context = context_pointer;
    const u8 *pc = (const u8 *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    struct lucet_activation *activation = lucet_current;
    int saved_errno = errno;
    if (signal == INTERRUPT_SIGNAL)
        on_interrupt(info, context, pc);
    else if (signal == signals[BREAK_SIGNAL])
        on_break(signal, info, context, pc);
    else if (!is_first_write(signal, info, context) &&
             !(activation && is_trap(activation, signal, info, context, pc))) {
        report_fatal(activation, signal, info, pc);
        pass_on(signal, info, context);
    }
    errno = saved_errno;
}

/* ---- installing ---- */

#ifdef __SANITIZE_THREAD__
/* The sanitizer would put off interrupts until the thread calls something that it knows, which a guest never does, and show the
 * handler a copy of the registers: this goes past it. */
__asm__(
    ".pushsection .text\n.type lucet_restore_rt, @function\nlucet_restore_rt: movl $15, %eax\nsyscall\n.popsection");
extern void lucet_restore_rt(void) LUCET_INTERNAL;

static int set_action(int signal, const struct sigaction *action) {
    struct {
        void (*handler)(int, siginfo_t *, void *);
        unsigned long flags;
        void (*restorer)(void);
        u64 mask;
    } kernel = {action->sa_sigaction, (unsigned long)action->sa_flags | 0x04000000, lucet_restore_rt,
                1ULL << (INTERRUPT_SIGNAL - 1)};
    return (int)syscall(SYS_rt_sigaction, signal, &kernel, NULL, sizeof kernel.mask);
}

static int get_action(int signal, struct sigaction *action) {
    struct {
        void (*handler)(int, siginfo_t *, void *);
        unsigned long flags;
        void (*restorer)(void);
        u64 mask;
    } kernel;
    if (syscall(SYS_rt_sigaction, signal, NULL, &kernel, sizeof kernel.mask) < 0)
        return -1;
    memset(action, 0, sizeof *action);
    action->sa_sigaction = kernel.handler;
    action->sa_flags = (int)kernel.flags;
    return 0;
}
#else
static int set_action(int signal, const struct sigaction *action) {
    return sigaction(signal, action, NULL);
}

static int get_action(int signal, struct sigaction *action) {
    return sigaction(signal, NULL, action);
}
#endif

static bool install(u32 i, lucet_error *error) {
    struct sigaction present, ours = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigemptyset(&ours.sa_mask);
    /* A write fault may arrive inside a host's handler too, so nothing is masked but the interrupt. */
    sigaddset(&ours.sa_mask, INTERRUPT_SIGNAL);
    if (get_action(signals[i], &present) < 0)
        return fail_system(error, "sigaction");
    if ((present.sa_flags & SA_SIGINFO) && present.sa_sigaction == on_signal)
        return true;
    if (i == BREAK_SIGNAL) /* system calls that it interrupted before it still does */
        ours.sa_flags = (ours.sa_flags & ~SA_RESTART) | (present.sa_flags & SA_RESTART);
    struct predecessor *before = atomic_load(&predecessors[i]);
    /* The same as before, time and again: Python's handler after each event loop. */
    if (before && before->action.sa_sigaction == present.sa_sigaction &&
        ((before->action.sa_flags ^ present.sa_flags) & SA_SIGINFO) == 0)
        return set_action(signals[i], &ours) == 0 || fail_system(error, "sigaction");
    struct predecessor *predecessor = malloc(sizeof *predecessor);
    if (!predecessor)
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    *predecessor = (struct predecessor){present, before};
    atomic_store(&predecessors[i], predecessor); /* first: the handler may be called at once */
    if (set_action(signals[i], &ours) == 0)
        return true;
    fail_system(error, "sigaction");
    atomic_store(&predecessors[i], before);
    free(predecessor); /* not seen by anybody: our handler is not installed, or had no fault yet */
    return false;
}

/* Once per process; again when someone has taken the signals since, who is then called for what is not ours. */
bool signals_install(lucet_error *error) {
    bool ok = true;
    process_lock(SIGNALS_LOCK);
    visits_install();
    preemption_install();
    forks_install();
    for (u32 i = 0; ok && i < BREAK_SIGNAL; i++)
        ok = install(i, error);
    process_unlock(SIGNALS_LOCK);
    return ok;
}

bool lucet_interrupt_on(int signal, lucet_error *error) {
    process_lock(SIGNALS_LOCK);
    bool ok = signals[BREAK_SIGNAL] == 0 || signals[BREAK_SIGNAL] == signal ||
              fail(error, LUCET_ERROR_ARGUMENT, "another signal interrupts already: %d", signals[BREAK_SIGNAL]);
    if (ok) {
        signals[BREAK_SIGNAL] = signal;
        ok = install(BREAK_SIGNAL, error);
    }
    process_unlock(SIGNALS_LOCK);
    return ok;
}

void lucet_interrupt_again(void) {
    struct sigaction present;
    int signal = signals[BREAK_SIGNAL];
    if (signal && get_action(signal, &present) == 0 && present.sa_handler != SIG_DFL && present.sa_handler != SIG_IGN &&
        present.sa_sigaction != on_signal)
        lucet_interrupt_on(signal, NULL);
}

static pthread_key_t signal_stack_key;
static pthread_once_t signal_stack_once = PTHREAD_ONCE_INIT;
static bool signal_stack_key_made;

static _Thread_local bool thread_prepared __attribute__((tls_model("initial-exec")));

static void free_signal_stack(void *memory) {
    stack_t none = {.ss_flags = SS_DISABLE}, present;
    /* Somebody else may have put his own in place of it. */
    if (sigaltstack(NULL, &present) == 0 && present.ss_sp == (u8 *)memory + HOST_PAGE)
        sigaltstack(&none, NULL);
    munmap(memory, SIGNAL_STACK_SIZE + HOST_PAGE);
    thread_prepared = false; /* another thread-specific destructor may still run guests */
}

static void make_signal_stack_key(void) {
    signal_stack_key_made = pthread_key_create(&signal_stack_key, free_signal_stack) == 0;
}

/* Every thread that runs guests needs a signal stack: the guest's own may have overflowed. */
bool signals_prepare_thread(lucet_error *error) {
    if (LIKELY(thread_prepared))
        return true;
    stack_t present;
    if (sigaltstack(NULL, &present) < 0)
        return fail_system(error, "sigaltstack");
    if ((present.ss_flags & SS_DISABLE) || present.ss_size < SIGNAL_STACK_SIZE / 2) {
        pthread_once(&signal_stack_once, make_signal_stack_key);
        u8 *memory = mmap(NULL, SIGNAL_STACK_SIZE + HOST_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return fail_system(error, "mmap");
        stack_t ours = {.ss_sp = memory + HOST_PAGE, .ss_size = SIGNAL_STACK_SIZE};
        if (mprotect(memory + HOST_PAGE, SIGNAL_STACK_SIZE, PROT_READ | PROT_WRITE) < 0 ||
            sigaltstack(&ours, NULL) < 0) {
            fail_system(error, "sigaltstack");
            munmap(memory, SIGNAL_STACK_SIZE + HOST_PAGE);
            return false;
        }
        if (signal_stack_key_made)
            pthread_setspecific(signal_stack_key, memory);
    }
    thread_prepared = true;
    return true;
}

void signals_interrupt(struct lucet_activation *activation) {
    pthread_sigqueue(activation->thread, INTERRUPT_SIGNAL, (union sigval){.sival_ptr = (void *)&interrupt_mark});
}
