/* instance.c: linking, making, resetting and freeing instances, and what they contain. */

#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const lucet_import *import_of_function(const lucet_instance *instance, u32 function) {
    return &instance->linkage->imports[instance->linkage->by_function[function]].import;
}

/* ---- linking ---- */

static bool limits_match(lucet_limits declared, u64 size, u64 maximum) {
    return size >= declared.minimum && (declared.maximum == UINT64_MAX || maximum <= declared.maximum);
}

/* The one predicate for whether generated code that relies on address space after a memory may run where so much of it faults. */
static bool reservation_suffices(const struct abi_memory *memory, u64 reserved, u64 guard) {
    if (memory->flags & LUCET_FLAG_CHECKED)
        return true;
    /* A 64-bit address is compared with the size, which may be all that is reserved: the guard alone counts. */
    return memory->reserved <= reserved && memory->reserved + memory->guard <= reserved + guard &&
           (!(memory->flags & LUCET_FLAG_64) || memory->guard <= guard);
}

static bool memory_matches(const lucet_module *module, u32 index, const lucet_memory *memory) {
    const struct abi_memory *abi = &module->memories[index];
    struct memory_type wanted = memory_type_of(abi);
    const struct memory_type *type = &memory->type;
    return wanted.is_64 == type->is_64 && wanted.is_shared == type->is_shared &&
           wanted.page_size_log2 == type->page_size_log2 &&
           limits_match((lucet_limits){wanted.minimum, wanted.maximum}, memory_size(memory) >> type->page_size_log2,
                        type->maximum) &&
           reservation_suffices(abi, memory->reserved, memory->guard);
}

static bool item_matches(const lucet_module *module, const lucet_externtype *wanted, u32 at, const lucet_instance *from,
                         u32 index) {
    lucet_externtype type;
    if (!lucet_module_type(from->module, wanted->kind, index, &type))
        return false;
    switch (wanted->kind) {
    case LUCET_FUNC:
        return type.functype.id == wanted->functype.id;
    case LUCET_TABLE:
        return type.valtype == wanted->valtype && type.type_id == wanted->type_id && type.is_64 == wanted->is_64 &&
               from->tables[index] &&
               limits_match(wanted->limits, from->tables[index]->head.length, from->tables[index]->maximum);
    case LUCET_MEMORY:
        return memory_matches(module, at, from->memories[index]);
    case LUCET_GLOBAL:
        if (type.is_mutable != wanted->is_mutable)
            return false;
        return type.is_mutable ? type.valtype == wanted->valtype && type.type_id == wanted->type_id
                               : lucet_valtype_matches(type.valtype, type.type_id, wanted->valtype, wanted->type_id);
    case LUCET_TAG:
        return type.functype.id == wanted->functype.id;
    }
    return false;
}

static bool check_import(const lucet_module *module, u32 i, const lucet_import *import, lucet_error *error) {
    lucet_import_info info = lucet_module_import(module, i);
    lucet_externtype wanted;
    lucet_module_type(module, info.kind, info.index, &wanted);
    bool ok = false;
    switch (import->from) {
    case LUCET_IMPORT_HOST_FUNCTION:
        ok = info.kind == LUCET_FUNC && import->function;
        break;
    case LUCET_IMPORT_VALUE:
        ok = info.kind == LUCET_GLOBAL && !wanted.is_mutable &&
             (!(wanted.valtype & LUCET_REF_NON_NULL) || import->value[0]);
        break;
    case LUCET_IMPORT_TAG:
        ok = info.kind == LUCET_TAG && import->tag && lucet_tag_type(import->tag)->id == wanted.functype.id;
        break;
    case LUCET_IMPORT_MEMORY:
        ok = info.kind == LUCET_MEMORY && import->memory && !import->memory->owner &&
             memory_matches(module, info.index, import->memory);
        break;
    case LUCET_IMPORT_ITEM: {
        int state = atomic_load(&import->instance->state);
        if (state != LUCET_STATE_READY)
            return fail(error, LUCET_ERROR_STATE, "cannot import from an instance that is %s",
                        lucet_state_text((lucet_state)state));
        ok = item_matches(module, &wanted, info.index, import->instance, import->index);
        break;
    }
    }
    if (!ok)
        return fail(error, LUCET_ERROR_LINK, "incompatible import type: \"%.*s\" \"%.*s\"", (int)info.module.size,
                    info.module.bytes, (int)info.field.size, info.field.bytes);
    return true;
}

/* NULL if it is none. Of what another instance has, nothing but the memory matters. */
static lucet_memory *shared_memory_of(const lucet_module *module, u32 i, const lucet_import *import) {
    if (module->imports[i].kind != LUCET_KIND_MEMORY)
        return NULL;
    lucet_memory *memory =
        import->from == LUCET_IMPORT_ITEM ? lucet_instance_memory(import->instance, import->index) : import->memory;
    return memory->owner ? NULL : memory;
}

lucet_linkage *lucet_link(lucet_module *module, const lucet_import *imports, size_t count, lucet_error *error) {
    u32 wanted = module->header->imports_count, functions = module->imported_functions;
    if (count != wanted) {
        fail(error, LUCET_ERROR_LINK, "the module has %u imports, %zu are given", wanted, count);
        return NULL;
    }
    for (u32 i = 0; i < wanted; i++)
        if (!check_import(module, i, &imports[i], error))
            return NULL;
    lucet_linkage *linkage = calloc(1, sizeof *linkage + wanted * sizeof *linkage->imports + functions * sizeof(u32));
    if (!linkage) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&linkage->refs, 1);
    linkage->module = module;
    linkage->count = wanted;
    linkage->by_function = (u32 *)&linkage->imports[wanted];
    lucet_module_retain(module);
    for (u32 i = 0; i < wanted; i++) {
        linkage->imports[i].import = imports[i];
        if (module->imports[i].kind == LUCET_KIND_FUNC)
            linkage->by_function[module->imports[i].index] = i;
        linkage->has_globals |= module->imports[i].kind == LUCET_KIND_GLOBAL;
        if (imports[i].from == LUCET_IMPORT_TAG)
            lucet_tag_retain(imports[i].tag);
        lucet_memory *shared = shared_memory_of(module, i, &imports[i]);
        if (shared) {
            lucet_memory_retain(shared);
            linkage->has_memories = true;
            linkage->imports[i].import.from = LUCET_IMPORT_MEMORY;
            linkage->imports[i].import.memory = shared;
        } else if (imports[i].from == LUCET_IMPORT_ITEM) {
            linkage->links_instances = true;
            linkage->imports[i].birth = imports[i].instance->birth;
            /* So that looking at the instance stays possible, to see that it is another one by now. */
            lucet_region_retain(imports[i].instance->region);
        }
    }
    return linkage;
}

void lucet_linkage_retain(lucet_linkage *linkage) {
    atomic_fetch_add_explicit(&linkage->refs, 1, memory_order_relaxed);
}

void lucet_linkage_release(lucet_linkage *linkage) {
    if (atomic_fetch_sub_explicit(&linkage->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (u32 i = 0; i < linkage->count; i++) {
        if (linkage->imports[i].import.from == LUCET_IMPORT_ITEM)
            lucet_region_release(linkage->imports[i].import.instance->region);
        if (linkage->imports[i].import.from == LUCET_IMPORT_TAG)
            lucet_tag_release(linkage->imports[i].import.tag);
        if (linkage->imports[i].import.from == LUCET_IMPORT_MEMORY)
            lucet_memory_release(linkage->imports[i].import.memory);
    }
    lucet_module_release(linkage->module);
    free(linkage);
}

static bool linkage_is_fresh(const lucet_linkage *linkage, lucet_error *error) {
    for (u32 i = 0; i < linkage->count; i++) {
        const lucet_import *import = &linkage->imports[i].import;
        if (import->from == LUCET_IMPORT_ITEM && (import->instance->birth != linkage->imports[i].birth ||
                                                  atomic_load(&import->instance->state) != LUCET_STATE_READY))
            return fail(error, LUCET_ERROR_STATE, "an instance that is imported from is no longer there");
        if (import->from == LUCET_IMPORT_ITEM && !check_import(linkage->module, i, import, error))
            return false;
    }
    return true;
}

/* ---- groups ---- */

static void group_init(struct group *group, lucet_instance *only) {
    /* Nobody else knows the group yet. */
    atomic_flag_clear_explicit(&group->lock, memory_order_relaxed);
    atomic_store_explicit(&group->visited, false, memory_order_relaxed);
    atomic_store_explicit(&group->owner, 0, memory_order_relaxed);
    atomic_store_explicit(&group->top, NULL, memory_order_relaxed);
    group->members = only;
    group->live = only != NULL;
    group->merged = NULL;
    group->crossings = 0;
    if (only) {
        only->group_next = NULL;
        atomic_store_explicit(&only->group, group, memory_order_release);
    }
}

static bool is_own(const struct group *group) {
    return group->members && group == &group->members->own_group;
}

static void leave_imported(const lucet_linkage *linkage, u32 count) {
    for (u32 i = 0; i < count; i++)
        if (linkage->imports[i].import.from == LUCET_IMPORT_ITEM)
            group_leave(linkage->imports[i].import.instance);
}

/* Own every group that is imported from; they may be idle, or one of them run on this thread. */
static bool enter_imported(const lucet_linkage *linkage, lucet_error *error) {
    const struct group *running = NULL;
    for (u32 i = 0; i < linkage->count; i++) {
        const lucet_import *import = &linkage->imports[i].import;
        if (import->from != LUCET_IMPORT_ITEM)
            continue;
        bool ok = group_enter(import->instance, error);
        const struct group *group = group_of(import->instance);
        if (ok && group_top(group)) {
            if (running && running != group) {
                leave_imported(linkage, i + 1);
                return fail(error, LUCET_ERROR_STATE, "two instances that are running cannot be linked");
            }
            running = group;
        }
        if (!ok) {
            leave_imported(linkage, i);
            return false;
        }
    }
    return true;
}

/* Make everybody in `from` a member of `into`. Both are owned; groups_hold is held. */
static void absorb(struct group *into, struct group *from) {
    lucet_instance *last = from->members;
    for (lucet_instance *member = from->members; member; member = member->group_next) {
        atomic_store_explicit(&member->group, into, memory_order_release);
        last = member;
    }
    last->group_next = into->members;
    into->live += from->live;
    into->crossings += from->crossings + 1;
    if (group_top(from)) {
        atomic_store(&into->top, group_top(from));
        atomic_store(&from->top, NULL);
    }
    bool allocated = !is_own(from);
    into->members = from->members;
    from->members = NULL;
    if (allocated) {
        /* Somebody may be about to find that he cannot have it: its owner stays, and so does its memory. */
        from->merged = into->merged;
        into->merged = from;
    }
}

/* The instances share something from now on. All groups are owned. */
static bool group_join(lucet_instance *instance, const lucet_linkage *linkage, lucet_error *error) {
    struct group *into = NULL;
    for (u32 i = 0; i < linkage->count; i++)
        if (linkage->imports[i].import.from == LUCET_IMPORT_ITEM &&
            !is_own(group_of(linkage->imports[i].import.instance)))
            into = group_of(linkage->imports[i].import.instance);
    if (!into) {
        into = malloc(sizeof *into);
        if (!into)
            return fail(error, LUCET_ERROR_MEMORY, "out of memory");
        group_init(into, NULL);
        atomic_store(&into->owner, atomic_load(&instance->own_group.owner));
    }
    groups_hold();
    for (u32 i = 0; i < linkage->count; i++)
        if (linkage->imports[i].import.from == LUCET_IMPORT_ITEM &&
            group_of(linkage->imports[i].import.instance) != into)
            absorb(into, group_of(linkage->imports[i].import.instance));
    absorb(into, &instance->own_group);
    groups_release();
    return true;
}

/* A new instance that could not be finished, and that nobody has seen yet. */
static void group_remove(lucet_instance *instance) {
    struct group *group = group_of(instance);
    if (group == &instance->own_group)
        return;
    groups_hold();
    lucet_instance **link = &group->members;
    while (*link != instance)
        link = &(*link)->group_next;
    *link = instance->group_next;
    group->live--;
    group_init(&instance->own_group, instance);
    groups_release();
}

/* ---- tables ---- */

static bool table_reserve(struct lucet_table *table, u64 length) {
    if (length <= table->capacity)
        return true;
    u64 capacity = length < table->capacity * 2 ? table->capacity * 2 : length;
    u64 *entries = calloc(capacity, sizeof *entries);
    if (!entries)
        return false;
    if (table->head.length)
        memcpy(entries, (void *)(uintptr_t)table->head.entries, table->head.length * sizeof *entries);
    free((void *)(uintptr_t)table->head.entries);
    table->head.entries = (u64)(uintptr_t)entries;
    table->capacity = capacity;
    return true;
}

u64 table_grow(struct lucet_table *table, u64 delta, u64 value) {
    u64 old = table->head.length, limit = table->maximum < table->limit ? table->maximum : table->limit;
    if (old > limit || delta > limit - old || !table_reserve(table, old + delta)) {
        table->refused |= old <= table->maximum && delta <= table->maximum - old;
        return UINT64_MAX;
    }
    u64 *entries = (u64 *)(uintptr_t)table->head.entries;
    for (u64 i = old; i < old + delta; i++)
        entries[i] = value;
    table->head.length = old + delta;
    return old;
}

static bool tables_new(lucet_instance *instance, lucet_error *error) {
    const lucet_module *module = instance->module;
    u32 count = module->header->tables_count;
    if (!count)
        return true;
    if (!instance->tables) {
        instance->tables = calloc(count, sizeof *instance->tables);
        instance->own_tables = calloc(count, sizeof *instance->own_tables);
        if (!instance->tables || !instance->own_tables)
            return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    }
    for (u32 i = 0; i < count; i++) {
        const struct abi_table *abi = &module->tables[i];
        if (abi->flags & (LUCET_FLAG_IMPORTED | LUCET_FLAG_STATIC))
            continue;
        struct lucet_table *table = &instance->own_tables[i];
        table->maximum = abi->maximum;
        table->limit = instance->table_limit;
        table->reftype = (u8)abi->reftype;
        table->type_id = abi->type_id;
        table->head.length = 0;
        table->refused = false;
        if (!table_reserve(table, abi->minimum))
            return fail(error, LUCET_ERROR_MEMORY, "out of memory for a table of %llu elements",
                        (unsigned long long)abi->minimum);
        if (abi->minimum)
            memset((void *)(uintptr_t)table->head.entries, 0, abi->minimum * 8);
        table->head.length = abi->minimum;
        instance->tables[i] = table;
        VMCTX_WORD(instance->vmctx, abi->offset) = (u64)(uintptr_t)table;
    }
    return true;
}

/* ---- the instance area ---- */

static void set_global_import(lucet_instance *instance, const struct abi_import *abi, const lucet_import *import) {
    const struct abi_global *global = &instance->module->globals[abi->index];
    u64 *words = (u64 *)(instance->vmctx + global->offset);
    if (import->from == LUCET_IMPORT_VALUE) {
        memcpy(words, import->value, global->valtype == LUCET_VALTYPE_V128 ? 16 : 8);
        return;
    }
    u64 *cell = lucet_global_cell(import->instance, import->index);
    if (global->flags & LUCET_FLAG_INDIRECT)
        *words = (u64)(uintptr_t)cell;
    else
        memcpy(words, cell, global->valtype == LUCET_VALTYPE_V128 ? 16 : 8);
}

/* With import->instance in the same group already. */
static bool set_import(lucet_instance *instance, u32 i, lucet_error *error) {
    const struct abi_import *abi = &instance->module->imports[i];
    const lucet_import *import = &instance->linkage->imports[i].import;
    u64 *words = (u64 *)(instance->vmctx + abi->offset);

    switch (abi->kind) {
    case LUCET_KIND_FUNC:
        if (import->from == LUCET_IMPORT_HOST_FUNCTION) {
            words[0] = (u64)(uintptr_t)(instance->module->base + instance->module->functions[abi->index].code_rva);
            words[1] = (u64)(uintptr_t)instance->vmctx;
        } else {
            const struct abi_funcref *ref = instance_funcref(import->instance, import->index);
            if (!ref)
                return fail(error, LUCET_ERROR_MEMORY, "out of memory");
            words[0] = ref->code;
            words[1] = ref->vmctx;
        }
        return true;
    case LUCET_KIND_TABLE:
        instance->tables[abi->index] = import->instance->tables[import->index];
        words[0] = (u64)(uintptr_t)instance->tables[abi->index];
        return true;
    case LUCET_KIND_MEMORY:
        instance->memories[abi->index] =
            import->from == LUCET_IMPORT_MEMORY ? import->memory : import->instance->memories[import->index];
        words[0] = (u64)(uintptr_t)instance->memories[abi->index]->base;
        return true;
    case LUCET_KIND_TAG:
        return true; /* see instance_make_tags */
    default:
        set_global_import(instance, abi, import);
        return true;
    }
}

static void fill_funcref(lucet_instance *instance, struct abi_funcref *ref, u32 function) {
    const lucet_module *module = instance->module;
    const struct abi_function *f = &module->functions[function];
    ref->type_id = module->types[f->type].id;
    if (function < module->imported_functions && import_of_function(instance, function)->from == LUCET_IMPORT_ITEM) {
        const lucet_import *import = import_of_function(instance, function);
        const struct abi_funcref *original = instance_funcref(import->instance, import->index);
        if (original) {
            *ref = *original;
            return;
        }
    }
    ref->code = f->code_rva ? (u64)(uintptr_t)(module->base + f->code_rva) : 0;
    ref->vmctx = (u64)(uintptr_t)instance->vmctx;
    ref->function = function;
    ref->tail_code = f->tail_rva ? (u64)(uintptr_t)(module->base + f->tail_rva) : 0;
}

static bool area_new(lucet_instance *instance, lucet_error *error) {
    const lucet_module *module = instance->module;
    const struct abi_artifact_header *h = module->header;
    u8 *vmctx = instance->vmctx;
    memcpy(vmctx - h->instance_size, module->base + h->template_rva, h->instance_size);
    VMCTX_WORD(vmctx, VMCTX_BUILTINS) = (u64)(uintptr_t)lucet_builtins;
    VMCTX_WORD(vmctx, VMCTX_INSTANCE) = (u64)(uintptr_t)instance;
    VMCTX_WORD(vmctx, VMCTX_CANARY) = canary_of(instance);
    VMCTX_WORD(vmctx, VMCTX_CPU) = cpu_features();
    for (u32 i = 0; i < h->imports_count; i++)
        if (!set_import(instance, i, error))
            return false;
    for (u32 i = 0; i < h->refs_count; i++)
        fill_funcref(instance, (struct abi_funcref *)(vmctx + module->refs_table[i].offset),
                     module->refs_table[i].function);
    return true;
}

static void restore_words(lucet_instance *instance, u32 low, u32 high) {
    const lucet_module *module = instance->module;
    const u8 *end = module->base + module->header->template_rva + module->header->instance_size;
    memcpy(instance->vmctx - low, end - low, low - high);
}

/* Only what a guest can have changed. */
static void area_restore(lucet_instance *instance) {
    const lucet_module *module = instance->module;
    restore_words(instance, module->globals_low, VMCTX_FIXED_SIZE);
    if (module->segments_low != module->segments_high)
        restore_words(instance, module->segments_low, module->segments_high);
    if (UNLIKELY(instance->linkage->has_globals))
        for (u32 i = 0; i < instance->linkage->count; i++)
            if (module->imports[i].kind == LUCET_KIND_GLOBAL)
                set_global_import(instance, &module->imports[i], &instance->linkage->imports[i].import);
}

/* Free what the slot's last instance left for the next one. */
static void forget(lucet_instance *instance, const lucet_module *next_module) {
    if (!instance->area_linkage)
        return;
    const lucet_module *module = instance->area_linkage->module;
    memories_free(instance, module);
    if (instance->own_tables)
        for (u32 i = 0; i < module->header->tables_count; i++)
            free((void *)(uintptr_t)instance->own_tables[i].head.entries);
    if (instance->host_refs)
        for (u32 i = 0; i < module->header->functions_count; i++)
            free(instance->host_refs[i]);
    instance_forget_tags(instance, module);
    free(instance->tables);
    free(instance->own_tables);
    free(instance->host_refs);
    instance->tables = NULL;
    instance->own_tables = NULL;
    instance->host_refs = NULL;
    /* The heap's image belongs to the module, which may go away now. */
    if (instance->heap.module_serial && instance->heap.module != next_module)
        heap_discard(&instance->heap);
    lucet_linkage_release(instance->area_linkage);
    instance->area_linkage = NULL;
}

void instance_forget(lucet_instance *instance) {
    forget(instance, NULL);
}

/* ---- instances ---- */

/* The one predicate for whether a module's assumptions hold in a region's slots. */
static bool region_fits(const lucet_region *region, const lucet_module *module, const lucet_instance_limits *limits,
                        lucet_error *error) {
    const lucet_region_config *config = &region->config;
    u64 memory_limit = limits && limits->memory ? limits->memory : config->memory_limit;
    u64 table_limit = limits && limits->table ? limits->table : config->table_limit;
    if (limits && (limits->memory > config->memory_limit || limits->table > config->table_limit))
        return fail(error, LUCET_ERROR_LIMITS, "the instance's limits exceed the region's");
    if (module->header->instance_size > config->instance_area)
        return fail(error, LUCET_ERROR_LIMITS,
                    "the module needs an instance area of %u bytes, the region's slots have %u",
                    module->header->instance_size, config->instance_area);
    for (u32 i = 0; i < module->header->tables_count; i++)
        if (!(module->tables[i].flags & (LUCET_FLAG_IMPORTED | LUCET_FLAG_STATIC)) &&
            module->tables[i].minimum > table_limit)
            return fail(error, LUCET_ERROR_LIMITS, "a table of %llu elements exceeds the limit of %llu",
                        (unsigned long long)module->tables[i].minimum, (unsigned long long)table_limit);
    for (u32 i = 0; i < module->header->memories_count; i++) {
        const struct abi_memory *memory = &module->memories[i];
        if (memory->flags & (LUCET_FLAG_IMPORTED | LUCET_FLAG_SHARED))
            continue; /* a shared one has all that its type may rely on; others are looked at when they are imported */
        if (!reservation_suffices(memory, faulting_space(region), config->memory_guard))
            return fail(error, LUCET_ERROR_LIMITS,
                        "the module relies on %llu MiB of guarded address space per memory, the region has %llu MiB",
                        (unsigned long long)((memory->reserved + memory->guard) >> 20),
                        (unsigned long long)((faulting_space(region) + config->memory_guard) >> 20));
    }
    if (memories_minimum(module, true) > memory_limit)
        return fail(error, LUCET_ERROR_LIMITS, "the module needs %llu bytes of memory, the limit is %llu",
                    (unsigned long long)memories_minimum(module, true), (unsigned long long)memory_limit);
    return true;
}

static int initial_state(const lucet_module *module) {
    return module->header->init_rva || module->header->start_function != LUCET_NONE ? LUCET_STATE_NOT_STARTED
                                                                                    : LUCET_STATE_READY;
}

static bool fill_fresh(lucet_instance *instance, lucet_error *error) {
    const lucet_module *module = instance->module;
    u32 tables = module->header->tables_count, memories = module->header->memories_count;
    if (tables) {
        instance->tables = calloc(tables, sizeof *instance->tables);
        instance->own_tables = calloc(tables, sizeof *instance->own_tables);
        if (!instance->tables || !instance->own_tables)
            return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    }
    instance->only_memory = NULL;
    instance->memories = memories > 1 ? calloc(memories, sizeof *instance->memories) : &instance->only_memory;
    if (!instance->memories)
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    return area_new(instance, error) && memories_new(instance, error) && tables_new(instance, error);
}

/* Everything but the slot's pages, which are those of a new instance already. */
static bool fill(lucet_instance *instance, lucet_linkage *linkage, lucet_error *error) {
    bool warm = instance->area_linkage == linkage && !linkage->links_instances;
    lucet_module *module = linkage->module;
    instance->memory_bytes = memories_minimum(module, false);
    instance->memory_refused = false;
    instance->shared_bytes = 0;
    instance_drop_exceptions(instance);
    if (UNLIKELY(!budget_charge(instance, instance->memory_bytes)))
        return fail(error, LUCET_ERROR_LIMITS, "the budget has less than %llu bytes of memory left",
                    (unsigned long long)instance->memory_bytes);
    /* Before the module whose image the slot holds may go away: what it left there may serve. */
    if (!heap_prepare(&instance->heap, module, instance->region->config.track_writes))
        return fail_system(error, "preparing the slot's memory");
    if (!warm) {
        lucet_linkage_retain(linkage); /* first: it may be the same */
        forget(instance, module);
        instance->area_linkage = linkage;
    }
    instance->module = module;
    instance->linkage = linkage;
    instance->initialised = false;
    VMCTX_WORD(instance->vmctx, VMCTX_MEMORY_SIZE) = instance->heap.size;
    if (LIKELY(warm)) {
        area_restore(instance);
        return (LIKELY(!module->other_memories) || memories_new(instance, error)) && tables_new(instance, error) &&
               instance_make_tags(instance, error);
    }
    u64 size = instance->heap.size;
    bool ok = fill_fresh(instance, error) && instance_make_tags(instance, error);
    VMCTX_WORD(instance->vmctx, VMCTX_MEMORY_SIZE) = size;
    if (!ok)
        instance_forget(instance); /* else the slot would be taken for one that is ready for the same linkage */
    return ok;
}

/* Tables that a guest has grown do not stay with the free slot. */
static void shrink_tables(lucet_instance *instance) {
    enum { KEPT = 1024 };
    for (u32 i = 0; i < instance->module->header->tables_count; i++) {
        struct lucet_table *table = &instance->own_tables[i];
        if (table->capacity <= KEPT || table->capacity <= instance->module->tables[i].minimum)
            continue;
        free((void *)(uintptr_t)table->head.entries);
        table->head = (struct abi_table_head){0, 0};
        table->capacity = 0;
    }
}

/* Of what the slot holds now. */
static bool has_other_memories(const lucet_instance *instance) {
    return instance->area_linkage && instance->area_linkage->module->other_memories && instance->memories;
}

static void give_back(lucet_instance *instance) {
    instance_drop_exceptions(instance);
    budget_charge(instance, 0);
    instance->birth = 0;
    atomic_store_explicit(&instance->state, LUCET_STATE_FREE, memory_order_relaxed);
    if (UNLIKELY(!heap_reset(&instance->heap)) || UNLIKELY(has_other_memories(instance) && !memories_reset(instance)))
        instance_forget(instance);
    if (UNLIKELY(instance->area_linkage &&
                 (instance->area_linkage->links_instances || instance->area_linkage->has_memories)))
        instance_forget(
            instance); /* it points to other instances, or keeps a memory that nobody else may want any more */
    if (instance->own_tables)
        shrink_tables(instance);
    SYNC_POINT("give back");
    region_give_slot(instance->region, instance);
}

static void group_dissolve(struct group *group) {
    lucet_instance *next;
    struct group *allocated = is_own(group) ? NULL : group;
    for (lucet_instance *member = group->members; member; member = next) {
        next = member->group_next;
        give_back(member);
    }
    while (allocated) {
        struct group *merged = allocated->merged;
        free(allocated);
        allocated = merged;
    }
}

static lucet_instance *take_slot(lucet_region *region, const lucet_module *module, lucet_error *error) {
    lucet_instance *instance = region_take_slot(region, module->serial);
    if (!instance)
        fail(error, LUCET_ERROR_REGION_FULL, "the region is full: all of its %u slots are taken", region->config.slots);
    return instance;
}

static void begin_host_calls(lucet_instance *instance, i64 calls) {
    instance->host_calls_left = instance->host_calls_base = 0;
    lucet_instance_set_host_calls(instance, calls);
}

/* Everything but the state. When links_instances, the groups that are imported from are owned. */
static lucet_instance *make_instance(lucet_region *region, lucet_linkage *linkage, const lucet_instance_limits *limits,
                                     lucet_error *error) {
    lucet_instance *instance = take_slot(region, linkage->module, error);
    if (!instance)
        return NULL;
    group_init(&instance->own_group, instance);
    instance->context = NULL;
    instance->released = false;
    instance->memory_limit = limits && limits->memory ? limits->memory : region->config.memory_limit;
    instance->timeout = limits ? limits->timeout : 0;
    instance->time_slice = 0;
    instance->inner_runs_wait = false;
    instance->table_limit = limits && limits->table ? limits->table : region->config.table_limit;
    instance->birth = ++instance->births;
    if (UNLIKELY(linkage->links_instances) &&
        (!group_enter(instance, error) || !group_join(instance, linkage, error))) {
        give_back(instance);
        return NULL;
    }
    if (UNLIKELY(!fill(instance, linkage, error))) {
        group_remove(instance);
        give_back(instance);
        return NULL;
    }
    instance_begin_fuel(instance, limits && limits->fuel ? limits->fuel : LUCET_FUEL_UNLIMITED);
    begin_host_calls(instance, limits && limits->host_calls ? limits->host_calls : LUCET_HOST_CALLS_UNLIMITED);
    return instance;
}

lucet_instance *lucet_instance_new(lucet_region *region, lucet_linkage *linkage, const lucet_instance_limits *limits,
                                   lucet_error *error) {
    bool links = linkage->links_instances;
    if (!region_fits(region, linkage->module, limits, error))
        return NULL;
    /* Before its group is touched, the instance must be there; while it is owned, it stays. */
    if (UNLIKELY(links) && (!linkage_is_fresh(linkage, error) || !enter_imported(linkage, error)))
        return NULL;
    lucet_instance *instance = NULL;
    if (LIKELY(!links) || linkage_is_fresh(linkage, error))
        instance = make_instance(region, linkage, limits, error);
    if (instance)
        atomic_store_explicit(&instance->state, initial_state(linkage->module), memory_order_release);
    if (UNLIKELY(links))
        leave_imported(linkage, linkage->count);
    return instance;
}

static bool reset_owned(lucet_instance *instance, lucet_error *error) {
    if (group_top(group_of(instance)))
        return fail(error, LUCET_ERROR_STATE, "the instance is running");
    if (group_of(instance) != &instance->own_group)
        return fail(error, LUCET_ERROR_STATE, "the instance is linked to others, which a reset would change");
    /* Half reset it must not run, but it may be reset again. */
    atomic_store(&instance->state, LUCET_STATE_FAULTED);
    if (!heap_reset(&instance->heap) || (has_other_memories(instance) && !memories_reset(instance)))
        return fail(error, LUCET_ERROR_SYSTEM, "the memory could not be reset");
    i64 fuel = lucet_instance_fuel(instance), host_calls = lucet_instance_host_calls(instance);
    if (!fill(instance, instance->linkage, error))
        return false;
    instance_begin_fuel(instance, fuel);
    begin_host_calls(instance, host_calls);
    atomic_store(&instance->state, initial_state(instance->module));
    return true;
}

bool lucet_instance_reset(lucet_instance *instance, lucet_error *error) {
    if (!group_enter(instance, error))
        return false;
    bool ok = reset_owned(instance, error);
    group_leave(instance);
    return ok;
}

void lucet_instance_free(lucet_instance *instance) {
    struct group *group = group_of(instance);
    if (instance->released)
        return;
    instance->released = true;
    if (--group->live > 0)
        return;
    drop_activations(group, NULL);
    group_dissolve(group);
}

lucet_state lucet_instance_state(const lucet_instance *instance) {
    int state = atomic_load(&instance->state);
    if (state == LUCET_STATE_FREE)
        return LUCET_STATE_FREE;
    bool alone = group_of(instance) == &instance->own_group;
    if (!alone)
        groups_hold(); /* another thread may be linking */
    const struct group *group = group_of(instance);
    const struct lucet_activation *top = group_top(group);
    bool is_owned = atomic_load(&group->owner);
    if (!alone)
        groups_release();
    return top ? is_owned ? LUCET_STATE_RUNNING : LUCET_STATE_SUSPENDED : (lucet_state)state;
}

const char *lucet_state_text(lucet_state state) {
    static const char *const texts[] = {
#define STATE(name, text) [LUCET_STATE_##name] = text,
#include "states.def"
#undef STATE
    };
    return texts[state];
}

lucet_module *lucet_instance_module(const lucet_instance *instance) {
    return instance->module;
}

static u64 host_calls_made(const lucet_instance *instance) {
    return instance->host_calls_base - (u64)instance->host_calls_left;
}

void lucet_instance_set_host_calls(lucet_instance *instance, int64_t calls) {
    u64 made = host_calls_made(instance);
    instance->host_calls_are_bounded = calls != LUCET_HOST_CALLS_UNLIMITED;
    instance->host_calls_left = calls > 0 ? calls : 0;
    instance->host_calls_base = (u64)instance->host_calls_left + made;
}

int64_t lucet_instance_host_calls(const lucet_instance *instance) {
    return instance->host_calls_are_bounded ? instance->host_calls_left : LUCET_HOST_CALLS_UNLIMITED;
}

lucet_usage lucet_instance_usage(const lucet_instance *instance) {
    lucet_usage usage = {.host_calls = host_calls_made(instance),
                         .memory = instance->memory_bytes,
                         .memory_refused = instance->memory_refused};
    for (u32 i = 0; i < instance->module->header->tables_count; i++)
        usage.table_refused |= instance->tables[i] && instance->tables[i]->refused;
    return usage;
}

lucet_region *lucet_instance_region(const lucet_instance *instance) {
    return instance->region;
}

void lucet_instance_set_context(lucet_instance *instance, void *context) {
    instance->context = context;
}

void *lucet_instance_context(const lucet_instance *instance) {
    return instance->context;
}

/* ---- functions ---- */

const struct abi_funcref *instance_funcref(lucet_instance *instance, u32 function) {
    const lucet_module *module = instance->module;
    if (function >= module->header->functions_count)
        return NULL;
    if (module->functions[function].ref_offset)
        return (const struct abi_funcref *)(instance->vmctx + module->functions[function].ref_offset);
    if (!instance->host_refs) {
        instance->host_refs = calloc(module->header->functions_count, sizeof *instance->host_refs);
        if (!instance->host_refs)
            return NULL;
    }
    struct abi_funcref **ref = &instance->host_refs[function];
    if (!*ref && (*ref = calloc(1, sizeof **ref)))
        fill_funcref(instance, *ref, function);
    return *ref;
}

const lucet_funcref *lucet_instance_funcref(lucet_instance *instance, uint32_t function) {
    const struct abi_funcref *ref = instance_funcref(instance, function);
    return ref && ref->code ? (const lucet_funcref *)ref : NULL;
}

lucet_instance *lucet_funcref_instance(const lucet_funcref *ref) {
    return instance_of_vmctx((const u8 *)(uintptr_t)((const struct abi_funcref *)ref)->vmctx);
}

uint32_t lucet_funcref_function(const lucet_funcref *ref) {
    return (u32)((const struct abi_funcref *)ref)->function;
}

const lucet_functype *lucet_funcref_type(const lucet_funcref *ref) {
    const lucet_module *module = lucet_funcref_instance(ref)->module;
    return lucet_module_functype(module, lucet_funcref_function(ref));
}

bool lucet_instances_linked(const lucet_instance *a, const lucet_instance *b) {
    return group_of(a) == group_of(b);
}

/* ---- memories, globals and tables ---- */

lucet_memory *lucet_instance_memory(const lucet_instance *instance, uint32_t memory) {
    return memory < instance->module->header->memories_count ? instance->memories[memory] : NULL;
}

uint64_t *lucet_global_cell(const lucet_instance *instance, uint32_t global) {
    if (global >= instance->module->header->globals_count)
        return NULL;
    const struct abi_global *abi = &instance->module->globals[global];
    u64 *words = (u64 *)(instance->vmctx + abi->offset);
    return abi->flags & LUCET_FLAG_INDIRECT ? (u64 *)(uintptr_t)*words : words;
}

bool lucet_instance_global_get(lucet_instance *instance, uint32_t global, uint64_t *slots) {
    const uint64_t *cell = lucet_global_cell(instance, global);
    if (!cell || !group_borrow(instance, false))
        return false;
    memcpy(slots, cell, instance->module->globals[global].valtype == LUCET_VALTYPE_V128 ? 16 : 8);
    group_leave(instance);
    return true;
}

lucet_table *lucet_instance_table(const lucet_instance *instance, uint32_t table) {
    return table < instance->module->header->tables_count ? instance->tables[table] : NULL;
}

uint64_t lucet_instance_table_size(const lucet_instance *instance, uint32_t table) {
    if (table >= instance->module->header->tables_count)
        return 0;
    return instance->tables[table] ? instance->tables[table]->head.length : instance->module->tables[table].minimum;
}

/* Which function a static entry stands for: the code address tells. */
static const struct abi_funcref *static_funcref(lucet_instance *instance, const struct abi_table *table, u64 i) {
    const lucet_module *module = instance->module;
    const struct abi_static_entry *entries = (const void *)(module->base + table->static_rva);
    if (!entries[i].type)
        return NULL;
    u32 code = (u32)((i64)table->static_rva + entries[i].code);
    for (u32 f = 0; f < module->header->functions_count; f++)
        if (module->functions[f].code_rva == code || module->functions[f].tail_rva == code)
            return instance_funcref(instance, f);
    return NULL;
}

bool lucet_instance_table_get(lucet_instance *instance, uint32_t table, uint64_t i, void **reference) {
    if (!group_borrow(instance, false))
        return false;
    bool ok = i < lucet_instance_table_size(instance, table);
    if (ok && instance->tables[table])
        *reference = (void *)(uintptr_t)((u64 *)(uintptr_t)instance->tables[table]->head.entries)[i];
    else if (ok)
        *reference = (void *)static_funcref(instance, &instance->module->tables[table], i);
    group_leave(instance);
    return ok;
}

static bool may_hold(lucet_instance *instance, u32 table, const void *reference) {
    const struct lucet_table *one = instance->tables[table];
    if (!reference)
        return !(one->reftype & LUCET_REF_NON_NULL);
    if (!is_funcref_type(one->reftype))
        return true;
    return group_of(lucet_funcref_instance(reference)) == group_of(instance) &&
           lucet_valtype_matches(LUCET_REF_CONCRETE | LUCET_REF_NON_NULL, lucet_funcref_type(reference)->id,
                                 one->reftype, one->type_id);
}

bool lucet_instance_table_set(lucet_instance *instance, uint32_t table, uint64_t i, void *reference) {
    if (!lucet_instance_table(instance, table) || !may_hold(instance, table, reference) ||
        !group_borrow(instance, false))
        return false;
    bool ok = i < lucet_instance_table_size(instance, table);
    if (ok)
        ((u64 *)(uintptr_t)instance->tables[table]->head.entries)[i] = (u64)(uintptr_t)reference;
    group_leave(instance);
    return ok;
}

uint64_t lucet_instance_table_grow(lucet_instance *instance, uint32_t table, uint64_t delta, void *reference) {
    if (!lucet_instance_table(instance, table) || !may_hold(instance, table, reference) ||
        !group_borrow(instance, true))
        return UINT64_MAX;
    u64 before = table_grow(instance->tables[table], delta, (u64)(uintptr_t)reference);
    group_leave(instance);
    return before;
}

u64 instance_elem_value(lucet_instance *instance, i32 item) {
    if (item >= 0)
        return (u64)(uintptr_t)instance_funcref(instance, (u32)item);
    return item == -1 ? 0 : *lucet_global_cell(instance, (u32)(-2 - (i64)item));
}
