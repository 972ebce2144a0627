/* module.c: loading artifacts. Everything in the file is checked here, once, so that the rest of the runtime can trust it; what
 * cannot be checked is the machine code itself: an artifact is as trusted as any shared library. */

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define STRUCT(name, size) static_assert(sizeof(struct abi_##name) == (size), #name);
#define FIELD(in, type, name, offset) static_assert(offsetof(struct abi_##in, name) == (offset), #in "." #name);
#define END(name)
#include "artifact.def"
#undef STRUCT
#undef FIELD
#undef END

/* ---- the file: nothing of it is mapped executable before this has passed ---- */

struct file {
    const u8 *bytes;
    u64 size;
    const Elf64_Phdr *segments;
    u32 segments_count;
};

static bool not_ours(lucet_error *error, const char *why) {
    return fail(error, LUCET_ERROR_ARTIFACT, "not a lucet artifact: %s", why);
}

/* The file's bytes at [rva, rva + size), NULL unless they are all in one segment's part of the file. */
static const u8 *file_at(const struct file *file, u64 rva, u64 size) {
    for (u32 i = 0; i < file->segments_count; i++) {
        const Elf64_Phdr *s = &file->segments[i];
        if (s->p_type == PT_LOAD && rva >= s->p_vaddr && rva - s->p_vaddr <= s->p_filesz &&
            size <= s->p_filesz - (rva - s->p_vaddr))
            return file->bytes + s->p_offset + (rva - s->p_vaddr);
    }
    return NULL;
}

static const Elf64_Phdr *only_segment(const struct file *file, u32 type) {
    const Elf64_Phdr *found = NULL;
    for (u32 i = 0; i < file->segments_count; i++)
        if (file->segments[i].p_type == type) {
            if (found)
                return NULL;
            found = &file->segments[i];
        }
    return found;
}

/* Exactly what the compiler makes: the dynamic linker trusts these numbers. */
static bool check_segments(const struct file *file, lucet_error *error) {
    u64 end = 0;
    for (u32 i = 0; i < file->segments_count; i++) {
        const Elf64_Phdr *s = &file->segments[i];
        switch (s->p_type) {
        case PT_LOAD:
            break;
        case PT_INTERP:
            return not_ours(error, "it is a program");
        case PT_DYNAMIC:
        case PT_GNU_RELRO:
        case PT_GNU_EH_FRAME:
        case PT_GNU_STACK:
            continue;
        default:
            return not_ours(error, "unknown program header");
        }
        if (s->p_offset > file->size || s->p_filesz > file->size - s->p_offset)
            return fail(error, LUCET_ERROR_ARTIFACT, "the artifact is truncated: a segment ends beyond its %llu bytes",
                        (unsigned long long)file->size);
        if (s->p_vaddr != s->p_offset || s->p_memsz != s->p_filesz || s->p_align != HOST_PAGE || !s->p_filesz ||
            s->p_vaddr % HOST_PAGE || s->p_vaddr < end || s->p_vaddr + s->p_memsz > INT32_MAX || (i == 0 && s->p_vaddr))
            return not_ours(error, "bad segment addresses");
        if (!(s->p_flags & PF_R) || (s->p_flags & ~(u32)(PF_R | PF_W | PF_X)) ||
            ((s->p_flags & PF_W) && (s->p_flags & PF_X)))
            return not_ours(error, "bad segment permissions");
        end = s->p_vaddr + s->p_memsz;
    }
    const Elf64_Phdr *stack = only_segment(file, PT_GNU_STACK);
    if (!stack || (stack->p_flags & PF_X))
        return not_ours(error, "it wants an executable stack");
    return file->segments_count && file->segments[0].p_type == PT_LOAD ? true : not_ours(error, "bad program headers");
}

/* The dynamic linker writes to .dynamic and protects PT_GNU_RELRO: both must be in the one writable segment. */
static bool is_in_data(const struct file *file, const Elf64_Phdr *part) {
    for (u32 i = 0; i < file->segments_count; i++) {
        const Elf64_Phdr *s = &file->segments[i];
        if (s->p_type == PT_LOAD && (s->p_flags & PF_W) && part->p_vaddr >= s->p_vaddr &&
            part->p_vaddr - s->p_vaddr <= s->p_memsz && part->p_memsz <= s->p_memsz - (part->p_vaddr - s->p_vaddr))
            return part->p_offset == part->p_vaddr && part->p_filesz == part->p_memsz;
    }
    return false;
}

/* The dynamic section must ask the dynamic linker for nothing: no other library, no code to run, no relocation. */
static bool read_dynamic(const struct file *file, const Elf64_Phdr *dynamic, u64 values[DT_NUM + 1],
                         lucet_error *error) {
    const u8 *bytes = file_at(file, dynamic->p_vaddr, dynamic->p_filesz);
    for (u64 at = 0; bytes && at + sizeof(Elf64_Dyn) <= dynamic->p_filesz; at += sizeof(Elf64_Dyn)) {
        Elf64_Dyn entry;
        memcpy(&entry, bytes + at, sizeof entry);
        switch (entry.d_tag) {
        case DT_NULL:
            return true;
        case DT_SYMTAB:
        case DT_STRTAB:
        case DT_STRSZ:
        case DT_SYMENT:
            values[entry.d_tag] = entry.d_un.d_val;
            break;
        case DT_GNU_HASH:
            values[DT_NUM] = entry.d_un.d_val;
            break;
        default:
            return not_ours(error, "it wants relocations, other libraries or initialisers");
        }
    }
    return not_ours(error, "bad dynamic section");
}

/* The dynamic linker walks this table whenever somebody asks it for a symbol or for the symbol at an address. */
static bool check_hash_table(const struct file *file, u64 rva, u32 *symbols_count) {
    struct {
        u32 buckets, first_symbol, bloom_words, bloom_shift;
    } head;
    const u8 *at = file_at(file, rva, sizeof head);
    if (!at || rva % 8)
        return false;
    memcpy(&head, at, sizeof head);
    if (!head.buckets || head.buckets > 1024 || !head.bloom_words || head.bloom_words > 1024 ||
        (head.bloom_words & (head.bloom_words - 1)) || head.bloom_shift > 63 || head.first_symbol != 1)
        return false;
    u64 buckets = rva + sizeof head + 8ULL * head.bloom_words, chain = buckets + 4ULL * head.buckets;
    for (u32 i = 0; i < head.buckets; i++) {
        u32 symbol, chained = 0;
        if (!(at = file_at(file, buckets + 4ULL * i, 4)))
            return false;
        memcpy(&symbol, at, 4);
        for (; symbol && !(chained & 1); symbol++) {
            if (symbol >= 8 || !(at = file_at(file, chain + 4ULL * (symbol - 1), 4)))
                return false;
            memcpy(&chained, at, 4);
            if (symbol >= *symbols_count)
                *symbols_count = symbol + 1;
        }
    }
    return true;
}

static bool check_dynamic(const struct file *file, u64 *symbols, u32 *symbols_count, u64 *strings, lucet_error *error) {
    u64 values[DT_NUM + 1] = {0};
    const Elf64_Phdr *dynamic = only_segment(file, PT_DYNAMIC), *relro = only_segment(file, PT_GNU_RELRO);
    if (!dynamic || !relro || dynamic->p_vaddr % 8 || !(dynamic->p_flags & PF_W) || !is_in_data(file, dynamic) ||
        !is_in_data(file, relro))
        return not_ours(error, "bad dynamic section");
    if (!read_dynamic(file, dynamic, values, error))
        return false;
    *symbols = values[DT_SYMTAB];
    *strings = values[DT_STRTAB];
    *symbols_count = 1;
    if (values[DT_SYMENT] != sizeof(Elf64_Sym) || *symbols % 8 ||
        !check_hash_table(file, values[DT_NUM], symbols_count) ||
        !file_at(file, *symbols, *symbols_count * sizeof(Elf64_Sym)))
        return not_ours(error, "bad symbols");
    const u8 *names = file_at(file, *strings, values[DT_STRSZ]);
    if (!names || !values[DT_STRSZ] || names[values[DT_STRSZ] - 1])
        return not_ours(error, "bad symbol names");
    for (u32 i = 0; i < *symbols_count; i++) {
        Elf64_Sym symbol;
        memcpy(&symbol, file_at(file, *symbols + i * sizeof symbol, sizeof symbol), sizeof symbol);
        if (symbol.st_name >= values[DT_STRSZ])
            return not_ours(error, "bad symbols");
    }
    return true;
}

/* The header's address, from the first dynamic symbols (an artifact exports only lucet_module). */
static const struct abi_artifact_header *find_header(const struct file *file, u64 symbols, u32 symbols_count,
                                                     u64 strings, u64 *rva) {
    for (u64 i = 1; i < symbols_count; i++) {
        const u8 *bytes = file_at(file, symbols + i * sizeof(Elf64_Sym), sizeof(Elf64_Sym));
        if (!bytes)
            return NULL;
        Elf64_Sym symbol;
        memcpy(&symbol, bytes, sizeof symbol);
        const u8 *name = file_at(file, strings + symbol.st_name, sizeof "lucet_module");
        if (name && memcmp(name, "lucet_module", sizeof "lucet_module") == 0) {
            *rva = symbol.st_value;
            if (*rva % 8 == 0)
                return (const void *)file_at(file, symbol.st_value, sizeof(struct abi_artifact_header));
        }
    }
    return NULL;
}

struct cpu_feature {
    u64 bit;
    const char *name;
    bool present;
};

#define CPU_FEATURES 13

static void cpu_look(struct cpu_feature *known) {
    __builtin_cpu_init();
    const struct cpu_feature found[CPU_FEATURES] = {
        {LUCET_CPU_SSSE3, "ssse3", __builtin_cpu_supports("ssse3")},
        {LUCET_CPU_SSE4_1, "sse4.1", __builtin_cpu_supports("sse4.1")},
        {LUCET_CPU_SSE4_2, "sse4.2", __builtin_cpu_supports("sse4.2")},
        {LUCET_CPU_POPCNT, "popcnt", __builtin_cpu_supports("popcnt")},
        {LUCET_CPU_AVX, "avx", __builtin_cpu_supports("avx")},
        {LUCET_CPU_AVX2, "avx2", __builtin_cpu_supports("avx2")},
        {LUCET_CPU_BMI1, "bmi", __builtin_cpu_supports("bmi")},
        {LUCET_CPU_BMI2, "bmi2", __builtin_cpu_supports("bmi2")},
        {LUCET_CPU_LZCNT, "lzcnt", __builtin_cpu_supports("lzcnt")},
        {LUCET_CPU_FMA, "fma", __builtin_cpu_supports("fma")},
        {LUCET_CPU_MOVBE, "movbe", __builtin_cpu_supports("movbe")},
        {LUCET_CPU_F16C, "f16c", __builtin_cpu_supports("f16c")},
        {LUCET_CPU_AVX512, "avx512",
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl")},
    };
    memcpy(known, found, sizeof found);
}

u64 cpu_features(void) {
    static _Atomic u64 kept;
    u64 features = atomic_load_explicit(&kept, memory_order_relaxed);
    if (features)
        return features;
    struct cpu_feature known[CPU_FEATURES];
    cpu_look(known);
    for (size_t i = 0; i < CPU_FEATURES; i++)
        features |= known[i].present ? known[i].bit : 0;
    atomic_store_explicit(&kept, features, memory_order_relaxed);
    return features;
}

static bool cpu_has(u64 features, char *missing, size_t size) {
    struct cpu_feature known[CPU_FEATURES];
    cpu_look(known);
    features &= ~(u64)LUCET_CPU_NATIVE;
    size_t used = 0;
    missing[0] = 0;
    for (size_t i = 0; i < CPU_FEATURES; i++) {
        if ((features & known[i].bit) && !known[i].present && used < size)
            used += (size_t)snprintf(missing + used, size - used, "%s%s", used ? ", " : "", known[i].name);
        features &= ~known[i].bit;
    }
    if (features && used < size)
        used += (size_t)snprintf(missing + used, size - used, "%sfeatures %#llx", used ? ", " : "",
                                 (unsigned long long)features);
    return used == 0;
}

static bool check_header(const struct file *file, const struct abi_artifact_header *header, u64 rva,
                         lucet_error *error) {
    if (header->magic != LUCET_MAGIC)
        return not_ours(error, "wrong magic number");
    if (header->abi_version != LUCET_ABI_VERSION)
        return fail(error, LUCET_ERROR_ARTIFACT,
                    "the artifact has format version %u, this runtime reads version %u: compile it again",
                    header->abi_version, LUCET_ABI_VERSION);
    if (header->header_size != sizeof *header || header->self_rva != rva)
        return not_ours(error, "bad header");
    if (header->file_size != file->size)
        return fail(error, LUCET_ERROR_ARTIFACT, "the artifact is damaged: it has %llu bytes of %llu",
                    (unsigned long long)file->size, (unsigned long long)header->file_size);
    char missing[160];
    if (!cpu_has(header->cpu_features, missing, sizeof missing))
        return fail(error, LUCET_ERROR_ARTIFACT, "the artifact needs a CPU with %s", missing);
    return true;
}

static bool check_whole(const struct file *file, const struct abi_artifact_header *header, const struct stat *status,
                        lucet_error *error) {
    if (was_whole(status))
        return true;
    u64 hole = (u64)((const u8 *)&header->checksum - file->bytes);
    u32 sum = artifact_checksum(file->bytes, file->size, hole, false);
    if (sum != header->checksum)
        return fail(error, LUCET_ERROR_ARTIFACT, "the artifact is damaged: its checksum is %08x, it should be %08x",
                    sum, header->checksum);
    is_whole(status);
    return true;
}

/* ---- the descriptors ---- */

struct check {
    const struct file *file;
    const struct abi_artifact_header *header;
    lucet_error *error;
};

static bool damaged(const struct check *c, const char *what) {
    return fail(c->error, LUCET_ERROR_ARTIFACT, "the artifact is damaged: bad %s", what);
}

static const void *check_array(const struct check *c, u32 rva, u64 count, size_t size, const char *what) {
    static const u64 empty = 0;
    if (count == 0)
        return &empty;
    u64 bytes, alignment = size < 8 ? size : 8;
    const void *array =
        rva % alignment || __builtin_mul_overflow(count, (u64)size, &bytes) ? NULL : file_at(c->file, rva, bytes);
    if (!array)
        damaged(c, what);
    return array;
}

static bool check_string(const struct check *c, u32 string) {
    u32 size;
    if (c->header->strings_size < 4 || string > c->header->strings_size - 4)
        return damaged(c, "string");
    const u8 *at = file_at(c->file, c->header->strings_rva, c->header->strings_size);
    if (!at)
        return damaged(c, "strings");
    memcpy(&size, at + string, 4);
    return size <= c->header->strings_size - 4 - string || damaged(c, "string");
}

static bool in_text(const struct check *c, u64 rva, u64 size) {
    return rva >= c->header->text_rva && rva - c->header->text_rva <= c->header->text_size &&
           size <= c->header->text_size - (rva - c->header->text_rva);
}

/* Words of the instance area: [offset, offset + size) below vmctx, not among the fixed ones. */
static bool check_words(const struct check *c, i64 offset, i64 size, const char *what) {
    return (offset % 8 == 0 && offset >= -(i64)c->header->instance_size && offset + size <= -VMCTX_FIXED_SIZE) ||
           damaged(c, what);
}

/* The first items of an index space are imported, and no others. */
static u32 count_imports(const struct check *c, u32 kind) {
    const struct abi_import *imports = (const void *)file_at(c->file, c->header->imports_rva, 0);
    u32 count = 0;
    for (u32 i = 0; i < c->header->imports_count; i++)
        count += imports[i].kind == kind;
    return count;
}

/* Of what stands in the instance: a value, or a pointer to one. A v128 is aligned to its size. */
static u32 global_size(const struct abi_global *global) {
    return global->valtype == LUCET_VALTYPE_V128 && !(global->flags & LUCET_FLAG_INDIRECT) ? 16 : 8;
}

static bool check_reftype(u32 valtype, u64 type_id) {
    switch (valtype & ~(u32)LUCET_REF_NON_NULL) {
    case LUCET_VALTYPE_FUNCREF:
    case LUCET_VALTYPE_EXTERNREF:
    case LUCET_VALTYPE_EXNREF:
    case LUCET_VALTYPE_NULLFUNCREF:
    case LUCET_VALTYPE_NULLEXTERNREF:
    case LUCET_VALTYPE_NULLEXNREF:
        return !type_id;
    case LUCET_REF_CONCRETE:
        return type_id; /* and register_types asks whether it is one */
    default:
        return false;
    }
}

static bool check_valtype(u32 valtype, u64 type_id) {
    return valtype >= LUCET_VALTYPE_V128 && valtype <= LUCET_VALTYPE_I32 ? !type_id : check_reftype(valtype, type_id);
}

static bool check_functions(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    const struct abi_type *types = check_array(c, h->types_rva, h->types_count, sizeof *types, "types");
    if (!types)
        return false;
    for (u32 i = 0; i < h->types_count; i++) {
        u64 count = (u64)types[i].params_count + types[i].results_count;
        const u8 *valtypes = check_array(c, types[i].valtypes_rva, count, 1, "type");
        if (!valtypes || count > 4096 || (types[i].entry_rva && !in_text(c, types[i].entry_rva, 1)))
            return damaged(c, "type");
        const u64 *type_ids =
            types[i].type_ids_rva ? check_array(c, types[i].type_ids_rva, count, 8, "type identities") : NULL;
        if (types[i].type_ids_rva && !type_ids)
            return false;
        for (u64 j = 0; j < count; j++)
            if (!check_valtype(valtypes[j], type_ids ? type_ids[j] : 0))
                return damaged(c, "value type");
    }
    const struct abi_function *functions =
        check_array(c, h->functions_rva, h->functions_count, sizeof *functions, "functions");
    if (!functions)
        return false;
    for (u32 i = 0; i < h->functions_count; i++) {
        const struct abi_function *f = &functions[i];
        if (f->type >= h->types_count || (f->code_rva && !in_text(c, f->code_rva, f->tail_rva ? 1 : f->code_size)) ||
            (f->tail_rva && !in_text(c, f->tail_rva, f->code_size)) ||
            (f->lines != LUCET_NONE && f->lines >= h->lines_size))
            return damaged(c, "function");
        if ((f->name != LUCET_NONE && !check_string(c, f->name)) ||
            (f->ref_offset && !check_words(c, f->ref_offset, sizeof(struct abi_funcref), "function reference")))
            return false;
    }
    const struct abi_ref *refs = check_array(c, h->refs_rva, h->refs_count, sizeof *refs, "function references");
    if (!refs)
        return false;
    for (u32 i = 0; i < h->refs_count; i++)
        if (refs[i].function >= h->functions_count || refs[i].offset == 0 ||
            functions[refs[i].function].ref_offset != refs[i].offset)
            return damaged(c, "function reference");
    if (h->start_function != LUCET_NONE && h->start_function >= h->functions_count)
        return damaged(c, "start function");
    return !h->init_rva || in_text(c, h->init_rva, 1) || damaged(c, "initialiser");
}

static bool check_tables_and_globals(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    u32 imported_tables = count_imports(c, LUCET_KIND_TABLE), imported_globals = count_imports(c, LUCET_KIND_GLOBAL);
    const struct abi_table *tables = check_array(c, h->tables_rva, h->tables_count, sizeof *tables, "tables");
    if (!tables)
        return false;
    for (u32 i = 0; i < h->tables_count; i++) {
        if (!(tables[i].flags & LUCET_FLAG_IMPORTED) != (i >= imported_tables))
            return damaged(c, "table");
        if (tables[i].flags & LUCET_FLAG_STATIC) {
            if (i < imported_tables)
                return damaged(c, "table");
            const struct abi_static_entry *entries = check_array(c, tables[i].static_rva, tables[i].minimum,
                                                                 sizeof(struct abi_static_entry), "table entries");
            if (!entries)
                return false;
            for (u64 j = 0; j < tables[i].minimum; j++)
                if (entries[j].type > h->types_count ||
                    (entries[j].type && !in_text(c, (u64)(tables[i].static_rva + (i64)entries[j].code), 1)))
                    return damaged(c, "table entry");
        } else if (!check_words(c, tables[i].offset, 8, "table")) {
            return false;
        }
        if (!check_reftype(tables[i].reftype, tables[i].type_id) ||
            ((tables[i].flags & LUCET_FLAG_STATIC) && !is_funcref_type((u8)tables[i].reftype)))
            return damaged(c, "table");
    }
    const struct abi_global *globals = check_array(c, h->globals_rva, h->globals_count, sizeof *globals, "globals");
    if (!globals)
        return false;
    for (u32 i = 0; i < h->globals_count; i++)
        if (!(globals[i].flags & LUCET_FLAG_IMPORTED) != (i >= imported_globals) ||
            !(globals[i].flags & LUCET_FLAG_INDIRECT) !=
                !((globals[i].flags & LUCET_FLAG_IMPORTED) && (globals[i].flags & LUCET_FLAG_MUTABLE)) ||
            !check_valtype(globals[i].valtype, globals[i].type_id) ||
            !check_words(c, globals[i].offset, global_size(&globals[i]), "global") ||
            globals[i].offset % (i64)global_size(&globals[i]))
            return damaged(c, "global");
    return true;
}

static bool check_tags(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    const struct abi_tag *tags = check_array(c, h->tags_rva, h->tags_count, sizeof *tags, "tags");
    u32 imported = count_imports(c, LUCET_KIND_TAG);
    for (u32 i = 0; tags && i < h->tags_count; i++)
        if (tags[i].type >= h->types_count || !(tags[i].flags & LUCET_FLAG_IMPORTED) != (i >= imported) ||
            !check_words(c, tags[i].offset, 8, "tag"))
            return damaged(c, "tag");
    return tags != NULL;
}

/* Version 1, a pc-relative pointer to .eh_frame, a count, and a table of numbers relative to the section; .eh_frame in front. */
static bool check_unwind(const struct check *c) {
    static const u8 encodings[] = {1, 0x1b, 0x03, 0x3b};
    u32 rva = c->header->eh_frame_hdr_rva, size = c->header->eh_frame_hdr_size, count;
    const u8 *hdr = rva % 4 || size < 12 ? NULL : file_at(c->file, rva, size);
    if (!hdr || memcmp(hdr, encodings, sizeof encodings) != 0)
        return damaged(c, "unwind information");
    memcpy(&count, hdr + 8, 4);
    return size == 12 + 8 * (u64)count || damaged(c, "unwind information");
}

static bool check_segments_of_module(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    const struct abi_elem *elems = check_array(c, h->elems_rva, h->elems_count, sizeof *elems, "element segments");
    const struct abi_function *functions =
        check_array(c, h->functions_rva, h->functions_count, sizeof *functions, "functions");
    if (!elems || !functions)
        return false;
    for (u32 i = 0; i < h->elems_count; i++) {
        const i32 *items = check_array(c, elems[i].items_rva, elems[i].items_count, 4, "element segment");
        if (!items || (elems[i].offset && !check_words(c, elems[i].offset, 8, "element segment")))
            return damaged(c, "element segment");
        for (u32 j = 0; j < elems[i].items_count; j++)
            if (items[j] >= 0 ? ((u32)items[j] >= h->functions_count || !functions[items[j]].ref_offset)
                              : (items[j] < -1 && (u64)(-2 - (i64)items[j]) >= h->globals_count))
                return damaged(c, "element");
    }
    const struct abi_data *datas = check_array(c, h->datas_rva, h->datas_count, sizeof *datas, "data segments");
    if (!datas)
        return false;
    for (u32 i = 0; i < h->datas_count; i++)
        if (!check_array(c, datas[i].bytes_rva, datas[i].bytes_count, 1, "data segment") ||
            (datas[i].offset && !check_words(c, datas[i].offset, 8, "data segment")))
            return false;
    return true;
}

static bool check_memory_type(const struct abi_memory *memory) {
    bool is_64 = memory->flags & LUCET_FLAG_64;
    u64 most = is_64 ? UINT64_MAX : UINT32_MAX;
    if (memory->page_size_log2 == 16)
        most = is_64 ? 1ULL << 48 : 65536;
    else if (memory->page_size_log2 != 0)
        return false;
    bool has_maximum = memory->maximum != UINT64_MAX;
    return memory->minimum <= most && (!has_maximum || memory->maximum <= most) &&
           (has_maximum || !(memory->flags & LUCET_FLAG_SHARED)) && memory->reserved <= (8ULL << 30) &&
           memory->guard <= (8ULL << 30);
}

static bool check_memory(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    const struct abi_memory *memories =
        check_array(c, h->memories_rva, h->memories_count, sizeof *memories, "memories");
    if (!memories)
        return false;
    u64 minimum = 0;
    u32 imported = count_imports(c, LUCET_KIND_MEMORY);
    for (u32 i = 0; i < h->memories_count; i++) {
        u32 flags = memories[i].flags;
        if (!check_memory_type(&memories[i]) || !(flags & LUCET_FLAG_IMPORTED) != (i >= imported))
            return damaged(c, "memory");
        if (memories[i].offset) {
            if (!check_words(c, memories[i].offset, 8, "memory"))
                return false;
        } else if (i || (flags & (LUCET_FLAG_IMPORTED | LUCET_FLAG_SHARED)) || memories[i].page_size_log2 != 16) {
            return damaged(c, "memory");
        } else {
            struct memory_type type = memory_type_of(&memories[i]);
            minimum = memtype_minimum(&type);
        }
    }
    const struct abi_image *images = check_array(c, h->images_rva, h->images_count, sizeof *images, "image");
    if (!images)
        return false;
    u64 end = 0;
    for (u32 i = 0; i < h->images_count; i++) {
        const struct abi_image *run = &images[i];
        if (run->heap_offset % HOST_PAGE || run->rva % HOST_PAGE || run->size % HOST_PAGE || run->heap_offset < end ||
            run->heap_offset > minimum || run->size > minimum - run->heap_offset ||
            !file_at(c->file, run->rva, run->size))
            return damaged(c, "image");
        end = run->heap_offset + run->size;
    }
    return true;
}

static bool check_imports_and_exports(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    u32 counts[5] = {h->functions_count, h->tables_count, h->memories_count, h->globals_count, h->tags_count};
    const struct abi_import *imports = check_array(c, h->imports_rva, h->imports_count, sizeof *imports, "imports");
    if (!imports)
        return false;
    u32 next[5] = {0};
    for (u32 i = 0; i < h->imports_count; i++) {
        if (imports[i].kind > LUCET_KIND_TAG || imports[i].index != next[imports[i].kind]++ ||
            imports[i].index >= counts[imports[i].kind])
            return damaged(c, "import");

        i64 size = imports[i].kind == LUCET_KIND_FUNC ? 16 : 8;
        if (!check_string(c, imports[i].module) || !check_string(c, imports[i].field) ||
            !check_words(c, imports[i].offset, size, "import"))
            return false;
    }
    const struct abi_export *exports = check_array(c, h->exports_rva, h->exports_count, sizeof *exports, "exports");
    if (!exports)
        return false;
    for (u32 i = 0; i < h->exports_count; i++) {
        if (exports[i].kind > LUCET_KIND_TAG || exports[i].index >= counts[exports[i].kind])
            return damaged(c, "export");
        if (!check_string(c, exports[i].name))
            return false;
    }
    return true;
}

struct restored {
    i64 globals_low, segments_low, segments_high; /* from vmctx */
};

static void include_segment(struct restored *r, i64 offset) {
    if (!offset)
        return;
    if (!r->segments_low || offset < r->segments_low)
        r->segments_low = offset;
    if (!r->segments_high || offset + 8 > r->segments_high)
        r->segments_high = offset + 8;
}

static struct restored restored_words(const struct abi_artifact_header *h, const struct abi_global *globals,
                                      const struct abi_elem *elems, const struct abi_data *datas) {
    struct restored r = {-VMCTX_FIXED_SIZE, 0, 0};
    for (u32 i = 0; i < h->globals_count; i++)
        if (!(globals[i].flags & LUCET_FLAG_IMPORTED) && globals[i].offset < r.globals_low)
            r.globals_low = globals[i].offset;
    for (u32 i = 0; i < h->elems_count; i++)
        include_segment(&r, elems[i].offset);
    for (u32 i = 0; i < h->datas_count; i++)
        include_segment(&r, datas[i].offset);
    return r;
}

static bool overlaps(const struct restored *r, i64 offset, i64 size) {
    return offset + size > r->globals_low || (offset + size > r->segments_low && offset < r->segments_high);
}

/* What is restored for the next guest contains nothing that is written only once. */
static bool check_restored(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    const struct abi_import *imports = (const void *)file_at(c->file, h->imports_rva, 0);
    const struct abi_ref *refs = (const void *)file_at(c->file, h->refs_rva, 0);
    struct restored r = restored_words(h, (const void *)file_at(c->file, h->globals_rva, 0),
                                       (const void *)file_at(c->file, h->elems_rva, 0),
                                       (const void *)file_at(c->file, h->datas_rva, 0));
    for (u32 i = 0; i < h->imports_count; i++)
        if (imports[i].kind != LUCET_KIND_GLOBAL &&
            overlaps(&r, imports[i].offset, imports[i].kind == LUCET_KIND_FUNC ? 16 : 8))
            return damaged(c, "import");
    const struct abi_memory *memories = (const void *)file_at(c->file, h->memories_rva, 0);
    for (u32 i = 0; i < h->memories_count; i++)
        if (memories[i].offset && overlaps(&r, memories[i].offset, 8))
            return damaged(c, "memory");
    for (u32 i = 0; i < h->refs_count; i++)
        if (overlaps(&r, refs[i].offset, sizeof(struct abi_funcref)))
            return damaged(c, "function reference");
    return true;
}

/* One bit for each word of the instance area. */
struct words {
    u64 *bits;
    i64 low; /* from vmctx, the first word's */
};

static bool take_words(struct words *words, i64 offset, u64 size) {
    for (u64 first = (u64)(offset - words->low) / 8, i = first; i < first + size / 8; i++) {
        if (words->bits[i / 64] >> (i % 64) & 1)
            return false;
        words->bits[i / 64] |= 1ULL << (i % 64);
    }
    return true;
}

/* What is imported has its word from the import, and no other. */
static bool has_word(const struct check *c, const struct abi_import *import) {
    const struct abi_artifact_header *h = c->header;
    switch (import->kind) {
    case LUCET_KIND_TABLE:
        return ((const struct abi_table *)file_at(c->file, h->tables_rva, 0))[import->index].offset == import->offset;
    case LUCET_KIND_MEMORY:
        return ((const struct abi_memory *)file_at(c->file, h->memories_rva, 0))[import->index].offset ==
               import->offset;
    case LUCET_KIND_GLOBAL:
        return ((const struct abi_global *)file_at(c->file, h->globals_rva, 0))[import->index].offset == import->offset;
    case LUCET_KIND_TAG:
        return ((const struct abi_tag *)file_at(c->file, h->tags_rva, 0))[import->index].offset == import->offset;
    default:
        return true;
    }
}

/* No word belongs to two, and every function that is to have a reference has one. All of these were checked by themselves. */
static bool take_all_words(const struct check *c, struct words *words) {
    const struct abi_artifact_header *h = c->header;
    const struct abi_import *imports = (const void *)file_at(c->file, h->imports_rva, 0);
    const struct abi_memory *memories = (const void *)file_at(c->file, h->memories_rva, 0);
    const struct abi_table *tables = (const void *)file_at(c->file, h->tables_rva, 0);
    const struct abi_global *globals = (const void *)file_at(c->file, h->globals_rva, 0);
    const struct abi_elem *elems = (const void *)file_at(c->file, h->elems_rva, 0);
    const struct abi_data *datas = (const void *)file_at(c->file, h->datas_rva, 0);
    const struct abi_ref *refs = (const void *)file_at(c->file, h->refs_rva, 0);
    const struct abi_function *functions = (const void *)file_at(c->file, h->functions_rva, 0);
    bool ok = true;
    for (u32 i = 0; ok && i < h->imports_count; i++)
        ok = has_word(c, &imports[i]) &&
             (imports[i].kind == LUCET_KIND_GLOBAL ||
              take_words(words, imports[i].offset, imports[i].kind == LUCET_KIND_FUNC ? 16 : 8));
    for (u32 i = 0; ok && i < h->memories_count; i++)
        ok = !memories[i].offset || (memories[i].flags & LUCET_FLAG_IMPORTED) ||
             take_words(words, memories[i].offset, 8);
    for (u32 i = 0; ok && i < h->tables_count; i++)
        ok = (tables[i].flags & (LUCET_FLAG_STATIC | LUCET_FLAG_IMPORTED)) || take_words(words, tables[i].offset, 8);
    for (u32 i = 0; ok && i < h->globals_count; i++)
        ok = take_words(words, globals[i].offset, global_size(&globals[i]));
    const struct abi_tag *tags = (const void *)file_at(c->file, h->tags_rva, 0);
    for (u32 i = 0; ok && i < h->tags_count; i++)
        ok = (tags[i].flags & LUCET_FLAG_IMPORTED) || take_words(words, tags[i].offset, 8);
    /* Segments without contents share a word that is 0 and stays so. */
    for (u32 i = 0; ok && i < h->elems_count; i++)
        ok = !elems[i].offset || !elems[i].items_count || take_words(words, elems[i].offset, 8);
    for (u32 i = 0; ok && i < h->datas_count; i++)
        ok = !datas[i].offset || !datas[i].bytes_count || take_words(words, datas[i].offset, 8);
    for (u32 i = 0; ok && i < h->refs_count; i++)
        ok = take_words(words, refs[i].offset, sizeof(struct abi_funcref));
    u32 with_reference = 0;
    for (u32 i = 0; i < h->functions_count; i++)
        with_reference += functions[i].ref_offset != 0;
    return ok && with_reference == h->refs_count;
}

static bool check_area(const struct check *c) {
    struct words words = {calloc(c->header->instance_size / 8 / 64 + 1, sizeof(u64)), -(i64)c->header->instance_size};
    if (!words.bits)
        return fail(c->error, LUCET_ERROR_MEMORY, "out of memory");
    bool ok = take_all_words(c, &words);
    free(words.bits);
    return ok || damaged(c, "instance area: something is there twice");
}

static bool check_descriptors(const struct check *c) {
    const struct abi_artifact_header *h = c->header;
    if (h->instance_size % 16 || h->instance_size < VMCTX_FIXED_SIZE || h->instance_size > (1U << 30) ||
        !check_array(c, h->template_rva, h->instance_size, 1, "template") ||
        !check_array(c, h->lines_rva, h->lines_size, 1, "lines") ||
        !check_array(c, h->sources_rva, h->sources_size, 1, "sources") ||
        !check_array(c, h->strings_rva, h->strings_size, 1, "strings"))
        return damaged(c, "instance area");
    const Elf64_Phdr *code = NULL;
    for (u32 i = 0; i < c->file->segments_count; i++)
        if (c->file->segments[i].p_type == PT_LOAD && (c->file->segments[i].p_flags & PF_X))
            code = &c->file->segments[i];
    if (h->text_size &&
        (!code || h->text_rva < code->p_vaddr || (u64)h->text_rva + h->text_size > code->p_vaddr + code->p_filesz))
        return damaged(c, "text");
    /* Imports first: they say which items of the index spaces are imported. */
    return check_string(c, h->producer) && check_imports_and_exports(c) && check_functions(c) &&
           check_tables_and_globals(c) && check_tags(c) && check_unwind(c) && check_segments_of_module(c) &&
           check_memory(c) && check_restored(c) && check_area(c);
}

static bool check_file(const struct file *file_in, const struct stat *status, u64 *header_rva, lucet_error *error) {
    struct file file = *file_in;
    if (file.size < sizeof(Elf64_Ehdr) || memcmp(file.bytes, ELFMAG, SELFMAG) != 0)
        return not_ours(error, "not an ELF file");
    const Elf64_Ehdr *elf = (const void *)file.bytes;
    if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_ident[EI_DATA] != ELFDATA2LSB || elf->e_machine != EM_X86_64 ||
        elf->e_type != ET_DYN)
        return not_ours(error, "not an x86-64 shared object");
    if (elf->e_phentsize != sizeof(Elf64_Phdr) || elf->e_phoff % 8 || elf->e_phnum > 64 || elf->e_phoff > file.size ||
        elf->e_phnum * sizeof(Elf64_Phdr) > file.size - elf->e_phoff)
        return not_ours(error, "bad program headers");
    file.segments = (const void *)(file.bytes + elf->e_phoff);
    file.segments_count = elf->e_phnum;
    u64 symbols = 0, strings = 0, rva = 0;
    u32 symbols_count = 0;
    if (!check_segments(&file, error) || !check_dynamic(&file, &symbols, &symbols_count, &strings, error))
        return false;
    const struct abi_artifact_header *header = find_header(&file, symbols, symbols_count, strings, &rva);
    if (!header)
        return not_ours(error, "it has no symbol lucet_module");
    struct check c = {&file, header, error};
    *header_rva = rva;
    return check_header(&file, header, rva, error) && check_whole(&file, header, status, error) &&
           check_descriptors(&c);
}

/* ---- loading ---- */

static int compare_names(const void *a, const void *b, void *context) {
    const lucet_module *module = context;
    lucet_string x = lucet_module_export(module, *(const u32 *)a).name,
                 y = lucet_module_export(module, *(const u32 *)b).name;
    int order = memcmp(x.bytes, y.bytes, x.size < y.size ? x.size : y.size);
    return order ? order : (x.size > y.size) - (x.size < y.size);
}

static void set_restored(lucet_module *module) {
    struct restored r = restored_words(module->header, module->globals, module->elems, module->datas);
    module->globals_low = (u32)-r.globals_low;
    module->segments_low = (u32)-r.segments_low;
    module->segments_high = (u32)-r.segments_high;
}

static lucet_functype make_functype(const lucet_module *module, u32 type) {
    const struct abi_type *t = &module->types[type];
    lucet_functype result = {.id = t->id,
                             .params_count = t->params_count,
                             .results_count = t->results_count,
                             .valtypes = module->base + t->valtypes_rva,
                             .type_ids = t->type_ids_rva ? (const void *)(module->base + t->type_ids_rva) : NULL};
    u32 slots[2] = {0, 0};
    for (u32 i = 0; i < t->params_count + t->results_count; i++)
        slots[i >= t->params_count] += result.valtypes[i] == LUCET_VALTYPE_V128 ? 2 : 1;
    result.has_exnrefs = functype_has_exnrefs(&result);
    result.slots_count = slots[0] > slots[1] ? slots[0] : slots[1];
    return result;
}

static bool set_up(lucet_module *module, u64 header_rva, lucet_error *error) {
    /* Not through its symbol table: the header that was checked is this one. */
    const struct link_map *map = NULL;
    if (dlinfo(module->handle, RTLD_DI_LINKMAP, &map) < 0)
        return fail(error, LUCET_ERROR_SYSTEM, "dlinfo: %s", dlerror());

    const struct abi_artifact_header *h = (const void *)(map->l_addr + header_rva);
    module->header = h;
    module->base = (const u8 *)map->l_addr;
    module->text = module->base + h->text_rva;
    module->text_end = module->text + h->text_size;
    module->types = (const void *)(module->base + h->types_rva);
    module->functions = (const void *)(module->base + h->functions_rva);
    module->imports = (const void *)(module->base + h->imports_rva);
    module->exports = (const void *)(module->base + h->exports_rva);
    module->memories = (const void *)(module->base + h->memories_rva);
    module->globals = (const void *)(module->base + h->globals_rva);
    module->tables = (const void *)(module->base + h->tables_rva);
    module->refs_table = (const void *)(module->base + h->refs_rva);
    module->tags = (const void *)(module->base + h->tags_rva);
    module->elems = (const void *)(module->base + h->elems_rva);
    module->datas = (const void *)(module->base + h->datas_rva);
    module->images = (const void *)(module->base + h->images_rva);
    for (u32 i = 0; i < h->images_count; i++)
        module->image_size += module->images[i].size;
    for (u32 i = 0; i < h->imports_count; i++)
        module->imported_functions += module->imports[i].kind == LUCET_KIND_FUNC;
    for (u32 i = 0; i < h->memories_count; i++) {
        if (module->memories[i].flags & LUCET_FLAG_IMPORTED)
            continue;
        if (module->memories[i].offset) {
            module->other_memories++;
            continue;
        }
        struct memory_type type = memory_type_of(&module->memories[i]);
        module->has_slot_memory = true;
        module->memory_minimum = memtype_minimum(&type);
    }
    set_restored(module);
    module->functypes = calloc(h->types_count + 1, sizeof *module->functypes);
    if (!module->functypes)
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    for (u32 i = 0; i < h->types_count; i++)
        module->functypes[i] = make_functype(module, i);
    module->exports_by_name = malloc((h->exports_count + 1) * sizeof(u32));
    if (!module->exports_by_name)
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    for (u32 i = 0; i < h->exports_count; i++)
        module->exports_by_name[i] = i;
    qsort_r(module->exports_by_name, h->exports_count, sizeof(u32), compare_names, module);
    return types_register(module, error);
}

/* File offset minus rva of the image runs, for mapping them copy-on-write. */
static void set_image_file_delta(lucet_module *module, const struct file *file) {
    const Elf64_Ehdr *elf = (const void *)file->bytes;
    const Elf64_Phdr *segments = (const void *)(file->bytes + elf->e_phoff);
    for (u32 i = 0; i < elf->e_phnum && module->header->images_count; i++)
        if (segments[i].p_type == PT_LOAD && module->images[0].rva >= segments[i].p_vaddr &&
            module->images[0].rva < segments[i].p_vaddr + segments[i].p_filesz)
            module->image_file_delta = segments[i].p_offset - segments[i].p_vaddr;
}

static void set_unwind_low(lucet_module *module, const struct file *file) {
    const Elf64_Ehdr *elf = (const void *)file->bytes;
    const Elf64_Phdr *segments = (const void *)(file->bytes + elf->e_phoff);
    u64 rva = module->header->eh_frame_hdr_rva;
    for (u32 i = 0; i < elf->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && rva >= segments[i].p_vaddr &&
            rva < segments[i].p_vaddr + segments[i].p_filesz)
            module->unwind_low = segments[i].p_vaddr;
}

/* The path under a name that dlopen has not seen: it takes a name that it knows for the file that had it then, without
 * looking, even if another file has it by now. The serial's bits become "/" and "/." between the root and the path. */
static char *unseen_name(const char *path, u64 serial) {
    char *name = malloc(2 * 64 + strlen(path) + 1), *at = name;
    if (!name)
        return NULL;
    for (; serial; serial >>= 1) {
        *at++ = '/';
        if (serial & 1)
            *at++ = '.';
    }
    strcpy(at, path);
    return name;
}

/* The linker opens the file once more: it must still be the one that was checked. */
static bool is_same_file(const char *path, const struct stat *checked) {
    struct stat present;
    return stat(path, &present) == 0 && present.st_dev == checked->st_dev && present.st_ino == checked->st_ino;
}

static bool open_library(lucet_module *module, const char *path, const struct stat *checked, lucet_error *error) {
    char *name = unseen_name(path, module->serial);
    if (!name)
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    module->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    free(name);
    if (!module->handle) {
        const char *why = dlerror();
        return fail(error, LUCET_ERROR_ARTIFACT, "the artifact cannot be mapped: %s", why ? why : "unknown reason");
    }
    return is_same_file(path, checked) ||
           fail(error, LUCET_ERROR_ARTIFACT, "the artifact was replaced while it was loaded");
}

static lucet_module *make_module(const struct file *file, u64 header_rva, int fd, const char *path,
                                 const struct stat *status, lucet_error *error) {
    static atomic_ullong serials;
    lucet_module *module = calloc(1, sizeof *module);
    if (!module) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&module->refs, 1);
    module->serial = atomic_fetch_add(&serials, 1) + 1;
    module->fd = -1;
    bool ok = open_library(module, path, status, error) && set_up(module, header_rva, error);
    if (ok) {
        set_image_file_delta(module, file);
        set_unwind_low(module, file);
        /* Descriptors are scarce: kept only for who needs one. */
        if (module_maps_image(module) && (module->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
            ok = fail_system(error, "fcntl");
    }
    if (!ok) {
        lucet_module_release(module);
        return NULL;
    }
    return module;
}

static lucet_module *load(int fd, const char *path, lucet_error *error) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return fail_system(error, "fstat"), NULL;
    if (!S_ISREG(status.st_mode)) {
        fail(error, LUCET_ERROR_ARTIFACT, "not a regular file");
        return NULL;
    }
    if (status.st_size == 0) {
        not_ours(error, "it is empty");
        return NULL;
    }
    struct file file = {.size = (u64)status.st_size};
    file.bytes = mmap(NULL, file.size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file.bytes == MAP_FAILED)
        return fail_system(error, "mmap"), NULL;
    u64 header_rva = 0;
    lucet_module *module = NULL;
    if (check_file(&file, &status, &header_rva, error))
        module = make_module(&file, header_rva, fd, path, &status, error);
    munmap((void *)file.bytes, file.size);
    return module;
}

lucet_module *lucet_module_load(const char *path, lucet_error *error) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_system(error, path), NULL;
    /* dlopen searches for a name without a slash, and an absolute path is what debuggers need. */
    char *absolute = realpath(path, NULL);
    lucet_module *module = absolute ? load(fd, absolute, error) : (fail_system(error, path), NULL);
    free(absolute);
    close(fd);
    return module;
}

static bool write_all(int fd, const u8 *bytes, size_t size) {
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno != EINTR)
            return false;
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

lucet_module *lucet_module_load_bytes(const void *bytes, size_t size, lucet_error *error) {
    int fd = memfd_create("lucet-artifact", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fail_system(error, "memfd_create"), NULL;
    lucet_module *module = NULL;
    if (!write_all(fd, bytes, size)) {
        fail_system(error, "write");
    } else if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        fail_system(error, "fcntl");
    } else {
        char path[40];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        module = load(fd, path, error);
    }
    close(fd);
    return module;
}

void lucet_module_retain(lucet_module *module) {
    atomic_fetch_add_explicit(&module->refs, 1, memory_order_relaxed);
}

void lucet_module_release(lucet_module *module) {
    if (atomic_fetch_sub_explicit(&module->refs, 1, memory_order_acq_rel) != 1)
        return;
    module_forget_unwind(module);
    if (module->handle)
        dlclose(module->handle);
    if (module->fd >= 0)
        close(module->fd);
    free(module->exports_by_name);
    free(module->functypes);
    free(module);
}

/* ---- asking a module ---- */

const char *module_string(const lucet_module *module, u32 string, u32 *size) {
    const u8 *at = module->base + module->header->strings_rva + string;
    memcpy(size, at, 4);
    return (const char *)at + 4;
}

static lucet_string string_of(const lucet_module *module, u32 string) {
    lucet_string s = {NULL, 0};
    if (string != LUCET_NONE)
        s.bytes = module_string(module, string, &s.size);
    return s;
}

const lucet_functype *lucet_module_functype(const lucet_module *module, uint32_t index) {
    return index < module->header->functions_count ? &module->functypes[module->functions[index].type] : NULL;
}

uint32_t lucet_module_imports_count(const lucet_module *module) {
    return module->header->imports_count;
}

uint32_t lucet_module_exports_count(const lucet_module *module) {
    return module->header->exports_count;
}

lucet_import_info lucet_module_import(const lucet_module *module, uint32_t i) {
    const struct abi_import *import = &module->imports[i];
    return (lucet_import_info){string_of(module, import->module), string_of(module, import->field),
                               (lucet_kind)import->kind, import->index};
}

lucet_export_info lucet_module_export(const lucet_module *module, uint32_t i) {
    const struct abi_export *export = &module->exports[i];
    return (lucet_export_info){string_of(module, export->name), (lucet_kind)export->kind, export->index};
}

bool lucet_module_find_export(const lucet_module *module, const char *name, size_t size, lucet_export_info *found) {
    u32 low = 0, high = module->header->exports_count;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        lucet_export_info info = lucet_module_export(module, module->exports_by_name[middle]);
        int order = memcmp(info.name.bytes, name, info.name.size < size ? info.name.size : size);
        if (order == 0)
            order = (info.name.size > size) - (info.name.size < size);
        if (order == 0) {
            *found = info;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

bool lucet_module_type(const lucet_module *module, lucet_kind kind, uint32_t index, lucet_externtype *type) {
    const struct abi_artifact_header *h = module->header;
    *type = (lucet_externtype){.kind = kind};
    switch (kind) {
    case LUCET_FUNC:
        if (index >= h->functions_count)
            return false;
        type->functype = *lucet_module_functype(module, index);
        return true;
    case LUCET_TABLE:
        if (index >= h->tables_count)
            return false;
        type->valtype = (u8)module->tables[index].reftype;
        type->type_id = module->tables[index].type_id;
        type->is_64 = module->tables[index].flags & LUCET_FLAG_64;
        type->limits = (lucet_limits){module->tables[index].minimum, module->tables[index].maximum};
        return true;
    case LUCET_MEMORY:
        if (index >= h->memories_count)
            return false;
        type->is_64 = module->memories[index].flags & LUCET_FLAG_64;
        type->is_shared = module->memories[index].flags & LUCET_FLAG_SHARED;
        type->page_size_log2 = (u8)module->memories[index].page_size_log2;
        type->limits = (lucet_limits){module->memories[index].minimum, module->memories[index].maximum};
        return true;
    case LUCET_GLOBAL:
        if (index >= h->globals_count)
            return false;
        type->valtype = (u8)module->globals[index].valtype;
        type->type_id = module->globals[index].type_id;
        type->is_mutable = module->globals[index].flags & LUCET_FLAG_MUTABLE;
        return true;
    case LUCET_TAG:
        if (index >= h->tags_count)
            return false;
        type->functype = module->functypes[module->tags[index].type];
        return true;
    }
    return false;
}

lucet_string lucet_module_function_name(const lucet_module *module, uint32_t index) {
    return string_of(module, index < module->header->functions_count ? module->functions[index].name : LUCET_NONE);
}

lucet_string lucet_module_sources(const lucet_module *module) {
    const struct abi_artifact_header *h = module->header;
    return (lucet_string){h->sources_size ? (const char *)module->base + h->sources_rva : NULL, h->sources_size};
}

lucet_string lucet_module_producer(const lucet_module *module) {
    return string_of(module, module->header->producer);
}

const uint8_t *lucet_module_source_digest(const lucet_module *module) {
    return module->header->source_digest;
}

/* ---- where a program counter is ---- */

static u64 read_uleb(const u8 **at, const u8 *end) {
    u64 value = 0;
    for (u32 shift = 0; *at < end && shift < 64; shift += 7) {
        u8 byte = *(*at)++;
        value |= (u64)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            break;
    }
    return value;
}

static i64 read_sleb(const u8 **at, const u8 *end) {
    u64 value = 0;
    for (u32 shift = 0; *at < end && shift < 64;) {
        u8 byte = *(*at)++;
        value |= (u64)(byte & 0x7f) << shift;
        shift += 7;
        if (!(byte & 0x80)) {
            if ((byte & 0x40) && shift < 64)
                value |= ~(u64)0 << shift;
            break;
        }
    }
    return (i64)value;
}

/* The function whose body holds this offset: an inlined one, if not the one whose code it is. */
static u32 function_at(const lucet_module *module, u32 wasm_offset, u32 otherwise) {
    u32 low = 0, high = module->header->functions_count;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        if (module->functions[middle].wasm_offset <= wasm_offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? low - 1 : otherwise;
}

bool module_locate(const lucet_module *module, const u8 *pc, u32 *function, u32 *wasm_offset) {
    const struct abi_artifact_header *h = module->header;
    u64 rva = (u64)(pc - module->base);
    for (u32 i = 0; i < h->functions_count; i++) {
        const struct abi_function *f = &module->functions[i];
        u64 start = f->tail_rva ? f->tail_rva : f->code_rva;
        if (!start || rva < start || rva - start >= f->code_size)
            continue;
        *function = i;
        *wasm_offset = LUCET_NO_OFFSET;
        if (f->lines == LUCET_NONE)
            return true;
        const u8 *at = module->base + h->lines_rva + f->lines, *end = module->base + h->lines_rva + h->lines_size;
        u64 code = start;
        u64 offset = 0;
        for (u64 count = read_uleb(&at, end); count > 0 && at < end; count--) {
            code += read_uleb(&at, end);
            if (code > rva)
                break;
            offset += (u64)read_sleb(&at, end);
            *wasm_offset = (i64)offset < 0 ? LUCET_NO_OFFSET : f->wasm_offset + (u32)offset;
        }
        if (*wasm_offset != LUCET_NO_OFFSET)
            *function = function_at(module, *wasm_offset, i);
        return true;
    }
    return false;
}
