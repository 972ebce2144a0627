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

uint64_t lucet_memory_grow(lucet_memory *memory, uint64_t delta) {
    if (memory && !memory->owner)
        return grow_shared(memory, delta);
    u64 old = lucet_memory_size(memory);
    return memory && grow_own(memory, old, delta) ? old >> memory->type.page_size_log2 : UINT64_MAX;
}

bool lucet_memory_will_write(lucet_memory *memory, uint64_t offset, uint64_t size) {
    if (!memory)
        return false;
    if (memory->owner && memory == &memory->owner->slot_memory)
        return heap_will_write(&memory->owner->heap, offset, size);
    u64 present = memory_size(memory);
    return offset <= present && size <= present - offset;
}
