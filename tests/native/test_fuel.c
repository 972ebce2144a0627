/* test_fuel.c: counting instructions: exact counts, bounds, runs that go on with more fuel. */

#include <pthread.h>

#include "kit.h"

/* What "call" and "start" do: set by each test. */
static lucet_host_result (*on_call)(lucet_instance *instance, u64 *slots);
static lucet_host_result (*on_start)(lucet_instance *instance, u64 *slots);

static lucet_host_result host_call(lucet_instance *instance, u64 *slots, void *data) {
    (void)data;
    return on_call ? on_call(instance, slots) : LUCET_HOST_OK;
}

static lucet_host_result host_start(lucet_instance *instance, u64 *slots, void *data) {
    (void)data;
    return on_start ? on_start(instance, slots) : LUCET_HOST_OK;
}

enum { SUM_TURN = 9, SUM_END = 1, START_SUM = 100, START_COST = 3 + START_SUM * SUM_TURN + SUM_END };

static lucet_linkage *link_fuel(const char *name, lucet_instance *other) {
    lucet_import imports[] = {
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_call},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_start},
    };
    if (other)
        imports[0] = (lucet_import){.from = LUCET_IMPORT_ITEM,
                                    .instance = other,
                                    .index = export_index(lucet_instance_module(other), LUCET_FUNC, "sum")};
    lucet_module *module = load_guest(name);
    lucet_linkage *linkage = link_guest(module, imports, 2);
    lucet_module_release(module);
    return linkage;
}

static lucet_instance *instance_of(const char *name, lucet_region *region, lucet_instance *other) {
    lucet_linkage *linkage = link_fuel(name, other);
    lucet_instance *instance = started_instance(region, linkage);
    lucet_linkage_release(linkage);
    return instance;
}

static lucet_instance *fuel_instance(void) {
    on_call = on_start = NULL;
    lucet_region *region = small_region(2);
    lucet_instance *instance = instance_of("fuel_counting", region, NULL);
    lucet_region_release(region);
    return instance;
}

static lucet_outcome_kind resume(lucet_instance *instance) {
    return lucet_resume(instance, false, &last_outcome, &last_error);
}

static void terminate(lucet_instance *instance) {
    CHECK_EQUAL(lucet_resume(instance, true, &last_outcome, &last_error), LUCET_TERMINATED);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
}

/* How many instructions a call takes. */
#define COST(instance, name, ...) cost_of(instance, name, (u64[8]){__VA_ARGS__})

static u64 cost_of(lucet_instance *instance, const char *name, u64 *slots) {
    u64 before = lucet_instance_fuel_used(instance);
    lucet_outcome_kind kind = call_slots(instance, name, slots);
    CHECK(kind == LUCET_RETURNED || kind == LUCET_TRAPPED);
    return lucet_instance_fuel_used(instance) - before;
}

static u64 fib_cost(u32 n) {
    return n < 2 ? 5 : 13 + fib_cost(n - 1) + fib_cost(n - 2);
}

static void counts(void) {
    lucet_instance *instance = fuel_instance();
    CHECK(lucet_module_counts_instructions(lucet_instance_module(instance)));
    CHECK_EQUAL(lucet_instance_fuel_used(instance), START_COST);
    CHECK_EQUAL(lucet_instance_fuel(instance), LUCET_FUEL_UNLIMITED);
    CHECK_EQUAL(COST(instance, "add", 1, 2), 3);
    CHECK_EQUAL(COST(instance, "sum", 1000), 1000 * SUM_TURN + SUM_END);
    CHECK_EQUAL(COST(instance, "fib", 15), fib_cost(15));
    CHECK_EQUAL(COST(instance, "call", 1), 5);
    CHECK_EQUAL(COST(instance, "fill", 0, 800), 4 + 100);
    CHECK_EQUAL(COST(instance, "fill", 0, 807), 4 + 100);
    CHECK_EQUAL(COST(instance, "grow_table", 50), 3 + 50);
    CHECK_EQUAL(COST(instance, "grow_table", 50), 3); /* fails */
    CHECK_EQUAL(COST(instance, "grow_table", UINT32_MAX), 3);
    lucet_instance_free(instance);
}

/* Whatever traps, all units that were begun are counted whole. */
static void traps(void) {
    lucet_instance *instance = fuel_instance();
    CHECK_EQUAL(COST(instance, "load", 8, 0), 8);
    CHECK_EQUAL(COST(instance, "load", 8, 1), 8 + 3);
    CHECK_EQUAL(COST(instance, "load", 3 * WASM_PAGE, 1), 8 + 3);
    CHECK_EQUAL(last_outcome.trap, TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS);
    CHECK_EQUAL(COST(instance, "divide", 0), 4);
    CHECK_EQUAL(last_outcome.trap, TRAP_INTEGER_DIVIDE_BY_ZERO);
    CHECK_EQUAL(COST(instance, "fill", 3 * WASM_PAGE, 80), 4 + 10);
    CHECK_EQUAL(last_outcome.trap, TRAP_OUT_OF_BOUNDS_MEMORY_ACCESS);
    lucet_instance_free(instance);
}

static void bounds(void) {
    lucet_instance *instance = fuel_instance();
    u32 cost = 20 * SUM_TURN + SUM_END;
    u64 before = lucet_instance_fuel_used(instance);
    CHECK(lucet_instance_set_fuel(instance, cost));
    CHECK_EQUAL(CALL(instance, "sum", 20), 210);
    CHECK_EQUAL(lucet_instance_fuel(instance), 0);
    u64 slots[2] = {1, 2};
    CHECK_EQUAL(call_slots(instance, "add", slots), LUCET_OUT_OF_FUEL);
    CHECK_EQUAL(last_outcome.kind, LUCET_OUT_OF_FUEL);
    CHECK_EQUAL(last_outcome.trap, TRAP_OUT_OF_FUEL);
    CHECK_EQUAL(last_outcome.function, export_index(lucet_instance_module(instance), LUCET_FUNC, "add"));
    CHECK(last_outcome.module == lucet_instance_module(instance) && last_outcome.suspended_instance == instance);
    CHECK(last_outcome.wasm_offset != LUCET_NO_OFFSET);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_SUSPENDED);
    CHECK_EQUAL(lucet_instance_fuel_used(instance), before + cost + 3);
    CHECK_EQUAL(lucet_instance_fuel(instance), -3);
    CHECK_FAILS(LUCET_ERROR_STATE, instance, "add", 1, 2);
    terminate(instance);
    lucet_instance_set_fuel(instance, 2);
    CHECK_EQUAL(call_slots(instance, "add", slots), LUCET_OUT_OF_FUEL);
    terminate(instance);
    lucet_instance_set_fuel(instance, 3);
    CHECK_EQUAL(CALL(instance, "add", 1, 2), 3);
    lucet_instance_set_fuel(instance, LUCET_FUEL_UNLIMITED);
    CHECK_EQUAL(lucet_instance_fuel(instance), LUCET_FUEL_UNLIMITED);
    CHECK_EQUAL(CALL(instance, "sum", 1000), 500500);
    CHECK_EQUAL(lucet_instance_fuel(instance), LUCET_FUEL_UNLIMITED);
    lucet_instance_free(instance);
}

/* Stopped as often as possible, a run gives the same result and counts the same. */
static void goes_on(void) {
    static const struct {
        const char *name;
        u64 argument;
        u32 least_stops;
    } runs[] = {{"sum", 100, 100}, {"mix", 77, 77}, {"fib", 10, 100}, {"fill", 0, 2}};
    lucet_instance *instance = fuel_instance();
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        u64 expected[2] = {runs[i].argument, 4096}, slots[2] = {runs[i].argument, 4096};
        u64 cost = cost_of(instance, runs[i].name, expected), before = lucet_instance_fuel_used(instance);
        u32 stops = 0;
        lucet_instance_set_fuel(instance, 0);
        lucet_outcome_kind kind = call_slots(instance, runs[i].name, slots);
        while (kind == LUCET_OUT_OF_FUEL) {
            stops++;
            lucet_instance_set_fuel(instance, 0);
            kind = resume(instance);
        }
        CHECK_EQUAL(kind, LUCET_RETURNED);
        CHECK(memcmp(slots, expected, sizeof slots) == 0);
        CHECK_EQUAL(lucet_instance_fuel_used(instance) - before, cost);
        CHECK(stops >= runs[i].least_stops);
        lucet_instance_set_fuel(instance, LUCET_FUEL_UNLIMITED);
    }
    lucet_instance_free(instance);
}

static void endless_guests_stop(void) {
    lucet_instance *instance = fuel_instance();
    for (u32 i = 0; i < 3; i++) {
        u64 slots[2] = {0};
        lucet_instance_set_fuel(instance, 1000000);
        CHECK_EQUAL(call_slots(instance, "spin", slots), LUCET_OUT_OF_FUEL);
        CHECK_EQUAL(lucet_instance_fuel(instance), -1);
        terminate(instance);
        lucet_instance_set_fuel(instance, 1000);
        slots[0] = 0;
        CHECK_EQUAL(call_slots(instance, "recurse", slots), LUCET_OUT_OF_FUEL);
        CHECK(lucet_instance_fuel(instance) >= -10);
        terminate(instance);
    }
    lucet_instance_free(instance);
}

static void stays_without_fuel(void) {
    lucet_instance *instance = fuel_instance();
    u64 slots[2] = {100};
    lucet_instance_set_fuel(instance, 5 * SUM_TURN);
    CHECK_EQUAL(call_slots(instance, "sum", slots), LUCET_OUT_OF_FUEL);
    u64 used = lucet_instance_fuel_used(instance), suspended_run = last_outcome.suspended_run;
    CHECK(lucet_is_suspended(instance, suspended_run));
    for (u32 i = 0; i < 3; i++) {
        CHECK_EQUAL(resume(instance), LUCET_OUT_OF_FUEL);
        CHECK_EQUAL(lucet_instance_fuel_used(instance), used);
    }
    CHECK(!lucet_is_suspended(instance, suspended_run));
    lucet_instance_set_fuel(instance, 1000000);
    CHECK_EQUAL(resume(instance), LUCET_RETURNED);
    CHECK_EQUAL(slots[0], 5050);
    lucet_instance_free(instance);
}

static void interrupted(void) {
    lucet_instance *instance = fuel_instance();
    for (u32 with_fuel = 0; with_fuel < 2; with_fuel++) {
        u64 slots[2] = {0};
        lucet_instance_set_fuel(instance, 10);
        CHECK_EQUAL(call_slots(instance, "spin", slots), LUCET_OUT_OF_FUEL);
        CHECK(lucet_instance_interrupt(instance));
        if (with_fuel)
            lucet_instance_set_fuel(instance, LUCET_FUEL_UNLIMITED);
        CHECK_EQUAL(resume(instance), LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
        CHECK_EQUAL(last_outcome.function, export_index(lucet_instance_module(instance), LUCET_FUNC, "spin"));
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    }
    lucet_instance_free(instance);
}

static void *resume_elsewhere(void *instance) {
    lucet_outcome outcome;
    CHECK_EQUAL(lucet_resume(instance, false, &outcome, NULL), LUCET_RETURNED);
    return NULL;
}

static void on_another_thread(void) {
    lucet_instance *instance = fuel_instance();
    u64 expected[2] = {77}, slots[2] = {77};
    CHECK_EQUAL(call_slots(instance, "mix", expected), LUCET_RETURNED);
    lucet_instance_set_fuel(instance, 1000);
    CHECK_EQUAL(call_slots(instance, "mix", slots), LUCET_OUT_OF_FUEL);
    lucet_instance_set_fuel(instance, LUCET_FUEL_UNLIMITED);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, resume_elsewhere, instance) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(slots[0], expected[0]);
    lucet_instance_free(instance);
}

/* ---- host functions ---- */

static lucet_host_result give_fuel(lucet_instance *instance, u64 *slots) {
    lucet_instance_set_fuel(instance, (i64)slots[0]);
    return LUCET_HOST_OK;
}

static lucet_host_result call_again(lucet_instance *instance, u64 *slots) {
    u64 inner[2] = {slots[0]};
    i64 fuel = lucet_instance_fuel(instance);
    u64 cost = slots[0] * SUM_TURN + SUM_END;
    lucet_outcome outcome;
    lucet_outcome_kind kind =
        lucet_call(instance, export_index(lucet_instance_module(instance), LUCET_FUNC, "sum"), inner, &outcome, NULL);
    if (kind == LUCET_RETURNED)
        CHECK_EQUAL(lucet_instance_fuel(instance), fuel - (i64)cost);
    else
        CHECK_EQUAL(kind, LUCET_OUT_OF_FUEL); /* the inner run is dropped when this function returns */
    slots[0] = inner[0];
    return LUCET_HOST_OK;
}

static void host_functions(void) {
    lucet_instance *instance = fuel_instance();
    u64 slots[2] = {0};
    on_call = give_fuel;
    lucet_instance_set_fuel(instance, 5);
    CALL(instance, "call", 12345);
    CHECK_EQUAL(lucet_instance_fuel(instance), 12345);
    on_call = call_again;
    u64 before = lucet_instance_fuel_used(instance);
    CALL(instance, "call", 50);
    CHECK_EQUAL(lucet_instance_fuel_used(instance) - before, 5 + 50 * SUM_TURN + SUM_END);
    lucet_instance_set_fuel(instance, 100);
    slots[0] = 50;
    CHECK_EQUAL(call_slots(instance, "call", slots), LUCET_RETURNED); /* which does not look again */
    CHECK(lucet_instance_fuel(instance) < 0);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    slots[0] = 1;
    CHECK_EQUAL(call_slots(instance, "sum", slots), LUCET_OUT_OF_FUEL);
    terminate(instance);
    lucet_instance_free(instance);
}

/* ---- the lives of instances ---- */

static void new_and_reset(void) {
    on_call = on_start = NULL;
    lucet_linkage *linkage = link_fuel("fuel_counting", NULL);
    lucet_region *region = small_region(1);
    for (u32 round = 0; round < 3; round++) {
        lucet_instance *instance = started_instance(region, linkage);
        CHECK_EQUAL(lucet_instance_fuel_used(instance), START_COST);
        lucet_instance_set_fuel(instance, 2 * START_COST);
        CHECK(lucet_instance_reset(instance, NULL));
        CHECK_EQUAL(lucet_instance_fuel_used(instance), 0);
        CHECK_EQUAL(lucet_instance_fuel(instance), 2 * START_COST);
        CHECK_EQUAL(lucet_instance_start(instance, &last_outcome, NULL), LUCET_RETURNED);
        CHECK_EQUAL(lucet_instance_fuel_used(instance), START_COST);
        CHECK_EQUAL(lucet_instance_fuel(instance), START_COST);
        u64 slots[2] = {100};
        lucet_instance_set_fuel(instance, 10);
        CHECK_EQUAL(call_slots(instance, "sum", slots), LUCET_OUT_OF_FUEL);
        lucet_instance_free(instance); /* also while it is suspended */
    }
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

static void start_function(void) {
    on_call = on_start = NULL;
    lucet_linkage *linkage = link_fuel("fuel_counting", NULL);
    lucet_region *region = small_region(1);
    lucet_instance_limits limits = {.fuel = 500};
    for (u32 goes_on = 0; goes_on < 2; goes_on++) {
        lucet_instance *instance = lucet_instance_new(region, linkage, &limits, &last_error);
        CHECK_EQUAL(lucet_instance_fuel(instance), 500);
        CHECK_EQUAL(lucet_instance_start(instance, &last_outcome, NULL), LUCET_OUT_OF_FUEL);
        if (goes_on) {
            lucet_instance_set_fuel(instance, 1000);
            CHECK_EQUAL(resume(instance), LUCET_RETURNED);
            CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
            CHECK_EQUAL(lucet_instance_fuel_used(instance), START_COST);
        } else {
            CHECK_EQUAL(lucet_resume(instance, true, &last_outcome, NULL), LUCET_TERMINATED);
            CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_FAULTED);
        }
        lucet_instance_free(instance);
    }
    limits.fuel = -1;
    lucet_instance *instance = lucet_instance_new(region, linkage, &limits, &last_error);
    CHECK_EQUAL(lucet_instance_start(instance, &last_outcome, NULL), LUCET_OUT_OF_FUEL);
    lucet_instance_free(instance);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

/* Each instance counts its own code. */
static void linked(void) {
    on_call = on_start = NULL;
    lucet_region *region = small_region(2);
    lucet_instance *callee = instance_of("fuel_counting", region, NULL);
    lucet_instance *caller = instance_of("fuel_counting", region, callee);
    u64 slots[2] = {100}, before = lucet_instance_fuel_used(caller);
    lucet_instance_set_fuel(callee, 300);
    CHECK_EQUAL(call_slots(caller, "call", slots), LUCET_OUT_OF_FUEL);
    CHECK(last_outcome.suspended_instance == callee);
    CHECK_EQUAL(lucet_instance_fuel_used(caller) - before, 5);
    CHECK_EQUAL(lucet_instance_fuel_used(callee) - START_COST, 34 * SUM_TURN);
    lucet_instance_set_fuel(caller, 0);
    CHECK_EQUAL(resume(caller), LUCET_OUT_OF_FUEL); /* that is not the one that needs it */
    lucet_instance_set_fuel(callee, 10000);
    CHECK_EQUAL(resume(caller), LUCET_RETURNED);
    CHECK_EQUAL(lucet_instance_fuel_used(caller) - before, 5);
    CHECK_EQUAL(lucet_instance_fuel_used(callee) - START_COST, 100 * SUM_TURN + SUM_END);
    lucet_instance_free(caller);
    lucet_instance_free(callee);
    lucet_region_release(region);
}

static void without_counting(void) {
    on_call = on_start = NULL;
    lucet_region *region = small_region(1);
    lucet_instance *instance = instance_of("fuel", region, NULL);
    CHECK(!lucet_module_counts_instructions(lucet_instance_module(instance)));
    CHECK(!lucet_instance_set_fuel(instance, 10));
    CHECK_EQUAL(CALL(instance, "sum", 1000), 500500);
    CHECK_EQUAL(lucet_instance_fuel_used(instance), 0);
    lucet_instance_free(instance);
    lucet_region_release(region);
}

MAIN(TEST(counts), TEST(traps), TEST(bounds), TEST(goes_on), TEST(endless_guests_stop), TEST(stays_without_fuel),
     TEST(interrupted), TEST(on_another_thread), TEST(host_functions), TEST(new_and_reset), TEST(start_function),
     TEST(linked), TEST(without_counting))
