/* test_loader.c: damaged artifacts are refused, or load and can be linked, instantiated and asked about everything, but never crash. Bits
 * everywhere but in code are flipped, one by one; then several at once, at random, for LUCET_FUZZ_SECONDS (default 2). The code of an
 * artifact is not run: it is as trusted as any shared library's. */

#include "hosts.h"

static const char *const names[] = {"plain",     "hosts", "dynamic",    "exporter",   "importer",
                                    "heap_runs", "start", "references", "exceptions", "memories"};
enum { ARTIFACTS = sizeof names / sizeof *names };

static lucet_region *region;
static u32 loaded, refused;

struct artifact {
    u8 *bytes;
    size_t size;
    u64 header, loaded_size, text, text_end, image, image_end;
};

static struct artifact read_artifact(const char *name) {
    struct artifact a = {0};
    FILE *file = fopen(guest_path(name), "rb");
    CHECK(file);
    fseek(file, 0, SEEK_END);
    a.size = (size_t)ftell(file);
    rewind(file);
    a.bytes = malloc(a.size);
    CHECK(fread(a.bytes, 1, a.size, file) == a.size);
    fclose(file);
    /* What may be changed: all that is loaded, but neither code nor image. Offsets in the file are addresses. */
    lucet_module *module = load_guest(name);
    const struct abi_artifact_header *h = module->header;
    a.header = h->self_rva;
    a.loaded_size = h->load_size;
    a.text = h->text_rva;
    a.text_end = h->text_rva + h->text_size;
    if (h->images_count) {
        a.image = module->images[0].rva;
        a.image_end = module->images[h->images_count - 1].rva + module->images[h->images_count - 1].size;
    }
    lucet_module_release(module);
    return a;
}

static bool is_mutable(const struct artifact *a, u64 at) {
    return !(at >= a->text && at < a->text_end) && !(at >= a->image && at < a->image_end);
}

static lucet_host_result do_nothing(lucet_instance *instance, u64 *slots, void *data) {
    (void)instance, (void)slots, (void)data;
    return LUCET_HOST_OK;
}

static u64 sum_of(lucet_string string) {
    u64 sum = 0;
    for (u32 i = 0; i < string.size; i++)
        sum += (u8)string.bytes[i];
    return sum;
}

/* Everything that can be asked of a module, so that the sanitizers see every byte. */
static u64 ask(lucet_module *module) {
    const struct abi_artifact_header *h = module->header;
    u64 sum = sum_of(lucet_module_producer(module));
    lucet_externtype type;
    for (u32 i = 0; i < lucet_module_imports_count(module); i++) {
        lucet_import_info info = lucet_module_import(module, i);
        sum += sum_of(info.module) + sum_of(info.field);
        CHECK(lucet_module_type(module, info.kind, info.index, &type));
    }
    for (u32 i = 0; i < lucet_module_exports_count(module); i++) {
        lucet_export_info info = lucet_module_export(module, i), found;
        sum += sum_of(info.name);
        CHECK(lucet_module_type(module, info.kind, info.index, &type));
        CHECK(lucet_module_find_export(module, info.name.bytes, info.name.size, &found));
    }
    for (u32 i = 0; i < h->functions_count; i++) {
        sum += sum_of(lucet_module_function_name(module, i));
        CHECK(lucet_module_type(module, LUCET_FUNC, i, &type));
        for (u32 j = 0; j < type.functype.params_count + type.functype.results_count; j++)
            sum += type.functype.valtypes[j];
        u32 function, offset;
        if (!module->functions[i].code_rva)
            continue;
        const u8 *middle = module->base + module->functions[i].code_rva + module->functions[i].code_size / 2;
        module_locate(module, middle, &function, &offset);
        const u8 *landing = NULL;
        const struct unwind_row *row = module_unwind(module, middle + 1, &landing);
        sum += row ? (u64)row->cfa + row->saved : 0;
    }
    return sum;
}

static void live(lucet_module *module) {
    lucet_import imports[16] = {{0}};
    u32 count = lucet_module_imports_count(module);
    if (count > 16)
        return;
    for (u32 i = 0; i < count; i++) {
        lucet_import_info info = lucet_module_import(module, i);
        imports[i].from = info.kind == LUCET_FUNC ? LUCET_IMPORT_HOST_FUNCTION : LUCET_IMPORT_VALUE;
        imports[i].function = do_nothing;
        imports[i].value[0] = 1; /* which a reference that is never null must not be 0 */
    }
    lucet_linkage *linkage = lucet_link(module, imports, count, &last_error);
    if (!linkage)
        return;
    lucet_instance_limits limits = {.memory = 64 << 20, .table = 100000};
    for (u32 round = 0; round < 2; round++) {
        lucet_instance *instance = lucet_instance_new(region, linkage, &limits, &last_error);
        if (!instance)
            continue;
        const struct abi_artifact_header *h = module->header;
        for (u32 t = 0; t < h->tables_count; t++) {
            void *reference;
            u64 size = lucet_instance_table_size(instance, t);
            for (u64 i = 0; i < size && i < 100; i++)
                lucet_instance_table_get(instance, t, i, &reference);
            CHECK(!lucet_instance_table_get(instance, t, size, &reference));
        }
        for (u32 g = 0; g < h->globals_count; g++)
            if (lucet_global_cell(instance, g))
                *(volatile u64 *)lucet_global_cell(instance, g);
        for (u32 f = 0; f < h->functions_count; f++) {
            const lucet_funcref *ref = lucet_instance_funcref(instance, f);
            if (ref)
                lucet_funcref_type(ref);
        }
        for (u32 m = 0; m < h->memories_count; m++) {
            lucet_memory *memory = lucet_instance_memory(instance, m);
            if (lucet_memory_size(memory))
                lucet_memory_base(memory)[lucet_memory_size(memory) - 1] = 1;
            lucet_memory_grow(memory, 1);
        }
        for (u32 t = 0; t < h->tags_count; t++)
            CHECK(lucet_tag_type(lucet_instance_tag(instance, t))->results_count == 0);
        lucet_instance_free(instance);
    }
    lucet_linkage_release(linkage);
}

/* For who looks for the cause of a crash: LUCET_TEST_VERBOSE shows what is about to be tried. */
static void show(const char *name, u64 at, u64 value) {
    static int verbose = -1;
    if (verbose < 0)
        verbose = getenv("LUCET_TEST_VERBOSE") != NULL;
    if (verbose)
        fprintf(stderr, "%s %#llx %#llx\n", name, (unsigned long long)at, (unsigned long long)value);
}

static void try_to_load(const u8 *bytes, size_t size) {
    last_error = (lucet_error){0};
    lucet_module *module = lucet_module_load_bytes(bytes, size, &last_error);
    if (!module) {
        CHECK(last_error.code == LUCET_ERROR_ARTIFACT || last_error.code == LUCET_ERROR_MEMORY);
        CHECK(last_error.message[0]);
        refused++;
        return;
    }
    loaded++;
    ask(module);
    live(module);
    lucet_module_release(module);
}

static void try_to_load_forged(u8 *bytes, size_t size, u64 header) {
    seal(bytes, size, header);
    try_to_load(bytes, size);
}

static void set_up(void) {
    region = small_region(2);
    loaded = refused = 0;
}

static void every_bit(void) {
    set_up();
    for (u32 i = 0; i < ARTIFACTS; i++) {
        struct artifact a = read_artifact(names[i]);
        for (u64 at = 0; at < a.loaded_size && at < a.size; at++) {
            if (!is_mutable(&a, at))
                continue;
            /* Zeros that follow one another are padding, most of them. */
            if (!a.bytes[at] && at && !a.bytes[at - 1] && at + 1 < a.size && !a.bytes[at + 1] && at % 16 &&
                !(at >= a.header && at < a.header + sizeof(struct abi_artifact_header)))
                continue;
            u32 step = i ? 8 : SANITIZED ? 4 : 2; /* half of the bits of the first, one in each byte of the others */
            for (u32 bit = (u32)(at * 5 + at / 8) % step; bit < 8; bit += step) {
                a.bytes[at] ^= (u8)(1 << bit);
                show(names[i], at, a.bytes[at]);
                try_to_load_forged(a.bytes, a.size, a.header);
                a.bytes[at] ^= (u8)(1 << bit);
            }
        }
        try_to_load_forged(a.bytes, a.size, a.header);
        free(a.bytes);
    }
    CHECK(loaded > 100 && refused > 1000);
    printf("(%u loaded, %u refused) ", loaded, refused);
    CHECK_EQUAL(lucet_region_used(region), 0);
    lucet_region_release(region);
}

static void every_length(void) {
    set_up();
    for (u32 i = 0; i < 3; i++) {
        struct artifact a = read_artifact(names[i]);
        u64 file_size = a.header + offsetof(struct abi_artifact_header, file_size);
        for (size_t size = 0; size < a.size; size += size < 1024 ? 1 : 61) {
            u8 *exact = malloc(size + 1); /* so that the sanitizer sees its end */
            memcpy(exact, a.bytes, size);
            u32 before = loaded;
            try_to_load(exact, size);
            CHECK_EQUAL(loaded, before);
            /* Even with a header that says so. */
            if (size > file_size + 8) {
                u64 claimed = size;
                memcpy(exact + file_size, &claimed, 8);
                try_to_load_forged(exact, size, a.header);
            }
            free(exact);
        }
        free(a.bytes);
    }
    lucet_region_release(region);
}

/* Numbers where they hurt: every 4 and 8 bytes of the header and of what stands near it get extreme values. */
static void extreme_numbers(void) {
    static const u64 extremes[] = {0, 1, 7, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8, 1ULL << 61, UINT64_MAX};
    set_up();
    for (u32 i = 0; i < 3; i++) {
        struct artifact a = read_artifact(names[i]);
        u64 end = a.header + sizeof(struct abi_artifact_header) + 4096 < a.loaded_size
                      ? a.header + sizeof(struct abi_artifact_header) + 4096
                      : a.loaded_size;
        for (u64 at = a.header; at + 8 <= end; at += 4) {
            u64 saved;
            memcpy(&saved, a.bytes + at, 8);
            for (u32 e = 0; e < sizeof extremes / sizeof *extremes; e++) {
                show(names[i], at, extremes[e]);
                memcpy(a.bytes + at, &extremes[e], e % 2 && at % 8 == 0 ? 8 : 4);
                try_to_load_forged(a.bytes, a.size, a.header);
                memcpy(a.bytes + at, &extremes[e], 8);
                try_to_load_forged(a.bytes, a.size, a.header);
                memcpy(a.bytes + at, &saved, 8);
            }
            if (at >= a.header + sizeof(struct abi_artifact_header))
                at += SANITIZED ? 12 : 4;
        }
        free(a.bytes);
    }
    lucet_region_release(region);
}

static void at_random(void) {
    set_up();
    const char *text = getenv("LUCET_FUZZ_SECONDS"), *seed = getenv("LUCET_FUZZ_SEED");
    double until = seconds() + (text ? atof(text) : 2);
    u64 random = seed ? strtoull(seed, NULL, 0) : 1;
    struct artifact artifacts[ARTIFACTS];
    for (u32 i = 0; i < ARTIFACTS; i++)
        artifacts[i] = read_artifact(names[i]);
    while (seconds() < until) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        struct artifact *a = &artifacts[(random >> 33) % ARTIFACTS];
        u8 *copy = malloc(a->size);
        memcpy(copy, a->bytes, a->size);
        for (u32 changes = 1 + (u32)(random >> 60); changes > 0; changes--) {
            random = random * 6364136223846793005ULL + 1442695040888963407ULL;
            /* Mostly the header and the arrays behind it. */
            u64 span = random & 1 ? a->loaded_size - a->header : a->loaded_size;
            u64 at = a->loaded_size - span + (random >> 20) % span;
            if (!is_mutable(a, at) || at + 8 > a->size)
                continue;
            show(names[a - artifacts], at, random);
            switch (random >> 61) {
            case 0:
            case 1:
                copy[at] = (u8)(random >> 8);
                break;
            case 2:
                memcpy(copy + at, a->bytes + a->header + (random >> 10) % 280, 4); /* another number of the header */
                break;
            case 3:
                memcpy(copy + at / 4 * 4, &random, 4);
                break;
            case 4:
                memset(copy + at / 4 * 4, 0xff, 4);
                break;
            case 5:
                copy[at]++;
                break;
            case 6:
                copy[at]--;
                break;
            default:
                copy[at] ^= (u8)(1 << ((random >> 8) & 7));
                break;
            }
        }
        try_to_load_forged(copy, a->size, a->header);
        free(copy);
    }
    for (u32 i = 0; i < ARTIFACTS; i++)
        free(artifacts[i].bytes);
    printf("(%u loaded, %u refused) ", loaded, refused);
    lucet_region_release(region);
}

/* Whatever byte is changed, code and image and padding too, the file is refused before it is mapped to be executed. */
static void any_byte(void) {
    set_up();
    for (u32 i = 0; i < 3; i++) {
        struct artifact a = read_artifact(names[i]);
        for (u64 at = 0; at < a.size; at += i ? 13 : 1) {
            u8 saved = a.bytes[at];
            a.bytes[at] ^= (u8)(1 + at % 255);
            try_to_load(a.bytes, a.size);
            CHECK_EQUAL(loaded, 0);
            a.bytes[at] = saved;
        }
        free(a.bytes);
    }
    CHECK(refused > 10000);
    lucet_region_release(region);
}

static void checksums(void) {
    u8 bytes[2000];
    u64 random = 1;
    for (u32 i = 0; i < sizeof bytes; i++)
        bytes[i] = (u8)((random = random * 6364136223846793005ULL + 1442695040888963407ULL) >> 56);
    for (u32 size = 4; size < sizeof bytes - 16; size += size < 400 ? 1 : 37)
        for (u32 hole = 0; hole <= size - 4; hole += 61)
            CHECK_EQUAL(artifact_checksum(bytes + size % 16, size, hole, false),
                        artifact_checksum(bytes + size % 16, size, hole, true));
    /* As Python's zlib.crc32 has it: of 100 bytes 0, 1, 2..., the four at 40 taken as 0. */
    for (u32 i = 0; i < 100; i++)
        bytes[i] = (u8)i;
    CHECK_EQUAL(artifact_checksum(bytes, 100, 40, false), 0x501a4a70);
    CHECK_EQUAL(artifact_checksum(bytes, 100, 40, true), 0x501a4a70);
}

/* A file that was found whole is known by its times, unless it has only just been written. */
static void files_that_were_whole(void) {
    struct artifact a = read_artifact("plain");
    char path[] = "/tmp/lucet-whole-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    for (u32 round = 0; round < 2; round++) {
        CHECK_EQUAL(pwrite(fd, a.bytes, a.size, 0), (ssize_t)a.size);
        lucet_module *module = lucet_module_load(path, &last_error);
        CHECK(module);
        lucet_module_release(module);
        u8 changed = a.bytes[a.text] ^ 1;
        CHECK_EQUAL(pwrite(fd, &changed, 1, (off_t)a.text), 1);
        CHECK(!lucet_module_load(path, &last_error));
        CHECK(strstr(last_error.message, "checksum"));
    }
    struct stat status;
    CHECK_EQUAL(fstat(fd, &status), 0);
    CHECK(!was_whole(&status));
    is_whole(&status);
    CHECK(!was_whole(&status));
    status.st_mtim.tv_sec -= 10;
    status.st_ctim.tv_sec -= 10;
    is_whole(&status);
    CHECK(was_whole(&status));
    status.st_ctim.tv_nsec ^= 1;
    CHECK(!was_whole(&status));
    close(fd);
    unlink(path);
    free(a.bytes);
}

MAIN(TEST(any_byte), TEST(checksums), TEST(files_that_were_whole), TEST(every_bit), TEST(every_length),
     TEST(extreme_numbers), TEST(at_random))
