/* test_races.c: the races of the kill switch, of linking and of freeing, one by one: a thread is stopped at a named place, another does
 * its worst, and the first goes on. */

#include "hosts.h"
#include "sync.h"

/* A thread that runs one export with a stop somewhere. */
static struct {
    lucet_instance *instance, *afterwards;
    const char *function, *place;
    lucet_outcome_kind kind;
    u32 trap, result;
} runner;

static void *run_it(void *unused) {
    (void)unused;
    u64 slots[2] = {1, 2};
    stop_at = runner.place;
    runner.kind = call_slots(runner.instance, runner.function, slots);
    runner.trap = last_outcome.trap;
    runner.result = (u32)slots[0];
    stop_at = NULL;
    /* The same thread and most likely the same stack: whatever was left over would strike here. */
    for (u32 i = 0; i < 3; i++)
        CHECK_EQUAL(CALL(runner.afterwards, "call_add", i, 1), i + 1);
    CHECK_EQUAL(CALL(runner.instance, "call_add", 40, 2), 42);
    return NULL;
}

static bool interrupt_while_at(const char *function, const char *place) {
    runner.function = function;
    runner.place = place;
    pthread_t thread;
    alarm(20);
    CHECK(pthread_create(&thread, NULL, run_it, NULL) == 0);
    wait_until_stopped();
    bool accepted = lucet_instance_interrupt(runner.instance);
    let_go();
    CHECK(pthread_join(thread, NULL) == 0);
    alarm(0);
    return accepted;
}

static void set_up(void) {
    lucet_linkage *linkage = link_hosts("hosts");
    lucet_region *region = small_region(4);
    runner.instance = new_instance(region, linkage);
    runner.afterwards = new_instance(region, linkage);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

static void tear_down(void) {
    lucet_instance_free(runner.instance);
    lucet_instance_free(runner.afterwards);
}

static void interrupted_on_the_way_in(void) {
    set_up();
    CHECK(!interrupt_while_at("sum", "push")); /* nothing there yet */
    CHECK_EQUAL(runner.kind, LUCET_RETURNED);
    static const char *const places[] = {"pushed", "enter"};
    for (u32 i = 0; i < 2; i++) {
        CHECK(interrupt_while_at("spin", places[i]));
        CHECK_EQUAL(runner.kind, LUCET_TRAPPED);
        CHECK_EQUAL(runner.trap, TRAP_INTERRUPTED);
        CHECK(interrupt_while_at("sum", places[i])); /* ends before its first instruction */
        CHECK_EQUAL(runner.kind, LUCET_TRAPPED);
    }
    tear_down();
}

static void interrupted_in_a_host_function(void) {
    set_up();
    static const char *const places[] = {"hostcall", "hostcall done"};
    for (u32 i = 0; i < 2; i++) {
        CHECK(interrupt_while_at("call_add", places[i]));
        CHECK_EQUAL(runner.kind, LUCET_TRAPPED);
        CHECK_EQUAL(runner.trap, TRAP_INTERRUPTED);
        CHECK(interrupt_while_at("call_for_ever", places[i]));
        CHECK_EQUAL(runner.kind, LUCET_TRAPPED);
    }
    tear_down();
}

static void interrupted_on_the_way_out(void) {
    set_up();
    static const char *const places[] = {"back", "pop"};
    for (u32 i = 0; i < 2; i++) {
        CHECK(interrupt_while_at("sum", places[i])); /* too late for this run, and no other is hit */
        CHECK_EQUAL(runner.kind, LUCET_RETURNED);
        CHECK_EQUAL(runner.result, 3);
        CHECK(interrupt_while_at("trap", places[i]));
        CHECK_EQUAL(runner.kind, LUCET_TRAPPED);
        CHECK_EQUAL(runner.trap, TRAP_UNREACHABLE);
    }
    CHECK(!interrupt_while_at("sum", "popped"));
    CHECK_EQUAL(runner.kind, LUCET_RETURNED);
    tear_down();
}

/* The other way round: the killer holds what it found while the run ends. */
static void *kill_it(void *instance) {
    stop_at = "interrupt";
    lucet_instance_interrupt(instance);
    return NULL;
}

static void *let_go_later(void *unused) {
    (void)unused;
    usleep(20000);
    let_go();
    return NULL;
}

static pthread_t slow_killer, helper;

static lucet_host_result start_and_hold_killer(lucet_instance *instance, u64 *slots) {
    CHECK(pthread_create(&slow_killer, NULL, kill_it, instance) == 0);
    wait_until_stopped();
    CHECK(pthread_create(&helper, NULL, let_go_later, NULL) == 0);
    slots[0] = 0;
    return LUCET_HOST_OK;
}

static void killer_is_slow(void) {
    set_up();
    on_stop = start_and_hold_killer;
    /* The flag is set already when the host function returns; the signal comes while the run waits to be taken off the group. */
    u64 slots[1] = {1};
    alarm(20);
    CHECK_EQUAL(call_slots(runner.instance, "call_stop", slots), LUCET_TRAPPED);
    CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
    CHECK_EQUAL(CALL(runner.afterwards, "call_add", 1, 2), 3);
    CHECK(pthread_join(slow_killer, NULL) == 0);
    alarm(0);
    CHECK(pthread_join(helper, NULL) == 0);
    tear_down();
}

/* ---- the same, resumed ---- */

static void *resume_it(void *unused) {
    (void)unused;
    stop_at = runner.place;
    runner.kind = resume(runner.instance);
    runner.trap = last_outcome.trap;
    return NULL;
}

static void interrupted_while_resuming(void) {
    set_up();
    static const char *const places[] = {"resume", "enter"};
    for (u32 i = 0; i < 2; i++) {
        on_stop = stop_by_suspending;
        CHECK_EQUAL(call_slots(runner.instance, "stop_and_spin", (u64[1]){0}), LUCET_SUSPENDED);
        runner.place = places[i];
        pthread_t thread;
        alarm(20);
        CHECK(pthread_create(&thread, NULL, resume_it, NULL) == 0);
        wait_until_stopped();
        CHECK(lucet_instance_interrupt(runner.instance));
        let_go();
        CHECK(pthread_join(thread, NULL) == 0);
        alarm(0);
        CHECK_EQUAL(runner.kind, LUCET_TRAPPED);
        CHECK_EQUAL(runner.trap, TRAP_INTERRUPTED);
    }
    tear_down();
}

/* ---- while a run is on, other threads get nothing ---- */

static void others_are_refused_at(const char *place) {
    runner.function = "sum";
    runner.place = place;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_it, NULL) == 0);
    wait_until_stopped();
    CHECK_FAILS(LUCET_ERROR_STATE, runner.instance, "sum", 1, 2);
    CHECK_EQUAL(resume(runner.instance), LUCET_FAILED);
    CHECK(!lucet_instance_reset(runner.instance, &last_error) && last_error.code == LUCET_ERROR_STATE);
    lucet_state state = lucet_instance_state(runner.instance);
    CHECK(state == LUCET_STATE_RUNNING || state == LUCET_STATE_READY);
    let_go();
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(runner.kind, LUCET_RETURNED);
    CHECK_EQUAL(runner.result, 3);
}

static void others_are_refused(void) {
    set_up();
    static const char *const places[] = {"push", "pushed", "enter", "back", "pop", "popped"};
    for (u32 i = 0; i < 6; i++)
        others_are_refused_at(places[i]);
    tear_down();
}

/* ---- an instance changes its group while somebody interrupts it ---- */

static lucet_host_result link_then_stop(lucet_instance *instance, u64 *slots) {
    lucet_import imports[] = {{.from = LUCET_IMPORT_ITEM,
                               .instance = runner.afterwards,
                               .index = export_index(lucet_instance_module(instance), LUCET_FUNC, "one")},
                              {.from = LUCET_IMPORT_ITEM,
                               .instance = instance,
                               .index = export_index(lucet_instance_module(instance), LUCET_FUNC, "sum")}};
    lucet_module *module = load_guest("joiner");
    lucet_linkage *linkage = link_guest(module, imports, 2);
    lucet_instance *joiner = new_instance(lucet_instance_region(instance), linkage);
    lucet_linkage_release(linkage);
    lucet_module_release(module);
    lucet_instance_free(joiner); /* lives on with the group */
    slots[0] = 0;
    return LUCET_HOST_OK;
}

static void *link_and_spin(void *unused) {
    (void)unused;
    on_stop = link_then_stop;
    runner.kind = call_slots(runner.instance, "stop_and_spin", (u64[1]){0});
    runner.trap = last_outcome.trap;
    return NULL;
}

/* From both sides: the instance that runs, and the one that comes into its group. */
static void interrupted_after_linking(void) {
    for (u32 side = 0; side < 2; side++) {
        set_up();
        pthread_t thread;
        alarm(20);
        CHECK(pthread_create(&thread, NULL, link_and_spin, NULL) == 0);
        while (!lucet_instances_linked(runner.instance, runner.afterwards))
            usleep(100);
        while (!lucet_instance_interrupt(side ? runner.instance : runner.afterwards))
            usleep(100);
        CHECK(pthread_join(thread, NULL) == 0);
        alarm(0);
        CHECK_EQUAL(runner.kind, LUCET_TRAPPED);
        CHECK_EQUAL(runner.trap, TRAP_INTERRUPTED);
        CHECK_EQUAL(CALL(runner.instance, "call_add", 1, 2), 3);
        tear_down();
    }
}

/* ---- a slot on its way back ---- */

static void *free_it(void *instance) {
    stop_at = "give back";
    lucet_instance_free(instance);
    return NULL;
}

static void slot_is_not_taken_before_it_is_given_back(void) {
    lucet_linkage *linkage = load_linked("plain");
    lucet_region *region = small_region(1);
    lucet_instance *instance = new_instance(region, linkage);
    CALL(instance, "poke", 5000, 99);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_it, instance) == 0);
    wait_until_stopped();
    CHECK(!lucet_instance_new(region, linkage, NULL, &last_error));
    CHECK_EQUAL(last_error.code, LUCET_ERROR_REGION_FULL);
    CHECK_EQUAL(lucet_region_used(region), 1);
    lucet_region_release(region); /* kept by the instance, until it is back */
    lucet_region_retain(region);
    let_go();
    CHECK(pthread_join(thread, NULL) == 0);
    instance = new_instance(region, linkage);
    CHECK_EQUAL(CALL(instance, "peek", 5000), 0);
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

MAIN(TEST(interrupted_on_the_way_in), TEST(interrupted_in_a_host_function), TEST(interrupted_on_the_way_out),
     TEST(killer_is_slow), TEST(interrupted_while_resuming), TEST(others_are_refused), TEST(interrupted_after_linking),
     TEST(slot_is_not_taken_before_it_is_given_back))
