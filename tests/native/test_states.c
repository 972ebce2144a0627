/* test_states.c: every pair of state and event, against transitions.def. */

#include "hosts.h"

enum event {
#define EVENT(name, text) EVENT_##name,
#define TRANSITION(state, event, next)
#include "transitions.def"
#undef EVENT
#undef TRANSITION
    EVENTS_COUNT,
    NOTHING = EVENTS_COUNT
};

enum { STATES_COUNT = LUCET_STATE_FAULTED + 1, NEXT_UNLISTED = -1, NEXT_ERROR = -2, NEXT_INITIAL = -3 };
enum { NEXT_FREE = LUCET_STATE_FREE, NEXT_NOT_STARTED = LUCET_STATE_NOT_STARTED, NEXT_READY = LUCET_STATE_READY };
enum { NEXT_RUNNING = LUCET_STATE_RUNNING, NEXT_SUSPENDED = LUCET_STATE_SUSPENDED, NEXT_FAULTED = LUCET_STATE_FAULTED };

static int expected(int state, int event) {
    static const struct {
        int state, event, next;
    } table[] = {
#define EVENT(name, text)
#define TRANSITION(state, event, next) {LUCET_STATE_##state, EVENT_##event, NEXT_##next},
#include "transitions.def"
#undef EVENT
#undef TRANSITION
    };
    int found = NEXT_UNLISTED;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].state == state && table[i].event == event) {
            CHECK_EQUAL(found, NEXT_UNLISTED); /* listed once */
            found = table[i].next;
        }
    return found;
}

static const char *event_text(int event) {
    static const char *const texts[] = {
#define EVENT(name, text) text,
#define TRANSITION(state, event, next)
#include "transitions.def"
#undef EVENT
#undef TRANSITION
    };
    return texts[event];
}

/* ---- an instance, and what is done to it ---- */

static lucet_region *region;
static lucet_linkage *linkage;
static lucet_module *relay;

/* What the host function does: `inside` to the instance that called it, then `ending`. */
static enum event inside, ending;
static lucet_state seen_inside;
static bool accepted_inside;

enum { TRAP_PLEASE = 13 };

static bool apply(lucet_instance *instance, enum event event);

static lucet_host_result act(lucet_instance *instance, u64 *slots) {
    enum event now = inside, then = ending;
    inside = ending = NOTHING;
    if (now != NOTHING)
        accepted_inside = apply(instance, now);
    seen_inside = lucet_instance_state(instance);
    slots[0] = 1;
    switch (then) {
    case EVENT_TRAPPED:
    case EVENT_START_TRAPPED:
        slots[0] = TRAP_PLEASE;
        return LUCET_HOST_OK;
    case EVENT_SUSPENDS:
        return LUCET_HOST_SUSPEND;
    case EVENT_TERMINATED:
    case EVENT_START_TERMINATED:
        return LUCET_HOST_TERMINATE;
    default:
        return LUCET_HOST_OK;
    }
}

static bool was_refused(lucet_outcome_kind kind, const lucet_error *error) {
    if (kind == LUCET_FAILED)
        CHECK_EQUAL(error->code, LUCET_ERROR_STATE);
    return kind == LUCET_FAILED;
}

static bool link_to(lucet_instance *instance) {
    lucet_error error = {0};
    u32 index = export_index(lucet_instance_module(instance), LUCET_FUNC, "value");
    lucet_import import = {.from = LUCET_IMPORT_ITEM, .instance = instance, .index = index};
    lucet_linkage *linked = lucet_link(relay, &import, 1, &error);
    lucet_instance *importer = linked ? lucet_instance_new(region, linked, NULL, &error) : NULL;
    if (linked)
        lucet_linkage_release(linked);
    if (importer)
        lucet_instance_free(importer);
    else
        CHECK_EQUAL(error.code, LUCET_ERROR_STATE);
    return importer;
}

/* False: refused with LUCET_ERROR_STATE. */
static bool apply(lucet_instance *instance, enum event event) {
    lucet_outcome outcome;
    lucet_error error = {0};
    u64 slots[2] = {0};
    switch (event) {
    case EVENT_START:
        return !was_refused(lucet_instance_start(instance, &outcome, &error), &error);
    case EVENT_CALL: {
        u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, "ask");
        return !was_refused(lucet_call(instance, function, slots, &outcome, &error), &error);
    }
    case EVENT_RESUME:
    case EVENT_TERMINATE:
        return !was_refused(lucet_resume(instance, event == EVENT_TERMINATE, &outcome, &error), &error);
    case EVENT_RESET:
        if (lucet_instance_reset(instance, &error))
            return true;
        CHECK_EQUAL(error.code, LUCET_ERROR_STATE);
        return false;
    case EVENT_LINK:
        return link_to(instance);
    case EVENT_INTERRUPT:
        return lucet_instance_interrupt(instance);
    case EVENT_FREE:
        lucet_instance_free(instance);
        return true;
    default:
        abort();
    }
}

static lucet_instance *put_into(lucet_state state, bool while_starting) {
    lucet_instance *instance = new_instance(region, linkage);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_NOT_STARTED);
    inside = ending = NOTHING;
    if (state == LUCET_STATE_NOT_STARTED)
        return instance;
    if (state == LUCET_STATE_FAULTED)
        ending = EVENT_START_TRAPPED;
    if (state == LUCET_STATE_SUSPENDED && while_starting)
        ending = EVENT_SUSPENDS;
    CHECK(apply(instance, EVENT_START));
    if (state == LUCET_STATE_SUSPENDED && !while_starting) {
        ending = EVENT_SUSPENDS;
        CHECK(apply(instance, EVENT_CALL));
    }
    CHECK_EQUAL(lucet_instance_state(instance), state);
    return instance;
}

static void check_next(lucet_instance *instance, int next, bool accepted, enum event event) {
    if (next == NEXT_INITIAL)
        next = LUCET_STATE_NOT_STARTED;
    if (event != EVENT_INTERRUPT)
        CHECK(accepted);
    CHECK_EQUAL(lucet_instance_state(instance), next);
}

static void outside_pair(lucet_state state, enum event event, int next, bool while_starting) {
    lucet_instance *instance = put_into(state, while_starting);
    bool accepted = apply(instance, event);
    if (next == NEXT_ERROR) {
        CHECK(!accepted);
        CHECK_EQUAL(lucet_instance_state(instance), state);
    } else if (next == LUCET_STATE_RUNNING) {
        CHECK(accepted);
        if (event != EVENT_RESUME) /* the host function has returned to be resumed */
            CHECK_EQUAL(seen_inside, LUCET_STATE_RUNNING);
        CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    } else if (event == EVENT_TERMINATE && while_starting) {
        check_next(instance, LUCET_STATE_FAULTED, accepted, event);
    } else {
        check_next(instance, next, accepted, event);
    }
    if (event == EVENT_INTERRUPT)
        CHECK_EQUAL(accepted, state == LUCET_STATE_SUSPENDED);
    if (event != EVENT_FREE)
        lucet_instance_free(instance);
}

static void running_pair(enum event event, int next, bool while_starting) {
    bool is_call = event <= EVENT_FREE;
    lucet_instance *instance = put_into(while_starting ? LUCET_STATE_NOT_STARTED : LUCET_STATE_READY, false);
    inside = is_call ? event : NOTHING;
    ending = is_call ? NOTHING : event;
    CHECK(apply(instance, while_starting ? EVENT_START : EVENT_CALL));
    CHECK_EQUAL(seen_inside, LUCET_STATE_RUNNING);
    if (is_call) {
        bool refused = next == NEXT_ERROR || (while_starting && (event == EVENT_CALL || event == EVENT_LINK));
        CHECK_EQUAL(accepted_inside, !refused);
        bool spoilt = while_starting && event == EVENT_INTERRUPT;
        CHECK_EQUAL(lucet_instance_state(instance), spoilt ? LUCET_STATE_FAULTED : LUCET_STATE_READY);
    } else {
        CHECK_EQUAL(lucet_instance_state(instance), next);
    }
    lucet_instance_free(instance);
}

static void every_pair(void) {
    region = small_region(4);
    linkage = link_start();
    relay = load_guest("relay");
    on_stop = act;
    u32 pairs = 0;
    for (int state = LUCET_STATE_NOT_STARTED; state < STATES_COUNT; state++)
        for (int event = EVENT_START; event < EVENTS_COUNT; event++) {
            int next = expected(state, event);
            bool during_start = event >= EVENT_START_RETURNED;
            if (next == NEXT_UNLISTED) {
                /* Only what a guest does, and only where it does not run; or freeing what runs, which is not allowed. */
                CHECK(state == LUCET_STATE_RUNNING ? event == EVENT_FREE : event > EVENT_FREE);
                continue;
            }
            pairs++;
            if (getenv("LUCET_TEST_VERBOSE"))
                fprintf(stderr, "%s: %s\n", lucet_state_text((lucet_state)state), event_text(event));
            if (state == LUCET_STATE_RUNNING) {
                if (!during_start)
                    running_pair((enum event)event, next, false);
                if (during_start || event <= EVENT_FREE)
                    running_pair((enum event)event, next, true);
            } else {
                outside_pair((lucet_state)state, (enum event)event, next, false);
                if (state == LUCET_STATE_SUSPENDED)
                    outside_pair((lucet_state)state, (enum event)event, next, true);
            }
            CHECK_EQUAL(lucet_region_used(region), 0);
        }
    CHECK_EQUAL(pairs, 8 * 5 - 1 + 7);
    lucet_module_release(relay);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

static void texts(void) {
    for (int state = 0; state < STATES_COUNT; state++)
        CHECK(strlen(lucet_state_text((lucet_state)state)) > 3);
}

/* Without a stack nothing ran: the start function is still due, and initialisers are not run twice. */
static void start_without_a_stack(void) {
    lucet_region_config config = small_config(2);
    config.stacks = 1;
    region = new_region(&config);
    linkage = link_start();
    on_stop = NULL;
    lucet_instance *instance = new_instance(region, linkage);
    struct lucet_activation *only = region_take_stack(region);
    CHECK(only);
    lucet_outcome outcome;
    lucet_error error = {0};
    CHECK_EQUAL(lucet_instance_start(instance, &outcome, &error), LUCET_FAILED);
    CHECK_EQUAL(error.code, LUCET_ERROR_REGION_FULL);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_NOT_STARTED);
    region_give_stack(region, only);
    CHECK_EQUAL(lucet_instance_start(instance, &outcome, &error), LUCET_RETURNED);
    CHECK_EQUAL(CALL(instance, "value"), 9);
    lucet_instance_free(instance);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

/* A host function makes and starts an instance that is linked to the one that runs. */

static lucet_host_result start_another(lucet_instance *instance, u64 *slots) {
    lucet_error error = {0};
    on_stop = NULL;
    u32 index = export_index(lucet_instance_module(instance), LUCET_FUNC, "value");
    lucet_import import = {.from = LUCET_IMPORT_ITEM, .instance = instance, .index = index};
    lucet_linkage *linked = link_guest(relay, &import, 1);
    lucet_instance *inner = lucet_instance_new(region, linked, NULL, &error);
    CHECK(inner);
    CHECK(lucet_instances_linked(inner, instance));
    lucet_outcome outcome;
    if (lucet_instance_needs_start(inner))
        CHECK_EQUAL(lucet_instance_start(inner, &outcome, &error), LUCET_RETURNED);
    CHECK_EQUAL(CALL(inner, "relay"), 9);
    lucet_linkage_release(linked);
    lucet_instance_free(inner);
    slots[0] = 1;
    return LUCET_HOST_OK;
}

static void start_inside_a_run(void) {
    region = small_region(4);
    linkage = link_start();
    relay = load_guest("relay");
    on_stop = NULL;
    lucet_instance *instance = started_instance(region, linkage);
    on_stop = start_another;
    CHECK_EQUAL(CALL(instance, "ask"), 1);
    CHECK_EQUAL(CALL(instance, "value"), 9);
    CHECK_EQUAL(lucet_instance_state(instance), LUCET_STATE_READY);
    CHECK_EQUAL(lucet_region_used(region), 2); /* together with its group */
    lucet_instance_free(instance);
    CHECK_EQUAL(lucet_region_used(region), 0);
    lucet_module_release(relay);
    lucet_linkage_release(linkage);
    lucet_region_release(region);
}

MAIN(TEST(every_pair), TEST(texts), TEST(start_without_a_stack), TEST(start_inside_a_run))
