/* signals.c: faults of guest code become traps; first writes to protected pages become ordinary; all else is passed on to
 * whoever had the signal before. The handler takes no lock, allocates nothing and calls nothing but mprotect. */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "internal.h"

enum { SIGNAL_STACK_SIZE = 1 << 16, INTERRUPT_SIGNAL = SIGURG };

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, INTERRUPT_SIGNAL};
enum { SIGNALS_COUNT = sizeof signals / sizeof *signals };
static struct sigaction previous[SIGNALS_COUNT];

/* ---- classification ---- */

static const lucet_instance *code_owner(const struct lucet_activation *activation, const u8 *pc) {
    for (const lucet_instance *i = activation->instance->group->members; i; i = i->group_next)
        if (module_has_code(i->module, pc))
            return i;
    return NULL;
}

static bool in_stack_guard(const struct lucet_activation *activation, const u8 *address) {
    return address >= activation->stack_low - STACK_GUARD && address < activation->stack_low;
}

static bool in_group_memory(const struct lucet_activation *activation, const u8 *address) {
    const lucet_instance *instance = region_instance_at(address);
    return instance && atomic_load_explicit(&instance->state, memory_order_relaxed) != LUCET_STATE_FREE &&
           instance->group == activation->instance->group;
}

/* The trap code in the immediate of `ud1 imm8(%eax), %eax`, which llvm.ubsantrap becomes; 0 if it is none. */
static u32 ud1_code(const u8 *pc) {
    return pc[0] == 0x67 && pc[1] == 0x0f && pc[2] == 0xb9 && (pc[3] & 0xc0) == 0x40 ? pc[4] : 0;
}

static u32 classify(const struct lucet_activation *activation, int signal, const u8 *pc, const u8 *address) {
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
        return 0;
    default:
        return 0;
    }
}

/* ---- the handler ---- */

static void pass_on(int signal, siginfo_t *info, void *context) {
    for (u32 i = 0; i < SIGNALS_COUNT; i++) {
        if (signals[i] != signal)
            continue;
        if (previous[i].sa_flags & SA_SIGINFO) {
            previous[i].sa_sigaction(signal, info, context);
        } else if (previous[i].sa_handler == SIG_DFL) {
            if (signal == INTERRUPT_SIGNAL)
                return; /* ignored by default */
            /* The fault happens again on return, with the effect it would have had. */
            sigaction(signal, &previous[i], NULL);
        } else if (previous[i].sa_handler != SIG_IGN) {
            previous[i].sa_handler(signal);
        } else if (signal != INTERRUPT_SIGNAL) {
            struct sigaction standard = {.sa_handler = SIG_DFL};
            sigaction(signal, &standard, NULL);
        }
        return;
    }
}

static void leave_guest(struct lucet_activation *activation, ucontext_t *context, u32 trap, const u8 *pc) {
    activation->trap = trap;
    activation->trap_pc = pc;
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)lucet_switch_leave;
    context->uc_mcontext.gregs[REG_RDI] = (greg_t)(uintptr_t)activation;
    context->uc_mcontext.gregs[REG_RSI] = SWITCH_TRAPPED;
}

static void on_signal(int signal, siginfo_t *info, void *context_pointer) {
    ucontext_t *context = context_pointer;
    const u8 *pc = (const u8 *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    const u8 *address = info->si_addr;
    enum { PAGE_FAULT_WRITE = 2, PAGE_FAULT_FETCH = 16 };
    if (signal == SIGSEGV && info->si_code == SEGV_ACCERR) {
        u64 fault = (u64)context->uc_mcontext.gregs[REG_ERR];
        lucet_instance *instance =
            (fault & (PAGE_FAULT_WRITE | PAGE_FAULT_FETCH)) == PAGE_FAULT_WRITE ? region_instance_at(address) : NULL;
        if (instance && heap_write_fault(&instance->heap, address))
            return;
    }
    struct lucet_activation *activation = lucet_current;
    if (activation && signal == INTERRUPT_SIGNAL) {
        if (__atomic_load_n(&activation->interrupt, __ATOMIC_ACQUIRE) && code_owner(activation, pc)) {
            activation->interrupt = 0;
            leave_guest(activation, context, TRAP_INTERRUPTED, pc);
        }
        return;
    }
    if (activation && code_owner(activation, pc)) {
        u32 trap = classify(activation, signal, pc, address);
        if (trap) {
            leave_guest(activation, context, trap, pc);
            return;
        }
    } else if (activation && pc >= lucet_stubs_begin && pc < lucet_stubs_end && in_stack_guard(activation, address)) {
        /* The first push of a stub: the return address into the guest is on top. */
        const u8 *caller = *(const u8 **)(uintptr_t)context->uc_mcontext.gregs[REG_RSP] - 1;
        leave_guest(activation, context, TRAP_CALL_STACK_EXHAUSTED, caller);
        return;
    }
    pass_on(signal, info, context_pointer);
}

/* ---- installing ---- */

/* Once per process; again when someone has taken the signals since, who is then called for what is not ours. */
bool signals_install(lucet_error *error) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    bool ok = true;
    pthread_mutex_lock(&mutex);
    for (u32 i = 0; ok && i < SIGNALS_COUNT; i++) {
        struct sigaction present, ours = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
        sigemptyset(&ours.sa_mask);
        /* A write fault may arrive inside a host's handler too, so nothing is masked but the interrupt. */
        sigaddset(&ours.sa_mask, INTERRUPT_SIGNAL);
        if (sigaction(signals[i], NULL, &present) < 0)
            ok = fail_system(error, "sigaction");
        else if (!(present.sa_flags & SA_SIGINFO) || present.sa_sigaction != on_signal) {
            previous[i] = present;
            ok = sigaction(signals[i], &ours, NULL) == 0 || fail_system(error, "sigaction");
        }
    }
    pthread_mutex_unlock(&mutex);
    return ok;
}

static pthread_key_t signal_stack_key;
static pthread_once_t signal_stack_once = PTHREAD_ONCE_INIT;
static bool signal_stack_key_made;

static void free_signal_stack(void *memory) {
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    munmap(memory, SIGNAL_STACK_SIZE + HOST_PAGE);
}

static void make_signal_stack_key(void) {
    signal_stack_key_made = pthread_key_create(&signal_stack_key, free_signal_stack) == 0;
}

/* Every thread that runs guests needs a signal stack: the guest's own may have overflowed. */
bool signals_prepare_thread(lucet_error *error) {
    static _Thread_local bool prepared __attribute__((tls_model("initial-exec")));
    if (LIKELY(prepared))
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
    prepared = true;
    return true;
}

void signals_interrupt(struct lucet_activation *activation) {
    pthread_kill(activation->thread, INTERRUPT_SIGNAL);
}
