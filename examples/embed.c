/* embed.c: a host in C alone: runs ten thousand instances of embed_guest.wat, survives a trap, and stops a guest that would not
   stop by itself. How to build and run it: see README.md. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lucet.h"

enum { SLOTS = 1000, ROUNDS = 10, ARTICLES = 8 };

/* What the host knows of one instance. */
struct customer {
    uint32_t prices[ARTICLES];
    unsigned asked;
};

static void die(const char *what, const lucet_error *error) {
    fprintf(stderr, "embed: %s: %s\n", what, error->message);
    exit(1);
}

/* For runs that nothing should stop. */
static void must_return(const char *what, lucet_outcome_kind kind, const lucet_outcome *outcome,
                        const lucet_error *error) {
    if (kind == LUCET_RETURNED)
        return;
    const char *why = kind == LUCET_FAILED ? error->message : "it was suspended or ended by a host function";
    fprintf(stderr, "embed: %s: %s\n", what, kind == LUCET_TRAPPED ? lucet_trap_text(outcome->trap) : why);
    exit(1);
}

/* shop.price: (article: i32) -> i32. What a guest passes may be anything. */
static lucet_host_result price(lucet_instance *instance, uint64_t *slots, void *data) {
    struct customer *customer = lucet_instance_context(instance);
    uint32_t article = (uint32_t)slots[0];
    (void)data;
    customer->asked++;
    slots[0] = article < ARTICLES ? customer->prices[article] : 0;
    return LUCET_HOST_OK;
}

static uint32_t function_named(const lucet_module *module, const char *name) {
    lucet_export_info info;
    if (!lucet_module_find_export(module, name, strlen(name), &info) || info.kind != LUCET_FUNC) {
        fprintf(stderr, "embed: the guest has no function %s\n", name);
        exit(1);
    }
    return info.index;
}

/* The imports in the module's order: this host has one function to offer. */
static lucet_linkage *link_guest(lucet_module *module) {
    lucet_import imports[] = {{.from = LUCET_IMPORT_HOST_FUNCTION, .function = price}};
    lucet_error error;
    for (uint32_t i = 0; i < lucet_module_imports_count(module); i++) {
        lucet_import_info info = lucet_module_import(module, i);
        printf("imports %.*s.%.*s\n", (int)info.module.size, info.module.bytes, (int)info.field.size, info.field.bytes);
    }
    lucet_linkage *linkage = lucet_link(module, imports, sizeof imports / sizeof *imports, &error);
    if (!linkage)
        die("linking", &error);
    return linkage;
}

static lucet_instance *new_customer(lucet_region *region, lucet_linkage *linkage, struct customer *customer) {
    lucet_error error;
    lucet_outcome outcome;
    lucet_instance *instance = lucet_instance_new(region, linkage, NULL, &error);
    if (!instance)
        die("instantiating", &error);
    lucet_instance_set_context(instance, customer);
    /* This guest has no start function; others may. */
    if (lucet_instance_needs_start(instance))
        must_return("starting", lucet_instance_start(instance, &outcome, &error), &outcome, &error);
    return instance;
}

/* A thousand customers at a time, each with a sandbox of its own. */
static void serve_ten_thousand(lucet_region *region, lucet_linkage *linkage, uint32_t total) {
    static lucet_instance *instances[SLOTS];
    static struct customer customers[SLOTS];
    const uint8_t basket[] = {7, 1, 1, 4, 200};
    uint64_t sum = 0;
    unsigned asked = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < SLOTS; i++) {
            customers[i] = (struct customer){.prices = {0, i, 0, 0, 10, 0, 0, round}};
            instances[i] = new_customer(region, linkage, &customers[i]);
            memcpy(lucet_memory_base(lucet_instance_memory(instances[i], 0)), basket, sizeof basket);
        }
        for (unsigned i = 0; i < SLOTS; i++) {
            lucet_outcome outcome;
            lucet_error error;
            uint64_t slots[1] = {sizeof basket};
            must_return("total", lucet_call(instances[i], total, slots, &outcome, &error), &outcome, &error);
            sum += (uint32_t)slots[0];
            asked += customers[i].asked;
        }
        for (unsigned i = 0; i < SLOTS; i++)
            lucet_instance_free(instances[i]);
    }
    printf("%d instances, %u host calls, all baskets together: %" PRIu64 "\n", SLOTS * ROUNDS, asked, sum);
}

static void print_trap(const lucet_outcome *outcome) {
    lucet_string name = {"?", 1};
    if (outcome->module)
        name = lucet_module_function_name(outcome->module, outcome->function);
    printf("trap: %s in %.*s", lucet_trap_text(outcome->trap), (int)name.size, name.bytes);
    if (outcome->wasm_offset != LUCET_NO_OFFSET)
        printf(", byte %#" PRIx32 " of the .wasm", outcome->wasm_offset);
    printf("\n");
}

/* The average of an empty basket: a division by zero ends the run, not the instance. */
static void survive_a_trap(lucet_instance *instance, uint32_t average) {
    lucet_outcome outcome;
    lucet_error error;
    uint64_t slots[1] = {0};
    if (lucet_call(instance, average, slots, &outcome, &error) == LUCET_TRAPPED)
        print_trap(&outcome);
    slots[0] = 2;
    must_return("average", lucet_call(instance, average, slots, &outcome, &error), &outcome, &error);
    printf("afterwards it is %s: the average is %" PRIu32 "\n", lucet_state_text(lucet_instance_state(instance)),
           (uint32_t)slots[0]);
}

static void *watchdog(void *instance) {
    const struct timespec pause = {0, 10000000};
    /* False as long as nothing runs there. */
    do
        nanosleep(&pause, NULL);
    while (!lucet_instance_interrupt(instance));
    return NULL;
}

static void stop_a_loop(lucet_instance *instance, uint32_t never_ends) {
    lucet_outcome outcome;
    lucet_error error;
    pthread_t thread;
    if (pthread_create(&thread, NULL, watchdog, instance) != 0)
        exit(1);
    if (lucet_call(instance, never_ends, NULL, &outcome, &error) == LUCET_TRAPPED)
        print_trap(&outcome);
    pthread_join(thread, NULL);
    /* The same without a thread of one's own. */
    lucet_instance_set_timeout(instance, 10000000);
    if (lucet_call(instance, never_ends, NULL, &outcome, &error) == LUCET_TRAPPED)
        print_trap(&outcome);
}

int main(int argc, char **argv) {
    lucet_error error;
    lucet_module *module = lucet_module_load(argc > 1 ? argv[1] : "examples/embed_guest.so", &error);
    if (!module)
        die("loading", &error);
    lucet_linkage *linkage = link_guest(module);
    lucet_region_config config = lucet_region_defaults();
    config.slots = SLOTS;
    config.memory_limit = 1 << 20;
    lucet_region *region = lucet_region_new(&config, &error);
    if (!region)
        die("reserving", &error);

    serve_ten_thousand(region, linkage, function_named(module, "total"));
    struct customer customer = {.prices = {6}};
    lucet_instance *instance = new_customer(region, linkage, &customer);
    survive_a_trap(instance, function_named(module, "average"));
    stop_a_loop(instance, function_named(module, "never_ends"));

    lucet_instance_free(instance);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    lucet_module_release(module);
    return 0;
}
