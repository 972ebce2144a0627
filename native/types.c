/* types.c: value types, and the identities of function types. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- the registry of function types: an id must mean the same type in every module ---- */

struct known_type {
    u64 id;
    u32 params_count, results_count;
    u8 *valtypes;
    u64 *type_ids; /* NULL if they are all 0 */
};

static struct known_type *known_types; /* open addressing, never shrinks; ids are hashes already */
static size_t known_types_capacity, known_types_count;

static struct known_type *known_type_slot(struct known_type *types, size_t capacity, u64 id) {
    size_t i = id & (capacity - 1);
    while (types[i].valtypes && types[i].id != id)
        i = (i + 1) & (capacity - 1);
    return &types[i];
}

static bool known_types_reserve(size_t more) {
    if ((known_types_count + more) * 2 <= known_types_capacity)
        return true;
    size_t capacity = known_types_capacity ? known_types_capacity : 64;
    while ((known_types_count + more) * 2 > capacity)
        capacity *= 2;
    struct known_type *larger = calloc(capacity, sizeof *larger);
    if (!larger)
        return false;
    for (size_t i = 0; i < known_types_capacity; i++)
        if (known_types[i].valtypes)
            *known_type_slot(larger, capacity, known_types[i].id) = known_types[i];
    free(known_types);
    known_types = larger;
    known_types_capacity = capacity;
    return true;
}

/* An id that stands for a type is as good as the type: comparing ids compares whole types, however deep they are nested. */
static bool is_known_id(u64 id) {
    return !id || known_type_slot(known_types, known_types_capacity, id)->valtypes;
}

static bool bad_id(lucet_error *error) {
    return fail(error, LUCET_ERROR_ARTIFACT, "the artifact is damaged: bad type identity");
}

static bool register_type(const struct abi_type *type, const u8 *valtypes, const u64 *type_ids, lucet_error *error) {
    size_t size = (size_t)type->params_count + type->results_count, ids_size = type_ids ? size * 8 : 0;
    for (size_t i = 0; type_ids && i < size; i++)
        if (type_ids[i] != type->id && !is_known_id(type_ids[i]))
            return bad_id(error);
    struct known_type *known = known_type_slot(known_types, known_types_capacity, type->id);
    if (known->valtypes) {
        if (known->params_count == type->params_count && known->results_count == type->results_count &&
            memcmp(known->valtypes, valtypes, size) == 0 && !known->type_ids == !type_ids &&
            (!type_ids || memcmp(known->type_ids, type_ids, ids_size) == 0))
            return true;
        return fail(error, LUCET_ERROR_ARTIFACT, "type identity %016llx already stands for another function type",
                    (unsigned long long)type->id);
    }
    u8 *copy = malloc(size + 1);
    u64 *ids_copy = type_ids ? malloc(ids_size) : NULL;
    if (!copy || (type_ids && !ids_copy)) {
        free(copy);
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    }
    memcpy(copy, valtypes, size);
    if (type_ids)
        memcpy(ids_copy, type_ids, ids_size);
    *known = (struct known_type){type->id, type->params_count, type->results_count, copy, ids_copy};
    known_types_count++;
    return true;
}

bool types_register(const lucet_module *module, lucet_error *error) {
    const struct abi_artifact_header *h = module->header;
    process_lock(TYPES_LOCK);
    bool ok = known_types_reserve(h->types_count + 1) || fail(error, LUCET_ERROR_MEMORY, "out of memory");
    for (u32 i = 0; ok && i < h->types_count; i++) {
        const struct abi_type *type = &module->types[i];
        const void *type_ids = type->type_ids_rva ? module->base + type->type_ids_rva : NULL;
        ok = register_type(type, module->base + type->valtypes_rva, type_ids, error);
    }
    for (u32 i = 0; ok && i < h->globals_count; i++)
        ok = is_known_id(module->globals[i].type_id) || bad_id(error);
    for (u32 i = 0; ok && i < h->tables_count; i++)
        ok = is_known_id(module->tables[i].type_id) || bad_id(error);
    process_unlock(TYPES_LOCK);
    return ok;
}

/* ---- value types ---- */

static bool is_reference(u8 valtype) {
    return valtype < LUCET_VALTYPE_V128 || valtype > LUCET_VALTYPE_I32;
}

bool is_funcref_type(u8 valtype) {
    u8 heap = valtype & (u8)~LUCET_REF_NON_NULL;
    return heap == LUCET_VALTYPE_FUNCREF || heap == LUCET_VALTYPE_NULLFUNCREF || heap == LUCET_REF_CONCRETE;
}

static bool heap_type_matches(u8 heap, u8 expected) {
    switch (expected) {
    case LUCET_VALTYPE_FUNCREF:
        return heap == LUCET_REF_CONCRETE || heap == LUCET_VALTYPE_NULLFUNCREF;
    case LUCET_REF_CONCRETE:
        return heap == LUCET_VALTYPE_NULLFUNCREF;
    case LUCET_VALTYPE_EXTERNREF:
        return heap == LUCET_VALTYPE_NULLEXTERNREF;
    case LUCET_VALTYPE_EXNREF:
        return heap == LUCET_VALTYPE_NULLEXNREF;
    default:
        return false;
    }
}

bool lucet_valtype_matches(uint8_t valtype, uint64_t type_id, uint8_t expected, uint64_t expected_id) {
    if (!is_reference(valtype) || !is_reference(expected))
        return valtype == expected;
    if ((expected & LUCET_REF_NON_NULL) && !(valtype & LUCET_REF_NON_NULL))
        return false;
    u8 heap = valtype & (u8)~LUCET_REF_NON_NULL, expected_heap = expected & (u8)~LUCET_REF_NON_NULL;
    return heap == expected_heap ? type_id == expected_id : heap_type_matches(heap, expected_heap);
}

void lucet_valtype_name(uint8_t valtype, uint64_t type_id, char name[LUCET_VALTYPE_NAME_SIZE]) {
    static const struct {
        u8 valtype;
        const char *name, *heap;
    } names[] = {{LUCET_VALTYPE_I32, "i32", NULL},
                 {LUCET_VALTYPE_I64, "i64", NULL},
                 {LUCET_VALTYPE_F32, "f32", NULL},
                 {LUCET_VALTYPE_F64, "f64", NULL},
                 {LUCET_VALTYPE_V128, "v128", NULL},
                 {LUCET_VALTYPE_FUNCREF, "funcref", "func"},
                 {LUCET_VALTYPE_EXTERNREF, "externref", "extern"},
                 {LUCET_VALTYPE_EXNREF, "exnref", "exn"},
                 {LUCET_VALTYPE_NULLFUNCREF, "nullfuncref", "nofunc"},
                 {LUCET_VALTYPE_NULLEXTERNREF, "nullexternref", "noextern"},
                 {LUCET_VALTYPE_NULLEXNREF, "nullexnref", "noexn"}};
    bool is_non_null = valtype & LUCET_REF_NON_NULL;
    u8 heap = valtype & (u8)~LUCET_REF_NON_NULL;
    if (heap == LUCET_REF_CONCRETE) {
        snprintf(name, LUCET_VALTYPE_NAME_SIZE, "(ref %s#%016" PRIx64 ")", is_non_null ? "" : "null ", type_id);
        return;
    }
    for (u32 i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].valtype == heap && (names[i].heap || !is_non_null)) {
            snprintf(name, LUCET_VALTYPE_NAME_SIZE, is_non_null ? "(ref %s)" : "%s",
                     is_non_null ? names[i].heap : names[i].name);
            return;
        }
    snprintf(name, LUCET_VALTYPE_NAME_SIZE, "value type %#x", valtype);
}
