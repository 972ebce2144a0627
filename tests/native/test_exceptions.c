/* test_exceptions.c: exceptions across the C API, interrupts while they are thrown, and what they leave behind. */

#include <pthread.h>

#include "hosts.h"
#include "stepping.h"

static lucet_tag *tag, *stranger;

/* Tags of the type of "e", which the module knows. */
static void make_tags(const lucet_module *module) {
    lucet_externtype type;
    CHECK(lucet_module_type(module, LUCET_TAG, 0, &type));
    CHECK_EQUAL(type.functype.params_count, 2);
    CHECK((tag = lucet_tag_new(&type.functype, &last_error)));
    CHECK((stranger = lucet_tag_new(&type.functype, &last_error)));
}

static _Thread_local lucet_host_result (*on_pass)(lucet_instance *instance, u64 *slots);

static lucet_host_result host_pass(lucet_instance *instance, u64 *slots, void *data) {
    (void)data;
    return on_pass ? on_pass(instance, slots) : LUCET_HOST_OK;
}

static lucet_linkage *link_exceptions(void) {
    lucet_module *module = load_guest("exceptions");
    make_tags(module);
    lucet_import imports[] = {
        {.from = LUCET_IMPORT_TAG, .tag = tag},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_stop},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_pass},
    };
    lucet_linkage *linkage = link_guest(module, imports, 3);
    lucet_module_release(module);
    on_stop = NULL;
    on_pass = NULL;
    return linkage;
}

static lucet_instance *exceptions_instance(void) {
    lucet_linkage *linkage = link_exceptions();
    lucet_region *region = small_region(2);
    lucet_instance *instance = started_instance(region, linkage);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
    return instance;
}

static void finish(lucet_instance *instance) {
    lucet_instance_free(instance);
    lucet_tag_release(tag);
    lucet_tag_release(stranger);
}

static void caught(void) {
    lucet_instance *instance = exceptions_instance();
    for (u32 depth = 0; depth < 3000; depth = depth * 3 + 1)
        CHECK_EQUAL(CALL(instance, "catch", depth), 7);
    CHECK_TRAPS(TRAP_CALL_STACK_EXHAUSTED, instance, "catch", 1 << 30);
    CHECK_EQUAL(CALL(instance, "catch", 5), 7);
    finish(instance);
}

static void not_caught(void) {
    lucet_instance *instance = exceptions_instance();
    const lucet_module *module = lucet_instance_module(instance);
    for (u32 depth = 0; depth < 1000; depth = depth * 3 + 1) {
        u64 slots[1] = {depth};
        CHECK_EQUAL(call_slots(instance, "throw", slots), LUCET_THREW);
        lucet_exception *exception = last_outcome.exception;
        CHECK(lucet_exception_tag(exception) == tag);
        CHECK_EQUAL(lucet_exception_slots(exception)[0], 7);
        CHECK_EQUAL(lucet_exception_slots(exception)[1], -8);
        CHECK(last_outcome.module == module && last_outcome.wasm_offset != LUCET_NO_OFFSET);
        CHECK(strncmp(lucet_module_function_name(module, last_outcome.function).bytes, "deep", 4) == 0);
        CALL(instance, "catch", 3); /* the exception is the host's: nothing that a guest does changes it */
        CHECK_EQUAL(lucet_exception_slots(exception)[0], 7);
        lucet_exception_retain(exception);
        lucet_exception_release(exception);
        lucet_exception_release(exception);
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    }
    u64 slots[1];
    CHECK_EQUAL(call_slots(instance, "throw_own", slots), LUCET_THREW);
    lucet_exception *exception = last_outcome.exception;
    lucet_tag *own = lucet_instance_tag(instance, export_index(module, LUCET_TAG, "own"));
    CHECK(lucet_exception_tag(exception) == own && own != tag);
    CHECK_EQUAL(lucet_tag_type(own)->params_count, 1);
    CHECK(!lucet_instance_tag(instance, 2));
    finish(instance);
    double number;
    memcpy(&number, lucet_exception_slots(exception),
           sizeof number); /* it outlives the instance, and so does its tag */
    CHECK(number == 0.25);
    CHECK_EQUAL(lucet_tag_type(lucet_exception_tag(exception))->valtypes[0], LUCET_VALTYPE_F64);
    lucet_exception_release(exception);
}

static lucet_host_result throw_it(lucet_instance *instance, u64 *slots) {
    lucet_tag *thrown = slots[0] < 100 ? tag : stranger;
    lucet_exception *exception = lucet_exception_new(thrown, (u64[2]){slots[0], 1}, NULL);
    CHECK(exception);
    lucet_host_result result = lucet_throw(instance, exception);
    lucet_exception_release(exception);
    return result;
}

static lucet_host_result throw_in_a_nested_run(lucet_instance *instance, u64 *slots) {
    u64 inner[1] = {slots[0]};
    CHECK_EQUAL(call_slots(instance, "throw", inner), LUCET_THREW);
    lucet_host_result result = lucet_throw(instance, last_outcome.exception);
    lucet_exception_release(last_outcome.exception);
    return result;
}

static lucet_host_result throw_nothing(lucet_instance *instance, u64 *slots) {
    (void)instance, (void)slots;
    return LUCET_HOST_THROW;
}

/* Thrown, but then something else is returned: not thrown, now or later. */
static lucet_host_result change_of_mind(lucet_instance *instance, u64 *slots) {
    throw_it(instance, slots);
    slots[0] = 5;
    return LUCET_HOST_OK;
}

static void host_functions_throw(void) {
    lucet_instance *instance = exceptions_instance();
    on_stop = throw_it;
    CHECK_EQUAL(CALL(instance, "stop", 3), 1003);
    CHECK_EQUAL(CALL(instance, "stop", 100), 2000);
    u64 slots[1] = {4};
    CHECK_EQUAL(call_slots(instance, "stop_bare", slots), LUCET_THREW);
    CHECK(lucet_exception_tag(last_outcome.exception) == tag);
    CHECK_EQUAL(lucet_exception_slots(last_outcome.exception)[0], 4);
    lucet_exception_release(last_outcome.exception);
    on_stop = throw_in_a_nested_run;
    CHECK_EQUAL(CALL(instance, "stop", 30), 1007);
    on_stop = change_of_mind;
    CHECK_EQUAL(CALL(instance, "stop", 3), 5);
    on_stop = throw_nothing;
    CHECK_EQUAL(call_slots(instance, "stop", slots), LUCET_TERMINATED);
    finish(instance);
}

static lucet_host_result copy_it(lucet_instance *instance, u64 *slots) {
    lucet_exception *exception = lucet_exnref_get(slots[0], NULL);
    CHECK(exception && lucet_exception_tag(exception) == tag);
    CALL(instance, "garbage", 10000);
    CHECK(lucet_exnref_new(instance, exception, slots, &last_error));
    lucet_exception_release(exception);
    return LUCET_HOST_OK;
}

static void references(void) {
    lucet_instance *instance = exceptions_instance();
    CALL(instance, "keep", 42);
    CALL(instance, "garbage", scaled(1000000));
    CHECK_EQUAL(CALL(instance, "kept_value"), 42);
    CHECK_EQUAL(CALL(instance, "pass", 9), 9);
    on_pass = copy_it;
    for (u32 i = 0; i < scaled(300); i++)
        CHECK_EQUAL(CALL(instance, "pass", i), i);
    /* The host makes one for a global; and another, which nobody gets. */
    lucet_exception *exception = lucet_exception_new(stranger, (u64[2]){5, 6}, NULL);
    u32 global = export_index(lucet_instance_module(instance), LUCET_GLOBAL, "kept");
    CHECK(lucet_exnref_new(instance, exception, lucet_global_cell(instance, global), &last_error));
    u64 value;
    for (u32 i = 0; i < scaled(100000); i++) {
        CHECK(lucet_exnref_new(instance, exception, &value, &last_error));
        CALL(instance, "garbage", 1);
    }
    lucet_exception_release(exception);
    CALL(instance, "garbage", scaled(100000));
    u64 slots[1];
    CHECK_EQUAL(call_slots(instance, "kept_value", slots), LUCET_THREW);
    CHECK(lucet_exception_tag(last_outcome.exception) == stranger);
    CHECK_EQUAL(lucet_exception_slots(last_outcome.exception)[1], 6);
    lucet_exception_release(last_outcome.exception);
    finish(instance);
}

static void hosts_references_end(void) {
    lucet_instance *instance = exceptions_instance();
    lucet_exception *exception = lucet_exception_new(tag, (u64[2]){5, 6}, NULL);
    u64 value;
    u32 made = 0;
    while (lucet_exnref_new(instance, exception, &value, &last_error))
        made++;
    CHECK_EQUAL(last_error.code, LUCET_ERROR_MEMORY);
    CHECK(made > 100000);
    CALL(instance, "catch", 1); /* what the guest was not given until now is gone */
    CHECK(lucet_exnref_new(instance, exception, &value, &last_error));
    lucet_exception_release(exception);
    finish(instance);
}

static void tags_are_checked(void) {
    lucet_module *module = load_guest("exceptions");
    make_tags(module);
    lucet_externtype type;
    CHECK(lucet_module_type(module, LUCET_TAG, 1, &type));
    lucet_tag *wrong = lucet_tag_new(&type.functype, NULL);
    lucet_import imports[] = {
        {.from = LUCET_IMPORT_TAG, .tag = wrong},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_stop},
        {.from = LUCET_IMPORT_HOST_FUNCTION, .function = host_pass},
    };
    CHECK(!lucet_link(module, imports, 3, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LINK);
    imports[0] = imports[1];
    CHECK(!lucet_link(module, imports, 3, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_LINK);
    imports[0].from = LUCET_IMPORT_TAG;
    CHECK(!lucet_link(module, imports, 3, &last_error));
    CHECK(lucet_module_type(module, LUCET_FUNC, 0, &type));
    CHECK(!lucet_tag_new(&type.functype, &last_error)); /* it has a result */
    CHECK_EQUAL(last_error.code, LUCET_ERROR_ARGUMENT);
    lucet_tag_release(wrong);
    lucet_tag_release(tag);
    lucet_tag_release(stranger);
    lucet_module_release(module);
}

/* ---- slots that keep what is in them ---- */

static u32 value_of(u64 exnref) {
    lucet_exception *exception = lucet_exnref_get(exnref, &last_error);
    CHECK(exception && lucet_exception_tag(exception) == tag);
    u32 value = (u32)lucet_exception_slots(exception)[0];
    lucet_exception_release(exception);
    return value;
}

static void slots_keep(void) {
    lucet_instance *instance = exceptions_instance();
    lucet_exception *exception = lucet_exception_new(tag, (u64[2]){5, 6}, NULL);
    u64 *slots[3];
    for (u32 i = 0; i < 3; i++) {
        CHECK((slots[i] = lucet_slots_new(2)) && !slots[i][0] && !slots[i][1]);
        CHECK(lucet_exnref_new(instance, exception, &slots[i][i % 2], &last_error));
    }
    lucet_exception_release(exception);
    lucet_slots_free(slots[1]);
    slots[2][1] = 77;
    CHECK_EQUAL(call_slots(instance, "make", &slots[2][1]), LUCET_RETURNED);
    CALL(instance, "garbage", scaled(1000000));
    CHECK_EQUAL(value_of(slots[0][0]), 5);
    CHECK_EQUAL(value_of(slots[2][0]), 5);
    CHECK_EQUAL(value_of(slots[2][1]), 77);
    CHECK_EQUAL(call_slots(instance, "value", slots[0]), LUCET_RETURNED);
    CHECK_EQUAL(slots[0][0], 5);
    lucet_slots_free(slots[0]);
    lucet_slots_free(slots[2]);
    lucet_slots_free(NULL);
    finish(instance);
}

/* The other thread's runs come between a call and the look at its result, and between that and the next call. */
static void *take_turns(void *shared) {
    lucet_instance *instance = shared;
    for (u32 i = 0; i < scaled(400); i++) {
        u64 *slots = lucet_slots_new(1), garbage[1] = {3000};
        CHECK(slots);
        slots[0] = i;
        while (call_slots(instance, "make", slots) == LUCET_FAILED)
            ;
        CHECK_EQUAL(value_of(slots[0]), i);
        while (call_slots(instance, "garbage", garbage) == LUCET_FAILED)
            ;
        CHECK_EQUAL(value_of(slots[0]), i);
        while (call_slots(instance, "value", slots) == LUCET_FAILED)
            ;
        CHECK_EQUAL(slots[0], i);
        lucet_slots_free(slots);
    }
    return NULL;
}

static void slots_of_two_threads(void) {
    lucet_instance *instance = exceptions_instance();
    pthread_t other;
    CHECK(pthread_create(&other, NULL, take_turns, instance) == 0);
    take_turns(instance);
    CHECK(pthread_join(other, NULL) == 0);
    finish(instance);
}

static lucet_host_result suspend(lucet_instance *instance, u64 *slots) {
    (void)instance, (void)slots;
    return LUCET_HOST_SUSPEND;
}

static void given_to_who_is_suspended(void) {
    lucet_instance *instance = exceptions_instance();
    lucet_exception *exception = lucet_exception_new(tag, (u64[2]){5, 6}, NULL);
    on_pass = suspend;
    u64 slots[1] = {9}, value;
    CHECK_EQUAL(call_slots(instance, "pass", slots), LUCET_SUSPENDED);
    for (u32 i = 0; i < 10000; i++)
        CHECK(lucet_exnref_new(instance, exception, last_outcome.suspended_slots, &last_error));
    CHECK_EQUAL(lucet_resume(instance, false, &last_outcome, &last_error), LUCET_RETURNED);
    CHECK_EQUAL(slots[0], 5);
    lucet_instance_set_time_slice(instance, 1000000);
    CHECK_EQUAL(call_slots(instance, "throw_for_ever", slots), LUCET_PREEMPTED);
    CHECK(!lucet_exnref_new(instance, exception, &value, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_STATE);
    CHECK_EQUAL(lucet_resume(instance, true, &last_outcome, &last_error), LUCET_TERMINATED);
    CHECK(lucet_exnref_new(instance, exception, &value, &last_error));
    lucet_exception_release(exception);
    finish(instance);
}

/* ---- interrupts ---- */

/* At every instruction of throwing and catching: no interrupt is lost. */
static void interrupted(const char *name, u32 most) {
    lucet_instance *instance = exceptions_instance();
    on_stop = throw_it;
    CALL(instance, "catch", 3); /* the thread, and the tables of these functions, are prepared */
    CALL(instance, "stop", 3);
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, name);
    for (u64 at = 1; at < most; at += SANITIZED ? 29 : 1) {
        u64 slots[2] = {0};
        alarm(20);
        CHECK_EQUAL(stepped_call(instance, function, slots, NULL, at, false), LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
    }
    alarm(0);
    CHECK_EQUAL(CALL(instance, "catch", 3), 7);
    finish(instance);
}

static void at_every_instruction(void) {
    if (!can_step())
        return;
    interrupted("throw_for_ever", 450);
    interrupted("stop_for_ever", 600);
}

/* ---- what is left ---- */

static void nothing_is_left(void) {
    lucet_linkage *linkage = link_exceptions();
    lucet_region *region = small_region(2);
    on_stop = throw_it;
    struct usage before = usage_now();
    for (u32 i = 0; i < scaled(300); i++) {
        lucet_instance *instance = started_instance(region, linkage);
        if (i == 1)
            before = usage_now();
        u64 slots[1] = {2};
        for (u32 j = 0; j < 300; j++) {
            CHECK_EQUAL(CALL(instance, "catch", 5), 7);
            CHECK_EQUAL(CALL(instance, "stop", 5), 1005);
            CHECK_EQUAL(call_slots(instance, "throw", slots), LUCET_THREW);
            lucet_exception_release(last_outcome.exception);
        }
        CALL(instance, "keep", 1);
        if (i % 3 == 0)
            CHECK(lucet_instance_reset(instance, &last_error));
        lucet_instance_free(instance);
    }
    struct usage after = usage_now();
    CHECK(after.descriptors <= before.descriptors && after.mappings <= before.mappings + 2);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
    lucet_tag_release(tag);
    lucet_tag_release(stranger);
}

/* ---- threads ---- */

static void *catch_often(void *linkage) {
    lucet_region *region = small_region(1);
    for (u32 i = 0; i < scaled(20); i++) {
        lucet_instance *instance = started_instance(region, linkage);
        for (u32 depth = 0; depth < 100; depth++)
            CHECK_EQUAL(CALL(instance, "catch", depth), 7);
        lucet_instance_free(instance);
    }
    lucet_region_release(region);
    return NULL;
}

/* Threads that throw in one module expand its tables at the same time. */
static void many_threads(void) {
    for (u32 round = 0; round < scaled(20); round++) {
        lucet_linkage *linkage = link_exceptions();
        pthread_t threads[4];
        for (u32 i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, catch_often, linkage) == 0);
        for (u32 i = 0; i < 4; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        lucet_linkage_release(linkage);
        lucet_tag_release(tag);
        lucet_tag_release(stranger);
    }
}

MAIN(TEST(caught), TEST(not_caught), TEST(host_functions_throw), TEST(references), TEST(hosts_references_end),
     TEST(slots_keep), TEST(slots_of_two_threads), TEST(given_to_who_is_suspended), TEST(tags_are_checked),
     TEST(at_every_instruction), TEST(nothing_is_left), TEST(many_threads))
