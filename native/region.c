/* region.c: address space in slots of one size, free slots, guest stacks. */

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#ifdef LUCET_VALGRIND /* a build for valgrind, which must know when the stack is another one */
#include <valgrind/valgrind.h>
#endif

#include "internal.h"

/* ---- errors, for every file ---- */

bool fail(lucet_error *error, lucet_error_code code, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->code = code;
        error->system_errno = 0;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return false;
}

bool fail_system(lucet_error *error, const char *what) {
    int number = errno;
    fail(error, number == ENOMEM ? LUCET_ERROR_MEMORY : LUCET_ERROR_SYSTEM, "%s: %s", what, strerror(number));
    if (error)
        error->system_errno = number;
    return false;
}

/* ---- the lock: held for a few instructions, by whoever takes or gives back a slot ---- */

static void lock(lucet_region *region) {
    enum { SPINS = 100 };
    for (u32 i = 0; UNLIKELY(atomic_exchange_explicit(&region->lock, true, memory_order_acquire)); i++)
        if (i < SPINS)
            __builtin_ia32_pause();
        else
            sched_yield(); /* the holder is not running */
}

static void unlock(lucet_region *region) {
    atomic_store_explicit(&region->lock, false, memory_order_release);
}

/* ---- which region an address belongs to: read by the signal handler, without locks ---- */

/* A copy of what the handler needs: the region itself may be freed while a handler on another thread looks for its own. The sequence
 * is odd while the entry changes; an entry that changes cannot be the one that is looked for. */
struct registered {
    atomic_uint sequence;
    _Atomic(u8 *) base;
    _Atomic u64 size, stride;
    _Atomic(lucet_instance *) slots;
    lucet_region *region; /* not for the handler */
};

enum { REGIONS_MAX = 4096 };
static struct registered registry[REGIONS_MAX];
static atomic_uint registry_end;

static void set_registered(struct registered *entry, u8 *base, const lucet_region *region) {
    atomic_fetch_add_explicit(&entry->sequence, 1, memory_order_acq_rel);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&entry->base, base, memory_order_relaxed);
    atomic_store_explicit(&entry->size, region->size, memory_order_relaxed);
    atomic_store_explicit(&entry->stride, region->stride, memory_order_relaxed);
    atomic_store_explicit(&entry->slots, region->slots, memory_order_relaxed);
    atomic_fetch_add_explicit(&entry->sequence, 1, memory_order_release);
}

static bool register_region(lucet_region *region) {
    process_lock(REGISTRY_LOCK);
    u32 i = 0;
    while (i < REGIONS_MAX && atomic_load_explicit(&registry[i].base, memory_order_relaxed))
        i++;
    if (i < REGIONS_MAX) {
        set_registered(&registry[i], region->base, region);
        region->registered = &registry[i];
        registry[i].region = region;
        if (i >= atomic_load(&registry_end))
            atomic_store(&registry_end, i + 1);
    }
    process_unlock(REGISTRY_LOCK);
    return i < REGIONS_MAX;
}

static void unregister_region(lucet_region *region) {
    process_lock(REGISTRY_LOCK);
    if (region->registered) {
        set_registered(region->registered, NULL, region);
        region->registered->region = NULL;
    }
    process_unlock(REGISTRY_LOCK);
}

void regions_lock(void) {
    for (u32 i = 0; i < atomic_load(&registry_end); i++)
        if (registry[i].region)
            lock(registry[i].region);
}

void regions_unlock(void) {
    for (u32 i = 0; i < atomic_load(&registry_end); i++)
        if (registry[i].region)
            unlock(registry[i].region);
}

NO_TSAN lucet_instance *region_instance_at(const void *address) {
    u32 end = atomic_load_explicit(&registry_end, memory_order_acquire);
    for (u32 i = 0; i < end; i++) {
        struct registered *entry = &registry[i];
        u32 sequence = atomic_load_explicit(&entry->sequence, memory_order_acquire);
        const u8 *base = atomic_load_explicit(&entry->base, memory_order_relaxed);
        u64 size = atomic_load_explicit(&entry->size, memory_order_relaxed);
        u64 stride = atomic_load_explicit(&entry->stride, memory_order_relaxed);
        lucet_instance *slots = atomic_load_explicit(&entry->slots, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        bool stable = !(sequence & 1) && atomic_load_explicit(&entry->sequence, memory_order_relaxed) == sequence;
        if (!stable || !base || (const u8 *)address < base || (const u8 *)address >= base + size)
            continue;
        lucet_instance *instance = &slots[(u64)((const u8 *)address - base) / stride];
        /* vmctx is NULL in a slot that was never taken. */
        return instance->vmctx && (const u8 *)address >= instance->vmctx ? instance : NULL;
    }
    return NULL;
}

/* ---- regions ---- */

lucet_region_config lucet_region_defaults(void) {
    return (lucet_region_config){.slots = 100,
                                 .memory_reserved = 4ULL << 30,
                                 .memory_guard = 32ULL << 20,
                                 .memory_limit = 4ULL << 30,
                                 .stack_size = 1 << 20,
                                 .table_limit = 10000000,
                                 .instance_area = 1 << 20,
                                 .track_writes = true};
}

enum { PACKED_ALIGNMENT = 64 };

/* Without guards and without watching writes nothing needs protection, and slots need not even begin on a page: 100,000 instances
 * are one mapping of the kernel's (it allows 65,530), and an idle one may take a single page. */
static bool is_packed(const lucet_region_config *config) {
    return config->memory_guard == 0 && !config->track_writes;
}

static bool check_config(const lucet_region_config *config, lucet_error *error) {
    if (config->slots == 0 || config->slots > 10000000)
        return fail(error, LUCET_ERROR_ARGUMENT, "a region has 1 to 10,000,000 slots, not %u", config->slots);
    if (config->memory_reserved % WASM_PAGE || config->memory_reserved > (1ULL << 40))
        return fail(error, LUCET_ERROR_ARGUMENT, "memory_reserved must be a multiple of 64 KiB, at most 1 TiB");
    if (config->memory_guard % WASM_PAGE || config->memory_guard > (8ULL << 30))
        return fail(error, LUCET_ERROR_ARGUMENT, "memory_guard must be a multiple of 64 KiB, at most 8 GiB");
    if (config->stack_size % HOST_PAGE || config->stack_size < 4 * HOST_PAGE || config->stack_size > (1ULL << 32))
        return fail(error, LUCET_ERROR_ARGUMENT, "stack_size must be a multiple of 4 KiB from 16 KiB to 4 GiB");
    u32 unit = is_packed(config) ? PACKED_ALIGNMENT : HOST_PAGE;
    if (config->instance_area % unit || config->instance_area < unit || config->instance_area > (1U << 30))
        return fail(error, LUCET_ERROR_ARGUMENT, "instance_area must be a multiple of %u bytes up to 1 GiB", unit);
    return true;
}

static void *reserve(u64 size, int protection) {
    void *base = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

/* The instances, and behind them what is known of each one's memory, if anything is. */
static u64 slots_size(const lucet_region_config *config) {
    return config->slots * (sizeof(lucet_instance) + (config->track_writes ? sizeof(struct heap_writable) : 0));
}

lucet_region *lucet_region_new(const lucet_region_config *config, lucet_error *error) {
    if (!check_config(config, error) || !signals_install(error))
        return NULL;
    lucet_region *region = calloc(1, sizeof *region);
    if (!region) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&region->refs, 1);
    region->config = *config;
    if (config->budget)
        lucet_budget_retain(config->budget);
    region->packed = is_packed(config);
    if (region->config.memory_limit > config->memory_reserved)
        region->config.memory_limit = config->memory_reserved;
    region->stride = config->instance_area + config->memory_reserved + config->memory_guard;
    /* One area more than slots: the guard of the last memory is there even with memory_guard 0. */
    if (__builtin_mul_overflow(region->stride, (u64)config->slots, &region->size) ||
        !(region->base = reserve(region->size, region->packed ? PROT_READ | PROT_WRITE : PROT_NONE))) {
        fail(
            error, LUCET_ERROR_LIMITS,
            "%u slots of %llu MiB do not fit into the address space (47 bits): use fewer, or modules compiled with explicit "
            "bounds checks and a smaller memory_reserved",
            config->slots, (unsigned long long)(region->stride >> 20));
        lucet_region_release(region);
        return NULL;
    }
    region->slots = reserve(slots_size(config), PROT_READ | PROT_WRITE);
    if (!region->slots) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        lucet_region_release(region);
        return NULL;
    }
    if (config->track_writes)
        region->writable = (struct heap_writable *)&region->slots[config->slots];
    /* Slots are set up when they are first taken: a large region costs nothing until it is used. */
    region->free_head = NO_SLOT;
    u64 random[2];
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random[0] = random[1] = (u64)(uintptr_t)region ^ (u64)(uintptr_t)region->base;
    region->random = random[0] | 1;
    region->secret = random[1];
    if (!register_region(region)) {
        fail(error, LUCET_ERROR_LIMITS, "more than %u regions in one process", (u32)REGIONS_MAX);
        lucet_region_release(region);
        return NULL;
    }
    return region;
}

void lucet_region_retain(lucet_region *region) {
    atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
}

static void kept_stacks_drop(const lucet_region *region);

/* All that were made: those that threads keep are among them. */
static void free_stacks(lucet_region *region) {
    kept_stacks_drop(region);
    for (struct lucet_activation *a = region->made_stacks, *next; a; a = next) {
        next = a->next_made;
        u64 size = region->config.stack_size + STACK_GUARD + HOST_PAGE;
        munmap(a->stack_low - STACK_GUARD, size);
    }
}

static void destroy(lucet_region *region) {
    unregister_region(region);
    if (region->slots) {
        for (u32 i = 0; i < region->slots_made; i++)
            instance_forget(&region->slots[i]);
        munmap(region->slots, slots_size(&region->config));
    }
    if (region->base)
        munmap(region->base, region->size);
    free_stacks(region);
    if (region->config.budget)
        lucet_budget_release(region->config.budget);
    free(region);
}

/* The region lives while it has references or instances. The last of either goes under the lock, so that one thread finds both gone. */
void lucet_region_release(lucet_region *region) {
    u32 refs = atomic_load_explicit(&region->refs, memory_order_relaxed);
    while (refs > 1)
        if (atomic_compare_exchange_weak_explicit(&region->refs, &refs, refs - 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return;
    lock(region);
    bool last = atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) == 1 &&
                atomic_load_explicit(&region->used, memory_order_relaxed) == 0;
    unlock(region);
    if (last)
        destroy(region);
}

uint32_t lucet_region_capacity(const lucet_region *region) {
    return region->config.slots;
}

uint32_t lucet_region_used(const lucet_region *region) {
    return atomic_load_explicit(&region->used, memory_order_relaxed);
}

/* ---- slots ---- */

static u64 next_random(lucet_region *region) { /* xorshift64*, seeded by the kernel */
    u64 x = region->random;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    region->random = x;
    return x * 0x2545F4914F6CDD1DULL;
}

/* Its memory, the instance area included, becomes accessible when the heap is prepared. */
static lucet_instance *make_slot(lucet_region *region, u32 i) {
    lucet_instance *instance = &region->slots[i];
    u8 *area = region->base + (u64)i * region->stride;
    instance->heap.below = region->packed ? 0 : region->config.instance_area;
    instance->heap.packed = region->packed;
    instance->heap.writable = region->writable ? &region->writable[i] : NULL;
    instance->slot = i;
    instance->region = region;
    instance->vmctx = area + region->config.instance_area;
    instance->heap.base = instance->vmctx;
    return instance;
}

/* Take from the free list; with random_slots any of its first 64 or a new slot. A slot that held the same module needs no
 * new image, so one among the first few is preferred. */
lucet_instance *region_take_slot(lucet_region *region, u64 module_serial) {
    enum { LOOK_AHEAD = 8, RANDOM_AHEAD = 64 };
    lucet_instance *instance = NULL;
    lock(region);
    bool fresh = region->free_head == NO_SLOT;
    u32 *link = &region->free_head;
    if (region->config.random_slots) {
        for (u64 steps = next_random(region) % RANDOM_AHEAD; steps > 0 && *link != NO_SLOT; steps--)
            link = &region->slots[*link].next_free;
        if (*link == NO_SLOT) {
            fresh = region->slots_made < region->config.slots;
            link = &region->free_head;
        }
    } else {
        u32 *candidate = link;
        for (u32 i = 0; i < LOOK_AHEAD && *candidate != NO_SLOT; i++) {
            if (region->slots[*candidate].heap.module_serial == module_serial) {
                link = candidate;
                break;
            }
            candidate = &region->slots[*candidate].next_free;
        }
    }
    if (fresh && region->slots_made < region->config.slots) {
        instance = make_slot(region, region->slots_made++);
    } else if (*link != NO_SLOT) {
        instance = &region->slots[*link];
        *link = instance->next_free;
    }
    u32 used = atomic_load_explicit(&region->used, memory_order_relaxed) + (instance != NULL);
    atomic_store_explicit(&region->used, used, memory_order_relaxed);
    unlock(region);
    return instance;
}

void region_give_slot(lucet_region *region, lucet_instance *instance) {
    lock(region);
    instance->next_free = region->free_head;
    region->free_head = instance->slot;
    u32 used = atomic_load_explicit(&region->used, memory_order_relaxed) - 1;
    atomic_store_explicit(&region->used, used, memory_order_relaxed);
    bool last = used == 0 && atomic_load_explicit(&region->refs, memory_order_relaxed) == 0;
    unlock(region);
    if (UNLIKELY(last))
        destroy(region);
}

/* ---- stacks: taken while guest code runs or is suspended, so an idle instance has none ---- */

static struct lucet_activation *make_stack(lucet_region *region) {
    /* guard | stack | one page for the activation, out of reach of the guard's arithmetic */
    u64 size = region->config.stack_size + STACK_GUARD + HOST_PAGE;
    u8 *low = reserve(size, PROT_NONE);
    if (!low)
        return NULL;
    if (mprotect(low + STACK_GUARD, size - STACK_GUARD, PROT_READ | PROT_WRITE) < 0) {
        munmap(low, size);
        return NULL;
    }
#ifdef LUCET_VALGRIND
    VALGRIND_STACK_REGISTER(low,
                            low + size); /* never taken back: the address space is used for stacks again, if at all */
#endif
    struct lucet_activation *activation = (void *)(low + size - HOST_PAGE);
    activation->stack_low = low + STACK_GUARD;
    return activation;
}

/* Every thread keeps one stack that it used last, so that taking it again needs no lock. */
static _Thread_local struct kept_stack {
    /* Of the activation; the entry of a thread whose region is gone is emptied by the region's end. */
    _Atomic(lucet_region *) region;
    struct lucet_activation *_Atomic activation;
    struct kept_stack *next;
    bool listed;
} kept_stack __attribute__((tls_model("initial-exec")));

static struct kept_stack *kept_stacks;
static pthread_key_t kept_stacks_key;
static pthread_once_t kept_stacks_once = PTHREAD_ONCE_INIT;
static bool kept_stacks_key_made;

static void put_back_locked(lucet_region *region, struct lucet_activation *activation) {
    activation->next_free = region->free_stacks;
    region->free_stacks = activation;
}

static void put_back(lucet_region *region, struct lucet_activation *activation) {
    lock(region);
    put_back_locked(region, activation);
    unlock(region);
}

/* The other threads' entries are gone with them, or will be. */
void kept_stacks_in_child(void) {
    for (struct kept_stack *kept = kept_stacks; kept; kept = kept->next)
        if (kept != &kept_stack && atomic_load(&kept->activation))
            put_back_locked(kept->region, atomic_load(&kept->activation));
    kept_stacks = kept_stack.listed ? &kept_stack : NULL;
    kept_stack.next = NULL;
}

static void kept_stacks_drop(const lucet_region *region) {
    process_lock(KEPT_STACKS_LOCK);
    for (struct kept_stack *kept = kept_stacks; kept; kept = kept->next)
        if (atomic_load(&kept->activation) && kept->region == region)
            atomic_store(&kept->activation, NULL);
    process_unlock(KEPT_STACKS_LOCK);
}

/* When a thread ends. */
static void unlist_kept_stack(void *entry) {
    struct kept_stack *kept = entry;
    process_lock(KEPT_STACKS_LOCK);
    if (atomic_load(&kept->activation))
        put_back(kept->region, atomic_load(&kept->activation));
    atomic_store(&kept->activation, NULL);
    for (struct kept_stack **link = &kept_stacks; *link; link = &(*link)->next)
        if (*link == kept) {
            *link = kept->next;
            break;
        }
    kept->listed = false;
    process_unlock(KEPT_STACKS_LOCK);
}

static void make_kept_stacks_key(void) {
    kept_stacks_key_made = pthread_key_create(&kept_stacks_key, unlist_kept_stack) == 0;
}

static bool list_kept_stack(struct kept_stack *kept) {
    pthread_once(&kept_stacks_once, make_kept_stacks_key);
    if (!kept_stacks_key_made || pthread_setspecific(kept_stacks_key, kept) != 0)
        return false;
    process_lock(KEPT_STACKS_LOCK);
    kept->next = kept_stacks;
    kept_stacks = kept;
    kept->listed = true;
    process_unlock(KEPT_STACKS_LOCK);
    return true;
}

static struct lucet_activation *take_from_region(lucet_region *region) {
    struct lucet_activation *activation = NULL;
    bool make = false;
    lock(region);
    if (region->free_stacks) {
        activation = region->free_stacks;
        region->free_stacks = activation->next_free;
    } else {
        make = !region->config.stacks || region->stacks_made < region->config.stacks;
        region->stacks_made += make;
    }
    unlock(region);
    if (!make)
        return activation;
    activation = make_stack(region);
    lock(region);
    if (activation) {
        activation->next_made = region->made_stacks;
        region->made_stacks = activation;
    } else {
        region->stacks_made--;
    }
    unlock(region);
    return activation;
}

struct lucet_activation *region_take_stack(lucet_region *region) {
    struct kept_stack *kept = &kept_stack;
    struct lucet_activation *activation = atomic_load_explicit(&kept->activation, memory_order_relaxed);
    if (LIKELY(activation) && LIKELY(atomic_load_explicit(&kept->region, memory_order_relaxed) == region)) {
        atomic_store_explicit(&kept->activation, NULL, memory_order_relaxed);
        return activation;
    }
    return take_from_region(region);
}

void region_give_stack(lucet_region *region, struct lucet_activation *activation) {
    struct kept_stack *kept = &kept_stack;
    bool may_keep = !region->config.stacks && !atomic_load_explicit(&kept->activation, memory_order_relaxed);
    if (LIKELY(may_keep) && (LIKELY(kept->listed) || list_kept_stack(kept))) {
        atomic_store_explicit(&kept->region, region, memory_order_relaxed);
        atomic_store_explicit(&kept->activation, activation, memory_order_release);
        return;
    }
    put_back(region, activation);
}
