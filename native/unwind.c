/* unwind.c: where a guest frame's caller is, and whether the frame has a handler: read from .eh_frame and .gcc_except_table as
 * LLVM writes them and src/lucet/compile/unwind.py checks them.
 *
 * The records of a function are expanded when an exception first meets it, so a search never takes longer than looking for a
 * place in a sorted array, however large a function is, and loading a module costs nothing. */

#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { DWARF_RBX = 3, DWARF_RBP = 6, DWARF_RSP = 7, DWARF_R12 = 12, DWARF_RETURN = 16, STATES = 8 };

struct pad {
    u32 begin, end, landing; /* from the function's start */
};

/* One function. */
struct expansion {
    u32 rows_count, pads_count;
    struct pad *pads;
    struct unwind_row rows[];
};

struct unwind_table {
    _Atomic(struct expansion *) functions[1]; /* as many as .eh_frame_hdr has */
};

/* .eh_frame_hdr, whose pointers are relative to itself. */
struct eh_frame_hdr {
    u8 version, encodings[3];
    i32 eh_frame; /* relative to this field */
    u32 count;
    struct {
        i32 code, record;
    } entries[];
};

static const struct eh_frame_hdr *hdr_of(const lucet_module *module) {
    return (const void *)(module->base + module->header->eh_frame_hdr_rva);
}

/* ---- reading ---- */

struct reader {
    const u8 *at, *end;
    bool failed;
};

static u64 read_bytes(struct reader *r, u32 size) {
    u64 value = 0;
    if ((size_t)(r->end - r->at) < size) {
        r->failed = true;
        r->at = r->end;
        return 0;
    }
    memcpy(&value, r->at, size);
    r->at += size;
    return value;
}

static u64 read_number(struct reader *r) {
    u64 value = 0;
    for (u32 shift = 0; shift < 64; shift += 7) {
        u8 byte = (u8)read_bytes(r, 1);
        value |= (u64)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    r->failed = true;
    return 0;
}

/* ---- call frame instructions ---- */

static i32 index_of(u64 dwarf_register) {
    if (dwarf_register >= DWARF_R12 && dwarf_register < DWARF_RETURN)
        return (i32)(UNWIND_R12 + dwarf_register - DWARF_R12);
    return dwarf_register == DWARF_RBX ? UNWIND_RBX : dwarf_register == DWARF_RBP ? UNWIND_RBP : -1;
}

static void set_cfa_register(struct reader *r, struct unwind_row *row, u64 dwarf_register) {
    r->failed |= dwarf_register != DWARF_RSP && dwarf_register != DWARF_RBP;
    row->from_rbp = dwarf_register == DWARF_RBP;
}

static void set_cfa_offset(struct reader *r, struct unwind_row *row, u64 offset) {
    r->failed |= offset > INT32_MAX;
    row->cfa = (i32)offset;
}

static void set_saved(struct reader *r, struct unwind_row *row, u64 dwarf_register, u64 factor) {
    i32 index = index_of(dwarf_register);
    if (dwarf_register == DWARF_RETURN && factor == 1)
        return;
    if (index < 0 || factor > -INT16_MIN / 8) {
        r->failed = true;
        return;
    }
    row->saved |= (u8)(1 << index);
    row->at[index] = (i16)(-8 * (i32)factor);
}

static void restore(struct unwind_row *row, u64 dwarf_register) {
    i32 index = index_of(dwarf_register);
    if (index >= 0)
        row->saved &= (u8) ~(1 << index);
}

/* All of a program's rows into rows (of the size of the program and 1), from the state in the first. Returns how many. */
static u32 run_program(struct reader *r, struct unwind_row *rows) {
    struct unwind_row row = rows[0], states[STATES];
    u32 count = 0, depth = 0;
    row.start = 0;
    while (r->at < r->end && !r->failed) {
        u8 op = (u8)read_bytes(r, 1);
        u64 advance = 0, number;
        switch (op >> 6) {
        case 1:
            advance = op & 63;
            break;
        case 2:
            set_saved(r, &row, op & 63, read_number(r));
            continue;
        case 3:
            restore(&row, op & 63);
            continue;
        default:
            switch (op) {
            case 0x00: /* nop */
                continue;
            case 0x02: /* advance_loc1, 2, 4 */
            case 0x03:
            case 0x04:
                advance = read_bytes(r, 1U << (op - 2));
                break;
            case 0x0a: /* remember_state */
                r->failed |= depth == STATES;
                if (!r->failed)
                    states[depth++] = row;
                continue;
            case 0x0b: { /* restore_state */
                u32 start = row.start;
                r->failed |= depth == 0;
                if (!r->failed)
                    row = states[--depth];
                row.start = start;
                continue;
            }
            case 0x0c: /* def_cfa */
                set_cfa_register(r, &row, read_number(r));
                set_cfa_offset(r, &row, read_number(r));
                continue;
            case 0x0d: /* def_cfa_register */
                set_cfa_register(r, &row, read_number(r));
                continue;
            case 0x0e: /* def_cfa_offset */
                set_cfa_offset(r, &row, read_number(r));
                continue;
            case 0x2e: /* GNU_args_size */
                number = read_number(r);
                r->failed |= number > INT32_MAX;
                row.arguments = (u32)number;
                continue;
            default:
                r->failed = true;
                continue;
            }
        }
        if (advance) {
            rows[count++] = row;
            r->failed |= row.start + advance > UINT32_MAX;
            row.start += (u32)advance;
        }
    }
    rows[count++] = row;
    return count;
}

/* ---- records ---- */

struct record {
    struct reader program;
    const u8 *lsda; /* NULL if there is none */
};

static bool within(const lucet_module *module, const u8 *at) {
    const u8 *end = (const u8 *)hdr_of(module) + module->header->eh_frame_hdr_size;
    return at >= module->base + module->unwind_low && at < end;
}

/* A record's contents behind its length; an empty reader if it is not all there. */
static struct reader open_record(const lucet_module *module, const u8 *record) {
    struct reader r = {record, (const u8 *)hdr_of(module), !within(module, record)};
    if (r.failed || record > r.end)
        return (struct reader){NULL, NULL, true};
    u64 length = read_bytes(&r, 4);
    r.failed |= length > (u64)(r.end - r.at);
    if (!r.failed)
        r.end = r.at + length;
    return r;
}

static struct record read_record(const lucet_module *module, const u8 *at) {
    static const u8 with_handlers[] = {1, 'z', 'L', 'R', 0};
    struct reader r = open_record(module, at);
    const u8 *field = r.at, *cie = field - (u32)read_bytes(&r, 4);
    struct reader c = open_record(module, cie);
    read_bytes(&c, 4);
    bool has_lsda = !c.failed && (size_t)(c.end - c.at) > sizeof with_handlers &&
                    memcmp(c.at, with_handlers, sizeof with_handlers) == 0;
    read_bytes(&r, 8); /* where the code is, and its size */
    u64 augmentation = read_number(&r);
    const u8 *data = r.at;
    struct record record = {r, NULL};
    if (augmentation > (u64)(r.end - r.at)) {
        record.program.failed = true;
        return record;
    }
    record.program.at += augmentation;
    record.program.failed |= c.failed;
    if (has_lsda) {
        i32 delta = (i32)read_bytes(&r, 4);
        record.lsda = data + delta;
        record.program.failed |= r.failed;
    }
    return record;
}

/* The landing pads of a function, which the table lists in the order of its code. */
static u32 read_pads(const lucet_module *module, const u8 *lsda, struct pad **pads, bool *failed) {
    enum { OMITTED = 0xff, ULEB = 1 };
    struct reader r = {lsda, (const u8 *)hdr_of(module), !within(module, lsda)};
    if (r.failed || lsda > r.end || read_bytes(&r, 1) != OMITTED)
        goto fail;
    if (read_bytes(&r, 1) != OMITTED)
        read_number(&r); /* where the table of types ends */
    if (read_bytes(&r, 1) != ULEB)
        goto fail;
    u64 size = read_number(&r);
    if (r.failed || size > (u64)(r.end - r.at))
        goto fail;
    r.end = r.at + size;
    struct pad *found = malloc((size / 4 + 1) * sizeof *found); /* an entry has four numbers */
    u32 count = 0;
    if (!found)
        goto fail;
    while (r.at < r.end && !r.failed) {
        u64 begin = read_number(&r), length = read_number(&r), landing = read_number(&r);
        read_number(&r); /* the action: all of ours clean up */
        if (landing)
            found[count++] = (struct pad){(u32)begin, (u32)(begin + length), (u32)landing};
    }
    *pads = found;
    *failed |= r.failed;
    return count;
fail:
    *failed = true;
    return 0;
}

static struct expansion *expand(const lucet_module *module, u32 function) {
    const struct eh_frame_hdr *hdr = hdr_of(module);
    struct record record = read_record(module, (const u8 *)hdr + hdr->entries[function].record);
    struct reader *program = &record.program;
    if (program->failed)
        return NULL;
    u64 most = (u64)(program->end - program->at) + 1;
    struct expansion *e = calloc(1, sizeof *e + most * sizeof *e->rows);
    if (!e)
        return NULL;
    e->rows[0].cfa = 8; /* as every CIE of LLVM's begins */
    e->rows_count = run_program(program, e->rows);
    bool failed = program->failed;
    if (record.lsda && !failed)
        e->pads_count = read_pads(module, record.lsda, &e->pads, &failed);
    if (failed) {
        free(e->pads);
        free(e);
        return NULL;
    }
    struct expansion *small = realloc(e, sizeof *e + e->rows_count * sizeof *e->rows);
    return small ? small : e;
}

/* ---- searching ---- */

static struct unwind_table *table_of(lucet_module *module) {
    struct unwind_table *table = atomic_load_explicit(&module->unwind, memory_order_acquire), *none = NULL;
    if (LIKELY(table))
        return table;
    table = calloc((u64)hdr_of(module)->count + 1, sizeof *table);
    if (table && !atomic_compare_exchange_strong(&module->unwind, &none, table)) {
        free(table);
        table = none;
    }
    return table;
}

static const struct expansion *expansion_of(lucet_module *module, u32 function) {
    struct unwind_table *table = table_of(module);
    if (!table)
        return NULL;
    struct expansion *e = atomic_load_explicit(&table->functions[function], memory_order_acquire), *none = NULL;
    if (LIKELY(e))
        return e;
    e = expand(module, function);
    if (e && !atomic_compare_exchange_strong(&table->functions[function], &none, e)) {
        free(e->pads);
        free(e);
        e = none;
    }
    return e;
}

const struct unwind_row *module_unwind(lucet_module *module, const u8 *return_address, const u8 **landing) {
    const struct eh_frame_hdr *hdr = hdr_of(module);
    i64 place = return_address - 1 - (const u8 *)hdr; /* in the call: it may be the last instruction */
    u32 low = 0, high = hdr->count;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        if (hdr->entries[middle].code <= place)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    u32 function = low - 1;
    const struct expansion *e = expansion_of(module, function);
    if (!e)
        return NULL;
    u32 offset = (u32)(place - hdr->entries[function].code);
    for (low = 0, high = e->rows_count; low < high;) {
        u32 middle = low + (high - low) / 2;
        if (e->rows[middle].start <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    const struct unwind_row *row = &e->rows[low - 1];
    for (low = 0, high = e->pads_count; low < high;) {
        u32 middle = low + (high - low) / 2;
        if (e->pads[middle].begin <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    bool is_in = low > 0 && offset < e->pads[low - 1].end;
    *landing = is_in ? (const u8 *)hdr + hdr->entries[function].code + e->pads[low - 1].landing : NULL;
    return row;
}

void module_forget_unwind(lucet_module *module) {
    struct unwind_table *table = atomic_load(&module->unwind);
    if (!table)
        return;
    for (u32 i = 0; i < hdr_of(module)->count; i++) {
        struct expansion *e = atomic_load(&table->functions[i]);
        if (e)
            free(e->pads);
        free(e);
    }
    free(table);
}
