/* density.c: how many idle instances one process holds, and what each costs; for bench/density.py to run.
 *
 * usage: density ARTIFACT COUNT MEMORY_RESERVED MEMORY_GUARD INSTANCE_AREA
 *
 * Every instance runs one export once and then stays. Prints "reached N MESSAGE" (why not more; empty if all), then the
 * process's figures before and after, in KiB: "before Rss N" and so on. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lucet.h"

static _Noreturn void die(const char *what, const lucet_error *error) {
    fprintf(stderr, "%s: %s\n", what, error->message);
    exit(1);
}

/* The lines `NAME: N kB` of a file in /proc. */
static void print_figures(const char *when, const char *path, const char *const names[], size_t count) {
    char line[256];
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < count; i++) {
            size_t size = strlen(names[i]);
            if (strncmp(line, names[i], size) == 0 && line[size] == ':')
                printf("%s %s %llu\n", when, names[i], strtoull(line + size + 1, NULL, 10));
        }
    if (file)
        fclose(file);
}

static void print_memory(const char *when) {
    static const char *const resident[] = {"Rss", "Private_Clean", "Private_Dirty", "Shared_Clean", "Shared_Dirty"};
    static const char *const process[] = {"VmPTE", "VmSize"};
    print_figures(when, "/proc/self/smaps_rollup", resident, sizeof resident / sizeof *resident);
    print_figures(when, "/proc/self/status", process, sizeof process / sizeof *process);
}

static lucet_instance *new_idle_instance(lucet_region *region, lucet_linkage *linkage, uint32_t run,
                                         lucet_error *error) {
    lucet_outcome outcome;
    uint64_t slots[2] = {1, 2};
    lucet_instance *instance = lucet_instance_new(region, linkage, NULL, error);
    if (!instance)
        return NULL;
    if ((!lucet_instance_needs_start(instance) || lucet_instance_start(instance, &outcome, error) == LUCET_RETURNED) &&
        lucet_call(instance, run, slots, &outcome, error) == LUCET_RETURNED)
        return instance;
    if (outcome.kind != LUCET_FAILED)
        snprintf(error->message, sizeof error->message, "the call ended with trap %s", lucet_trap_name(outcome.trap));
    lucet_instance_free(instance);
    return NULL;
}

int main(int count, char **arguments) {
    lucet_error error;
    if (count != 6) {
        fprintf(stderr, "usage: density ARTIFACT COUNT MEMORY_RESERVED MEMORY_GUARD INSTANCE_AREA\n");
        return 2;
    }
    uint32_t wanted = (uint32_t)strtoul(arguments[2], NULL, 0), reached = 0;
    lucet_region_config config = lucet_region_defaults();
    config.slots = wanted;
    config.memory_reserved = strtoull(arguments[3], NULL, 0);
    config.memory_guard = strtoull(arguments[4], NULL, 0);
    config.memory_limit = config.memory_reserved;
    config.instance_area = (uint32_t)strtoul(arguments[5], NULL, 0);
    config.track_writes = false;
    lucet_module *module = lucet_module_load(arguments[1], &error);
    if (!module)
        die("load", &error);
    lucet_export_info run;
    if (!lucet_module_find_export(module, "run", 3, &run)) {
        fprintf(stderr, "no export is named \"run\"\n");
        return 1;
    }
    lucet_linkage *linkage = lucet_link(module, NULL, 0, &error);
    if (!linkage)
        die("link", &error);
    lucet_instance **instances = calloc(wanted, sizeof *instances);
    if (!instances)
        return 1;
    memset(instances, 1, wanted * sizeof *instances); /* resident before it is measured */
    print_memory("before");
    lucet_region *region = lucet_region_new(&config, &error);
    if (!region)
        die("region", &error);
    error.message[0] = 0;
    while (reached < wanted && (instances[reached] = new_idle_instance(region, linkage, run.index, &error)))
        reached++;
    print_memory("after");
    printf("reached %" PRIu32 " %s\n", reached, error.message);
    for (uint32_t i = 0; i < reached; i++)
        lucet_instance_free(instances[i]);
    free(instances);
    lucet_region_release(region);
    lucet_linkage_release(linkage);
    lucet_module_release(module);
    return 0;
}
