/* kit.h: what the C tests share. A test is a function without arguments; a failed CHECK ends the program. */
#ifndef LUCET_TESTS_KIT_H
#define LUCET_TESTS_KIT_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_EQUAL(a, b)                                                                                              \
    do {                                                                                                               \
        unsigned long long a_ = (unsigned long long)(a), b_ = (unsigned long long)(b);                                 \
        if (a_ != b_) {                                                                                                \
            fprintf(stderr, "%s:%d: %s is %lld (%#llx), not %s (%lld, %#llx)\n", __FILE__, __LINE__, #a,               \
                    (long long)a_, a_, #b, (long long)b_, b_);                                                         \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#ifdef __SANITIZE_THREAD__
enum { SANITIZED_THREADS = 1 };
#else
enum { SANITIZED_THREADS = 0 };
#endif

/* Fewer rounds where every instruction costs many: LUCET_TEST_SCALE is a percentage. */
static inline unsigned scaled(unsigned rounds) {
    const char *text = getenv("LUCET_TEST_SCALE");
    unsigned scale = text ? (unsigned)atoi(text) : SANITIZED ? 20 : 100, result = (unsigned)((u64)rounds * scale / 100);
    return result ? result : 1;
}

static inline double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- the tests of a program ---- */

struct test {
    const char *name;
    void (*run)(void);
};

/* Runs all, or those named on the command line. */
static inline int run_tests(const struct test *tests, size_t count, int argc, char **argv) {
    size_t ran = 0;
    for (size_t i = 0; i < count; i++) {
        bool wanted = argc < 2;
        for (int j = 1; j < argc; j++)
            wanted |= strcmp(argv[j], tests[i].name) == 0;
        if (!wanted)
            continue;
        double start = seconds();
        printf("%s ", tests[i].name);
        fflush(stdout);
        tests[i].run();
        printf("%.2f s\n", seconds() - start);
        ran++;
    }
    printf("%zu passed\n", ran);
    return ran ? 0 : 1;
}

#define TEST(name) {#name, name}
#define MAIN(...)                                                                                                      \
    int main(int argc, char **argv) {                                                                                  \
        static const struct test tests[] = {__VA_ARGS__};                                                              \
        return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);                                             \
    }

/* ---- guests ---- */

static inline const char *guest_path(const char *name) {
    static _Thread_local char path[4096];
    const char *directory = getenv("LUCET_TEST_GUESTS");
    snprintf(path, sizeof path, "%s/%s.so", directory ? directory : ".", name);
    return path;
}

static inline lucet_module *load_guest(const char *name) {
    lucet_error error = {0};
    lucet_module *module = lucet_module_load(guest_path(name), &error);
    if (!module)
        fprintf(stderr, "%s: %s\n", name, error.message);
    CHECK(module);
    return module;
}

/* Give changed bytes a good checksum: it guards against accidents, the checks behind it against forgers. */
static inline void seal(u8 *bytes, size_t size, u64 header) {
    u64 at = header + offsetof(struct abi_artifact_header, checksum);
    if (at + 4 <= size) {
        u32 checksum = artifact_checksum(bytes, size, at, false);
        memcpy(bytes + at, &checksum, 4);
    }
}

static inline lucet_linkage *link_guest(lucet_module *module, const lucet_import *imports, size_t count) {
    lucet_error error = {0};
    lucet_linkage *linkage = lucet_link(module, imports, count, &error);
    if (!linkage)
        fprintf(stderr, "%s\n", error.message);
    CHECK(linkage);
    return linkage;
}

/* Linked, with the module's reference given to the linkage. */
static inline lucet_linkage *load_linked(const char *name) {
    lucet_module *module = load_guest(name);
    lucet_linkage *linkage = link_guest(module, NULL, 0);
    lucet_module_release(module);
    return linkage;
}

static inline lucet_region_config small_config(u32 slots) {
    lucet_region_config config = lucet_region_defaults();
    config.slots = slots;
    config.stack_size = 256 << 10;
    return config;
}

static inline lucet_region *new_region(const lucet_region_config *config) {
    lucet_error error = {0};
    lucet_region *region = lucet_region_new(config, &error);
    if (!region)
        fprintf(stderr, "%s\n", error.message);
    CHECK(region);
    return region;
}

static inline lucet_region *small_region(u32 slots) {
    lucet_region_config config = small_config(slots);
    return new_region(&config);
}

static inline lucet_instance *new_instance(lucet_region *region, lucet_linkage *linkage) {
    lucet_error error = {0};
    lucet_instance *instance = lucet_instance_new(region, linkage, NULL, &error);
    if (!instance)
        fprintf(stderr, "%s\n", error.message);
    CHECK(instance);
    return instance;
}

static inline lucet_instance *started_instance(lucet_region *region, lucet_linkage *linkage) {
    lucet_instance *instance = new_instance(region, linkage);
    lucet_outcome outcome;
    lucet_error error = {0};
    if (lucet_instance_needs_start(instance))
        CHECK_EQUAL(lucet_instance_start(instance, &outcome, &error), LUCET_RETURNED);
    return instance;
}

static inline u32 export_index(const lucet_module *module, lucet_kind kind, const char *name) {
    lucet_export_info info;
    if (!lucet_module_find_export(module, name, strlen(name), &info) || info.kind != kind) {
        fprintf(stderr, "no export %s\n", name);
        abort();
    }
    return info.index;
}

static _Thread_local lucet_outcome last_outcome __attribute__((unused));
static _Thread_local lucet_error last_error __attribute__((unused));

/* Calls an export; slots holds arguments and receives results. */
static inline lucet_outcome_kind call_slots(lucet_instance *instance, const char *name, u64 *slots) {
    u32 function = export_index(lucet_instance_module(instance), LUCET_FUNC, name);
    return lucet_call(instance, function, slots, &last_outcome, &last_error);
}

/* With up to four integer arguments, for the first result's low half. */
#define CALL(instance, name, ...) call_checked(__FILE__, __LINE__, instance, name, (u64[8]){__VA_ARGS__})

static inline u32 call_checked(const char *file, int line, lucet_instance *instance, const char *name, u64 *slots) {
    lucet_outcome_kind kind = call_slots(instance, name, slots);
    if (kind != LUCET_RETURNED) {
        fprintf(stderr, "%s:%d: %s: outcome %d, %s\n", file, line, name, kind,
                kind == LUCET_TRAPPED  ? lucet_trap_text(last_outcome.trap)
                : kind == LUCET_FAILED ? last_error.message
                                       : "");
        abort();
    }
    return (u32)slots[0];
}

#define CHECK_TRAPS(code, instance, name, ...)                                                                         \
    do {                                                                                                               \
        u64 slots_[8] = {__VA_ARGS__};                                                                                 \
        CHECK_EQUAL(call_slots(instance, name, slots_), LUCET_TRAPPED);                                                \
        CHECK_EQUAL(last_outcome.trap, code);                                                                          \
    } while (0)

#define CHECK_FAILS(error_code, instance, name, ...)                                                                   \
    do {                                                                                                               \
        u64 slots_[8] = {__VA_ARGS__};                                                                                 \
        CHECK_EQUAL(call_slots(instance, name, slots_), LUCET_FAILED);                                                 \
        CHECK_EQUAL(last_error.code, error_code);                                                                      \
    } while (0)

/* ---- leaks ---- */

struct usage {
    unsigned descriptors, mappings;
};

static inline struct usage usage_now(void) {
    struct usage usage = {0, 0};
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory);
    while (readdir(directory))
        usage.descriptors++;
    closedir(directory);
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    for (int c; (c = fgetc(maps)) != EOF;)
        usage.mappings += c == '\n';
    fclose(maps);
    return usage;
}

#endif
