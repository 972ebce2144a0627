/* memory.c: linear memories as objects. Memory 0 of most instances is its slot's heap; every other one has a mapping of its own,
 * which belongs to its instance, or, of a shared memory, to all that have a reference to it. */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

/* Atomics of guests and of the runtime meet in shared memories: all are the processor's own. */
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomics take no locks");

/* A memory's mapping: a page that holds struct lucet_memory and ends with the size word; the memory; what must fault. */
enum { HEAD = HOST_PAGE };
static const u64 ADDRESS_SPACE = 1ULL << 47; /* no more than that can be mapped */
static_assert(sizeof(struct lucet_memory) <= HEAD + VMCTX_MEMORY_SIZE, "the size word is behind the structure");

static u64 to_host_pages(u64 size) {
    return (size + HOST_PAGE - 1) & ~(u64)(HOST_PAGE - 1);
}

/* Pages in bytes: UINT64_MAX if those are too many. */
static u64 pages_size(u64 pages, u32 page_size_log2) {
    return pages > UINT64_MAX >> page_size_log2 ? UINT64_MAX : pages << page_size_log2;
}

struct memory_type memory_type_of(const struct abi_memory *abi) {
    return (struct memory_type){
        .minimum = abi->minimum,
        .maximum = abi->maximum,
        .is_64 = abi->flags & LUCET_FLAG_64,
        .is_shared = abi->flags & LUCET_FLAG_SHARED,
        .page_size_log2 = (u8)abi->page_size_log2,
        /* Compiled for less address space than its type allows: it cannot grow beyond. */
        .cap = (abi->flags & LUCET_FLAG_CHECKED) && abi->reserved ? abi->reserved / WASM_PAGE * WASM_PAGE : UINT64_MAX};
}

u64 memtype_minimum(const struct memory_type *type) {
    return pages_size(type->minimum, type->page_size_log2);
}

u64 memtype_maximum(const struct memory_type *type) {
    /* All bytes have an address, and the number of pages has one bit pattern that is not that of a failed grow. */
    u64 most = type->is_64 ? UINT64_MAX : type->page_size_log2 ? 1ULL << 32 : (1ULL << 32) - 1;
    u64 declared = pages_size(type->maximum, type->page_size_log2);
    most = declared < most ? declared : most;
    return most < type->cap ? most : type->cap;
}

/* 32-bit code may rely on address space, and imports any memory of its type. */
bool memory_relies_on_space(const struct memory_type *type) {
    return !type->is_64 && type->page_size_log2 == 16;
}

/* ---- with a mapping of their own ---- */

static u64 mapping_size(const lucet_memory *memory) {
    return HEAD + memory->reserved + memory->guard;
}

/* Of the type's minimum. reserved: bytes that it can ever have. */
lucet_memory *memory_new(const struct memory_type *type, u64 reserved, u64 guard, lucet_error *error) {
    u64 size = memtype_minimum(type), all = 0;
    u8 *low = MAP_FAILED;
    if (size <= reserved && reserved <= ADDRESS_SPACE) {
        reserved = to_host_pages(reserved);
        all = HEAD + reserved + guard;
        low = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    if (low == MAP_FAILED) {
        fail(error, LUCET_ERROR_LIMITS, "no address space for a memory of %llu MiB",
             (unsigned long long)(reserved >> 20));
        return NULL;
    }
    if (mprotect(low, HEAD + to_host_pages(size), PROT_READ | PROT_WRITE) < 0) {
        fail_system(error, "mprotect");
        munmap(low, all);
        return NULL;
    }
    lucet_memory *memory = (void *)low;
    memory->base = low + HEAD;
    memory->type = *type;
    memory->reserved = reserved;
    memory->guard = guard;
    memory->accessible = to_host_pages(size);
    memory_set_size(memory, size);
    return memory;
}

void memory_free(lucet_memory *memory) {
    munmap(memory, mapping_size(memory));
}

/* ---- shared ---- */

lucet_memory *shared_memory_new(const struct memory_type *type, u64 limit, lucet_budget *budget, lucet_error *error) {
    enum { GUARD = 32 << 20 };
    u64 size = memtype_minimum(type), most = memtype_maximum(type);
    limit = limit < most ? limit : most;
    if (!budget_take(budget, size)) {
        fail(error, LUCET_ERROR_LIMITS, "the budget has less than %llu bytes of memory left", (unsigned long long)size);
        return NULL;
    }
    /* All that it can ever have is reserved now: others use it while it grows. */
    lucet_memory *memory = memory_new(type, memory_relies_on_space(type) ? 4ULL << 30 : limit, GUARD, error);
    if (!memory) {
        budget_give(budget, size);
        return NULL;
    }
    atomic_init(&memory->refs, 1);
    memory->limit = limit;
    memory->budget = budget;
    if (budget)
        lucet_budget_retain(budget);
    return memory;
}

lucet_memory *lucet_shared_memory_new(const lucet_externtype *type, lucet_budget *budget, lucet_error *error) {
    struct memory_type own = {.minimum = type->limits.minimum,
                              .maximum = type->limits.maximum,
                              .is_64 = type->is_64,
                              .is_shared = true,
                              .page_size_log2 = type->page_size_log2,
                              .cap = UINT64_MAX};
    if (own.page_size_log2 != 0 && own.page_size_log2 != 16) {
        fail(error, LUCET_ERROR_ARGUMENT, "pages have 1 byte or 64 KiB, not 2**%u bytes", own.page_size_log2);
        return NULL;
    }
    u64 most = own.is_64 ? UINT64_MAX : UINT32_MAX;
    if (own.page_size_log2 == 16)
        most = own.is_64 ? 1ULL << 48 : 65536;
    if (own.maximum > most || own.minimum > own.maximum) {
        fail(error, LUCET_ERROR_ARGUMENT, "a shared memory has a minimum, and a maximum of at most %llu pages",
             (unsigned long long)most);
        return NULL;
    }
    return shared_memory_new(&own, UINT64_MAX, budget, error);
}

void lucet_memory_retain(lucet_memory *memory) {
    if (!memory->owner)
        atomic_fetch_add_explicit(&memory->refs, 1, memory_order_relaxed);
}

void lucet_memory_release(lucet_memory *memory) {
    if (memory->owner || atomic_fetch_sub_explicit(&memory->refs, 1, memory_order_acq_rel) != 1)
        return;
    lucet_budget *budget = memory->budget;
    budget_give(budget, memory_size(memory));
    memory_free(memory);
    if (budget)
        lucet_budget_release(budget);
}

uint32_t lucet_memory_notify(lucet_memory *memory, uint64_t offset, uint32_t count) {
    u64 size = lucet_memory_size(memory);
    if (!memory || memory->owner || offset % 4 || size < 4 || offset > size - 4)
        return 0;
    return memory_notify(memory->base + offset, count);
}

/* ---- growth ---- */

static bool grow_mapping(lucet_memory *memory, u64 size) {
    u64 accessible = to_host_pages(size);
    if (accessible > memory->reserved)
        return false;
    if (accessible > memory->accessible &&
        mprotect(memory->base + memory->accessible, accessible - memory->accessible, PROT_READ | PROT_WRITE) < 0) {
        /* A part may have succeeded. */
        mprotect(memory->base + memory->accessible, accessible - memory->accessible, PROT_NONE);
        return false;
    }
    if (accessible > memory->accessible)
        memory->accessible = accessible;
    return true;
}

/* Zeros, of the minimum size. False: nobody knows what it is. */
bool memory_reset(lucet_memory *memory) {
    u64 size = memtype_minimum(&memory->type), accessible = to_host_pages(size);
    if (memory->accessible && madvise(memory->base, memory->accessible, MADV_DONTNEED) < 0)
        return false;
    if (memory->accessible > accessible &&
        mprotect(memory->base + accessible, memory->accessible - accessible, PROT_NONE) < 0)
        return false;
    memory->accessible = accessible;
    memory_set_size(memory, size);
    return true;
}

/* ---- all memories ---- */

u8 *lucet_memory_base(const lucet_memory *memory) {
    return memory ? memory->base : NULL;
}

u64 lucet_memory_size(const lucet_memory *memory) {
    return memory ? memory_size(memory) : 0;
}

lucet_externtype lucet_memory_type(const lucet_memory *memory) {
    const struct memory_type *type = &memory->type;
    return (lucet_externtype){.kind = LUCET_MEMORY,
                              .is_64 = type->is_64,
                              .is_shared = type->is_shared,
                              .page_size_log2 = type->page_size_log2,
                              .limits = {type->minimum, type->maximum}};
}

/* Whether a memory of `old` bytes may have so many more pages; what its size is then. */
static bool may_grow(const lucet_memory *memory, u64 old, u64 delta, u64 most, u64 *size) {
    u64 maximum = memtype_maximum(&memory->type);
    most = most < maximum ? most : maximum;
    if (old > most || delta > (most - old) >> memory->type.page_size_log2)
        return false;
    *size = old + (delta << memory->type.page_size_log2);
    return true;
}

static u64 grow_shared(lucet_memory *memory, u64 delta) {
    process_lock(MEMORIES_LOCK);
    u64 size, old = memory_size(memory);
    bool ok = may_grow(memory, old, delta, memory->limit, &size) && budget_take(memory->budget, size - old);
    if (ok && !grow_mapping(memory, size)) {
        budget_give(memory->budget, size - old);
        ok = false;
    }
    if (ok)
        memory_set_size(memory, size);
    process_unlock(MEMORIES_LOCK);
    return ok ? old >> memory->type.page_size_log2 : UINT64_MAX;
}

static bool grow_own(lucet_memory *memory, u64 old, u64 delta) {
    lucet_instance *owner = memory->owner;
    u64 size, left = owner->memory_limit - owner->shared_bytes - owner->memory_bytes, total = owner->memory_bytes;
    if (!may_grow(memory, old, delta, old + left, &size)) {
        owner->memory_refused |= may_grow(memory, old, delta, UINT64_MAX, &size);
        return false;
    }
    if (!delta)
        return true;
    if (!budget_charge(owner, total + (size - old))) {
        owner->memory_refused = true;
        return false;
    }
    if (memory == &owner->slot_memory ? !heap_grow(&owner->heap, size) : !grow_mapping(memory, size)) {
        budget_charge(owner, total);
        return false;
    }
    owner->memory_bytes = total + (size - old);
    memory_set_size(memory, size);
    return true;
}

u64 memory_grow(lucet_memory *memory, u64 delta) {
    if (memory && !memory->owner)
        return grow_shared(memory, delta);
    u64 old = lucet_memory_size(memory);
    return memory && grow_own(memory, old, delta) ? old >> memory->type.page_size_log2 : UINT64_MAX;
}

uint64_t lucet_memory_grow(lucet_memory *memory, uint64_t delta) {
    lucet_instance *owner = memory ? memory->owner : NULL;
    if (owner && !group_borrow(owner, false))
        return UINT64_MAX;
    u64 before = memory_grow(memory, delta);
    if (owner)
        group_leave(owner);
    return before;
}

bool lucet_memory_will_write(lucet_memory *memory, uint64_t offset, uint64_t size) {
    if (!memory)
        return false;
    if (memory->owner && memory == &memory->owner->slot_memory)
        return heap_will_write(&memory->owner->heap, offset, size);
    u64 present = memory_size(memory);
    return offset <= present && size <= present - offset;
}

/* ---- those of an instance ---- */

/* Those that the instance owns: all but the imported ones, which come first. */
static u32 first_own_memory(const lucet_module *module) {
    return module->header->memories_count - module->other_memories - module->has_slot_memory;
}

/* Bytes of all own memories of a new instance, with or without the shared ones; UINT64_MAX if they are too many to count. */
u64 memories_minimum(const lucet_module *module, bool with_shared) {
    u64 sum = module->memory_minimum;
    for (u32 i = 0; module->other_memories && i < module->header->memories_count; i++) {
        struct memory_type type = memory_type_of(&module->memories[i]);
        if (!(module->memories[i].flags & LUCET_FLAG_IMPORTED) && module->memories[i].offset &&
            (with_shared || !type.is_shared) && __builtin_add_overflow(sum, memtype_minimum(&type), &sum))
            return UINT64_MAX;
    }
    return sum;
}

/* left: what the instance's limit leaves for growth, of which the memory gets all that it may want. */
static lucet_memory *new_shared_memory(lucet_instance *instance, const struct memory_type *type, u64 *left,
                                       lucet_error *error) {
    u64 minimum = memtype_minimum(type), most = memtype_maximum(type);
    u64 extra = most - minimum < *left ? most - minimum : *left;
    lucet_memory *memory = shared_memory_new(type, minimum + extra, instance->region->config.budget, error);
    if (memory) {
        *left -= extra;
        instance->shared_bytes += minimum + extra;
    }
    return memory;
}

static lucet_memory *mapped_memory(lucet_instance *instance, u32 index, u64 *left, lucet_error *error) {
    const lucet_region_config *config = &instance->region->config;
    struct memory_type type = memory_type_of(&instance->module->memories[index]);
    if (type.is_shared)
        return new_shared_memory(instance, &type, left, error);
    /* Not this instance's limit: the slot keeps the memory for others. */
    u64 most = memtype_maximum(&type), reserved = most < config->memory_limit ? most : config->memory_limit;
    if (memory_relies_on_space(&type))
        reserved = config->memory_reserved;
    lucet_memory *memory = memory_new(&type, reserved, config->memory_guard, error);
    if (memory)
        memory->owner = instance;
    return memory;
}

static void slot_memory_init(lucet_instance *instance) {
    const lucet_region_config *config = &instance->region->config;
    instance->slot_memory = (struct lucet_memory){.base = instance->vmctx,
                                                  .owner = instance,
                                                  .type = memory_type_of(&instance->module->memories[0]),
                                                  .reserved = faulting_space(instance->region),
                                                  .guard = config->memory_guard};
}

bool memories_new(lucet_instance *instance, lucet_error *error) {
    const lucet_module *module = instance->module;
    u64 left = instance->memory_limit - memories_minimum(module, true);
    for (u32 i = first_own_memory(module); i < module->header->memories_count; i++) {
        if (instance->memories[i])
            continue; /* the slot had the same module, and its memories were reset */
        if (!module->memories[i].offset) {
            slot_memory_init(instance);
            instance->memories[i] = &instance->slot_memory;
            continue;
        }
        if (!(instance->memories[i] = mapped_memory(instance, i, &left, error)))
            return false;
        VMCTX_WORD(instance->vmctx, module->memories[i].offset) = (u64)(uintptr_t)instance->memories[i]->base;
    }
    return true;
}

/* As in a new instance. The heap resets itself. */
bool memories_reset(lucet_instance *instance) {
    const lucet_module *module = instance->area_linkage->module;
    for (u32 i = first_own_memory(module); i < module->header->memories_count; i++) {
        lucet_memory *memory = instance->memories[i];
        if (memory && !memory->owner) {
            lucet_memory_release(memory); /* a new instance has one of its own; others may go on with this one */
            instance->memories[i] = NULL;
        } else if (memory && memory != &instance->slot_memory && !memory_reset(memory)) {
            return false;
        }
    }
    return true;
}

void memories_free(lucet_instance *instance, const lucet_module *module) {
    for (u32 i = first_own_memory(module); instance->memories && i < module->header->memories_count; i++)
        if (instance->memories[i] && !instance->memories[i]->owner)
            lucet_memory_release(instance->memories[i]);
        else if (instance->memories[i] && instance->memories[i] != &instance->slot_memory)
            memory_free(instance->memories[i]);
    if (instance->memories != &instance->only_memory)
        free(instance->memories);
    instance->memories = NULL;
}
