/* test_references.c: typed references: matching, names, what the loader refuses, and what the host may put where. */

#include "hosts.h"

enum { NON_NULL = LUCET_REF_NON_NULL, CONCRETE = LUCET_REF_CONCRETE };

static bool matches(u8 valtype, u64 id, u8 expected, u64 expected_id) {
    return lucet_valtype_matches(valtype, id, expected, expected_id);
}

static void matching(void) {
    static const u8 nullable[] = {LUCET_VALTYPE_FUNCREF,     LUCET_VALTYPE_EXTERNREF,     LUCET_VALTYPE_EXNREF,
                                  LUCET_VALTYPE_NULLFUNCREF, LUCET_VALTYPE_NULLEXTERNREF, LUCET_VALTYPE_NULLEXNREF};
    static const u8 bottoms[] = {LUCET_VALTYPE_NULLFUNCREF, LUCET_VALTYPE_NULLEXTERNREF, LUCET_VALTYPE_NULLEXNREF};
    for (u32 a = 0; a < 6; a++)
        for (u32 b = 0; b < 6; b++) {
            bool below = a == b || nullable[a] == (b < 3 ? bottoms[b] : 0);
            CHECK_EQUAL(matches(nullable[a], 0, nullable[b], 0), below);
            CHECK_EQUAL(matches(nullable[a] | NON_NULL, 0, nullable[b], 0), below);
            CHECK_EQUAL(matches(nullable[a] | NON_NULL, 0, nullable[b] | NON_NULL, 0), below);
            CHECK(!matches(nullable[a], 0, nullable[b] | NON_NULL, 0));
        }
    CHECK(matches(CONCRETE, 5, CONCRETE, 5));
    CHECK(!matches(CONCRETE, 5, CONCRETE, 6));
    CHECK(matches(CONCRETE | NON_NULL, 5, CONCRETE, 5));
    CHECK(!matches(CONCRETE, 5, CONCRETE | NON_NULL, 5));
    CHECK(matches(CONCRETE, 5, LUCET_VALTYPE_FUNCREF, 0));
    CHECK(!matches(CONCRETE, 5, LUCET_VALTYPE_EXTERNREF, 0));
    CHECK(!matches(CONCRETE, 5, LUCET_VALTYPE_NULLFUNCREF, 0));
    CHECK(matches(LUCET_VALTYPE_NULLFUNCREF, 0, CONCRETE, 5));
    CHECK(!matches(LUCET_VALTYPE_FUNCREF, 0, CONCRETE, 5));
    for (u8 number = LUCET_VALTYPE_V128; number <= LUCET_VALTYPE_I32; number++) {
        CHECK(matches(number, 0, number, 0));
        CHECK(!matches(number, 0, LUCET_VALTYPE_FUNCREF, 0) && !matches(LUCET_VALTYPE_NULLFUNCREF, 0, number, 0));
    }
    CHECK(!matches(LUCET_VALTYPE_I32, 0, LUCET_VALTYPE_I64, 0));
}

static void check_name(u8 valtype, u64 id, const char *expected) {
    char name[LUCET_VALTYPE_NAME_SIZE];
    lucet_valtype_name(valtype, id, name);
    CHECK(strcmp(name, expected) == 0);
}

static void names(void) {
    check_name(LUCET_VALTYPE_I32, 0, "i32");
    check_name(LUCET_VALTYPE_V128, 0, "v128");
    check_name(LUCET_VALTYPE_NULLEXTERNREF, 0, "nullexternref");
    check_name(LUCET_VALTYPE_NULLEXTERNREF | NON_NULL, 0, "(ref noextern)");
    check_name(LUCET_VALTYPE_EXNREF | NON_NULL, 0, "(ref exn)");
    check_name(CONCRETE, 0xabc, "(ref null #0000000000000abc)");
    check_name(CONCRETE | NON_NULL, UINT64_MAX, "(ref #ffffffffffffffff)");
    check_name(0x40, 0, "value type 0x40");
    check_name(LUCET_VALTYPE_I32 | NON_NULL, 0, "value type 0xff");
}

/* ---- the loader ---- */

static u8 *bytes;
static size_t bytes_size;
static u64 header;

static void read_guest(void) {
    FILE *file = fopen(guest_path("references"), "rb");
    CHECK(file);
    fseek(file, 0, SEEK_END);
    bytes_size = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(bytes_size);
    CHECK(fread(bytes, 1, bytes_size, file) == bytes_size);
    fclose(file);
}

static void check_refused(void *at, const void *value, size_t size) {
    u8 saved[8];
    memcpy(saved, at, size);
    memcpy(at, value, size);
    seal(bytes, bytes_size, header);
    CHECK(!lucet_module_load_bytes(bytes, bytes_size, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_ARTIFACT);
    CHECK(!strstr(last_error.message, "checksum"));
    memcpy(at, saved, size);
}

static void damaged_types(void) {
    static const u64 unknown = 0x5eed5eed5eed5eedULL, none = 0;
    static const u32 far = 0x7ffffff8;
    static const u8 bad[] = {0, 0x40, 0x62, 0x64, 0xff, 0xfb, LUCET_VALTYPE_FUNCREF};
    read_guest();
    lucet_module *module = load_guest("references");
    const struct abi_artifact_header *h = module->header;
    header = h->self_rva;
    struct abi_type *types = (void *)(bytes + h->types_rva); /* the file's offsets are the addresses */
    u32 concrete = 0;
    for (u32 i = 0; i < h->types_count; i++) {
        if (!types[i].type_ids_rva)
            continue;
        u8 *valtypes = bytes + types[i].valtypes_rva;
        u64 *ids = (void *)(bytes + types[i].type_ids_rva);
        check_refused(&types[i].type_ids_rva, &far, 4);
        check_refused(&types[i].type_ids_rva, &none, 4); /* then there are none */
        for (u32 j = 0; j < types[i].params_count + types[i].results_count; j++) {
            check_refused(&ids[j], &unknown, 8);
            if (!ids[j])
                continue;
            concrete++;
            check_refused(&ids[j], &none, 8);
            for (u32 k = 0; k < sizeof bad; k++)
                check_refused(&valtypes[j], &bad[k], 1);
        }
    }
    CHECK_EQUAL(concrete, 3);
    struct abi_global *globals = (void *)(bytes + h->globals_rva);
    struct abi_table *tables = (void *)(bytes + h->tables_rva);
    for (u32 i = 0; i < h->globals_count; i++) {
        check_refused(&globals[i].type_id, &unknown, 8);
        if (globals[i].type_id)
            check_refused(&globals[i].type_id, &none, 8);
    }
    for (u32 i = 0; i < h->tables_count; i++) {
        u32 number = LUCET_VALTYPE_I32;
        check_refused(&tables[i].type_id, &unknown, 8);
        check_refused(&tables[i].type_id, &none, 8);
        check_refused(&tables[i].reftype, &number, 4);
    }
    seal(bytes, bytes_size, header);
    lucet_module *again = lucet_module_load_bytes(bytes, bytes_size, &last_error);
    CHECK(again);
    lucet_module_release(again);
    lucet_module_release(module);
    free(bytes);
}

/* ---- instances ---- */

static int marked;

static lucet_instance *new_guest(lucet_region *region, const lucet_funcref *inc) {
    lucet_module *module = load_guest("references");
    lucet_import imports[] = {
        {.from = LUCET_IMPORT_VALUE, .value = {(u64)(uintptr_t)inc}},
        {.from = LUCET_IMPORT_VALUE, .value = {(u64)(uintptr_t)&marked}},
    };
    lucet_linkage *linkage = lucet_link(module, imports, 2, &last_error);
    lucet_instance *instance = linkage ? started_instance(region, linkage) : NULL;
    if (linkage)
        lucet_linkage_release(linkage);
    lucet_module_release(module);
    return instance;
}

static void what_the_host_puts_where(void) {
    lucet_region *region = small_region(4);
    CHECK(!new_guest(region, NULL));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LINK);
    lucet_linkage *linkage = load_linked("plain");
    lucet_instance *other = started_instance(region, linkage);
    lucet_linkage_release(linkage);
    /* What it refers to does not matter: nobody calls it. */
    lucet_instance *instance = new_guest(region, lucet_instance_funcref(other, 0));
    CHECK(instance);
    const lucet_module *module = lucet_instance_module(instance);
    u32 sure = export_index(module, LUCET_TABLE, "sure"), maybe = export_index(module, LUCET_TABLE, "maybe");
    void *add = (void *)lucet_instance_funcref(instance, export_index(module, LUCET_FUNC, "add"));
    void *is_null = (void *)lucet_instance_funcref(instance, export_index(module, LUCET_FUNC, "is_null"));
    CHECK(lucet_instance_table_set(instance, sure, 0, add));
    CHECK(!lucet_instance_table_set(instance, sure, 0, NULL));
    CHECK(!lucet_instance_table_set(instance, sure, 0, is_null));
    CHECK(!lucet_instance_table_set(instance, maybe, 0, is_null));
    CHECK_EQUAL(lucet_instance_table_grow(instance, sure, 1, NULL), UINT64_MAX);
    CHECK_EQUAL(lucet_instance_table_grow(instance, sure, 1, is_null), UINT64_MAX);
    CHECK_EQUAL(lucet_instance_table_grow(instance, sure, 1, add), 2);
    CHECK_TRAPS(TRAP_NULL_FUNCTION_REFERENCE, instance, "call", 0, 5);
    CHECK(lucet_instance_table_set(instance, maybe, 0, add));
    CHECK_EQUAL(CALL(instance, "call", 0, 5), 6);
    CHECK(lucet_instance_table_set(instance, maybe, 0, NULL));
    CHECK_TRAPS(TRAP_NULL_FUNCTION_REFERENCE, instance, "call", 0, 5);
    CHECK_TRAPS(TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, instance, "call", 2, 5);
    CHECK_EQUAL(CALL(instance, "add", 1), 2);
    lucet_instance_free(instance);
    lucet_instance_free(other);
    lucet_region_release(region);
}

MAIN(TEST(matching), TEST(names), TEST(damaged_types), TEST(what_the_host_puts_where))
