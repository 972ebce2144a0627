/* run.c: entering guest code and coming back. */

#include <string.h>
#include <xmmintrin.h>

#include "internal.h"

_Thread_local struct lucet_activation *lucet_current __attribute__((tls_model("initial-exec")));

static void lock(struct group *group) {
    while (atomic_flag_test_and_set_explicit(&group->lock, memory_order_acquire))
        __builtin_ia32_pause();
}

static void unlock(struct group *group) {
    atomic_flag_clear_explicit(&group->lock, memory_order_release);
}

static void push(struct group *group, struct lucet_activation *activation) {
    lock(group);
    activation->outer = group->top;
    activation->thread = pthread_self();
    group->top = activation;
    unlock(group);
}

static void pop(struct group *group, struct lucet_activation *activation) {
    lock(group);
    group->top = activation->outer;
    unlock(group);
}

void drop_activations(struct group *group, struct lucet_activation *down_to) {
    while (group->top && group->top != down_to) {
        struct lucet_activation *activation = group->top;
        pop(group, activation);
        region_give_stack(activation->instance->region, activation);
    }
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
    for (const lucet_instance *i = activation->instance->group->members; i; i = i->group_next)
        if (module_has_code(i->module, activation->trap_pc)) {
            if (module_locate(i->module, activation->trap_pc, &outcome->function, &outcome->wasm_offset))
                outcome->module = i->module;
            return;
        }
}

static lucet_outcome_kind come_back(struct lucet_activation *activation, int how, lucet_outcome *outcome) {
    lucet_instance *instance = activation->instance;
    lucet_current = activation->previous;
    if (UNLIKELY(activation->host_mxcsr))
        _mm_setcsr(activation->host_mxcsr);
    switch (how) {
    case SWITCH_SUSPENDED:
        activation->suspended = true;
        outcome->kind = LUCET_SUSPENDED;
        outcome->suspended_slots = activation->suspended_slots;
        outcome->suspended_instance = activation->suspended_instance;
        outcome->suspended_function = activation->suspended_function;
        group_leave(instance);
        return LUCET_SUSPENDED;
    case SWITCH_TRAPPED:
        outcome->kind = LUCET_TRAPPED;
        describe_trap(activation, outcome);
        break;
    case SWITCH_TERMINATED:
        outcome->kind = LUCET_TERMINATED;
        break;
    default:
        outcome->kind = LUCET_RETURNED;
        break;
    }
    pop(instance->group, activation);
    region_give_stack(instance->region, activation);
    group_leave(instance);
    return outcome->kind;
}

static void go_in(struct lucet_activation *activation) {
    u32 mxcsr = _mm_getcsr();
    activation->host_mxcsr = 0;
    if (UNLIKELY((mxcsr & ~(u32)MXCSR_FLAGS) != MXCSR_DEFAULT)) {
        activation->host_mxcsr = mxcsr;
        _mm_setcsr(MXCSR_DEFAULT);
    }
    activation->suspended = false;
    activation->previous = lucet_current;
    lucet_current = activation;
}

/* ---- entering ---- */

static lucet_outcome_kind enter(lucet_instance *instance, const void *entry, void *vmctx, const void *code, u64 *slots,
                                lucet_outcome *outcome, lucet_error *error) {
    outcome->kind = LUCET_FAILED;
    if (UNLIKELY(!signals_prepare_thread(error)) || UNLIKELY(!group_enter(instance, error)))
        return LUCET_FAILED;
    struct lucet_activation *activation = region_take_stack(instance->region);
    if (UNLIKELY(!activation)) {
        group_leave(instance);
        fail(error, LUCET_ERROR_REGION_FULL, "no stack for the guest: the region allows %u at once, or memory is short",
             instance->region->config.stacks);
        return LUCET_FAILED;
    }
    activation->instance = instance;
    activation->interrupt = 0;
    push(instance->group, activation);
    go_in(activation);
    int how = lucet_switch_enter(activation, activation, entry, vmctx, code, slots);
    return come_back(activation, how, outcome);
}

static bool check_state(const lucet_instance *instance, lucet_outcome *outcome, lucet_error *error) {
    int state = atomic_load_explicit(&instance->state, memory_order_relaxed);
    if (LIKELY(state == LUCET_STATE_READY))
        return true;
    outcome->kind = LUCET_FAILED;
    return fail(error, LUCET_ERROR_STATE, "the instance is %s", lucet_state_text((lucet_state)state));
}

static lucet_outcome_kind call(lucet_instance *instance, u32 function, u64 *slots, lucet_outcome *outcome,
                               lucet_error *error) {
    const lucet_module *module = instance->module;
    outcome->kind = LUCET_FAILED;
    if (UNLIKELY(function >= module->header->functions_count)) {
        fail(error, LUCET_ERROR_ARGUMENT, "no function %u", function);
        return LUCET_FAILED;
    }
    const struct abi_function *f = &module->functions[function];
    u32 entry = module->types[f->type].entry_rva;
    const void *code = module->base + f->code_rva;
    u8 *vmctx = instance->vmctx;
    if (UNLIKELY(function < module->imported_functions)) {
        const lucet_linkage *linkage = instance->linkage;
        const u64 *words = (const u64 *)(vmctx + module->imports[linkage->by_function[function]].offset);
        code = (const void *)(uintptr_t)words[0];
        vmctx = (u8 *)(uintptr_t)words[1];
    }
    if (UNLIKELY(!entry || !f->code_rva)) {
        fail(error, LUCET_ERROR_ARGUMENT, "function %u is internal to its module: it is not exported", function);
        return LUCET_FAILED;
    }
    return enter(instance, module->base + entry, vmctx, code, slots, outcome, error);
}

lucet_outcome_kind lucet_call(lucet_instance *instance, uint32_t function, uint64_t *slots, lucet_outcome *outcome,
                              lucet_error *error) {
    return check_state(instance, outcome, error) ? call(instance, function, slots, outcome, error) : LUCET_FAILED;
}

lucet_outcome_kind lucet_call_ref(lucet_instance *instance, const lucet_funcref *ref, uint64_t *slots,
                                  lucet_outcome *outcome, lucet_error *error) {
    const struct abi_funcref *r = (const struct abi_funcref *)ref;
    const lucet_instance *target = lucet_funcref_instance(ref);
    if (!check_state(instance, outcome, error))
        return LUCET_FAILED;
    outcome->kind = LUCET_FAILED;
    if (target->group != instance->group) {
        fail(error, LUCET_ERROR_ARGUMENT, "the function belongs to an instance that this one is not linked to");
        return LUCET_FAILED;
    }
    u32 entry = target->module->types[target->module->functions[r->function].type].entry_rva;
    if (!entry || !r->code) {
        fail(error, LUCET_ERROR_ARGUMENT, "the function is internal to its module");
        return LUCET_FAILED;
    }
    return enter(instance, target->module->base + entry, (void *)(uintptr_t)r->vmctx, (const void *)(uintptr_t)r->code,
                 slots, outcome, error);
}

/* ---- instantiation's own code ---- */

bool lucet_instance_needs_start(const lucet_instance *instance) {
    return atomic_load(&instance->state) == LUCET_STATE_NOT_STARTED;
}

static void started(lucet_instance *instance, lucet_outcome_kind kind) {
    if (kind == LUCET_RETURNED)
        atomic_store(&instance->state, LUCET_STATE_READY);
    else if (kind != LUCET_SUSPENDED)
        atomic_store(&instance->state, LUCET_STATE_FAULTED);
}

lucet_outcome_kind lucet_instance_start(lucet_instance *instance, lucet_outcome *outcome, lucet_error *error) {
    const lucet_module *module = instance->module;
    outcome->kind = LUCET_FAILED;
    if (!lucet_instance_needs_start(instance) || instance->group->top) {
        fail(error, LUCET_ERROR_STATE, "the instance is %s", lucet_state_text(lucet_instance_state(instance)));
        return LUCET_FAILED;
    }
    lucet_outcome_kind kind = LUCET_RETURNED;
    if (module->header->init_rva)
        kind = enter(instance, module->base + module->header->init_rva, instance->vmctx, NULL, NULL, outcome, error);
    if (kind == LUCET_RETURNED && module->header->start_function != LUCET_NONE)
        kind = call(instance, module->header->start_function, NULL, outcome, error);
    outcome->kind = kind;
    started(instance, kind);
    return kind;
}

/* ---- going on ---- */

lucet_outcome_kind lucet_resume(lucet_instance *instance, bool terminate, lucet_outcome *outcome, lucet_error *error) {
    struct group *group = instance->group;
    uintptr_t me = (uintptr_t)&lucet_current, owner = 0;
    outcome->kind = LUCET_FAILED;
    if (!signals_prepare_thread(error))
        return LUCET_FAILED;
    if (!atomic_compare_exchange_strong(&group->owner, &owner, me) && owner != me) {
        fail(error, LUCET_ERROR_STATE, "the instance is running on another thread");
        return LUCET_FAILED;
    }
    struct lucet_activation *activation = group->top;
    if (!activation || !activation->suspended) {
        group_leave(instance);
        fail(error, LUCET_ERROR_STATE, "the instance is not suspended");
        return LUCET_FAILED;
    }
    lucet_instance *called = activation->instance;
    lucet_outcome_kind kind;
    if (terminate) {
        activation->suspended = false;
        pop(group, activation);
        region_give_stack(called->region, activation);
        group_leave(called);
        kind = outcome->kind = LUCET_TERMINATED;
    } else {
        lock(group);
        activation->thread = pthread_self();
        unlock(group);
        go_in(activation);
        kind = come_back(activation, lucet_switch_resume(activation), outcome);
    }
    if (lucet_instance_needs_start(called))
        started(called, kind);
    return kind;
}

bool lucet_instance_interrupt(lucet_instance *instance) {
    struct group *group = instance->group;
    lock(group);
    struct lucet_activation *activation = group->top;
    if (activation) {
        __atomic_store_n(&activation->interrupt, 1, __ATOMIC_RELEASE);
        if (!activation->suspended)
            signals_interrupt(activation);
    }
    unlock(group);
    return activation != NULL;
}
