/* fuel.c: how many instructions an instance may execute, and has executed. Generated code counts in the word FUEL, which is
 * negative as long as there is fuel: what has been counted since the fuel was set, less that fuel, less one. */

#include "internal.h"

static u64 *fuel_word(const lucet_instance *instance) {
    return &VMCTX_WORD(instance->vmctx, VMCTX_FUEL);
}

bool lucet_module_counts_instructions(const lucet_module *module) {
    return module->header->flags & LUCET_FLAG_COUNTS_INSTRUCTIONS;
}

bool lucet_instance_set_fuel(lucet_instance *instance, int64_t fuel) {
    u64 used = lucet_instance_fuel_used(instance);
    instance->fuel_is_bounded = fuel != LUCET_FUEL_UNLIMITED;
    *fuel_word(instance) = ~(u64)fuel;
    instance->fuel_base = *fuel_word(instance) - used;
    return lucet_module_counts_instructions(instance->module);
}

int64_t lucet_instance_fuel(const lucet_instance *instance) {
    return instance->fuel_is_bounded ? (i64) ~*fuel_word(instance) : LUCET_FUEL_UNLIMITED;
}

uint64_t lucet_instance_fuel_used(const lucet_instance *instance) {
    return *fuel_word(instance) - instance->fuel_base;
}
