/* test_modules.c: loading, asking and releasing artifacts. */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "hosts.h"

static u8 *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    CHECK(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    u8 *bytes = malloc(*size);
    CHECK(fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

static void write_file(const char *path, const u8 *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

static u32 run_add(lucet_module *module) {
    lucet_linkage *linkage = link_guest(module, NULL, 0);
    lucet_region *region = small_region(1);
    lucet_instance *instance = started_instance(region, linkage);
    lucet_export_info info;
    u32 result = lucet_module_find_export(module, "add", 3, &info) ? CALL(instance, "add", 1, 2) : 0;
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    return result;
}

static void descriptions(void) {
    lucet_module *module = load_guest("hosts");
    CHECK_EQUAL(lucet_module_imports_count(module), 4);
    lucet_import_info import = lucet_module_import(module, 2);
    CHECK(import.kind == LUCET_FUNC && import.index == 2 && import.module.size == 4 && import.field.size == 4);
    CHECK(memcmp(import.field.bytes, "stop", 4) == 0);
    lucet_export_info info;
    CHECK(lucet_module_find_export(module, "spin", 4, &info) && info.kind == LUCET_FUNC);
    CHECK(!lucet_module_find_export(module, "spi", 3, &info));
    CHECK(!lucet_module_find_export(module, "spinn", 5, &info));
    CHECK(!lucet_module_find_export(module, "", 0, &info));
    for (u32 i = 0; i < lucet_module_exports_count(module); i++) {
        lucet_export_info e = lucet_module_export(module, i), found;
        CHECK(lucet_module_find_export(module, e.name.bytes, e.name.size, &found) && found.index == e.index);
        lucet_externtype type;
        CHECK(lucet_module_type(module, e.kind, e.index, &type));
    }
    lucet_externtype type;
    CHECK(!lucet_module_type(module, LUCET_FUNC, 10000, &type));
    CHECK(!lucet_module_type(module, LUCET_MEMORY, 1, &type));
    CHECK(!lucet_module_type(module, LUCET_TABLE, 0, &type));
    CHECK(!lucet_module_type(module, LUCET_GLOBAL, 2, &type));
    CHECK(lucet_module_type(module, LUCET_MEMORY, 0, &type) && type.limits.minimum == 1 && type.limits.maximum == 3);
    CHECK(lucet_module_producer(module).size > 0);
    lucet_string none = lucet_module_function_name(module, 100000);
    CHECK(!none.bytes && none.size == 0);
    lucet_module_release(module);
}

static void from_bytes(void) {
    size_t size, other_size;
    u8 *bytes = read_file(guest_path("plain"), &size), *other = read_file(guest_path("exporter"), &other_size);
    /* Two at once from memory, and again after one has gone: each is itself. */
    lucet_module *a = lucet_module_load_bytes(bytes, size, &last_error);
    lucet_module *b = lucet_module_load_bytes(other, other_size, &last_error);
    CHECK(a && b);
    CHECK(a->header != b->header);
    CHECK_EQUAL(run_add(a), 3);
    CHECK_EQUAL(run_add(b), 0);
    lucet_module_release(a);
    a = lucet_module_load_bytes(other, other_size, &last_error);
    CHECK_EQUAL(run_add(a), 0);
    lucet_module_release(b);
    b = lucet_module_load_bytes(bytes, size, &last_error);
    CHECK_EQUAL(run_add(b), 3);
    lucet_module_release(a);
    lucet_module_release(b);
    CHECK(!lucet_module_load_bytes(bytes, 0, &last_error));
    CHECK(!lucet_module_load_bytes(bytes, 100, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_ARTIFACT);
    free(bytes);
    free(other);
}

/* A file that is replaced while an artifact from there is loaded: the new one is what is loaded next. */
static void same_path_new_content(void) {
    char path[] = "/tmp/lucet-test-XXXXXX", next[64];
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    snprintf(next, sizeof next, "%s.next", path);
    size_t size, other_size;
    u8 *bytes = read_file(guest_path("plain"), &size), *other = read_file(guest_path("heap_mapped"), &other_size);
    write_file(path, bytes, size);
    lucet_module *a = lucet_module_load(path, &last_error);
    CHECK(a);
    write_file(next, other, other_size);
    CHECK(rename(next, path) == 0);
    lucet_module *b = lucet_module_load(path, &last_error);
    CHECK(b);
    CHECK(!lucet_module_find_export(b, "add", 3, &(lucet_export_info){0}));
    CHECK_EQUAL(run_add(a), 3);
    lucet_module *again = lucet_module_load(path, &last_error); /* the same file twice */
    CHECK(again && again->base == b->base);
    lucet_module_release(a);
    CHECK_EQUAL(run_add(b), 0);
    lucet_module_release(b);
    CHECK_EQUAL(run_add(again), 0);
    lucet_module_release(again);
    unlink(path);
    free(bytes);
    free(other);
}

static void not_artifacts(void) {
    static const char *const paths[] = {"/proc/self/exe", "/dev/null",       "/tmp", "/no/such/file",
                                        "/dev/zero",      "/proc/self/maps", ""};
    for (u32 i = 0; i < sizeof paths / sizeof *paths; i++) {
        last_error.code = 0;
        CHECK(!lucet_module_load(paths[i], &last_error));
        CHECK(last_error.code == LUCET_ERROR_ARTIFACT || last_error.code == LUCET_ERROR_SYSTEM);
        CHECK(last_error.message[0]);
        CHECK(!lucet_module_load(paths[i], NULL));
    }
}

static void relative_paths(void) {
    char directory[4096];
    CHECK(getcwd(directory, sizeof directory));
    char guests[4096];
    snprintf(guests, sizeof guests, "%s", guest_path("plain"));
    *strrchr(guests, '/') = 0;
    CHECK(chdir(guests) == 0);
    lucet_module *module = lucet_module_load("plain.so", &last_error);
    CHECK(module);
    lucet_module_release(module);
    CHECK(chdir(directory) == 0);
}

static void thousand_modules(void) {
    size_t size, mapped_size;
    u8 *bytes = read_file(guest_path("plain"), &size), *mapped = read_file(guest_path("heap_mapped"), &mapped_size);
    lucet_region *region = small_region(2);
    struct usage before = {0, 0};
    u32 count = scaled(1000) / 12 * 12 + 11; /* the last one is of the same kind as number 10 */
    for (u32 i = 0; i < count; i++) {
        lucet_module *module =
            i % 3 ? lucet_module_load_bytes(i % 2 ? bytes : mapped, i % 2 ? size : mapped_size, &last_error)
                  : load_guest("hosts");
        CHECK(module);
        if (i % 3) {
            lucet_linkage *linkage = link_guest(module, NULL, 0);
            lucet_instance *instance = started_instance(region, linkage);
            lucet_linkage_release(linkage);
            lucet_instance_free(instance);
        }
        lucet_module_release(module);
        if (i == 10)
            before = usage_now();
    }
    struct usage after = usage_now();
    CHECK_EQUAL(after.descriptors, before.descriptors);
    CHECK(after.mappings <= before.mappings + 4); /* what the slots hold last */
    lucet_region_release(region);
    free(bytes);
    free(mapped);
}

/* Hundreds at once need no descriptors, unless their images are mapped. */
static void many_modules_at_once(void) {
    enum { MANY = 300 };
    size_t size;
    u8 *bytes = read_file(guest_path("plain"), &size);
    static lucet_module *modules[MANY];
    struct usage before = usage_now();
    for (u32 i = 0; i < MANY; i++)
        CHECK(modules[i] = lucet_module_load_bytes(bytes, size, &last_error));
    CHECK_EQUAL(usage_now().descriptors, before.descriptors);
    CHECK_EQUAL(run_add(modules[0]), 3);
    CHECK_EQUAL(run_add(modules[MANY - 1]), 3);
    for (u32 i = 0; i < MANY; i++)
        lucet_module_release(modules[(i * 7) % MANY]);
    free(bytes);
}

/* One identity, two types: the second module is refused. */
static void type_identities(void) {
    size_t size;
    u8 *bytes = read_file(guest_path("plain"), &size);
    lucet_module *module = lucet_module_load_bytes(bytes, size, &last_error);
    CHECK(module);
    u64 mapped = (u64)((const u8 *)module->types - module->base);
    CHECK(module->header->types_count >= 2);
    struct abi_type *types = (void *)(bytes + mapped); /* the file's offsets are the addresses */
    u64 id = types[0].id;
    u64 header = module->header->self_rva;
    types[0].id = types[1].id;
    seal(bytes, size, header);
    CHECK(!lucet_module_load_bytes(bytes, size, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_ARTIFACT);
    CHECK(strstr(last_error.message, "type identity"));
    types[0].id = id;
    seal(bytes, size, header);
    lucet_module *again = lucet_module_load_bytes(bytes, size, &last_error);
    CHECK(again);
    /* A new identity is learnt, and then it stands. */
    types[0].id = 0x123456789abcdefULL;
    seal(bytes, size, header);
    lucet_module *other = lucet_module_load_bytes(bytes, size, &last_error);
    CHECK(other);
    lucet_module_release(module);
    lucet_module_release(again);
    lucet_module_release(other);
    types[0].id = id;
    seal(bytes, size, header);
    types[1].id = 0x123456789abcdefULL;
    seal(bytes, size, header);
    CHECK(!lucet_module_load_bytes(bytes, size, &last_error));
    free(bytes);
}

MAIN(TEST(descriptions), TEST(from_bytes), TEST(same_path_new_content), TEST(not_artifacts), TEST(relative_paths),
     TEST(thousand_modules), TEST(many_modules_at_once), TEST(type_identities))
