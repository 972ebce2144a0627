/* exception.c: tags, exceptions and throwing them.
 *
 * Exceptions live in the pool of the instance that threw them. One that is caught by its values alone is dead when its handler
 * runs, and its cell serves the next one. One that the guest took a reference to is kept until no reference is found any more:
 * in the guest stacks of the group, its globals and tables of exnref, and other exceptions. That search is conservative for
 * the stacks, and is made when cells run out; a pool has an end, so that hoarding exceptions is a trap. */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

static bool may_hold_exceptions(u32 valtype) {
    return (valtype & ~(u32)LUCET_REF_NON_NULL) == LUCET_VALTYPE_EXNREF;
}

bool functype_has_exnrefs(const lucet_functype *type) {
    bool has = false;
    for (u32 i = 0; i < type->params_count + type->results_count; i++)
        has |= may_hold_exceptions(type->valtypes[i]);
    return has;
}

/* ---- tags ---- */

struct lucet_tag {
    atomic_uint refs;
    u32 slots;
    lucet_functype type;
    u64 contents[]; /* its type ids, then its value types */
};

lucet_tag *lucet_tag_new(const lucet_functype *type, lucet_error *error) {
    u32 count = type->params_count;
    lucet_tag *tag = type->results_count ? NULL : calloc(1, sizeof *tag + count * (sizeof(u64) + 1));
    if (!tag) {
        if (type->results_count)
            fail(error, LUCET_ERROR_ARGUMENT, "a tag has no results");
        else
            fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&tag->refs, 1);
    u8 *valtypes = (u8 *)(tag->contents + count);
    for (u32 i = 0; i < count; i++) {
        valtypes[i] = type->valtypes[i];
        tag->contents[i] = type->type_ids ? type->type_ids[i] : 0;
        tag->slots += valtypes[i] == LUCET_VALTYPE_V128 ? 2 : 1;
    }
    tag->type = *type;
    tag->type.valtypes = valtypes;
    tag->type.type_ids = tag->contents;
    tag->type.slots_count = tag->slots;
    tag->type.has_exnrefs = functype_has_exnrefs(&tag->type);
    return tag;
}

void lucet_tag_retain(lucet_tag *tag) {
    atomic_fetch_add_explicit(&tag->refs, 1, memory_order_relaxed);
}

void lucet_tag_release(lucet_tag *tag) {
    if (atomic_fetch_sub_explicit(&tag->refs, 1, memory_order_acq_rel) == 1)
        free(tag);
}

const lucet_functype *lucet_tag_type(const lucet_tag *tag) {
    return &tag->type;
}

lucet_tag *lucet_instance_tag(const lucet_instance *instance, uint32_t index) {
    return index < instance->module->header->tags_count ? instance->tags[index] : NULL;
}

static lucet_tag *imported_tag(const lucet_instance *instance, u32 index) {
    const lucet_linkage *linkage = instance->linkage;
    for (u32 i = 0; i < linkage->count; i++) {
        const struct abi_import *abi = &instance->module->imports[i];
        const lucet_import *import = &linkage->imports[i].import;
        if (abi->kind == LUCET_KIND_TAG && abi->index == index)
            return import->from == LUCET_IMPORT_TAG ? import->tag : import->instance->tags[import->index];
    }
    return NULL;
}

/* Every instance has tags of its own: those of the slot's last one serve again only if nobody else knows them. */
bool instance_make_tags(lucet_instance *instance, lucet_error *error) {
    const lucet_module *module = instance->module;
    u32 count = module->header->tags_count;
    if (count && !instance->tags && !(instance->tags = calloc(count, sizeof *instance->tags)))
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    for (u32 i = 0; i < count; i++) {
        lucet_tag *tag = instance->tags[i];
        bool imported = module->tags[i].flags & LUCET_FLAG_IMPORTED;
        if (tag && (imported || atomic_load_explicit(&tag->refs, memory_order_acquire) == 1))
            continue;
        if (tag)
            lucet_tag_release(tag);
        instance->tags[i] = NULL;
        if (imported) {
            tag = imported_tag(instance, i);
            lucet_tag_retain(tag);
        } else {
            tag = lucet_tag_new(&module->functypes[module->tags[i].type], error);
            if (!tag)
                return false;
        }
        instance->tags[i] = tag;
        VMCTX_WORD(instance->vmctx, module->tags[i].offset) = (u64)(uintptr_t)tag;
    }
    return true;
}

void instance_forget_tags(lucet_instance *instance, const lucet_module *module) {
    for (u32 i = 0; instance->tags && i < module->header->tags_count; i++)
        if (instance->tags[i])
            lucet_tag_release(instance->tags[i]);
    free(instance->tags);
    instance->tags = NULL;
}

/* ---- pools ---- */

enum {
    BLOCK = 1 << 16,
    BLOCKS = 256, /* 16 MiB */
    CLASSES = 6,
    EMPTY = CLASSES, /* the class of a block without exceptions */
    SMALLEST = 32,
    WORTHWHILE = 16, /* one cell in so many must be free in a full pool: else looking for them takes too long */
    PLACES = 128,    /* a power of two */
    LAST = 0xffffffff
};

static const u32 cell_sizes[CLASSES + 1] = {SMALLEST, 64, 128, 512, 2048, 16384, BLOCK};

/* Where a call returns to in the guest, and what the frame is like there. */
struct place {
    const u8 *return_address, *landing;
    const struct unwind_row *row;
};

struct exceptions {
    struct abi_exception *last; /* thrown, and perhaps not referred to by anybody */
    struct abi_exception *free[CLASSES];
    u32 free_count[CLASSES];
    u8 *fresh[CLASSES], *fresh_end[CLASSES]; /* never used, of the class's last block */
    u32 empty_count, allowance;              /* allowance: blocks to be added before the next search for what is dead */
    u32 blocks_used, marked;                 /* marked: the first of those whose contents are to be looked at */
    struct place places[PLACES];
    u8 class_of[BLOCKS];
    u64 marks[BLOCKS][BLOCK / SMALLEST / 64];
};

enum { HEADER = (sizeof(struct exceptions) + HOST_PAGE - 1) & ~(HOST_PAGE - 1) };

static u8 *block_of(const struct exceptions *pool, u32 block) {
    return (u8 *)pool + HEADER + (u64)block * BLOCK;
}

static struct exceptions *pool_of(lucet_instance *instance) {
    if (LIKELY(instance->exceptions))
        return instance->exceptions;
    void *memory = mmap(NULL, HEADER + (u64)BLOCKS * BLOCK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return instance->exceptions = memory == MAP_FAILED ? NULL : memory;
}

/* The cell of a block that begins at or before the address; NULL if it has not been given out yet. */
static struct abi_exception *cell_at(const struct exceptions *pool, u32 block, u64 offset) {
    u32 class = pool->class_of[block];
    if (class == EMPTY)
        return NULL;
    u8 *cell = block_of(pool, block) + offset / cell_sizes[class] * cell_sizes[class];
    bool is_fresh = cell >= pool->fresh[class] && cell < pool->fresh_end[class];
    return is_fresh || offset / cell_sizes[class] * cell_sizes[class] + cell_sizes[class] > BLOCK ? NULL : (void *)cell;
}

static void put_free(struct exceptions *pool, u32 class, struct abi_exception *cell) {
    cell->tag = 0;
    cell->place = (u64)(uintptr_t)pool->free[class];
    pool->free[class] = cell;
    pool->free_count[class]++;
}

/* Exceptions of the host's keep their tags. */
static void give_up(struct abi_exception *cell) {
    if (cell->tag && cell->stamp)
        lucet_tag_release((lucet_tag *)(uintptr_t)cell->tag);
    cell->tag = 0;
}

void instance_drop_exceptions(lucet_instance *instance) {
    struct exceptions *pool = instance->exceptions;
    if (!pool)
        return;
    for (u32 block = 0; block < pool->blocks_used; block++)
        for (u64 offset = 0; offset < BLOCK; offset += cell_sizes[pool->class_of[block]]) {
            struct abi_exception *cell = cell_at(pool, block, offset);
            if (cell)
                give_up(cell);
        }
    munmap(pool, HEADER + (u64)BLOCKS * BLOCK);
    instance->exceptions = NULL;
    instance->exception_bytes = 0; /* the caller knows what its memory is to be charged */
}

/* ---- what is still referred to ---- */

static void mark_in(struct exceptions *pool, u64 word) {
    u64 at = word - (u64)(uintptr_t)block_of(pool, 0);
    if (at >= (u64)pool->blocks_used * BLOCK)
        return;
    u32 block = (u32)(at / BLOCK);
    struct abi_exception *cell = cell_at(pool, block, at % BLOCK);
    if (!cell || !cell->tag || !cell->kept)
        return;
    u32 number = (u32)(((u8 *)cell - block_of(pool, block)) / SMALLEST);
    u64 *marks = &pool->marks[block][number / 64], bit = 1ULL << number % 64;
    if (*marks & bit)
        return;
    *marks |= bit;
    cell->kept = pool->marked;
    pool->marked = block * (BLOCK / SMALLEST) + number;
}

NO_TSAN static void mark_words(const struct group *group, const u64 *begin, const u64 *end) {
    for (const u64 *word = begin; word < end; word++)
        if (*word)
            for (const lucet_instance *i = group->members; i; i = i->group_next)
                if (i->exceptions)
                    mark_in(i->exceptions, *word);
}

static bool mark_contents(const struct group *group, struct exceptions *pool) {
    bool any = pool->marked != LAST;
    while (pool->marked != LAST) {
        u32 number = pool->marked;
        struct abi_exception *cell = (void *)(block_of(pool, 0) + (u64)number * SMALLEST);
        const u64 *slots = (const u64 *)(cell + 1);
        pool->marked = cell->kept;
        cell->kept = 1;
        mark_words(group, slots, slots + ((const lucet_tag *)(uintptr_t)cell->tag)->slots);
    }
    return any;
}

static void mark_roots(const struct group *group) {
    enum { KEPT_REGISTERS = 5 * 8 }; /* that the stubs push below a frame */
    for (const struct lucet_activation *a = group_top(group); a; a = a->outer) {
        bool suspended = atomic_load_explicit(&((struct lucet_activation *)a)->suspended, memory_order_relaxed);
        u64 low = suspended ? a->guest_sp : a->frame - KEPT_REGISTERS;
        if (a->frame || suspended)
            mark_words(group, (const u64 *)(uintptr_t)low, (const u64 *)a);
    }
    for (const lucet_instance *i = group->members; i; i = i->group_next) {
        const lucet_module *module = i->module;
        for (u32 g = 0; g < module->header->globals_count; g++)
            if (may_hold_exceptions(module->globals[g].valtype) && !(module->globals[g].flags & LUCET_FLAG_INDIRECT)) {
                const u64 *word = (const u64 *)(i->vmctx + module->globals[g].offset);
                mark_words(group, word, word + 1);
            }
        for (u32 t = 0; t < module->header->tables_count; t++)
            if (i->tables && i->tables[t] && may_hold_exceptions(i->tables[t]->reftype)) {
                const u64 *entries = (const u64 *)(uintptr_t)i->tables[t]->head.entries;
                mark_words(group, entries, entries + i->tables[t]->head.length);
            }
    }
}

/* Never 0; of exceptions that the host makes until guest code runs again. */
static u32 stamp_of(const struct group *group) {
    return (u32)group->crossings << 1 | 1;
}

/* Those that the host has made and not yet given to anybody. */
static void mark_hosts(const struct group *group, struct exceptions *pool) {
    u32 stamp = stamp_of(group);
    for (u32 block = 0; block < pool->blocks_used; block++)
        for (u64 offset = 0; offset < BLOCK; offset += cell_sizes[pool->class_of[block]]) {
            const struct abi_exception *cell = cell_at(pool, block, offset);
            if (cell && cell->tag && cell->stamp == stamp)
                mark_in(pool, (u64)(uintptr_t)cell);
        }
}

static bool is_marked(const struct exceptions *pool, u32 block) {
    u64 any = 0;
    for (u32 i = 0; i < BLOCK / SMALLEST / 64; i++)
        any |= pool->marks[block][i];
    return any;
}

/* Any class may have it next. */
static void empty_block(struct exceptions *pool, u32 block) {
    u32 class = pool->class_of[block];
    for (u64 offset = 0; class != EMPTY && offset < BLOCK; offset += cell_sizes[class]) {
        struct abi_exception *cell = cell_at(pool, block, offset);
        if (cell)
            give_up(cell);
    }
    if (class != EMPTY && pool->fresh_end[class] > block_of(pool, block) &&
        pool->fresh_end[class] <= block_of(pool, block) + BLOCK)
        pool->fresh[class] = pool->fresh_end[class] = NULL;
    pool->class_of[block] = EMPTY;
    pool->empty_count++;
}

static void sweep(struct exceptions *pool) {
    memset(pool->free, 0, sizeof pool->free);
    memset(pool->free_count, 0, sizeof pool->free_count);
    pool->last = NULL;
    pool->empty_count = 0;
    for (u32 block = 0; block < pool->blocks_used; block++) {
        u32 class = pool->class_of[block];
        if (!is_marked(pool, block)) {
            empty_block(pool, block);
            continue;
        }
        for (u64 offset = 0; offset < BLOCK; offset += cell_sizes[class]) {
            struct abi_exception *cell = cell_at(pool, block, offset);
            u64 number = offset / SMALLEST;
            if (cell && !(pool->marks[block][number / 64] >> number % 64 & 1)) {
                give_up(cell);
                put_free(pool, class, cell);
            }
        }
    }
}

static void collect(const struct group *group) {
    for (const lucet_instance *i = group->members; i; i = i->group_next)
        if (i->exceptions) {
            memset(i->exceptions->marks, 0, i->exceptions->blocks_used * sizeof i->exceptions->marks[0]);
            i->exceptions->marked = LAST;
        }
    mark_roots(group);
    slots_each(mark_words, group);
    for (const lucet_instance *i = group->members; i; i = i->group_next)
        if (i->exceptions)
            mark_hosts(group, i->exceptions);
    for (bool any = true; any;) {
        any = false;
        for (const lucet_instance *i = group->members; i; i = i->group_next)
            if (i->exceptions)
                any |= mark_contents(group, i->exceptions);
    }
    for (const lucet_instance *i = group->members; i; i = i->group_next)
        if (i->exceptions)
            sweep(i->exceptions);
}

/* ---- cells ---- */

static u32 class_for(u32 slots) {
    u32 class = 0;
    while (class < CLASSES && sizeof(struct abi_exception) + slots * 8ULL > cell_sizes[class])
        class++;
    return class;
}

static struct abi_exception *take_cell(struct exceptions *pool, u32 class) {
    struct abi_exception *cell = pool->free[class];
    if (cell) {
        pool->free[class] = (struct abi_exception *)(uintptr_t)cell->place;
        pool->free_count[class]--;
        return cell;
    }
    if (pool->fresh[class] == pool->fresh_end[class])
        return NULL;
    cell = (void *)pool->fresh[class];
    pool->fresh[class] += cell_sizes[class];
    return cell;
}

/* Blocks count for the region's budget before they are used. */
static bool may_add_block(lucet_instance *instance, const struct exceptions *pool) {
    if (pool->empty_count || instance->exception_bytes > (u64)pool->blocks_used * BLOCK)
        return true;
    if (pool->blocks_used == BLOCKS)
        return false;
    instance->exception_bytes += BLOCK;
    bool may = budget_charge(instance, instance->memory_bytes);
    instance->exception_bytes -= may ? 0 : BLOCK;
    return may;
}

static void add_block(struct exceptions *pool, u32 class) {
    u32 block = 0;
    if (pool->empty_count) {
        while (pool->class_of[block] != EMPTY)
            block++;
        pool->empty_count--;
    } else {
        block = pool->blocks_used++;
    }
    pool->class_of[block] = (u8)class;
    pool->fresh[class] = block_of(pool, block);
    pool->fresh_end[class] = pool->fresh[class] + BLOCK / cell_sizes[class] * cell_sizes[class];
}

/* When there is none left. What is dead is looked for once in a while only, so that what lives is not looked at for each block. */
static struct abi_exception *find_cell(lucet_instance *instance, struct exceptions *pool, u32 class) {
    u32 per_block = BLOCK / cell_sizes[class];
    if (!pool->allowance || !may_add_block(instance, pool)) {
        collect(group_of(instance));
        pool->allowance = 1 + (pool->blocks_used - pool->empty_count) / 2;
        if (pool->free_count[class] >= per_block / 2 && pool->blocks_used < BLOCKS && may_add_block(instance, pool))
            return take_cell(pool, class);
        if (!may_add_block(instance, pool)) {
            u32 worthwhile = pool->blocks_used * per_block / WORTHWHILE;
            return pool->free_count[class] >= worthwhile ? take_cell(pool, class) : NULL;
        }
    }
    pool->allowance--;
    add_block(pool, class);
    return take_cell(pool, class);
}

/* NULL if the pool is full. */
static struct abi_exception *make(lucet_instance *instance, const lucet_tag *tag, const u64 *slots) {
    struct exceptions *pool = pool_of(instance);
    if (UNLIKELY(!pool))
        return NULL;
    struct abi_exception *e = pool->last;
    u32 class = class_for(tag->slots);
    if (UNLIKELY(class == CLASSES))
        return NULL;
    if (UNLIKELY(!e || e->kept || pool->class_of[((u8 *)e - block_of(pool, 0)) / BLOCK] != class)) {
        if (e && !e->kept)
            give_up(e), put_free(pool, pool->class_of[((u8 *)e - block_of(pool, 0)) / BLOCK], e);
        pool->last = NULL;
        e = take_cell(pool, class);
        if (UNLIKELY(!e) && !(e = find_cell(instance, pool, class)))
            return NULL;
    }
    if (UNLIKELY(e == pool->last && e->stamp))
        give_up(e);
    *e = (struct abi_exception){.tag = (u64)(uintptr_t)tag};
    u64 *to = (u64 *)(e + 1);
    for (u32 i = 0; i < tag->slots; i++)
        to[i] = slots[i];
    return e;
}

/* ---- throwing ---- */

static const u8 *return_address_of(const struct lucet_activation *activation) {
    return ((const u8 **)(uintptr_t)activation->frame)[1];
}

/* NULL behind the last frame, or if the frame cannot be understood. */
static const struct place *find_place(const struct group *group, struct exceptions *pool, const u8 *return_address) {
    u64 mixed = (u64)(uintptr_t)return_address * 0x9e3779b97f4a7c15ULL >> 32;
    struct place *place = &pool->places[mixed % PLACES];
    if (LIKELY(place->return_address == return_address))
        return place;
    for (const lucet_instance *i = group->members; i; i = i->group_next)
        if (module_has_code(i->module, return_address - 1)) {
            const u8 *landing = NULL;
            const struct unwind_row *row = module_unwind(i->module, return_address, &landing);
            if (!row)
                return NULL;
            *place = (struct place){return_address, landing, row};
            return place;
        }
    return NULL;
}

/* From the guest's frame that called a stub to the nearest frame with a handler. Does not return if there is none. */
NO_TSAN static struct landing *unwind(struct lucet_activation *activation, struct exceptions *pool,
                                      struct abi_exception *e) {
    const struct group *group = group_of(activation->instance);
    const u64 *frame = (const u64 *)(uintptr_t)activation->frame;
    const u64 *saved[UNWIND_REGISTERS] = {
        [UNWIND_RBX] = frame - 1, [UNWIND_RBP] = frame,     [UNWIND_R12] = frame - 2,
        [UNWIND_R13] = frame - 3, [UNWIND_R14] = frame - 4, [UNWIND_R15] = frame - 5,
    };
    const u8 *return_address = return_address_of(activation);
    u64 sp = activation->frame + 16;
    for (;;) {
        const struct place *place = find_place(group, pool, return_address);
        if (UNLIKELY(!place)) {
            if (return_address != lucet_entering_end && return_address != lucet_repeating_called)
                builtin_trap(TRAP_EXCEPTIONS_EXHAUSTED);
            activation->exception = e;
            activation->trap_sp = 0;
            activation->trap_sp = 0;
            activation->trap_pc = e->place ? (const u8 *)(uintptr_t)e->place : return_address_of(activation) - 1;
            lucet_switch_leave(activation, SWITCH_THREW);
        }
        const struct unwind_row *row = place->row;
        if (place->landing) {
            struct landing *landing = &activation->landing;
            for (u32 i = 0; i < UNWIND_REGISTERS; i++)
                landing->registers[i] = *saved[i];
            landing->exception = (u64)(uintptr_t)e;
            /* The stub returns to the landing pad. */
            landing->sp = sp + row->arguments - 8;
            *(const u8 **)(uintptr_t)landing->sp = place->landing;
            return landing;
        }
        u64 cfa = (row->from_rbp ? *saved[UNWIND_RBP] : sp) + (u64)(i64)row->cfa;
        for (u32 registers = row->saved; registers; registers &= registers - 1) {
            u32 i = (u32)__builtin_ctz(registers);
            saved[i] = (const u64 *)(uintptr_t)(cfa + (u64)(i64)row->at[i]);
        }
        return_address = *(const u8 **)(uintptr_t)(cfa - 8);
        sp = cfa;
    }
}

NO_TSAN struct landing *builtin_throw(u8 *vmctx, u32 index, const u64 *slots) {
    struct lucet_activation *activation = lucet_current;
    lucet_instance *instance = instance_of_vmctx(vmctx);
    struct abi_exception *e = make(instance, instance->tags[index], slots);
    if (UNLIKELY(!e))
        builtin_trap(TRAP_EXCEPTIONS_EXHAUSTED);
    instance->exceptions->last = e;
    e->place = (u64)(uintptr_t)(return_address_of(activation) - 1);
    return unwind(activation, instance->exceptions, e);
}

NO_TSAN struct landing *builtin_throw_ref(u8 *vmctx, struct abi_exception *e) {
    struct lucet_activation *activation = lucet_current;
    lucet_instance *instance = instance_of_vmctx(vmctx);
    if (!e)
        builtin_trap(TRAP_NULL_EXCEPTION_REFERENCE);
    if (UNLIKELY(!pool_of(instance)))
        builtin_trap(TRAP_EXCEPTIONS_EXHAUSTED);
    return unwind(activation, instance->exceptions, e);
}

/* ---- the host's ---- */

/* Not in any pool: the host has it as long as it likes. */
struct lucet_exception {
    atomic_uint refs;
    lucet_tag *tag;
    u64 *slots; /* own, or of slots.c */
    u64 own[];
};

lucet_exception *lucet_exception_new(lucet_tag *tag, const uint64_t *slots, lucet_error *error) {
    bool kept = tag->type.has_exnrefs;
    lucet_exception *exception = malloc(sizeof *exception + (kept ? 0 : tag->slots) * sizeof *slots);
    if (exception && !(exception->slots = kept ? lucet_slots_new(tag->slots) : exception->own)) {
        free(exception);
        exception = NULL;
    }
    if (!exception) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&exception->refs, 1);
    exception->tag = tag;
    lucet_tag_retain(tag);
    for (u32 i = 0; i < tag->slots; i++)
        exception->slots[i] = slots[i];
    return exception;
}

void lucet_exception_retain(lucet_exception *exception) {
    atomic_fetch_add_explicit(&exception->refs, 1, memory_order_relaxed);
}

void lucet_exception_release(lucet_exception *exception) {
    if (atomic_fetch_sub_explicit(&exception->refs, 1, memory_order_acq_rel) != 1)
        return;
    lucet_tag_release(exception->tag);
    if (exception->slots != exception->own)
        lucet_slots_free(exception->slots);
    free(exception);
}

lucet_tag *lucet_exception_tag(const lucet_exception *exception) {
    return exception->tag;
}

const uint64_t *lucet_exception_slots(const lucet_exception *exception) {
    return exception->slots;
}

lucet_exception *lucet_exnref_get(uint64_t value, lucet_error *error) {
    const struct abi_exception *e = (const void *)(uintptr_t)value;
    if (!e->tag) { /* guest code has run since, and has no reference to it */
        fail(error, LUCET_ERROR_STATE, "the exception is gone");
        return NULL;
    }
    return lucet_exception_new((lucet_tag *)(uintptr_t)e->tag, (const u64 *)(e + 1), error);
}

/* The cell keeps the tag. */
static struct abi_exception *import_exception(lucet_instance *instance, const lucet_exception *exception) {
    struct abi_exception *e = make(instance, exception->tag, exception->slots);
    if (e) {
        lucet_tag_retain(exception->tag);
        e->stamp = stamp_of(group_of(instance));
    }
    return e;
}

bool lucet_exnref_new(lucet_instance *instance, lucet_exception *exception, uint64_t *value, lucet_error *error) {
    /* A guest that was suspended between two instructions may be about to look at the values of the last exception. */
    if (!group_borrow(instance, true))
        return fail(error, LUCET_ERROR_STATE, "the instance is %s",
                    lucet_instance_is_busy(instance) ? "running on another thread" : "suspended by its time slice");
    struct abi_exception *e = import_exception(instance, exception);
    if (e) {
        e->kept = 1;
        if (instance->exceptions->last == e)
            instance->exceptions->last = NULL;
    }
    *value = (u64)(uintptr_t)e;
    group_leave(instance);
    return e || fail(error, LUCET_ERROR_MEMORY, "the instance has no memory for one more exception");
}

lucet_host_result lucet_throw(lucet_instance *instance, lucet_exception *exception) {
    lucet_exception_retain(exception);
    if (instance->thrown)
        instance_drop_thrown(instance);
    instance->thrown = exception;
    return LUCET_HOST_THROW;
}

void instance_drop_thrown(lucet_instance *instance) {
    lucet_exception_release(instance->thrown);
    instance->thrown = NULL;
}

/* After a host function returned LUCET_HOST_THROW. */
NO_TSAN struct landing *activation_throw(struct lucet_activation *activation) {
    lucet_instance *instance = activation->instance;
    struct abi_exception *e = import_exception(instance, activation->thrown);
    lucet_exception_release(activation->thrown);
    if (UNLIKELY(!e))
        builtin_trap(TRAP_EXCEPTIONS_EXHAUSTED);
    instance->exceptions->last = e;
    return unwind(activation, instance->exceptions, e);
}
