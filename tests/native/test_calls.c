/* test_calls.c: values in and out, every trap with its place, guest stacks that overflow. */

#include "kit.h"

static lucet_instance *instance_of(const char *name) {
    lucet_linkage *linkage = load_linked(name);
    lucet_region *region = small_region(2);
    lucet_instance *instance = started_instance(region, linkage);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    return instance;
}

static u64 bits_of_double(double value) {
    u64 bits;
    memcpy(&bits, &value, 8);
    return bits;
}

static u64 bits_of_float(float value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static void values(const char *guest) {
    lucet_instance *instance = instance_of(guest);
    CHECK_EQUAL(CALL(instance, "add", 2, 3), 5);
    CHECK_EQUAL(CALL(instance, "add", 0xffffffff, 2), 1);
    /* The upper half of an i32's slot is nobody's. */
    CHECK_EQUAL(CALL(instance, "add", 0xdeadbeef00000002, 0xffffffff00000003), 5);
    CHECK_EQUAL(CALL(instance, "pick", 0, 7, 5), 12);
    CHECK_EQUAL(CALL(instance, "pick", 1, 7, 5), 2);
    CHECK_TRAPS(TRAP_UNINITIALIZED_ELEMENT, instance, "pick", 2, 7, 5);
    CHECK_TRAPS(TRAP_UNDEFINED_ELEMENT, instance, "pick", 3, 7, 5);
    u64 mixed[4] = {0x80000001, 0x8000000000000001, bits_of_float(-1.5F), bits_of_double(0.1)};
    CHECK_EQUAL(call_slots(instance, "reverse", mixed), LUCET_RETURNED);
    CHECK_EQUAL(mixed[0], bits_of_double(0.1));
    CHECK_EQUAL((u32)mixed[1], bits_of_float(-1.5F));
    CHECK_EQUAL(mixed[2], 0x8000000000000001);
    CHECK_EQUAL((u32)mixed[3], 0x80000001);
    int object;
    u64 references[2] = {0, (u64)(uintptr_t)&object};
    CHECK_EQUAL(call_slots(instance, "references", references), LUCET_RETURNED);
    CHECK_EQUAL(references[0], (u64)(uintptr_t)&object);
    CHECK_EQUAL(references[1], 0);
    u64 many[20] = {1, 0, 0, 0, 0, 0, 0, 8, 0, 10};
    many[19] = bits_of_double(2.5);
    CHECK_EQUAL(call_slots(instance, "many", many), LUCET_RETURNED);
    CHECK_EQUAL(many[0], 1 + 10 * 10 + 8 * 100 + 2500);
    u64 results[10] = {21};
    CHECK_EQUAL(call_slots(instance, "results", results), LUCET_RETURNED);
    CHECK_EQUAL(results[0], 21);
    for (u32 i = 1; i < 9; i++)
        CHECK_EQUAL(results[i], i);
    CHECK_EQUAL(results[9], 42);
    lucet_externtype type;
    CHECK(lucet_module_type(lucet_instance_module(instance), LUCET_FUNC,
                            export_index(lucet_instance_module(instance), LUCET_FUNC, "results"), &type));
    CHECK_EQUAL(type.functype.slots_count, 10);
    lucet_instance_free(instance);
}

static void all_value_types(void) {
    values("plain");
}

static void all_value_types_checked_bounds(void) {
    values("plain_checked");
}

static void bad_calls(void) {
    lucet_instance *instance = instance_of("plain");
    u64 slots[4] = {0};
    CHECK_EQUAL(lucet_call(instance, 1000000, slots, &last_outcome, &last_error), LUCET_FAILED);
    CHECK_EQUAL(last_error.code, LUCET_ERROR_ARGUMENT);
    CHECK_EQUAL(last_outcome.kind, LUCET_FAILED);
    CHECK_EQUAL(lucet_call(instance, UINT32_MAX, slots, &last_outcome, NULL), LUCET_FAILED);
    CHECK(!lucet_instance_funcref(instance, UINT32_MAX));
    CHECK_EQUAL(CALL(instance, "add", 1, 2), 3);
    lucet_instance_free(instance);
}

static void calls_by_reference(void) {
    lucet_instance *instance = instance_of("plain"), *other = instance_of("plain");
    const lucet_funcref *add =
        lucet_instance_funcref(instance, export_index(lucet_instance_module(instance), LUCET_FUNC, "add"));
    CHECK(add && lucet_funcref_instance(add) == instance);
    CHECK_EQUAL(lucet_funcref_type(add)->params_count, 2);
    u64 slots[2] = {40, 2};
    CHECK_EQUAL(lucet_call_ref(instance, add, slots, &last_outcome, &last_error), LUCET_RETURNED);
    CHECK_EQUAL((u32)slots[0], 42);
    CHECK_EQUAL(lucet_call_ref(other, add, slots, &last_outcome, &last_error), LUCET_FAILED);
    CHECK_EQUAL(last_error.code, LUCET_ERROR_ARGUMENT);
    lucet_instance_free(instance);
    lucet_instance_free(other);
}

/* Where the instruction that trapped is, as the module says: between the beginning of its function and the next one's. */
static void check_place(lucet_instance *instance, const char *name) {
    const lucet_module *module = lucet_instance_module(instance);
    u32 function = export_index(module, LUCET_FUNC, name);
    CHECK(last_outcome.module == module);
    CHECK_EQUAL(last_outcome.function, function);
    if (last_outcome.trap == TRAP_CALL_STACK_EXHAUSTED && last_outcome.wasm_offset == LUCET_NO_OFFSET)
        return; /* in the function's prologue, which is no instruction's */
    CHECK(last_outcome.wasm_offset != LUCET_NO_OFFSET);
    CHECK(last_outcome.wasm_offset >= module->functions[function].wasm_offset);
    if (function + 1 < module->header->functions_count)
        CHECK(last_outcome.wasm_offset < module->functions[function + 1].wasm_offset);
}

static void every_trap_in(const char *guest) {
    lucet_instance *instance = instance_of(guest);
    static const struct {
        const char *name;
        u32 trap;
        u64 arguments[4];
    } cases[] = {
        {"unreachable", TRAP_UNREACHABLE, {0}},
        {"divide", TRAP_INTEGER_DIVIDE_BY_ZERO, {0}},
        {"divide_signed", TRAP_INTEGER_DIVIDE_BY_ZERO, {0}},
        {"divide_signed", TRAP_INTEGER_OVERFLOW, {UINT64_MAX}},
        {"convert", TRAP_INTEGER_OVERFLOW, {0x7fefffffffffffff}},
        {"convert", TRAP_INVALID_CONVERSION_TO_INTEGER, {0x7ff8000000000000}},
        {"load", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {65536}},
        {"load", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {65533}},
        {"load", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {0xffffffff}},
        {"load", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {0x80000000}},
        {"load_far", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {0}},
        {"load_far", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {4}},
        {"load_far", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {0xffffffff}},
        {"store", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {65529}},
        {"fill", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {65000, 537}},
        {"fill", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {0xffffffff, 0xffffffff}},
        {"copy", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {0, 65536, 1}},
        {"copy", TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS, {65536, 0, 1}},
        {"table_get", TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, {1}},
        {"table_set", TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, {0xffffffff}},
        {"table_fill", TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, {0, 2}},
        {"table_init", TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, {0, 2, 1}},
        {"table_init", TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, {0, 0, 2}},
        {"table_copy", TRAP_OUT_OF_BOUNDS_TABLE_ACCESS, {0, 3, 1}},
        {"indirect", TRAP_UNDEFINED_ELEMENT, {3}},
        {"indirect", TRAP_UNINITIALIZED_ELEMENT, {2}},
        {"indirect_other", TRAP_INDIRECT_CALL_TYPE_MISMATCH, {0}},
        {"deep", TRAP_UNREACHABLE, {100}},
        {"deep", TRAP_CALL_STACK_EXHAUSTED, {0xffffffff}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        u64 slots[4];
        memcpy(slots, cases[i].arguments, sizeof slots);
        CHECK_EQUAL(call_slots(instance, cases[i].name, slots), LUCET_TRAPPED);
        if (last_outcome.trap != cases[i].trap)
            fprintf(stderr, "%s (case %zu)\n", cases[i].name, i);
        CHECK_EQUAL(last_outcome.trap, cases[i].trap);
        check_place(instance, cases[i].name);
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
        CHECK_EQUAL(call_slots(instance, "nop", slots), LUCET_RETURNED);
    }
    /* At the very edge nothing traps. */
    CALL(instance, "load", 65532);
    CALL(instance, "store", 65528);
    CALL(instance, "fill", 65536, 0);
    CALL(instance, "copy", 65536, 65536, 0);
    CALL(instance, "table_fill", 1, 0);
    CALL(instance, "indirect", 0);
    lucet_instance_free(instance);
}

static void every_trap(void) {
    every_trap_in("traps");
}

static void every_trap_checked_bounds(void) {
    every_trap_in("traps_checked");
}

static void trap_texts(void) {
    CHECK(strcmp(lucet_trap_name(TRAP_UNREACHABLE), "UNREACHABLE") == 0);
    CHECK(strcmp(lucet_trap_text(TRAP_INTERRUPTED), "interrupted") == 0);
    CHECK(strcmp(lucet_trap_name(0), "UNKNOWN") == 0);
    CHECK(strcmp(lucet_trap_name(UINT32_MAX), "UNKNOWN") == 0);
}

/* The stack ends in guest code, in the call of a stub, in the stub: whichever instruction comes to the guard first. For that, the
 * frames are shifted a few bytes at a time by the size of the stack. */
static void stack_overflow_everywhere(void) {
    lucet_linkage *linkage = load_linked("plain");
    for (u32 pages = 4; pages < 12; pages++) {
        lucet_region_config config = small_config(1);
        config.stack_size = pages * HOST_PAGE;
        lucet_region *region = new_region(&config);
        lucet_instance *instance = started_instance(region, linkage);
        for (u32 round = 0; round < 3; round++) {
            CHECK_TRAPS(TRAP_CALL_STACK_EXHAUSTED, instance, "recurse", 0);
            check_place(instance, "recurse");
            CHECK_TRAPS(TRAP_CALL_STACK_EXHAUSTED, instance, "recurse_grow", 0);
            check_place(instance, "recurse_grow");
            CHECK_EQUAL(CALL(instance, "add", 20, 22), 42);
        }
        lucet_instance_free(instance);
        lucet_region_release(region);
    }
    lucet_linkage_release(linkage);
}

/* The guest's first stack pointer decides which push meets the guard: every 16th byte of a page is tried. */
static void stack_overflow_at_every_alignment(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(1);
    lucet_instance *instance = started_instance(region, linkage);
    struct lucet_activation *activation = region_take_stack(region);
    region_give_stack(region, activation);
    for (u32 shift = 0; shift < HOST_PAGE; shift += 16) {

        u64 slots[2] = {0};
        const lucet_module *module = instance->module;
        u32 function = export_index(module, LUCET_FUNC, "recurse_grow");
        const struct abi_function *f = &module->functions[function];
        CHECK(group_enter(instance, NULL));
        CHECK(region_take_stack(region) == activation);
        activation->instance = instance;
        activation->interrupt = 0;
        activation->host_mxcsr = 0;
        activation->outer = NULL;
        instance->own_group.top = activation;
        activation->previous = NULL;
        lucet_current = activation;
        int how =
            lucet_switch_enter(activation, (u8 *)activation - shift, module->base + module->types[f->type].entry_rva,
                               instance->vmctx, module->base + f->code_rva, slots);
        lucet_current = NULL;
        instance->own_group.top = NULL;
        region_give_stack(region, activation);
        group_leave(instance);
        CHECK_EQUAL(how, SWITCH_TRAPPED);
        CHECK_EQUAL(activation->trap, TRAP_CALL_STACK_EXHAUSTED);
        u32 where, offset;
        CHECK(module_locate(module, activation->trap_pc, &where, &offset));
        CHECK_EQUAL(where, function);
    }
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

static void canary_is_there(void) {
    lucet_instance *a = instance_of("plain"), *b = instance_of("plain");
    CHECK_EQUAL(VMCTX_WORD(a->vmctx, VMCTX_CANARY), canary_of(a));
    CHECK(canary_of(a) != canary_of(b));
    CHECK(canary_of(a) != 0);
    lucet_instance_free(a);
    lucet_instance_free(b);
}

MAIN(TEST(all_value_types), TEST(all_value_types_checked_bounds), TEST(bad_calls), TEST(calls_by_reference),
     TEST(every_trap), TEST(every_trap_checked_bounds), TEST(trap_texts), TEST(stack_overflow_everywhere),
     TEST(stack_overflow_at_every_alignment), TEST(canary_is_there))
