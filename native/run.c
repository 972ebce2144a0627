/* run.c: entering guest code and coming back. */

#include <linux/membarrier.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

#include "internal.h"

_Thread_local struct lucet_activation *lucet_current __attribute__((tls_model("initial-exec")));

/* ---- looking at a group from outside ----
 *
 * The owner changes group->top on every run; lucet_instance_interrupt looks at it seldom. So the owner only stores, and then reads
 * group->visited; the order of the two, for which it would need a fence, the visitor enforces with membarrier. */

static bool have_membarrier;

void visits_install(void) {
#ifndef __SANITIZE_THREAD__
    have_membarrier = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
#endif
}

static void pause_a_while(u32 i) {
    enum { SPINS = 1000 };
    if (i < SPINS)
        __builtin_ia32_pause();
    else
        sched_yield(); /* the one that is waited for is not running */
}

void group_visit(struct group *group) {
    for (u32 i = 0; atomic_flag_test_and_set_explicit(&group->lock, memory_order_acquire); i++)
        pause_a_while(i);
    atomic_store(&group->visited, true);
    if (have_membarrier)
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

void group_unvisit(struct group *group) {
    atomic_store_explicit(&group->visited, false, memory_order_release);
    atomic_flag_clear_explicit(&group->lock, memory_order_release);
}

/* After a change: until it is clear that nobody relies on what was there before. */
static void let_visitors_go(struct group *group) {
    if (UNLIKELY(!have_membarrier))
        atomic_thread_fence(memory_order_seq_cst);
    atomic_signal_fence(memory_order_seq_cst);
    for (u32 i = 0; UNLIKELY(atomic_load_explicit(&group->visited, memory_order_acquire)); i++)
        pause_a_while(i);
}

static void set_top(struct group *group, struct lucet_activation *activation) {
    atomic_store_explicit(&group->top, activation, memory_order_release);
}

static void push(struct group *group, struct lucet_activation *activation) {
    SYNC_POINT("push");
    activation->outer = group_top(group);
    group->crossings++;
    set_top(group, activation);
    let_visitors_go(group);
    SYNC_POINT("pushed");
}

static void pop(struct group *group, struct lucet_activation *activation) {
    SYNC_POINT("pop");
    set_top(group, activation->outer);
    let_visitors_go(group);
    SYNC_POINT("popped");
}

void drop_activations(struct group *group, struct lucet_activation *down_to) {
    struct lucet_activation *activation;
    while ((activation = group_top(group)) && activation != down_to) {
        pop(group, activation);
        region_give_stack(activation->instance->region, activation);
    }
}

/* ---- groups ---- */

void groups_hold(void) {
    process_lock(GROUPS_LOCK);
}

void groups_release(void) {
    process_unlock(GROUPS_LOCK);
}

static uintptr_t this_thread(void) {
    return (uintptr_t)&lucet_current;
}

/* What is suspended can be resumed by any thread, unless it stands on the frames of a host function that still runs. */
static bool is_idle(const struct group *group) {
    const struct lucet_activation *top = group_top(group);
    return !top || (atomic_load_explicit(&top->suspended, memory_order_relaxed) && !top->outer);
}

static bool group_take(struct group *group, lucet_error *error) {
    uintptr_t owner = 0;
    if (LIKELY(atomic_compare_exchange_strong(&group->owner, &owner, this_thread())) || owner == this_thread())
        return true;
    return fail(error, LUCET_ERROR_STATE, "the instance is running on another thread");
}

bool group_enter(lucet_instance *instance, lucet_error *error) {
    struct group *group = group_of(instance);
    if (!group_take(group, error))
        return false;
    const struct lucet_activation *top = group_top(group);
    if (LIKELY(!top) || !atomic_load_explicit(&top->suspended, memory_order_relaxed) ||
        (instance->inner_runs_wait && top->suspended_how == SWITCH_SUSPENDED))
        return true;
    group_leave(instance);
    return fail(error, LUCET_ERROR_STATE, "the instance is suspended");
}

void group_leave(lucet_instance *instance) {
    struct group *group = group_of(instance);
    if (is_idle(group))
        atomic_store_explicit(&group->owner, 0, memory_order_release);
}

/* For the host, which looks at what guest code changes, or changes it. False: that runs on another thread, or, if something may move,
 * is suspended where it may know the place. */
bool group_borrow(lucet_instance *instance, bool moves) {
    struct group *group = group_of(instance);
    if (!group_take(group, NULL))
        return false;
    const struct lucet_activation *top = group_top(group);
    if (!moves || !top || !atomic_load_explicit(&top->suspended, memory_order_relaxed) ||
        top->suspended_how != SWITCH_PREEMPTED)
        return true;
    group_leave(instance);
    return false;
}

bool lucet_instance_is_busy(const lucet_instance *instance) {
    uintptr_t owner = atomic_load(&group_of(instance)->owner);
    return owner && owner != this_thread();
}

/* ---- what happened ---- */

const char *lucet_trap_name(uint32_t trap) {
    switch (trap) {
#define TRAP(name, code, text)                                                                                         \
    case code:                                                                                                         \
        return #name;
#include "traps.def"
#undef TRAP
    }
    return "UNKNOWN";
}

const char *lucet_trap_text(uint32_t trap) {
    switch (trap) {
#define TRAP(name, code, text)                                                                                         \
    case code:                                                                                                         \
        return text;
#include "traps.def"
#undef TRAP
    }
    return "unknown trap";
}

static void describe_trap(const struct lucet_activation *activation, lucet_outcome *outcome) {
    outcome->trap = activation->trap;
    outcome->module = NULL;
    outcome->function = LUCET_NONE;
    outcome->wasm_offset = LUCET_NO_OFFSET;
    const lucet_instance *owner = code_owner(activation, activation->trap_pc);
    if (owner && module_locate(owner->module, activation->trap_pc, &outcome->function, &outcome->wasm_offset))
        outcome->module = owner->module;
    backtrace_take(activation, activation->trap_pc);
}

/* Nothing but generated code writes next to the canary, and that has no business there. */
static void check_canary(const lucet_instance *instance) {
    assert(VMCTX_WORD(instance->vmctx, VMCTX_CANARY) == canary_of(instance));
    (void)instance;
}

static atomic_ullong suspensions;

/* The group stays owned by this thread. */
static lucet_outcome_kind come_back(struct lucet_activation *activation, int how, lucet_outcome *outcome) {
    lucet_instance *instance = activation->instance;
    lucet_current = activation->previous;
    if (UNLIKELY(activation->watched))
        deadline_clear(activation);
    if (UNLIKELY(activation->host_mxcsr))
        _mm_setcsr(activation->host_mxcsr);
    SYNC_POINT("back");
    check_canary(instance);
    switch (how) {
    case SWITCH_SUSPENDED:
    case SWITCH_OUT_OF_FUEL:
    case SWITCH_PREEMPTED:
        activation->suspended_how = how;
        if (how == SWITCH_PREEMPTED) {
            activation->suspended_instance = instance;
            activation->suspended_slots = NULL;
        }
        activation->suspended_run = atomic_fetch_add_explicit(&suspensions, 1, memory_order_relaxed) + 1;
        atomic_store_explicit(&activation->suspended, true, memory_order_release);
        let_visitors_go(group_of(instance)); /* one may be about to signal this thread, which may end now */
        outcome->kind = how == SWITCH_SUSPENDED     ? LUCET_SUSPENDED
                        : how == SWITCH_OUT_OF_FUEL ? LUCET_OUT_OF_FUEL
                                                    : LUCET_PREEMPTED;
        outcome->suspended_slots = activation->suspended_slots;
        outcome->suspended_instance = activation->suspended_instance;
        outcome->suspended_function = activation->suspended_function;
        outcome->suspended_run = activation->suspended_run;
        if (how == SWITCH_OUT_OF_FUEL)
            describe_trap(activation, outcome);
        return outcome->kind;
    case SWITCH_TRAPPED:
        outcome->kind = LUCET_TRAPPED;
        describe_trap(activation, outcome);
        break;
    case SWITCH_THREW:
        outcome->exception = lucet_exnref_get((u64)(uintptr_t)activation->exception, NULL);
        outcome->kind = outcome->exception ? LUCET_THREW : LUCET_TRAPPED;
        activation->trap = TRAP_EXCEPTIONS_EXHAUSTED;
        describe_trap(activation, outcome);
        /* The frames are those of where it was thrown last, perhaps again. */
        backtrace_take(activation, ((const u8 **)(uintptr_t)activation->frame)[1] - 1);
        break;
    case SWITCH_TERMINATED:
        outcome->kind = LUCET_TERMINATED;
        break;
    default:
        outcome->kind = LUCET_RETURNED;
        break;
    }
    pop(group_of(instance), activation);
    region_give_stack(instance->region, activation);
    return outcome->kind;
}

static void go_in(struct lucet_activation *activation) {
    u32 mxcsr = _mm_getcsr();
    activation->host_mxcsr = 0;
    if (UNLIKELY((mxcsr & ~(u32)MXCSR_FLAGS) != MXCSR_DEFAULT)) {
        activation->host_mxcsr = mxcsr;
        _mm_setcsr(MXCSR_DEFAULT);
    }
    activation->previous = lucet_current;
    SYNC_POINT("enter");
    lucet_current = activation;
}

/* ---- entering ---- */

/* What is called: entry(vmctx, code, slots), on the guest's stack. */
struct target {
    const void *entry, *code;
    void *vmctx;
    lucet_rows *rows; /* for each of these instead of the slots; or NULL */
};

/* In a group that this thread owns. */
static lucet_outcome_kind run_owned(lucet_instance *instance, const struct target *target, u64 *slots,
                                    lucet_outcome *outcome, lucet_error *error) {
    struct lucet_activation *activation = region_take_stack(instance->region);
    if (UNLIKELY(!activation)) {
        fail(error, LUCET_ERROR_REGION_FULL, "no stack for the guest: the region allows %u at once, or memory is short",
             instance->region->config.stacks);
        return LUCET_FAILED;
    }
    activation->instance = instance;
    activation->interrupt = 0;
    activation->deadline = 0;
    activation->watched = false;
    activation->preempt = 0;
    activation->thread = pthread_self();
    /* Most host functions cannot wait for a run that they make: nothing else could go on before it returns. */
    activation->time_slice = group_top(group_of(instance)) && !instance->inner_runs_wait ? 0 : instance->time_slice;
    if (UNLIKELY(instance->timeout | activation->time_slice)) {
        activation->deadline = instance->timeout ? deadline_after(instance->timeout) : 0;
        if (!deadline_set(activation, error)) {
            region_give_stack(instance->region, activation);
            return LUCET_FAILED;
        }
    }
    atomic_store_explicit(&activation->suspended, false, memory_order_relaxed); /* a dropped one's may be true */
    push(group_of(instance), activation);
    go_in(activation);
    int how =
        UNLIKELY(target->rows != NULL)
            ? lucet_switch_enter_many(activation, activation, target->entry, target->vmctx, target->code, target->rows)
            : lucet_switch_enter(activation, activation, target->entry, target->vmctx, target->code, slots);
    return come_back(activation, how, outcome);
}

static lucet_outcome_kind run(lucet_instance *instance, const struct target *target, u64 *slots, lucet_outcome *outcome,
                              lucet_error *error) {
    if (UNLIKELY(!signals_prepare_thread(error)) || UNLIKELY(!group_enter(instance, error)))
        return LUCET_FAILED;
    lucet_outcome_kind kind = run_owned(instance, target, slots, outcome, error);
    group_leave(instance);
    return kind;
}

static bool check_state(const lucet_instance *instance, lucet_outcome *outcome, lucet_error *error) {
    int state = atomic_load_explicit(&instance->state, memory_order_relaxed);
    outcome->kind = LUCET_FAILED; /* until it has come back */
    if (LIKELY(state == LUCET_STATE_READY))
        return true;
    return fail(error, LUCET_ERROR_STATE, "the instance is %s", lucet_state_text((lucet_state)state));
}

static inline bool find_target(const lucet_instance *instance, u32 function, lucet_rows *rows, struct target *target,
                               lucet_error *error) {
    const lucet_module *module = instance->module;
    if (UNLIKELY(function >= module->header->functions_count))
        return fail(error, LUCET_ERROR_ARGUMENT, "no function %u", function);
    const struct abi_function *f = &module->functions[function];
    u32 entry = module->types[f->type].entry_rva;
    if (UNLIKELY(!entry || !f->code_rva))
        return fail(error, LUCET_ERROR_ARGUMENT, "function %u is internal to its module: it is not exported", function);
    *target = (struct target){module->base + entry, module->base + f->code_rva, instance->vmctx, rows};
    if (UNLIKELY(function < module->imported_functions)) {
        const lucet_linkage *linkage = instance->linkage;
        const u64 *words = (const u64 *)(instance->vmctx + module->imports[linkage->by_function[function]].offset);
        target->code = (const void *)(uintptr_t)words[0];
        target->vmctx = (u8 *)(uintptr_t)words[1];
    }
    return true;
}

lucet_outcome_kind lucet_call(lucet_instance *instance, uint32_t function, uint64_t *slots, lucet_outcome *outcome,
                              lucet_error *error) {
    struct target target;
    return LIKELY(check_state(instance, outcome, error)) &&
                   LIKELY(find_target(instance, function, NULL, &target, error))
               ? run(instance, &target, slots, outcome, error)
               : LUCET_FAILED;
}

lucet_outcome_kind lucet_call_many(lucet_instance *instance, uint32_t function, lucet_rows *rows,
                                   lucet_outcome *outcome, lucet_error *error) {
    struct target target;
    return LIKELY(check_state(instance, outcome, error)) &&
                   LIKELY(find_target(instance, function, rows, &target, error))
               ? run(instance, &target, NULL, outcome, error)
               : LUCET_FAILED;
}

static inline bool find_ref_target(const lucet_instance *instance, const lucet_funcref *ref, lucet_rows *rows,
                                   struct target *target, lucet_error *error) {
    const struct abi_funcref *r = (const struct abi_funcref *)ref;
    const lucet_instance *called = lucet_funcref_instance(ref);
    if (group_of(called) != group_of(instance))
        return fail(error, LUCET_ERROR_ARGUMENT, "the function belongs to an instance that this one is not linked to");
    u32 entry = called->module->types[called->module->functions[r->function].type].entry_rva;
    if (!entry || !r->code)
        return fail(error, LUCET_ERROR_ARGUMENT, "the function is internal to its module");
    *target = (struct target){called->module->base + entry, (const void *)(uintptr_t)r->code,
                              (void *)(uintptr_t)r->vmctx, rows};
    return true;
}

lucet_outcome_kind lucet_call_ref(lucet_instance *instance, const lucet_funcref *ref, uint64_t *slots,
                                  lucet_outcome *outcome, lucet_error *error) {
    struct target target;
    return LIKELY(check_state(instance, outcome, error)) && LIKELY(find_ref_target(instance, ref, NULL, &target, error))
               ? run(instance, &target, slots, outcome, error)
               : LUCET_FAILED;
}

lucet_outcome_kind lucet_call_ref_many(lucet_instance *instance, const lucet_funcref *ref, lucet_rows *rows,
                                       lucet_outcome *outcome, lucet_error *error) {
    struct target target;
    return LIKELY(check_state(instance, outcome, error)) && LIKELY(find_ref_target(instance, ref, rows, &target, error))
               ? run(instance, &target, NULL, outcome, error)
               : LUCET_FAILED;
}

/* ---- instantiation's own code ---- */

bool lucet_module_needs_start(const lucet_module *module) {
    return module->header->init_rva || module->header->start_function != LUCET_NONE;
}

bool lucet_instance_needs_start(const lucet_instance *instance) {
    return atomic_load(&instance->state) == LUCET_STATE_NOT_STARTED;
}

static void started(lucet_instance *instance, lucet_outcome_kind kind) {
    if (kind == LUCET_RETURNED)
        atomic_store(&instance->state, LUCET_STATE_READY);
    else if (kind == LUCET_TRAPPED || kind == LUCET_TERMINATED || kind == LUCET_THREW)
        atomic_store(&instance->state, LUCET_STATE_FAULTED);
}

static bool is_starting(const lucet_instance *instance) {
    for (const struct lucet_activation *a = group_top(group_of(instance)); a; a = a->outer)
        if (a->instance == instance)
            return true;
    return false;
}

static lucet_outcome_kind start_owned(lucet_instance *instance, lucet_outcome *outcome, lucet_error *error) {
    const lucet_module *module = instance->module;
    lucet_outcome_kind kind = LUCET_RETURNED;
    struct target target = {module->base + module->header->init_rva, NULL, instance->vmctx, NULL};
    if (!lucet_instance_needs_start(instance) || is_starting(instance)) {
        lucet_state state = is_starting(instance) ? LUCET_STATE_RUNNING : lucet_instance_state(instance);
        fail(error, LUCET_ERROR_STATE, "the instance is %s", lucet_state_text(state));
        return LUCET_FAILED;
    }
    u64 time_slice = instance->time_slice;
    instance->time_slice = 0; /* initialisers: nobody could say where to go on */
    if (module->header->init_rva && !instance->initialised)
        kind = run_owned(instance, &target, NULL, outcome, error);
    instance->time_slice = time_slice;
    instance->initialised = kind == LUCET_RETURNED;
    if (kind == LUCET_RETURNED && module->header->start_function != LUCET_NONE)
        kind = find_target(instance, module->header->start_function, NULL, &target, error)
                   ? run_owned(instance, &target, NULL, outcome, error)
                   : LUCET_FAILED;
    started(instance, kind);
    return kind;
}

lucet_outcome_kind lucet_instance_start(lucet_instance *instance, lucet_outcome *outcome, lucet_error *error) {
    outcome->kind = LUCET_FAILED;
    if (!signals_prepare_thread(error) || !group_enter(instance, error))
        return LUCET_FAILED;
    lucet_outcome_kind kind = start_owned(instance, outcome, error);
    outcome->kind = kind;
    group_leave(instance);
    return kind;
}

/* ---- going on ---- */

bool lucet_is_suspended(lucet_instance *instance, uint64_t suspended_run) {
    groups_hold();
    struct group *group = group_of(instance);
    group_visit(group);
    const struct lucet_activation *top = group_top(group);
    bool is = top && atomic_load_explicit(&top->suspended, memory_order_acquire) && top->suspended_run == suspended_run;
    group_unvisit(group);
    groups_release();
    return is;
}

static lucet_outcome_kind resume(lucet_instance *instance, bool terminate, lucet_exception *exception,
                                 lucet_outcome *outcome, lucet_error *error) {
    outcome->kind = LUCET_FAILED;
    struct group *group = group_of(instance);
    if (!signals_prepare_thread(error) || !group_take(group, error))
        return LUCET_FAILED;
    struct lucet_activation *activation = group_top(group);
    if (!activation || !atomic_load_explicit(&activation->suspended, memory_order_relaxed)) {
        group_leave(instance);
        fail(error, LUCET_ERROR_STATE, "the instance is not suspended");
        return LUCET_FAILED;
    }
    if (exception && activation->suspended_how != SWITCH_SUSPENDED) {
        group_leave(instance);
        fail(error, LUCET_ERROR_STATE, "no host function suspended the instance");
        return LUCET_FAILED;
    }
    lucet_instance *called = activation->instance;
    lucet_outcome_kind kind;
    if (terminate) {
        pop(group, activation);
        region_give_stack(called->region, activation);
        kind = outcome->kind = LUCET_TERMINATED;
    } else {
        activation->thread = pthread_self();
        atomic_store_explicit(&activation->suspended, false, memory_order_release);
        let_visitors_go(group);
        SYNC_POINT("resume");
        if ((activation->deadline | activation->time_slice) && !deadline_set(activation, error)) {
            atomic_store_explicit(&activation->suspended, true, memory_order_relaxed);
            group_leave(instance);
            return LUCET_FAILED;
        }
        if (exception) {
            lucet_exception_retain(exception);
            activation->thrown = exception;
            activation->throws = 1;
        }
        go_in(activation);
        kind = come_back(activation, lucet_switch_resume(activation), outcome);
    }
    if (lucet_instance_needs_start(called))
        started(called, kind);
    group_leave(called);
    return kind;
}

lucet_outcome_kind lucet_resume(lucet_instance *instance, bool terminate, lucet_outcome *outcome, lucet_error *error) {
    return resume(instance, terminate, NULL, outcome, error);
}

lucet_outcome_kind lucet_resume_throwing(lucet_instance *instance, lucet_exception *exception, lucet_outcome *outcome,
                                         lucet_error *error) {
    return resume(instance, false, exception, outcome, error);
}
