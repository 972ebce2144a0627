/* builtins.c: what generated code calls, through the stubs of switch_x86_64.S: on the host's stack, with the guest's argument
 * registers. Bounds are checked here as the specification says, before anything is changed. */

#include <string.h>
#include <xmmintrin.h>

#include "internal.h"

#define ROWS(name, offset)                                                                                             \
    _Static_assert(offsetof(lucet_rows, name) == (offset), "lucet_rows." #name " is not where context.def has it");
#define ACTIVATION(name, offset)
#include "context.def"
#undef ACTIVATION
#undef ROWS

/* Traps drop these functions' frames without their ends being run. */
#define BUILTIN_C LUCET_INTERNAL NO_TSAN __attribute__((used))

/* Called from switch_x86_64.S only. */
BUILTIN_C _Noreturn void activation_interrupted(void);
BUILTIN_C _Noreturn void activation_interrupted_early(void);
BUILTIN_C bool activation_next_rows(struct lucet_activation *activation, lucet_rows *rows);
BUILTIN_C int builtin_hostcall(u8 *vmctx, u32 function, u64 *slots);
BUILTIN_C u64 builtin_memory_grow(u8 *vmctx, u32 memory, u64 delta);
BUILTIN_C void builtin_memory_copy(u8 *vmctx, u32 to, u32 from, u64 d, u64 s, u64 n);
BUILTIN_C void builtin_memory_fill(u8 *vmctx, u32 memory, u64 d, u32 value, u64 n);
BUILTIN_C void builtin_memory_init(u8 *vmctx, u32 memory, u32 segment, u64 d, u64 s, u64 n);
BUILTIN_C u64 builtin_table_grow(u8 *vmctx, u32 table, u64 delta, u64 value);
BUILTIN_C void builtin_table_copy(u8 *vmctx, u32 to, u32 from, u64 d, u64 s, u64 n);
BUILTIN_C void builtin_table_fill(u8 *vmctx, u32 table, u64 i, u64 value, u64 n);
BUILTIN_C void builtin_table_init(u8 *vmctx, u32 table, u32 segment, u64 d, u64 s, u64 n);
BUILTIN_C u32 builtin_memory_wait32(u8 *vmctx, u32 memory, u64 address, u64 offset, u32 expected, i64 timeout);
BUILTIN_C u32 builtin_memory_wait64(u8 *vmctx, u32 memory, u64 address, u64 offset, u64 expected, i64 timeout);
BUILTIN_C u32 builtin_memory_notify(u8 *vmctx, u32 memory, u64 address, u64 offset, u32 count);
BUILTIN_C void builtin_out_of_fuel(u8 *vmctx);

NO_TSAN static void note_trap(struct lucet_activation *activation, u32 trap) {
    activation->trap = trap;
    activation->trap_sp = 0;
    activation->trap_pc = ((const u8 **)(uintptr_t)activation->frame)[1] - 1;
}

NO_TSAN _Noreturn void builtin_trap(u32 trap) {
    struct lucet_activation *activation = lucet_current;
    note_trap(activation, trap);
    lucet_switch_leave(activation, SWITCH_TRAPPED);
}

BUILTIN_C _Noreturn void activation_interrupted(void) {
    u32 trap = (u32)lucet_current->interrupt;
    lucet_current->interrupt = 0;
    builtin_trap(trap);
}

/* Before the first instruction of the guest. */
BUILTIN_C _Noreturn void activation_interrupted_early(void) {
    struct lucet_activation *activation = lucet_current;
    activation->trap = (u32)activation->interrupt;
    activation->interrupt = 0;
    activation->trap_pc = NULL;
    lucet_switch_leave(activation, SWITCH_TRAPPED);
}

/* While the host's code runs, this thread is not in the guest: a fault there is the host's. */
static inline void leave_for_host(const struct lucet_activation *activation) {
    group_of(activation->instance)->crossings++;
    lucet_current = activation->previous;
    if (UNLIKELY(activation->host_mxcsr))
        _mm_setcsr(activation->host_mxcsr);
    SYNC_POINT("hostcall");
}

/* waits: the guest does not go on yet, but with runs that the host function has begun. */
static inline void return_to_guest(struct lucet_activation *activation, bool waits) {
    SYNC_POINT("hostcall done");
    /* Not read, which takes longer than all the rest: its control bits are callee-saved, the function has them as they were. */
    if (UNLIKELY(activation->host_mxcsr))
        _mm_setcsr(MXCSR_DEFAULT);
    struct group *group = group_of(activation->instance);
    if (UNLIKELY(group_top(group) != activation) && !waits)
        drop_activations(group, activation);
    lucet_current = activation;
}

BUILTIN_C bool activation_next_rows(struct lucet_activation *activation, lucet_rows *rows) {
    leave_for_host(activation);
    bool more = rows->next(rows);
    return_to_guest(activation, false);
    return more;
}

BUILTIN_C int builtin_hostcall(u8 *vmctx, u32 function, u64 *slots) {
    struct lucet_activation *activation = lucet_current;
    lucet_instance *instance = instance_of_vmctx(vmctx);
    const lucet_linkage *linkage = instance->linkage;
    const lucet_import *import = &linkage->imports[linkage->by_function[function]].import;
    if (UNLIKELY(--instance->host_calls_left < 0)) {
        instance->host_calls_left = 0;
        builtin_trap(TRAP_HOST_CALLS_EXHAUSTED);
    }
    leave_for_host(activation);
    lucet_host_result result = import->function(instance, slots, import->data);
    return_to_guest(activation, result == LUCET_HOST_SUSPEND && instance->inner_runs_wait);
    if (UNLIKELY(instance->thrown)) {
        if (result == LUCET_HOST_THROW) {
            activation->thrown = instance->thrown;
            instance->thrown = NULL;
            return SWITCH_THREW;
        }
        instance_drop_thrown(instance);
    }
    if (LIKELY(result == LUCET_HOST_OK)) {
        /* A guest that hardly does anything but call the host is nearly never found in its own code. */
        if (LIKELY(!__atomic_load_n(&activation->preempt, __ATOMIC_RELAXED)))
            return 0;
        activation->preempt = 0;
        return SWITCH_PREEMPTED;
    }
    if (result == LUCET_HOST_SUSPEND) {
        activation->suspended_instance = instance;
        activation->suspended_function = function;
        activation->suspended_slots = slots;
        return SWITCH_SUSPENDED;
    }
    return SWITCH_TERMINATED;
}

BUILTIN_C u64 builtin_memory_grow(u8 *vmctx, u32 memory, u64 delta) {
    return memory_grow(instance_of_vmctx(vmctx)->memories[memory], delta);
}

static bool in_bounds(u64 offset, u64 count, u64 size) {
    return offset <= size && count <= size - offset;
}

BUILTIN_C void builtin_memory_copy(u8 *vmctx, u32 to, u32 from, u64 d, u64 s, u64 n) {
    const lucet_instance *instance = instance_of_vmctx(vmctx);
    const lucet_memory *target = instance->memories[to], *source = instance->memories[from];
    if (!in_bounds(d, n, memory_size(target)) || !in_bounds(s, n, memory_size(source)))
        builtin_trap(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS);
    memmove(target->base + d, source->base + s, n);
}

BUILTIN_C void builtin_memory_fill(u8 *vmctx, u32 memory, u64 d, u32 value, u64 n) {
    const lucet_memory *target = instance_of_vmctx(vmctx)->memories[memory];
    if (!in_bounds(d, n, memory_size(target)))
        builtin_trap(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS);
    memset(target->base + d, (int)(value & 0xff), n);
}

BUILTIN_C void builtin_memory_init(u8 *vmctx, u32 memory, u32 segment, u64 d, u64 s, u64 n) {
    const lucet_instance *instance = instance_of_vmctx(vmctx);
    const lucet_memory *target = instance->memories[memory];
    const struct abi_data *data = &instance->module->datas[segment];
    u64 left = data->offset ? VMCTX_WORD(vmctx, data->offset) : 0;
    if (!in_bounds(s, n, left) || !in_bounds(d, n, memory_size(target)))
        builtin_trap(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS);
    if (n)
        memcpy(target->base + d, instance->module->base + data->bytes_rva + s, n);
}

/* The address of an atomic access of so many bytes. */
static u8 *atomic_address(const lucet_memory *memory, u64 address, u64 offset, u64 width) {
    u64 sum;
    if ((address + offset) % width)
        builtin_trap(TRAP_UNALIGNED_ATOMIC);
    if (__builtin_add_overflow(address, offset, &sum) || !in_bounds(sum, width, memory_size(memory)))
        builtin_trap(TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS);
    return memory->base + sum;
}

static u32 wait_at(u8 *vmctx, u32 memory, u64 address, u64 offset, u64 expected, bool is_64, i64 timeout) {
    const lucet_memory *target = instance_of_vmctx(vmctx)->memories[memory];
    const u8 *at = atomic_address(target, address, offset, is_64 ? 8 : 4);
    if (target->owner)
        builtin_trap(TRAP_EXPECTED_SHARED_MEMORY);
    return memory_wait(lucet_current, at, expected, is_64, timeout);
}

BUILTIN_C u32 builtin_memory_wait32(u8 *vmctx, u32 memory, u64 address, u64 offset, u32 expected, i64 timeout) {
    return wait_at(vmctx, memory, address, offset, expected, false, timeout);
}

BUILTIN_C u32 builtin_memory_wait64(u8 *vmctx, u32 memory, u64 address, u64 offset, u64 expected, i64 timeout) {
    return wait_at(vmctx, memory, address, offset, expected, true, timeout);
}

BUILTIN_C u32 builtin_memory_notify(u8 *vmctx, u32 memory, u64 address, u64 offset, u32 count) {
    const lucet_memory *target = instance_of_vmctx(vmctx)->memories[memory];
    const u8 *at = atomic_address(target, address, offset, 4);
    return target->owner ? 0 : memory_notify(at, count); /* nobody can wait at a memory that is not shared */
}

BUILTIN_C u64 builtin_table_grow(u8 *vmctx, u32 table, u64 delta, u64 value) {
    return table_grow(instance_of_vmctx(vmctx)->tables[table], delta, value);
}

BUILTIN_C void builtin_table_copy(u8 *vmctx, u32 to, u32 from, u64 d, u64 s, u64 n) {
    const lucet_instance *instance = instance_of_vmctx(vmctx);
    const struct lucet_table *target = instance->tables[to], *source = instance->tables[from];
    if (!in_bounds(s, n, source->head.length) || !in_bounds(d, n, target->head.length))
        builtin_trap(TRAP_OUT_OF_BOUNDS_TABLE_ACCESS);
    if (n)
        memmove((u64 *)(uintptr_t)target->head.entries + d, (u64 *)(uintptr_t)source->head.entries + s, n * 8);
}

BUILTIN_C void builtin_table_fill(u8 *vmctx, u32 table, u64 i, u64 value, u64 n) {
    const struct lucet_table *target = instance_of_vmctx(vmctx)->tables[table];
    if (!in_bounds(i, n, target->head.length))
        builtin_trap(TRAP_OUT_OF_BOUNDS_TABLE_ACCESS);
    u64 *entries = (u64 *)(uintptr_t)target->head.entries;
    for (u64 k = 0; k < n; k++)
        entries[i + k] = value;
}

BUILTIN_C void builtin_table_init(u8 *vmctx, u32 table, u32 segment, u64 d, u64 s, u64 n) {
    lucet_instance *instance = instance_of_vmctx(vmctx);
    const struct abi_elem *elem = &instance->module->elems[segment];
    const struct lucet_table *target = instance->tables[table];
    u64 left = elem->offset ? VMCTX_WORD(vmctx, elem->offset) : 0;
    if (!in_bounds(s, n, left) || !in_bounds(d, n, target->head.length))
        builtin_trap(TRAP_OUT_OF_BOUNDS_TABLE_ACCESS);
    const i32 *items = (const void *)(instance->module->base + elem->items_rva);
    u64 *entries = (u64 *)(uintptr_t)target->head.entries;
    for (u64 k = 0; k < n; k++)
        entries[d + k] = instance_elem_value(instance, items[s + k]);
}

/* The stub then suspends the run. */
BUILTIN_C void builtin_out_of_fuel(u8 *vmctx) {
    struct lucet_activation *activation = lucet_current;
    note_trap(activation, TRAP_OUT_OF_FUEL);
    activation->suspended_instance = instance_of_vmctx(vmctx);
    activation->suspended_function = LUCET_NONE;
    activation->suspended_slots = NULL;
}
