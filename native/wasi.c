/* wasi.c: a guest's table of file descriptors, and what else it is given. The only place where a descriptor's rights and flags
 * stand, whoever executes a call. */

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "wasi.h"

struct wasi_hooks wasi_hooks;

void lucet_wasi_set_hooks(void (*about_to_wait)(void), bool (*interrupted)(void)) {
    wasi_hooks = (struct wasi_hooks){about_to_wait, interrupted};
}

u32 wasi_errno(int host) {
    switch (host) {
    case E2BIG:
        return ERRNO_TOOBIG;
#define OWN_ERRNO(name, code)
#define RIGHT(name, bit)
#define ERRNO(name, code)                                                                                              \
    case E##name:                                                                                                      \
        return code;
#include "wasi.def"
#undef OWN_ERRNO
#undef RIGHT
#undef ERRNO
    }
    return ERRNO_IO;
}

/* ---- files ---- */

/* Memory, null, zero, random: the devices that never make anybody wait. */
static bool may_wait(int fd) {
    enum { MEMORY_DEVICES = 1 };
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat) < 0)
        return false;
    return S_ISFIFO(stat.st_mode) || S_ISSOCK(stat.st_mode) ||
           (S_ISCHR(stat.st_mode) && major(stat.st_rdev) != MEMORY_DEVICES);
}

lucet_wasi_file *lucet_wasi_file_new(const lucet_wasi_info *info, lucet_error *error) {
    lucet_wasi_file *file = malloc(sizeof *file);
    if (!file) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    file->kind = info->kind;
    file->filetype = info->filetype;
    file->may_wait = info->filetype != TYPE_REGULAR && info->filetype != TYPE_DIRECTORY && may_wait(info->fd);
    atomic_init(&file->refs, 1);
    atomic_init(&file->holds, 0);
    atomic_init(&file->fd, info->fd);
    atomic_init(&file->owned, false);
    atomic_init(&file->flags, info->flags);
    atomic_init(&file->rights, info->rights);
    atomic_init(&file->inheriting, info->inheriting);
    return file;
}

static int close_host(lucet_wasi_file *file) {
    int fd = atomic_exchange(&file->fd, -1);
    /* After EINTR, too, Linux has closed it. */
    return fd >= 0 && close(fd) < 0 && errno != EINTR ? errno : 0;
}

void lucet_wasi_file_retain(lucet_wasi_file *file) {
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
}

void lucet_wasi_file_release(lucet_wasi_file *file) {
    if (atomic_fetch_sub(&file->refs, 1) != 1)
        return;
    close_host(file); /* never was in a table */
    free(file);
}

static void hold(lucet_wasi_file *file) {
    if (atomic_fetch_add(&file->holds, 1) == 0)
        lucet_wasi_file_retain(file);
}

int wasi_let_go(lucet_wasi_file *file) {
    if (LIKELY(atomic_fetch_sub(&file->holds, 1) != 1))
        return 0;
    int error = close_host(file);
    lucet_wasi_file_release(file);
    return error;
}

lucet_wasi_info lucet_wasi_file_info(const lucet_wasi_file *constant) {
    lucet_wasi_file *file = (lucet_wasi_file *)constant;
    return (lucet_wasi_info){.kind = file->kind,
                             .fd = atomic_load(&file->fd),
                             .filetype = file->filetype,
                             .flags = (uint16_t)atomic_load(&file->flags),
                             .rights = atomic_load(&file->rights),
                             .inheriting = atomic_load(&file->inheriting)};
}

void lucet_wasi_file_set_rights(lucet_wasi_file *file, uint64_t rights, uint64_t inheriting) {
    atomic_store(&file->rights, rights);
    atomic_store(&file->inheriting, inheriting);
}

void lucet_wasi_file_set_flags(lucet_wasi_file *file, uint16_t flags) {
    atomic_store(&file->flags, flags);
}

/* ---- the table ---- */

static void lock(lucet_wasi *wasi) {
    enum { SPINS = 100 };
    for (u32 i = 0; UNLIKELY(atomic_flag_test_and_set_explicit(&wasi->lock, memory_order_acquire)); i++)
        if (i < SPINS)
            __builtin_ia32_pause();
        else
            sched_yield(); /* who has it does not run */
}

static void unlock(lucet_wasi *wasi) {
    atomic_flag_clear_explicit(&wasi->lock, memory_order_release);
}

/* What stands there, whatever it may; under the lock. */
static lucet_wasi_file *at(const lucet_wasi *wasi, u32 descriptor) {
    lucet_wasi_file *file = descriptor < wasi->count ? wasi->files[descriptor] : NULL;
    return file == WASI_RESERVED ? NULL : file;
}

lucet_wasi_file *wasi_hold(lucet_wasi *wasi, u32 descriptor, u64 rights) {
    lock(wasi);
    lucet_wasi_file *file = at(wasi, descriptor);
    if (LIKELY(file)) {
        if (LIKELY(!(rights & ~atomic_load_explicit(&file->rights, memory_order_relaxed))))
            atomic_fetch_add_explicit(&file->holds, 1, memory_order_relaxed); /* the table has one */
        else
            file = NULL;
    }
    unlock(wasi);
    return file;
}

lucet_wasi_file *lucet_wasi_get(lucet_wasi *wasi, uint32_t descriptor) {
    lock(wasi);
    lucet_wasi_file *file = at(wasi, descriptor);
    if (file)
        lucet_wasi_file_retain(file);
    unlock(wasi);
    return file;
}

/* A place for one more; under the lock. */
static bool make_room(lucet_wasi *wasi) {
    while (wasi->lowest < wasi->count && wasi->files[wasi->lowest])
        wasi->lowest++;
    if (wasi->lowest < wasi->count)
        return true;
    if (wasi->count == wasi->limit)
        return false;
    if (wasi->count == wasi->capacity) {
        u32 capacity = wasi->capacity ? wasi->capacity * 2 : WASI_FIRST_DESCRIPTORS;
        if (capacity > wasi->limit)
            capacity = wasi->limit;
        lucet_wasi_file **files = calloc(capacity, sizeof *files);
        if (!files)
            return false;
        if (wasi->count)
            memcpy(files, wasi->files, wasi->count * sizeof *files);
        free(wasi->files);
        wasi->files = files;
        wasi->capacity = capacity;
    }
    wasi->files[wasi->count++] = NULL;
    return true;
}

static i64 put(lucet_wasi *wasi, lucet_wasi_file *file) {
    lock(wasi);
    i64 descriptor = -1;
    if (make_room(wasi)) {
        descriptor = wasi->lowest++;
        wasi->files[descriptor] = file;
    }
    unlock(wasi);
    return descriptor;
}

int64_t lucet_wasi_add(lucet_wasi *wasi, lucet_wasi_file *file) {
    hold(file);
    i64 descriptor = put(wasi, file);
    if (descriptor < 0)
        wasi_let_go(file);
    return descriptor;
}

i64 wasi_reserve(lucet_wasi *wasi) {
    return put(wasi, WASI_RESERVED);
}

bool wasi_fill(lucet_wasi *wasi, u32 descriptor, lucet_wasi_file *file) {
    if (file)
        hold(file);
    lock(wasi);
    bool ok = descriptor < wasi->count && wasi->files[descriptor] == WASI_RESERVED;
    if (ok) {
        wasi->files[descriptor] = file;
        if (!file && descriptor < wasi->lowest)
            wasi->lowest = descriptor;
    }
    unlock(wasi);
    if (file && !ok) /* all was closed meanwhile */
        wasi_let_go(file);
    return ok;
}

bool lucet_wasi_is_full(lucet_wasi *wasi) {
    lock(wasi);
    bool full = !make_room(wasi);
    unlock(wasi);
    return full;
}

bool lucet_wasi_own(lucet_wasi *wasi, uint32_t descriptor, const lucet_wasi_file *file) {
    lock(wasi);
    lucet_wasi_file *there = at(wasi, descriptor);
    bool ok = there && there == file;
    if (ok)
        atomic_store(&there->owned, true);
    unlock(wasi);
    return ok;
}

static lucet_wasi_file *take_out(lucet_wasi *wasi, u32 descriptor) {
    lucet_wasi_file *file = at(wasi, descriptor);
    if (file) {
        wasi->files[descriptor] = NULL;
        if (descriptor < wasi->lowest)
            wasi->lowest = descriptor;
    }
    return file;
}

int lucet_wasi_close(lucet_wasi *wasi, uint32_t descriptor) {
    lock(wasi);
    lucet_wasi_file *file = take_out(wasi, descriptor);
    unlock(wasi);
    return file ? wasi_let_go(file) : EBADF;
}

bool wasi_close_unowned(lucet_wasi *wasi, u32 descriptor, int *error) {
    lock(wasi);
    lucet_wasi_file *file = at(wasi, descriptor);
    if (file && atomic_load_explicit(&file->owned, memory_order_relaxed))
        file = NULL;
    if (file)
        take_out(wasi, descriptor);
    unlock(wasi);
    if (file)
        *error = wasi_let_go(file);
    return file != NULL;
}

int lucet_wasi_renumber(lucet_wasi *wasi, uint32_t from, uint32_t to) {
    lock(wasi);
    lucet_wasi_file *file = at(wasi, from), *old = at(wasi, to);
    bool ok = file && old;
    if (ok && from != to) {
        wasi->files[to] = file;
        wasi->files[from] = NULL;
        if (from < wasi->lowest)
            wasi->lowest = from;
    }
    unlock(wasi);
    return !ok ? EBADF : from == to ? 0 : wasi_let_go(old);
}

void lucet_wasi_close_all(lucet_wasi *wasi) {
    lock(wasi);
    u32 count = wasi->count;
    lucet_wasi_file **files = wasi->files;
    wasi->files = NULL;
    wasi->count = wasi->capacity = wasi->lowest = 0;
    unlock(wasi);
    for (u32 i = 0; i < count; i++)
        if (files[i] && files[i] != WASI_RESERVED)
            wasi_let_go(files[i]);
    free(files);
}

/* ---- what else a guest is given ---- */

lucet_wasi *lucet_wasi_new(uint32_t max_descriptors, lucet_error *error) {
    lucet_wasi *wasi = calloc(1, sizeof *wasi);
    if (!wasi) {
        fail(error, LUCET_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&wasi->refs, 1);
    atomic_flag_clear(&wasi->lock);
    wasi->limit = max_descriptors;
    return wasi;
}

void lucet_wasi_retain(lucet_wasi *wasi) {
    atomic_fetch_add_explicit(&wasi->refs, 1, memory_order_relaxed);
}

void lucet_wasi_release(lucet_wasi *wasi) {
    if (atomic_fetch_sub(&wasi->refs, 1) != 1)
        return;
    lucet_wasi_close_all(wasi);
    free(wasi->arguments.bytes);
    free(wasi->environment.bytes);
    free(wasi);
}

static bool set_strings(struct wasi_strings *strings, const char *bytes, size_t size, lucet_error *error) {
    if (size > UINT32_MAX || (size && bytes[size - 1]))
        return fail(error, LUCET_ERROR_ARGUMENT, "the strings are too long, or the last one is not terminated");
    char *copy = malloc(size + 1);
    if (!copy)
        return fail(error, LUCET_ERROR_MEMORY, "out of memory");
    memcpy(copy, bytes, size);
    free(strings->bytes);
    *strings = (struct wasi_strings){copy, (u32)size, 0};
    for (size_t i = 0; i < size; i++)
        strings->count += !copy[i];
    return true;
}

bool lucet_wasi_set_arguments(lucet_wasi *wasi, const char *strings, size_t size, lucet_error *error) {
    return set_strings(&wasi->arguments, strings, size, error);
}

bool lucet_wasi_set_environment(lucet_wasi *wasi, const char *strings, size_t size, lucet_error *error) {
    return set_strings(&wasi->environment, strings, size, error);
}

bool lucet_wasi_set_clock(lucet_wasi *wasi, uint32_t clock, uint64_t start) {
    if (clock >= WASI_CLOCKS)
        return false;
    wasi->clocks[clock].from_host = true;
    wasi->clocks[clock].start = start;
    return true;
}

void lucet_wasi_set_random(lucet_wasi *wasi, bool from_host) {
    wasi->random_from_host = from_host;
}

static atomic_uint forks; /* of the process's ancestors, as far as they had this library */
static pthread_once_t forks_once = PTHREAD_ONCE_INIT;

static void count_fork(void) {
    atomic_fetch_add(&forks, 1);
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, count_fork);
}

/* Bytes are given once: what was got before a fork is the parent's alone, and what is given is erased. */
bool wasi_random(lucet_wasi *wasi, u8 *bytes, u32 size) {
    pthread_once(&forks_once, watch_forks);
    lock(wasi);
    u32 now = atomic_load_explicit(&forks, memory_order_relaxed);
    if (wasi->pool_left < size || wasi->pool_forks != now) {
        wasi->pool_left = 0;
        wasi->pool_forks = now;
        if (getrandom(wasi->pool, sizeof wasi->pool, 0) ==
            (ssize_t)sizeof wasi->pool) /* whole, however it is interrupted */
            wasi->pool_left = sizeof wasi->pool;
    }
    bool ok = wasi->pool_left >= size;
    if (ok) {
        u8 *from = wasi->pool + (wasi->pool_left -= size);
        memcpy(bytes, from, size);
        memset(from, 0, size);
    }
    unlock(wasi);
    return ok;
}

uint32_t lucet_wasi_exit_status(const lucet_wasi *wasi) {
    return wasi->exit_status;
}
