/* backtrace.c: the guest's frames where a run ended, innermost first, for people: found with the unwinding information that
 * exceptions use, as far as it leads. */

#include <string.h>

#include "internal.h"

struct backtrace {
    u32 count;
    bool is_cut;
    lucet_frame frames[LUCET_MAX_FRAMES];
};

/* The last one of this thread. */
static _Thread_local struct backtrace last;

/* The frame's state where it was left: by a fault or an interrupt in guest code, or by a call of a stub. */
NO_TSAN static u64 first_frame(const struct lucet_activation *activation, const u64 *saved[UNWIND_REGISTERS]) {
    if (activation->trap_sp) {
        for (u32 i = 0; i < UNWIND_REGISTERS; i++)
            saved[i] = &activation->trap_registers[i];
        return activation->trap_sp;
    }
    const u64 *frame = (const u64 *)(uintptr_t)activation->frame;
    saved[UNWIND_RBX] = frame - 1;
    saved[UNWIND_RBP] = frame;
    saved[UNWIND_R12] = frame - 2;
    saved[UNWIND_R13] = frame - 3;
    saved[UNWIND_R14] = frame - 4;
    saved[UNWIND_R15] = frame - 5;
    return activation->frame + 16;
}

static void add(const lucet_module *module, const u8 *pc) {
    lucet_frame frame = {.module = module, .wasm_offset = LUCET_NO_OFFSET};
    /* Code that belongs to no function of the module leads from one convention to another. */
    if (!module_locate(module, pc, &frame.function, &frame.wasm_offset))
        return;
    if (last.count == LUCET_MAX_FRAMES)
        last.is_cut = true;
    else
        last.frames[last.count++] = frame;
}

/* pc: of the instruction, or in the call. */
NO_TSAN void backtrace_take(const struct lucet_activation *activation, const u8 *pc) {
    const u64 *saved[UNWIND_REGISTERS];
    last.count = 0;
    last.is_cut = false;
    if (!pc)
        return;
    u64 sp = first_frame(activation, saved), low = (u64)(uintptr_t)activation->stack_low,
        high = (u64)(uintptr_t)activation; /* which stands on top of its stack */
    while (!last.is_cut) {
        const lucet_instance *owner = code_owner(activation, pc);
        if (!owner)
            return;
        add(owner->module, pc);
        const u8 *landing;
        const struct unwind_row *row = module_unwind(owner->module, pc + 1, &landing);
        if (!row)
            return;
        u64 cfa = (row->from_rbp ? *saved[UNWIND_RBP] : sp) + (u64)(i64)row->cfa;
        /* Generated code is trusted to keep its frames; this is not what a host should crash for all the same. */
        if (cfa % 8 || cfa <= sp || cfa - 8 < low || cfa > high)
            return;
        for (u32 registers = row->saved; registers; registers &= registers - 1) {
            u32 i = (u32)__builtin_ctz(registers);
            u64 at = cfa + (u64)(i64)row->at[i];
            if (at % 8 || at < low || at + 8 > high)
                return;
            saved[i] = (const u64 *)(uintptr_t)at;
        }
        pc = *(const u8 **)(uintptr_t)(cfa - 8) - 1;
        sp = cfa;
    }
}

const lucet_frame *lucet_backtrace(uint32_t *count, bool *is_cut) {
    *count = last.count;
    *is_cut = last.is_cut;
    return last.frames;
}
