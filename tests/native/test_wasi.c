/* test_wasi.c: the calls of WASI in the core, without Python: what a C host gets, faults of the host, threads that close what is in
 * use, guests that wait. That each call does what it should, to the byte, tests/wasi has for these, too. */

#undef LUCET_INJECT /* the test's own calls do not fail */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "kit.h"
#include "wasi.h"

enum { SIZE = WASM_PAGE, FILL = 0x3f, PATH = 0x100, LIST = 0x200, DATA = 0x1000, RESULT = 0x300, FIRST_FREE = 4 };
enum { READING = RIGHT_FD_READ, READ_WRITE = RIGHT_FD_READ | RIGHT_FD_WRITE | RIGHT_FD_SEEK | RIGHT_FD_FILESTAT_GET };
#define ALL_RIGHTS ((1ULL << 30) - 1)

/* ---- the n-th system call fails, for every n ---- */

static struct {
    bool armed, fired;
    u32 at, calls;
    int error;
} injection;

bool lucet_inject(const char *function);

bool lucet_inject(const char *function) {
    bool is_memory = function[0] == 'm' && strcmp(function, "malloc") != 0; /* mprotect and so on: test_inject.c */
    if (!injection.armed || is_memory || ++injection.calls != injection.at)
        return false;
    injection.fired = true;
    errno = injection.error;
    return true;
}

/* ---- a world ---- */

struct world {
    char folder[64];
    lucet_wasi *wasi;
    lucet_wasi_call call;
    lucet_region *region;
    lucet_instance *instance;
    u8 *memory;
    int input, output; /* the host's ends of descriptors 0 and 1 */
};

static void add(lucet_wasi *wasi, lucet_wasi_kind kind, int fd, u8 filetype, u64 rights) {
    lucet_wasi_info info = {kind, fd, filetype, 0, rights, rights};
    lucet_wasi_file *file = lucet_wasi_file_new(&info, NULL);
    CHECK(file && lucet_wasi_add(wasi, file) >= 0);
    lucet_wasi_file_release(file);
}

/* 0 and 1: pipes; 2: nothing; 3: a folder with a file of ten bytes and a FIFO. */
static struct world *new_world(lucet_host_function otherwise) {
    struct world *world = calloc(1, sizeof *world);
    char path[96];
    int in[2], out[2];
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    strcpy(world->folder, "/tmp/lucet-test-wasi-XXXXXX");
    CHECK(mkdtemp(world->folder));
    snprintf(path, sizeof path, "%s/file", world->folder);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    CHECK(write(fd, "0123456789", 10) == 10);
    close(fd);
    snprintf(path, sizeof path, "%s/fifo", world->folder);
    CHECK(mkfifo(path, 0600) == 0);
    world->input = in[1];
    world->output = out[0];
    world->wasi = lucet_wasi_new(8, NULL);
    world->call = (lucet_wasi_call){.wasi = world->wasi, .otherwise = otherwise, .data = world};
    add(world->wasi, LUCET_WASI_FILE, in[0], TYPE_UNKNOWN, READING);
    add(world->wasi, LUCET_WASI_STREAM, out[1], TYPE_UNKNOWN, RIGHT_FD_WRITE);
    add(world->wasi, LUCET_WASI_DISCARD, -1, TYPE_UNKNOWN, RIGHT_FD_WRITE);
    add(world->wasi, LUCET_WASI_DIRECTORY, open(world->folder, O_RDONLY | O_DIRECTORY), TYPE_DIRECTORY, ALL_RIGHTS);
    CHECK(lucet_wasi_set_arguments(world->wasi, "one\0two", 8, NULL));
    CHECK(lucet_wasi_set_environment(world->wasi, "", 0, NULL));
    CHECK(lucet_wasi_set_clock(world->wasi, 1, 0));
    lucet_wasi_set_random(world->wasi, true);

    lucet_module *module = load_guest("wasi");
    u32 count = lucet_module_imports_count(module);
    lucet_import *imports = calloc(count, sizeof *imports);
    for (u32 i = 0; i < count; i++) {
        lucet_import_info info = lucet_module_import(module, i);
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)info.field.size, info.field.bytes);
        const lucet_functype *type = lucet_module_functype(module, info.index);
        imports[i] = (lucet_import){.from = LUCET_IMPORT_HOST_FUNCTION,
                                    .function = lucet_wasi_function("wasi_snapshot_preview1", name, type),
                                    .data = &world->call};
        CHECK(imports[i].function);
    }
    lucet_linkage *linkage = link_guest(module, imports, count);
    free(imports);
    lucet_module_release(module);
    lucet_region_config config = small_config(1);
    world->region = new_region(&config);
    world->instance = started_instance(world->region, linkage);
    lucet_linkage_release(linkage);
    world->memory = lucet_memory_base(lucet_instance_memory(world->instance, 0));
    memset(world->memory, FILL, SIZE);
    return world;
}

static void free_world(struct world *world) {
    char path[96];
    lucet_instance_free(world->instance);
    lucet_region_release(world->region);
    lucet_wasi_release(world->wasi);
    close(world->input);
    close(world->output);
    for (u32 i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", world->folder, ((const char *[]){"file", "fifo", "new"})[i]);
        unlink(path);
    }
    CHECK(rmdir(world->folder) == 0);
    free(world);
}

static u64 ask(struct world *world, const char *name, const u64 *arguments, u32 count) {
    u64 slots[10] = {0};
    if (count)
        memcpy(slots, arguments, count * sizeof *slots);
    CHECK_EQUAL(call_slots(world->instance, name, slots), LUCET_RETURNED);
    return (u32)slots[0];
}

#define ASK(world, name, ...)                                                                                          \
    ask(world, name, (const u64[]){__VA_ARGS__}, sizeof((const u64[]){__VA_ARGS__}) / sizeof(u64))

static void put_list(struct world *world, u32 index, u32 pointer, u32 size) {
    memcpy(world->memory + LIST + index * 8, &pointer, 4);
    memcpy(world->memory + LIST + index * 8 + 4, &size, 4);
}

static u32 result_of(const struct world *world) {
    u32 result;
    memcpy(&result, world->memory + RESULT, 4);
    return result;
}

static u64 open_path(struct world *world, const char *path, u32 oflags, u64 rights) {
    memcpy(world->memory + PATH, path, strlen(path));
    return ASK(world, "path_open", 3, 0, PATH, strlen(path), oflags, rights, 0, 0, RESULT);
}

static u32 open_descriptors(void) {
    u32 count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* ---- what a C host gets ---- */

static void life_of_a_program(void) {
    struct world *world = new_world(NULL);
    put_list(world, 0, DATA, 5);
    put_list(world, 1, DATA + 5, 0);
    put_list(world, 2, DATA + 5, 3);
    CHECK(write(world->input, "abcdefghij", 10) == 10);
    CHECK_EQUAL(ASK(world, "fd_read", 0, LIST, 3, RESULT), 0);
    CHECK_EQUAL(result_of(world), 8);
    CHECK(memcmp(world->memory + DATA, "abcdefgh?", 9) == 0);
    CHECK_EQUAL(ASK(world, "fd_write", 1, LIST, 3, RESULT), 0);
    char text[16] = {0};
    CHECK(read(world->output, text, sizeof text) == 8 && memcmp(text, "abcdefgh", 8) == 0);
    CHECK_EQUAL(ASK(world, "fd_write", 2, LIST, 3, RESULT), 0);
    CHECK_EQUAL(open_path(world, "file", 0, READ_WRITE), 0);
    CHECK_EQUAL(result_of(world), FIRST_FREE);
    CHECK_EQUAL(ASK(world, "fd_pread", 4, LIST, 1, 7, RESULT), 0);
    CHECK_EQUAL(result_of(world), 3);
    CHECK_EQUAL(ASK(world, "fd_seek", 4, (u64)-2, 2, RESULT), 0);
    CHECK_EQUAL(result_of(world), 8);
    CHECK_EQUAL(ASK(world, "fd_filestat_get", 4, RESULT), 0);
    CHECK_EQUAL(*(u64 *)(void *)(world->memory + RESULT + 32), 10);
    CHECK_EQUAL(ASK(world, "fd_close", 4), 0);
    CHECK_EQUAL(ASK(world, "fd_close", 4), ERRNO_BADF);
    CHECK_EQUAL(ASK(world, "args_get", RESULT, DATA), 0);
    CHECK(memcmp(world->memory + DATA, "one\0two", 8) == 0);
    CHECK_EQUAL(ASK(world, "clock_time_get", 1, 0, RESULT), 0);
    CHECK_EQUAL(ASK(world, "clock_time_get", 0, 0, RESULT), ERRNO_INVAL);
    u64 status[1] = {7};
    CHECK_EQUAL(call_slots(world->instance, "proc_exit", status), LUCET_TERMINATED);
    CHECK_EQUAL(lucet_wasi_exit_status(world->wasi), 7);
    free_world(world);
}

static void types_are_compared(void) {
    static const uint8_t types[] = {0x7f, 0x7f, 0x7f, 0x7f, 0x7f};
    lucet_functype right = {.params_count = 4, .results_count = 1, .valtypes = types}, few = right, none = right;
    few.params_count = 3;
    none.results_count = 0;
    CHECK(lucet_wasi_function("wasi_snapshot_preview1", "fd_write", &right));
    CHECK(!lucet_wasi_function("wasi_snapshot_preview1", "fd_write", &few));
    CHECK(!lucet_wasi_function("wasi_snapshot_preview1", "fd_write", &none));
    CHECK(!lucet_wasi_function("wasi_snapshot_preview1", "fd_seek", &right));
    CHECK(!lucet_wasi_function("wasi_snapshot_preview1", "fd_renumber", &right));
    CHECK(!lucet_wasi_function("env", "fd_write", &right));
    CHECK(lucet_wasi_function("wasi_unstable", "fd_write", &right));
}

static u32 left;

static lucet_host_result count_left(lucet_instance *instance, uint64_t *slots, void *data) {
    CHECK(((struct world *)data)->instance == instance);
    left++;
    slots[0] = 1000;
    return LUCET_HOST_OK;
}

/* Every pointer and length at its worst: the core leaves it before it has changed anything. */
static void bad_pointers_are_left(void) {
    static const u32 bad[] = {SIZE, SIZE - 1, SIZE - 3, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff};
    struct world *world = new_world(count_left);
    put_list(world, 0, DATA, 4);
    CHECK(write(world->input, "abcdefghij", 10) == 10);
    u8 *before = malloc(SIZE);
    memcpy(before, world->memory, SIZE);
    left = 0;
    u32 asked = 0;
    for (u32 i = 0; i < sizeof bad / sizeof *bad; i++) {
        u64 p = bad[i];
#define LEFT(name, ...)                                                                                                \
    do {                                                                                                               \
        CHECK_EQUAL(ASK(world, name, __VA_ARGS__), 1000);                                                              \
        CHECK_EQUAL(left, ++asked);                                                                                    \
    } while (0)
        LEFT("fd_read", 0, p, 1, RESULT);
        LEFT("fd_read", 0, LIST, 1, p);
        LEFT("fd_read", 0, LIST, p, RESULT);
        LEFT("fd_write", 1, p, 1, RESULT);
        LEFT("fd_write", 1, LIST, 1, p);
        LEFT("fd_write", 2, LIST, p, RESULT);
        LEFT("fd_pread", 0, p, 1, 0, RESULT);
        LEFT("fd_seek", 0, 0, 0, p);
        LEFT("fd_filestat_get", 3, p);
        LEFT("fd_fdstat_get", 3, p);
        LEFT("path_open", 3, 0, p, 4, 0, 0, 0, 0, RESULT);
        LEFT("path_open", 3, 0, PATH, p, 0, 0, 0, 0, RESULT);
        LEFT("path_open", 3, 0, PATH, 4, 0, 0, 0, 0, p);
        LEFT("path_filestat_get", 3, 0, p, 4, RESULT);
        LEFT("path_filestat_get", 3, 0, PATH, 4, p);
        LEFT("args_get", p, DATA);
        LEFT("args_get", RESULT, p);
        LEFT("args_sizes_get", p, RESULT);
        LEFT("args_sizes_get", RESULT, p);
        LEFT("clock_time_get", 1, 0, p);
        LEFT("random_get", p, 4);
        LEFT("random_get", DATA, p);
    }
    CHECK(memcmp(before, world->memory, SIZE) == 0);
    for (u32 i = 0; i < 3; i++) { /* in the list itself */
        put_list(world, 0, ((const u32[]){SIZE - 3, 0xffffffff, DATA})[i], ((const u32[]){4, 2, 0xffffffff})[i]);
        LEFT("fd_read", 0, LIST, 1, RESULT);
        LEFT("fd_write", 1, LIST, 1, RESULT);
    }
    free(before);
    free_world(world);
}

/* ---- faults of the host ---- */

static void use_everything(struct world *world) {
    static const char *const calls[] = {"fd_read", "fd_write"};
    put_list(world, 0, DATA, 4);
    put_list(world, 1, DATA, 2);
    for (u32 i = 0; i < 2; i++) {
        CHECK(write(world->input, "abcdef", 6) == 6);
        u64 error = ASK(world, calls[i], i, LIST, 2, RESULT);
        CHECK(error == 0 || injection.fired);
    }
    memcpy(world->memory + PATH, "file", 4);
    for (u32 i = 0; i < 3; i++) {
        u64 error = open_path(world, i == 2 ? "new" : "file", i == 2 ? OPEN_CREAT : 0, READ_WRITE);
        CHECK(error == 0 || injection.fired);
        if (error)
            continue;
        u32 fd = result_of(world);
        ASK(world, "fd_pread", fd, LIST, 2, 0, RESULT);
        ASK(world, "fd_pwrite", fd, LIST, 2, 0, RESULT);
        ASK(world, "fd_seek", fd, 0, 0, RESULT);
        ASK(world, "fd_filestat_get", fd, RESULT);
        CHECK_EQUAL(ASK(world, "fd_close", fd), 0);
    }
    ASK(world, "path_filestat_get", 3, 0, PATH, 4, RESULT);
    ASK(world, "random_get", DATA, 100);
    ASK(world, "random_get", DATA, 16);
}

static void every_system_call_can_fail(void) {
    static const int errors[] = {EIO, EINTR, EAGAIN, ENOSPC, ENOMEM};
    for (u32 i = 0; i < sizeof errors / sizeof *errors; i++)
        for (u32 at = 1;; at++) {
            struct world *world = new_world(NULL);
            ask(world, "sched_yield", NULL, 0); /* which takes a stack */
            u32 before = open_descriptors();
            memset(&injection, 0, sizeof injection);
            injection.at = at;
            injection.error = errors[i];
            injection.armed = true;
            use_everything(world);
            injection.armed = false;
            CHECK_EQUAL(open_descriptors(), before);
            for (u32 fd = FIRST_FREE; fd < 8; fd++)
                CHECK(!lucet_wasi_get(world->wasi, fd));
            bool fired = injection.fired;
            injection.fired = false;
            use_everything(world); /* afterwards all is as before */
            free_world(world);
            if (!fired)
                break;
        }
}

/* ---- threads ---- */

static atomic_bool stop;

static void *close_and_open(void *argument) {
    struct world *world = argument;
    while (!atomic_load(&stop)) {
        for (u32 fd = FIRST_FREE; fd < 8; fd++)
            lucet_wasi_close(world->wasi, fd);
        lucet_wasi_renumber(world->wasi, 5, 6);
        lucet_wasi_file *file = lucet_wasi_get(world->wasi, FIRST_FREE);
        if (file) {
            lucet_wasi_info info = lucet_wasi_file_info(file);
            lucet_wasi_file_set_rights(file, info.rights, 0);
            lucet_wasi_file_release(file);
        }
        add(world->wasi, LUCET_WASI_DISCARD, -1, TYPE_UNKNOWN, RIGHT_FD_WRITE);
    }
    return NULL;
}

/* Descriptors may be closed under a call: it gets the file that it began with, or BADF. */
static void others_close_what_is_in_use(void) {
    struct world *world = new_world(NULL);
    u32 before = open_descriptors();
    pthread_t thread;
    atomic_store(&stop, false);
    CHECK(pthread_create(&thread, NULL, close_and_open, world) == 0);
    put_list(world, 0, DATA, 4);
    for (u32 i = 0; i < scaled(20000); i++) {
        u64 error = open_path(world, "file", 0, READ_WRITE);
        CHECK(error == 0 || error == ERRNO_MFILE || error == ERRNO_BADF);
        u32 fd = result_of(world) & 7;
        if (fd < FIRST_FREE)
            continue;
        error = ASK(world, "fd_read", fd, LIST, 1, RESULT);
        CHECK(error == 0 || error == ERRNO_BADF);
        error = ASK(world, "fd_close", fd);
        CHECK(error == 0 || error == ERRNO_BADF);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    for (u32 fd = FIRST_FREE; fd < 8; fd++)
        lucet_wasi_close(world->wasi, fd);
    CHECK_EQUAL(open_descriptors(), before);
    free_world(world);
}

static void *interrupt(void *argument) {
    struct world *world = argument;
    while (!atomic_load(&stop)) {
        lucet_instance_interrupt(world->instance);
        usleep(20); /* the other may have no CPU of its own */
    }
    return NULL;
}

static void waits_can_be_interrupted(void) {
    struct world *world = new_world(NULL);
    put_list(world, 0, DATA, 4);
    for (u32 i = 0; i < scaled(100); i++) {
        u64 slots[10] = {0, LIST, 1, RESULT};
        pthread_t thread;
        atomic_store(&stop, false);
        CHECK(pthread_create(&thread, NULL, interrupt, world) == 0);
        CHECK_EQUAL(call_slots(world->instance, "fd_read", slots), LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_INTERRUPTED);
        atomic_store(&stop, true);
        pthread_join(thread, NULL);
    }
    memcpy(world->memory + PATH, "fifo", 4);
    for (u32 i = 0; i < 3; i++) {
        u64 slots[10] = {3, 0, PATH, 4, 0, READING, 0, 0, RESULT};
        lucet_instance_set_timeout(world->instance, 20000000);
        CHECK_EQUAL(call_slots(world->instance, "path_open", slots), LUCET_TRAPPED);
        CHECK_EQUAL(last_outcome.trap, TRAP_TIMED_OUT);
    }
    lucet_instance_set_timeout(world->instance, 0);
    CHECK_EQUAL(ask(world, "sched_yield", NULL, 0), 0);
    free_world(world);
}

MAIN(TEST(life_of_a_program), TEST(types_are_compared), TEST(bad_pointers_are_left), TEST(every_system_call_can_fail),
     TEST(others_close_what_is_in_use), TEST(waits_can_be_interrupted))
