/* budget.c: memory that the instances of several regions share a limit for. */

#include <stdlib.h>

#include "internal.h"

struct lucet_budget {
    atomic_uint refs;
    u64 limit;
    _Atomic u64 used;
};

lucet_budget *lucet_budget_new(uint64_t limit, lucet_error *error) {
    lucet_budget *budget = calloc(1, sizeof *budget);
    if (!budget) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&budget->refs, 1);
    budget->limit = limit;
    return budget;
}

void lucet_budget_retain(lucet_budget *budget) {
    atomic_fetch_add_explicit(&budget->refs, 1, memory_order_relaxed);
}

void lucet_budget_release(lucet_budget *budget) {
    if (atomic_fetch_sub_explicit(&budget->refs, 1, memory_order_acq_rel) == 1)
        free(budget);
}

uint64_t lucet_budget_limit(const lucet_budget *budget) {
    return budget->limit;
}

uint64_t lucet_budget_used(const lucet_budget *budget) {
    return atomic_load_explicit(&budget->used, memory_order_relaxed);
}

bool budget_take(lucet_budget *budget, u64 size) {
    if (!budget)
        return true;
    u64 used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    do {
        if (used > budget->limit || size > budget->limit - used)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used, &used, used + size, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

void budget_give(lucet_budget *budget, u64 size) {
    if (budget)
        atomic_fetch_sub_explicit(&budget->used, size, memory_order_relaxed);
}

bool budget_charge(lucet_instance *instance, u64 memory) {
    lucet_budget *budget = instance->region->config.budget;
    u64 size = memory + instance->exception_bytes;
    if (!budget)
        return true;
    if (size <= instance->charged)
        budget_give(budget, instance->charged - size);
    else if (!budget_take(budget, size - instance->charged))
        return false;
    instance->charged = size;
    return true;
}
