/* test_many.c: many calls in one run. */

#include <pthread.h>

#include "hosts.h"
#include "stepping.h"

enum { BLOCK = 5, WIDTH = 2 };

/* Rows of two slots: i and 1000, until there have been `count`; what came back is added up. */
static struct {
    u64 block[BLOCK * WIDTH];
    u64 begun, count, total, calls_of_next;
    lucet_instance *nested;
} feed;

static void take(const lucet_rows *rows) {
    for (const u64 *row = feed.block; row < rows->slots; row += WIDTH)
        feed.total += (u32)row[0];
}

static bool next(lucet_rows *rows) {
    feed.calls_of_next++;
    take(rows);
    if (feed.nested)
        CHECK_EQUAL(CALL(feed.nested, "sum", 4, 5), 9);
    u64 n = feed.count - feed.begun < BLOCK ? feed.count - feed.begun : BLOCK;
    for (u64 i = 0; i < n; i++) {
        feed.block[i * WIDTH] = feed.begun++;
        feed.block[i * WIDTH + 1] = 1000;
    }
    rows->slots = feed.block;
    rows->end = feed.block + n * WIDTH;
    return n > 0;
}

static lucet_rows rows_of(u64 count) {
    memset(&feed, 0, sizeof feed);
    feed.count = count;
    return (lucet_rows){feed.block, feed.block, WIDTH * sizeof *feed.block, next, NULL};
}

static lucet_outcome_kind call_many(lucet_instance *instance, const char *name, lucet_rows *rows) {
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, name);
    return lucet_call_many(instance, function, rows, &last_outcome, &last_error);
}

static u64 sum_below(u64 n) {
    return n * (n - 1) / 2;
}

static void every_row(void) {
    lucet_instance *instance = hosts_instance(2);
    static const u64 counts[] = {0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 1000};
    for (u32 i = 0; i < sizeof counts / sizeof *counts; i++) {
        lucet_rows rows = rows_of(counts[i]);
        feed.nested = instance; /* as a host function may */
        CHECK_EQUAL(call_many(instance, "sum", &rows), LUCET_RETURNED);
        CHECK_EQUAL(feed.total, counts[i] ? sum_below(counts[i]) + 1000 * counts[i] : 0);
        CHECK_EQUAL(feed.calls_of_next, (counts[i] + BLOCK - 1) / BLOCK + 1);
    }
    lucet_rows rows = rows_of(1);
    CHECK_EQUAL(lucet_call_many(instance, 9999, &rows, &last_outcome, &last_error), LUCET_FAILED);
    CHECK_EQUAL(feed.calls_of_next, 0);
    CHECK_EQUAL(CALL(instance, "sum", 40, 2), 42);
    lucet_instance_free(instance);
}

static void by_reference(void) {
    lucet_instance *instance = hosts_instance(1);
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, "sum");
    lucet_rows rows = rows_of(20);
    const lucet_funcref *ref = lucet_instance_funcref(instance, function);
    CHECK_EQUAL(lucet_call_ref_many(instance, ref, &rows, &last_outcome, &last_error), LUCET_RETURNED);
    CHECK_EQUAL(feed.total, sum_below(20) + 20 * 1000);
    lucet_instance_free(instance);
}

static lucet_host_result at_twelve(lucet_instance *instance, u64 *slots) {
    (void)instance;
    return (u32)slots[0] == 12 ? LUCET_HOST_TERMINATE : LUCET_HOST_OK;
}

static lucet_host_result suspend_always(lucet_instance *instance, u64 *slots) {
    (void)instance, (void)slots;
    return LUCET_HOST_SUSPEND;
}

struct resumption {
    lucet_instance *instance;
    lucet_outcome outcome;
};

static void *resume_there(void *pointer) {
    struct resumption *r = pointer;
    lucet_resume(r->instance, false, &r->outcome, NULL);
    return NULL;
}

/* Each row is suspended, and goes on on another thread. */
static void suspended_in_rows(void) {
    lucet_instance *instance = hosts_instance(1);
    on_stop = suspend_always;
    lucet_rows rows = rows_of(3 * BLOCK);
    struct resumption r = {.instance = instance};
    call_many(instance, "call_stop", &rows);
    r.outcome = last_outcome;
    u64 stops = 0;
    /* on_stop is each thread's own: the first row of a thread is resumed, its others return at once */
    while (r.outcome.kind == LUCET_SUSPENDED) {
        CHECK(rows.slots == feed.block);
        r.outcome.suspended_slots[0] = 77;
        stops++;
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, resume_there, &r) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    lucet_outcome_kind kind = r.outcome.kind;
    CHECK_EQUAL(kind, LUCET_RETURNED);
    CHECK_EQUAL(stops, 1);
    CHECK_EQUAL(feed.total, 77 + sum_below(3 * BLOCK) + 3 * BLOCK * (BASE + OWN_G));
    /* All on one thread: each row waits. */
    rows = rows_of(30);
    stops = 0;
    for (kind = call_many(instance, "call_stop", &rows); kind == LUCET_SUSPENDED; kind = resume(instance)) {
        CHECK(rows.slots == feed.block + stops % BLOCK * WIDTH);
        last_outcome.suspended_slots[0] = stops++;
    }
    CHECK_EQUAL(kind, LUCET_RETURNED);
    CHECK_EQUAL(stops, 30);
    CHECK_EQUAL(feed.total, sum_below(30) + 30 * (BASE + OWN_G));
    /* Given up in the middle: the stack is free again, and so is the instance. */
    on_stop = suspend_always;
    rows = rows_of(30);
    CHECK_EQUAL(call_many(instance, "call_stop", &rows), LUCET_SUSPENDED);
    CHECK_EQUAL(lucet_resume(instance, true, &last_outcome, &last_error), LUCET_TERMINATED);
    on_stop = NULL;
    CHECK_EQUAL(CALL(instance, "sum", 40, 2), 42);
    lucet_instance_free(instance);
}

/* Where a run ended says rows.slots; what came before has its results. */
static void ends_in_a_row(void) {
    lucet_instance *instance = hosts_instance(1);
    on_stop = at_twelve;
    lucet_rows rows = rows_of(30);
    CHECK_EQUAL(call_many(instance, "call_stop", &rows), LUCET_TERMINATED);
    CHECK_EQUAL(feed.begun, 3 * BLOCK);
    CHECK_EQUAL(rows.slots - feed.block, WIDTH * (12 - 2 * BLOCK));
    lucet_instance_free(instance);

    lucet_linkage *linkage = load_linked("traps");
    lucet_region *region = small_region(1);
    instance = started_instance(region, linkage);
    rows = rows_of(30);
    CHECK_EQUAL(call_many(instance, "divide", &rows), LUCET_TRAPPED); /* by 0, in row 0 */
    CHECK_EQUAL(last_outcome.trap, TRAP_INTEGER_DIVIDE_BY_ZERO);
    CHECK(rows.slots == feed.block);
    rows = rows_of(30);
    feed.begun = 5;
    CHECK_EQUAL(call_many(instance, "divide", &rows), LUCET_RETURNED);
    rows = rows_of(30);
    CHECK_EQUAL(call_many(instance, "deep", &rows), LUCET_TRAPPED);
    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
}

static void one_timeout_for_all(void) {
    lucet_instance *instance = hosts_instance(1);
    on_stop = NULL;
    lucet_instance_set_timeout(instance, 30000000);
    lucet_rows rows = rows_of(UINT64_MAX);
    double start = seconds();
    CHECK_EQUAL(call_many(instance, "sum", &rows), LUCET_TRAPPED);
    CHECK_EQUAL(last_outcome.trap, TRAP_TIMED_OUT);
    CHECK(seconds() - start >= 0.029);
    CHECK(feed.begun > BLOCK);
    lucet_instance_free(instance);
}

/* ---- at every single instruction ---- */

static void at_every_instruction(void) {
    if (!can_step())
        return;
    lucet_instance *instance = hosts_instance(1);
    CALL(instance, "sum", 1, 2); /* the thread is prepared */
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, "sum");
    bool returned = false;
    u32 interrupted = 0;
    for (u64 at = 1; !returned; at += SANITIZED ? 29 : 1) {
        alarm(20);
        lucet_rows rows = rows_of(BLOCK + 1);
        lucet_outcome_kind kind = stepped_call(instance, function, NULL, &rows, at, false);
        if (kind == LUCET_TRAPPED) {
            CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
            CHECK(rows.slots >= feed.block && rows.slots <= feed.block + BLOCK * WIDTH);
            CHECK((rows.slots - feed.block) % WIDTH == 0);
            take(&rows); /* what was complete is right */
            u64 done = feed.calls_of_next ? (feed.calls_of_next - 1) * BLOCK : 0;
            done += (u64)(rows.slots - feed.block) / WIDTH;
            CHECK_EQUAL(feed.total, done ? sum_below(done) + 1000 * done : 0);
            interrupted++;
        } else {
            CHECK_EQUAL(kind, LUCET_RETURNED); /* it came too late */
            CHECK_EQUAL(feed.total, sum_below(BLOCK + 1) + (BLOCK + 1) * 1000);
            returned = stepping.steps < at || interrupted > 10;
        }
    }
    CHECK(interrupted > (SANITIZED ? 5 : 100));
    /* Preempted anywhere, the results are what they are. */
    u32 preempted = 0;
    for (u64 at = 1, over = 0; !over; at += SANITIZED ? 29 : 1) {
        alarm(20);
        lucet_rows rows = rows_of(BLOCK + 1);
        lucet_outcome_kind kind = stepped_call(instance, function, NULL, &rows, at, true);
        over = !stepping.done;
        for (; kind == LUCET_PREEMPTED; preempted++)
            kind = lucet_resume(instance, false, &last_outcome, &last_error);
        CHECK_EQUAL(kind, LUCET_RETURNED);
        CHECK_EQUAL(feed.total, sum_below(BLOCK + 1) + (BLOCK + 1) * 1000);
    }
    CHECK(preempted > (SANITIZED ? 2 : 30));
    alarm(0);
    lucet_instance_free(instance);
}

MAIN(TEST(every_row), TEST(by_reference), TEST(suspended_in_rows), TEST(ends_in_a_row), TEST(one_timeout_for_all),
     TEST(at_every_instruction))
