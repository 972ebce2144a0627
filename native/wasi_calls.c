/* wasi_calls.c: the WASI calls that programs make most. Each does the ordinary case, with every pointer checked; what is unusual or
 * refused is left to the call's `otherwise` before anything has been done. */

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "wasi.h"

#define CALL(name) static lucet_host_result name(lucet_instance *instance, uint64_t *slots, void *data)

enum { MAX_IOVECS = 1024, MAX_PATH = 4095, MAX_TRANSFER = 0x7ffff000, RANDOM_PIECE = 1 << 16 };

/* What FILE_RIGHTS and so on are in src/lucet/wasi/tables.py. */
enum {
    RIGHTS_WRITING = RIGHT_FD_WRITE | RIGHT_FD_ALLOCATE | RIGHT_FD_FILESTAT_SET_SIZE,
    RIGHTS_TERMINAL = RIGHTS_WRITING | RIGHT_FD_READ | RIGHT_FD_DATASYNC | RIGHT_FD_SYNC | RIGHT_FD_ADVISE |
        RIGHT_FD_FDSTAT_SET_FLAGS | RIGHT_FD_FILESTAT_GET | RIGHT_FD_FILESTAT_SET_TIMES | RIGHT_POLL_FD_READWRITE,
    RIGHTS_FILE = RIGHTS_TERMINAL | RIGHT_FD_SEEK | RIGHT_FD_TELL,
    RIGHTS_DIRECTORY = RIGHT_PATH_CREATE_DIRECTORY | RIGHT_PATH_CREATE_FILE | RIGHT_PATH_LINK_SOURCE |
        RIGHT_PATH_LINK_TARGET | RIGHT_PATH_OPEN | RIGHT_FD_READDIR | RIGHT_PATH_READLINK | RIGHT_PATH_RENAME_SOURCE |
        RIGHT_PATH_RENAME_TARGET | RIGHT_PATH_FILESTAT_GET | RIGHT_PATH_FILESTAT_SET_SIZE |
        RIGHT_PATH_FILESTAT_SET_TIMES | RIGHT_PATH_SYMLINK | RIGHT_PATH_REMOVE_DIRECTORY | RIGHT_PATH_UNLINK_FILE |
        RIGHT_FD_DATASYNC | RIGHT_FD_SYNC | RIGHT_FD_FDSTAT_SET_FLAGS | RIGHT_FD_FILESTAT_GET |
        RIGHT_FD_FILESTAT_SET_TIMES | RIGHT_POLL_FD_READWRITE
};

/* ---- the guest's memory ---- */

static lucet_memory *memory_of(const lucet_instance *instance) {
    return lucet_instance_memory(instance, 0);
}

static bool in_memory(const lucet_instance *instance, u64 pointer, u64 size) {
    return pointer + size <= lucet_memory_size(memory_of(instance)); /* both below 2^36 */
}

static u8 *memory_at(const lucet_instance *instance, u64 pointer) {
    return lucet_memory_base(memory_of(instance)) + pointer;
}

static void put_u32(const lucet_instance *instance, u64 pointer, u32 value) {
    memcpy(memory_at(instance, pointer), &value, sizeof value);
}

static void put_u64(const lucet_instance *instance, u64 pointer, u64 value) {
    memcpy(memory_at(instance, pointer), &value, sizeof value);
}

static lucet_host_result answer(uint64_t *slots, u32 error) {
    slots[0] = error;
    return LUCET_HOST_OK;
}

static lucet_host_result leave(lucet_instance *instance, uint64_t *slots, void *data, u32 error) {
    const lucet_wasi_call *call = data;
    return call->otherwise ? call->otherwise(instance, slots, call->data) : answer(slots, error);
}

static lucet_wasi *wasi_of(void *data) {
    return ((const lucet_wasi_call *)data)->wasi;
}

/* ---- waiting ---- */

static void about_to_wait(void) {
    if (wasi_hooks.about_to_wait)
        wasi_hooks.about_to_wait();
}

/* A transfer's answer. INTERRUPTED: a signal's handler wants the run to end. */
struct transfer {
    u64 count;
    u32 error;
    bool interrupted;
};

/* True: go on waiting. */
static bool survives_signal(const lucet_instance *instance, struct transfer *result) {
    if (!lucet_instance_is_ending(instance)) {
        result->interrupted = wasi_hooks.interrupted && wasi_hooks.interrupted();
        if (!result->interrupted)
            return true;
    }
    result->error = ERRNO_INTR;
    return false;
}

/* Until fd is ready; false: it is not, and the answer is there. */
static bool wait_for(const lucet_instance *instance, int fd, bool is_write, bool nonblocking, struct transfer *result) {
    struct pollfd poll = {fd, is_write ? POLLOUT : POLLIN, 0};
    const struct timespec none = {0, 0};
    for (;;) {
        int ready = lucet_wait(instance, &poll, 1, nonblocking ? &none : NULL);
        if (ready > 0)
            return true;
        if (ready == 0) {
            result->error = ERRNO_AGAIN;
            return false;
        }
        if (errno != EINTR) {
            result->error = wasi_errno(errno);
            return false;
        }
        if (!survives_signal(instance, result))
            return false;
    }
}

/* The bytes that have been moved, off the front. */
static u32 advance(struct iovec *iovecs, u32 first, u32 count, size_t moved) {
    while (first < count && moved >= iovecs[first].iov_len)
        moved -= iovecs[first++].iov_len;
    if (first < count) {
        iovecs[first].iov_base = (u8 *)iovecs[first].iov_base + moved;
        iovecs[first].iov_len -= moved;
    }
    return first;
}

/* One system call; an interrupt ends it. */
static ssize_t move(const u64 *interrupt, int fd, const struct iovec *iovecs, u32 count, bool is_write) {
    if (LIKELY(count == 1)) /* a third faster than with a list */
        return lucet_switch_syscall(interrupt, is_write ? SYS_write : SYS_read, fd, (long)iovecs->iov_base,
                                    (long)iovecs->iov_len, 0, 0);
    return lucet_switch_syscall(interrupt, is_write ? SYS_writev : SYS_readv, fd, (long)iovecs, count, 0, 0);
}

static struct transfer transfer(const lucet_instance *instance, const lucet_wasi_file *file, struct iovec *iovecs,
                                u32 count, bool is_write) {
    int fd = atomic_load_explicit(&((lucet_wasi_file *)file)->fd, memory_order_relaxed);
    bool nonblocking = atomic_load_explicit(&((lucet_wasi_file *)file)->flags, memory_order_relaxed) & FLAG_NONBLOCK;
    const u64 *interrupt = interrupt_word(instance);
    struct transfer result = {0, 0, false};
    about_to_wait();
    if (nonblocking && file->may_wait && file->kind == LUCET_WASI_STREAM &&
        !wait_for(instance, fd, is_write, true, &result))
        return result;
    for (u32 first = 0;;) {
        ssize_t moved = move(interrupt, fd, iovecs + first, count - first, is_write);
        if (LIKELY(moved >= 0)) {
            result.count += (u64)moved;
            /* A signal may cut a long write off. */
            if (LIKELY(!is_write) || LIKELY(!moved) || nonblocking || !file->may_wait ||
                (first = advance(iovecs, first, count, (size_t)moved)) == count)
                return result;
        } else if (moved == -EINTR) {
            if (!survives_signal(instance, &result))
                break;
        } else if (moved != -EAGAIN || nonblocking) {
            result.error = wasi_errno((int)-moved);
            break;
        } else if (!wait_for(instance, fd, is_write, false, &result)) {
            break; /* the host's descriptor does not block, but the guest's does */
        }
    }
    if (result.count && !result.interrupted)
        result.error = 0; /* as much as has been written */
    return result;
}

/* ---- reading and writing ---- */

/* The guest's list of buffers, copied before it is checked; those that are empty are left out. False: a pointer is bad, or there
 * are too many. The kernel is going to write to them unless is_write. */
static bool gather(lucet_instance *instance, u32 list, u32 count, bool is_write, struct iovec *iovecs, u32 *gathered,
                   u32 *error) {
    u32 used = 0;
    *error = ERRNO_INVAL;
    if (count > MAX_IOVECS)
        return false;
    *error = ERRNO_FAULT;
    if (!in_memory(instance, list, (u64)count * 8))
        return false;
    for (u32 i = 0; i < count; i++) {
        u32 buffer[2];
        memcpy(buffer, memory_at(instance, list + (u64)i * 8), sizeof buffer);
        if (!buffer[1])
            continue;
        if (is_write ? !in_memory(instance, buffer[0], buffer[1])
                     : !lucet_memory_will_write(memory_of(instance), buffer[0], buffer[1]))
            return false;
        iovecs[used++] = (struct iovec){memory_at(instance, buffer[0]), buffer[1]};
    }
    *gathered = used;
    return true;
}

static u64 total(const struct iovec *iovecs, u32 count) {
    u64 size = 0;
    for (u32 i = 0; i < count; i++)
        size += iovecs[i].iov_len;
    return size < MAX_TRANSFER ? size : MAX_TRANSFER;
}

static lucet_host_result read_or_write(lucet_instance *instance, uint64_t *slots, void *data, bool is_write) {
    u32 descriptor = (u32)slots[0], list = (u32)slots[1], list_count = (u32)slots[2], done = (u32)slots[3];
    struct iovec iovecs[MAX_IOVECS];
    u32 count, error;
    if (UNLIKELY(!in_memory(instance, done, 4)))
        return leave(instance, slots, data, ERRNO_FAULT);
    lucet_wasi_file *file = wasi_hold(wasi_of(data), descriptor, is_write ? RIGHT_FD_WRITE : RIGHT_FD_READ);
    if (UNLIKELY(!file))
        return leave(instance, slots, data, ERRNO_BADF);
    bool is_ours = file->kind == LUCET_WASI_FILE || file->kind == LUCET_WASI_STREAM ||
                   (is_write && file->kind == LUCET_WASI_DISCARD);
    if (UNLIKELY(!is_ours) || UNLIKELY(!gather(instance, list, list_count, is_write, iovecs, &count, &error))) {
        wasi_let_go(file);
        return leave(instance, slots, data, is_ours ? error : ERRNO_BADF);
    }
    struct transfer result = {0, 0, false};
    if (file->kind == LUCET_WASI_DISCARD)
        result.count = total(iovecs, count);
    else
        result = transfer(instance, file, iovecs, count, is_write);
    wasi_let_go(file);
    if (UNLIKELY(result.interrupted))
        return LUCET_HOST_TERMINATE;
    if (LIKELY(!result.error))
        put_u32(instance, done, (u32)result.count);
    return answer(slots, result.error);
}

CALL(fd_read) {
    return read_or_write(instance, slots, data, false);
}

CALL(fd_write) {
    return read_or_write(instance, slots, data, true);
}

static lucet_host_result read_or_write_at(lucet_instance *instance, uint64_t *slots, void *data, bool is_write) {
    u32 descriptor = (u32)slots[0], list = (u32)slots[1], list_count = (u32)slots[2], done = (u32)slots[4];
    u64 offset = slots[3];
    struct iovec iovecs[MAX_IOVECS];
    u32 count, error;
    if (!in_memory(instance, done, 4))
        return leave(instance, slots, data, ERRNO_FAULT);
    u64 rights = (is_write ? RIGHT_FD_WRITE : RIGHT_FD_READ) | RIGHT_FD_SEEK;
    lucet_wasi_file *file = wasi_hold(wasi_of(data), descriptor, rights);
    if (!file)
        return leave(instance, slots, data, ERRNO_BADF);
    bool is_ours = (file->kind == LUCET_WASI_FILE || file->kind == LUCET_WASI_STREAM) &&
                   file->filetype == TYPE_REGULAR && offset <= INT64_MAX;
    if (!is_ours || !gather(instance, list, list_count, is_write, iovecs, &count, &error)) {
        wasi_let_go(file);
        return leave(instance, slots, data, is_ours ? error : ERRNO_INVAL);
    }
    int fd = atomic_load(&file->fd);
    about_to_wait();
    ssize_t moved =
        is_write ? pwritev(fd, iovecs, (int)count, (off_t)offset) : preadv(fd, iovecs, (int)count, (off_t)offset);
    error = moved < 0 ? wasi_errno(errno) : 0;
    wasi_let_go(file);
    if (!error)
        put_u32(instance, done, (u32)moved);
    return answer(slots, error);
}

CALL(fd_pread) {
    return read_or_write_at(instance, slots, data, false);
}

CALL(fd_pwrite) {
    return read_or_write_at(instance, slots, data, true);
}

static lucet_host_result seek(lucet_instance *instance, uint64_t *slots, void *data, i64 offset, u32 whence,
                              u32 result) {
    static const int host_whence[] = {SEEK_SET, SEEK_CUR, SEEK_END};
    if (whence >= sizeof host_whence / sizeof *host_whence || !in_memory(instance, result, 8))
        return leave(instance, slots, data, whence < 3 ? ERRNO_FAULT : ERRNO_INVAL);
    lucet_wasi_file *file = wasi_hold(wasi_of(data), (u32)slots[0], RIGHT_FD_SEEK);
    if (!file)
        return leave(instance, slots, data, ERRNO_BADF);
    if (file->kind != LUCET_WASI_FILE && file->kind != LUCET_WASI_STREAM) {
        wasi_let_go(file);
        return leave(instance, slots, data, ERRNO_SPIPE);
    }
    off_t position = lseek(atomic_load(&file->fd), offset, host_whence[whence]);
    u32 error = position < 0 ? wasi_errno(errno) : 0;
    wasi_let_go(file);
    if (!error)
        put_u64(instance, result, (u64)position);
    return answer(slots, error);
}

CALL(fd_seek) {
    return seek(instance, slots, data, (i64)slots[1], (u32)slots[2], (u32)slots[3]);
}

CALL(fd_tell) {
    return seek(instance, slots, data, 0, 1, (u32)slots[1]);
}

CALL(fd_close) {
    int error;
    about_to_wait();
    if (!wasi_close_unowned(wasi_of(data), (u32)slots[0], &error))
        return leave(instance, slots, data, ERRNO_BADF);
    return answer(slots, error ? wasi_errno(error) : 0);
}

/* ---- what a file is ---- */

static u8 filetype_of(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFBLK:
        return TYPE_BLOCK;
    case S_IFCHR:
        return TYPE_CHARACTER;
    case S_IFDIR:
        return TYPE_DIRECTORY;
    case S_IFREG:
        return TYPE_REGULAR;
    case S_IFSOCK:
        return TYPE_STREAM;
    case S_IFLNK:
        return TYPE_LINK;
    }
    return TYPE_UNKNOWN;
}

/* Times before 1970 cannot be told to the guest. */
static u64 nanoseconds(struct timespec time) {
    return time.tv_sec < 0 ? 0 : (u64)time.tv_sec * 1000000000 + (u64)time.tv_nsec;
}

enum { FILESTAT_SIZE = 64, FDSTAT_SIZE = 24 };

static void put_filestat(const lucet_instance *instance, u64 pointer, const struct stat *stat) {
    const u64 words[FILESTAT_SIZE / 8] = {stat->st_dev,
                                          stat->st_ino,
                                          filetype_of(stat->st_mode),
                                          stat->st_nlink,
                                          (u64)stat->st_size,
                                          nanoseconds(stat->st_atim),
                                          nanoseconds(stat->st_mtim),
                                          nanoseconds(stat->st_ctim)};
    memcpy(memory_at(instance, pointer), words, sizeof words);
}

CALL(fd_filestat_get) {
    u32 pointer = (u32)slots[1];
    if (!in_memory(instance, pointer, FILESTAT_SIZE))
        return leave(instance, slots, data, ERRNO_FAULT);
    lucet_wasi_file *file = wasi_hold(wasi_of(data), (u32)slots[0], RIGHT_FD_FILESTAT_GET);
    if (!file)
        return leave(instance, slots, data, ERRNO_BADF);
    int fd = atomic_load(&file->fd);
    struct stat stat;
    bool is_ours = fd >= 0 && file->kind != LUCET_WASI_OTHER;
    if (is_ours)
        about_to_wait();
    u32 error = is_ours && fstat(fd, &stat) < 0 ? wasi_errno(errno) : 0;
    wasi_let_go(file);
    if (!is_ours)
        return leave(instance, slots, data, ERRNO_NOTSUP);
    if (!error)
        put_filestat(instance, pointer, &stat);
    return answer(slots, error);
}

CALL(fd_fdstat_get) {
    u32 pointer = (u32)slots[1];
    if (!in_memory(instance, pointer, FDSTAT_SIZE))
        return leave(instance, slots, data, ERRNO_FAULT);
    lucet_wasi_file *file = wasi_hold(wasi_of(data), (u32)slots[0], 0);
    if (!file)
        return leave(instance, slots, data, ERRNO_BADF);
    const u64 words[FDSTAT_SIZE / 8] = {file->filetype | (u64)atomic_load(&file->flags) << 16,
                                        atomic_load(&file->rights), atomic_load(&file->inheriting)};
    wasi_let_go(file);
    memcpy(memory_at(instance, pointer), words, sizeof words);
    return answer(slots, 0);
}

/* ---- paths ---- */

static bool is_continuation(const u8 *text, u32 count) {
    for (u32 i = 1; i <= count; i++)
        if ((text[i] & 0xc0) != 0x80)
            return false;
    return true;
}

/* Terminated, so that no look ahead goes past the end. */
static bool is_utf8(const u8 *text) {
    while (*text) {
        u32 c = *text;
        if (c < 0x80) {
            text++;
        } else if (c >= 0xc2 && c < 0xe0 && is_continuation(text, 1)) {
            text += 2;
        } else if ((c & 0xf0) == 0xe0 && is_continuation(text, 2) && !(c == 0xe0 && text[1] < 0xa0) &&
                   !(c == 0xed && text[1] >= 0xa0)) {
            text += 3;
        } else if (c >= 0xf0 && c < 0xf5 && is_continuation(text, 3) && !(c == 0xf0 && text[1] < 0x90) &&
                   !(c == 0xf4 && text[1] >= 0x90)) {
            text += 4;
        } else {
            return false;
        }
    }
    return true;
}

/* A relative path as the host takes it; false: it is not in memory, or not one that would do. */
static bool get_path(const lucet_instance *instance, u32 pointer, u32 size, char *path) {
    if (!size || size > MAX_PATH || !in_memory(instance, pointer, size))
        return false;
    memcpy(path, memory_at(instance, pointer), size);
    path[size] = 0;
    return path[0] != '/' && strlen(path) == size && is_utf8((const u8 *)path);
}

/* As it stays beneath the directory: the error number as the guest has it, or 0. AGAIN is the kernel's when something was renamed
 * meanwhile, INTR a signal's. */
static u32 open_beneath(const lucet_instance *instance, int directory, const char *path, u64 flags, u64 mode, int *fd) {
    struct open_how how = {flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long opened =
        lucet_switch_syscall(interrupt_word(instance), SYS_openat2, directory, (long)path, (long)&how, sizeof how, 0);
    *fd = (int)opened;
    if (opened >= 0)
        return 0;
    return opened == -EXDEV ? ERRNO_NOTCAPABLE : wasi_errno((int)-opened);
}

/* Whether the host's `otherwise` is to try again. */
static bool is_passing(const lucet_instance *instance, u32 error) {
    return error == ERRNO_AGAIN || (error == ERRNO_INTR && !lucet_instance_is_ending(instance));
}

static u64 open_flags(u32 oflags, u32 fdflags, bool follow, bool readable, bool writable) {
    static const struct {
        u32 flag;
        int host;
    } of_descriptor[] = {{FLAG_APPEND, O_APPEND},
                         {FLAG_DSYNC, O_DSYNC},
                         {FLAG_NONBLOCK, O_NONBLOCK},
                         {FLAG_RSYNC, O_RSYNC},
                         {FLAG_SYNC, O_SYNC}};
    int flags = O_CLOEXEC | O_NOCTTY | (writable ? readable ? O_RDWR : O_WRONLY : O_RDONLY);
    for (u32 i = 0; i < sizeof of_descriptor / sizeof *of_descriptor; i++)
        flags |= fdflags & of_descriptor[i].flag ? of_descriptor[i].host : 0;
    flags |= follow ? 0 : O_NOFOLLOW;
    flags |= oflags & OPEN_DIRECTORY ? O_DIRECTORY : 0;
    flags |= oflags & OPEN_TRUNC ? O_TRUNC : 0;
    flags |= oflags & OPEN_CREAT ? O_CREAT | (oflags & OPEN_EXCL ? O_EXCL : 0) : 0;
    return (u64)flags;
}

/* What has been opened, with those of the rights that its kind can have. */
static lucet_wasi_file *opened_file(int fd, u32 fdflags, u64 rights, u64 inheriting, bool readable, bool writable) {
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return NULL;
    lucet_wasi_info info = {LUCET_WASI_FILE, fd, filetype_of(stat.st_mode), (uint16_t)fdflags, rights, 0};
    if (info.filetype == TYPE_DIRECTORY) {
        info.kind = LUCET_WASI_DIRECTORY;
        info.rights &= RIGHTS_DIRECTORY;
        info.inheriting = inheriting;
    } else {
        info.rights &= info.filetype == TYPE_CHARACTER && isatty(fd) ? RIGHTS_TERMINAL : RIGHTS_FILE;
        if (!readable)
            info.rights &= ~(u64)RIGHT_FD_READ;
        if (!writable)
            info.rights &= ~(u64)RIGHTS_WRITING;
    }
    return lucet_wasi_file_new(&info, NULL);
}

/* The rights that a directory needs for it, and what may not be asked of one that does not hand it on. */
static bool may_open(u64 rights, u64 inheriting, u32 oflags, u64 wanted, u32 fdflags) {
    u64 needed = RIGHT_PATH_OPEN | (oflags & OPEN_CREAT ? RIGHT_PATH_CREATE_FILE : 0) |
                 (oflags & OPEN_TRUNC ? RIGHT_PATH_FILESTAT_SET_SIZE : 0);
    bool is_sync = fdflags & (FLAG_RSYNC | FLAG_SYNC | FLAG_DSYNC);
    return !(needed & ~rights) && !(wanted & (RIGHT_FD_READ | RIGHT_FD_WRITE) & ~inheriting) &&
           (!is_sync || (inheriting & RIGHT_FD_SYNC));
}

CALL(path_open) {
    u32 dirflags = (u32)slots[1], oflags = (u32)slots[4], fdflags = (u32)slots[7], result = (u32)slots[8];
    u64 wanted = slots[5], wanted_inheriting = slots[6];
    lucet_wasi *wasi = wasi_of(data);
    char path[MAX_PATH + 1];
    if (!in_memory(instance, result, 4))
        return leave(instance, slots, data, ERRNO_FAULT);
    if (dirflags > 1 || oflags & ~(u32)OPEN_ALL || fdflags & ~(u32)FLAGS_ALL ||
        ((oflags & OPEN_CREAT) && (oflags & OPEN_DIRECTORY)) || !get_path(instance, (u32)slots[2], (u32)slots[3], path))
        return leave(instance, slots, data, ERRNO_INVAL);
    lucet_wasi_file *directory = wasi_hold(wasi, (u32)slots[0], 0);
    if (!directory)
        return leave(instance, slots, data, ERRNO_BADF);
    u64 inheriting = atomic_load(&directory->inheriting);
    bool is_ours = directory->kind == LUCET_WASI_DIRECTORY &&
                   may_open(atomic_load(&directory->rights), inheriting, oflags, wanted, fdflags);
    i64 descriptor = is_ours ? wasi_reserve(wasi) : -1;
    if (descriptor < 0) {
        wasi_let_go(directory);
        return leave(instance, slots, data, is_ours ? ERRNO_MFILE : ERRNO_NOTCAPABLE);
    }
    u64 rights = wanted & inheriting;
    bool readable = rights & RIGHT_FD_READ;
    bool writable = rights & (readable ? RIGHT_FD_WRITE : RIGHTS_WRITING);
    readable = readable || !writable;
    int fd;
    about_to_wait();
    u32 error = open_beneath(instance, atomic_load(&directory->fd), path,
                             open_flags(oflags, fdflags, dirflags & 1, readable, writable),
                             oflags & OPEN_CREAT ? 0666 : 0, &fd);
    wasi_let_go(directory);
    lucet_wasi_file *file = NULL;
    if (!error) {
        file = opened_file(fd, fdflags, rights, wanted_inheriting & inheriting, readable, writable);
        if (!file) {
            close(fd);
            error = ERRNO_NOMEM;
        }
    }
    bool filled = wasi_fill(wasi, (u32)descriptor, file);
    if (file)
        lucet_wasi_file_release(file);
    if (is_passing(instance, error))
        return leave(instance, slots, data, error);
    if (!error && !filled)
        error = ERRNO_BADF;
    if (!error)
        put_u32(instance, result, (u32)descriptor);
    return answer(slots, error);
}

CALL(path_filestat_get) {
    u32 flags = (u32)slots[1], result = (u32)slots[4];
    char path[MAX_PATH + 1];
    if (!in_memory(instance, result, FILESTAT_SIZE))
        return leave(instance, slots, data, ERRNO_FAULT);
    if (flags > 1 || !get_path(instance, (u32)slots[2], (u32)slots[3], path))
        return leave(instance, slots, data, ERRNO_INVAL);
    lucet_wasi_file *directory = wasi_hold(wasi_of(data), (u32)slots[0], RIGHT_PATH_FILESTAT_GET);
    if (!directory)
        return leave(instance, slots, data, ERRNO_BADF);
    if (directory->kind != LUCET_WASI_DIRECTORY) {
        wasi_let_go(directory);
        return leave(instance, slots, data, ERRNO_NOTDIR);
    }
    int fd;
    struct stat stat;
    about_to_wait();
    u32 error = open_beneath(instance, atomic_load(&directory->fd), path,
                             O_PATH | O_CLOEXEC | (flags & 1 ? 0 : O_NOFOLLOW), 0, &fd);
    wasi_let_go(directory);
    if (!error) {
        error = fstat(fd, &stat) < 0 ? wasi_errno(errno) : 0;
        close(fd);
    }
    if (is_passing(instance, error))
        return leave(instance, slots, data, error);
    if (!error)
        put_filestat(instance, result, &stat);
    return answer(slots, error);
}

/* ---- the program itself ---- */

static lucet_host_result put_sizes(lucet_instance *instance, uint64_t *slots, void *data,
                                   const struct wasi_strings *strings) {
    u32 count = (u32)slots[0], size = (u32)slots[1];
    if (!in_memory(instance, count, 4) || !in_memory(instance, size, 4))
        return leave(instance, slots, data, ERRNO_FAULT);
    put_u32(instance, count, strings->count);
    put_u32(instance, size, strings->size);
    return answer(slots, 0);
}

static lucet_host_result put_strings(lucet_instance *instance, uint64_t *slots, void *data,
                                     const struct wasi_strings *strings) {
    u32 pointers = (u32)slots[0], buffer = (u32)slots[1];
    if (!in_memory(instance, pointers, (u64)strings->count * 4) || !in_memory(instance, buffer, strings->size))
        return leave(instance, slots, data, ERRNO_FAULT);
    if (strings->size)
        memcpy(memory_at(instance, buffer), strings->bytes, strings->size);
    u32 start = 0;
    for (u32 i = 0; i < strings->count; i++) {
        put_u32(instance, pointers + (u64)i * 4, buffer + start);
        start += (u32)strlen(strings->bytes + start) + 1;
    }
    return answer(slots, 0);
}

CALL(args_sizes_get) {
    return put_sizes(instance, slots, data, &wasi_of(data)->arguments);
}

CALL(args_get) {
    return put_strings(instance, slots, data, &wasi_of(data)->arguments);
}

CALL(environ_sizes_get) {
    return put_sizes(instance, slots, data, &wasi_of(data)->environment);
}

CALL(environ_get) {
    return put_strings(instance, slots, data, &wasi_of(data)->environment);
}

CALL(clock_time_get) {
    static const clockid_t host[WASI_CLOCKS] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
                                                CLOCK_THREAD_CPUTIME_ID};
    u32 clock = (u32)slots[0], result = (u32)slots[2];
    const lucet_wasi *wasi = wasi_of(data);
    if (UNLIKELY(clock >= WASI_CLOCKS) || UNLIKELY(!wasi->clocks[clock].from_host))
        return leave(instance, slots, data, ERRNO_INVAL);
    if (UNLIKELY(!in_memory(instance, result, 8)))
        return leave(instance, slots, data, ERRNO_FAULT);
    struct timespec now;
    clock_gettime(host[clock], &now);
    put_u64(instance, result, (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec - wasi->clocks[clock].start);
    return answer(slots, 0);
}

CALL(random_get) {
    u32 buffer = (u32)slots[0], size = (u32)slots[1];
    if (!wasi_of(data)->random_from_host)
        return leave(instance, slots, data, ERRNO_NOTSUP);
    if (!lucet_memory_will_write(memory_of(instance), buffer, size))
        return leave(instance, slots, data, ERRNO_FAULT);
    u8 few[WASI_POOL_PIECE];
    if (size <= sizeof few && wasi_random(wasi_of(data), few, size)) {
        memcpy(memory_at(instance, buffer), few, size);
        return answer(slots, 0);
    }
    if (size > RANDOM_PIECE)
        about_to_wait();
    for (u32 done = 0; done < size;) {
        u32 piece = size - done < RANDOM_PIECE ? size - done : RANDOM_PIECE;
        ssize_t got = getrandom(memory_at(instance, (u64)buffer + done), piece, 0);
        if (got < 0 && errno != EINTR)
            return answer(slots, wasi_errno(errno));
        done += got > 0 ? (u32)got : 0;
        if (lucet_instance_is_ending(instance))
            return answer(slots, ERRNO_INTR);
    }
    return answer(slots, 0);
}

CALL(sched_yield_) {
    (void)instance, (void)data;
    about_to_wait();
    sched_yield();
    return answer(slots, 0);
}

CALL(proc_exit) {
    const lucet_wasi_call *call = data;
    if (call->otherwise)
        return call->otherwise(instance, slots, call->data);
    call->wasi->exit_status = (u32)slots[0];
    return LUCET_HOST_TERMINATE;
}

/* ---- the table of functions ---- */

static const struct wasi_function {
    const char *name;
    const char *type; /* i: i32, I: i64; parameters:results */
    lucet_host_function function;
    bool in_preview0; /* and the same there */
} functions[] = {
    {"args_get", "ii:i", args_get, true},
    {"args_sizes_get", "ii:i", args_sizes_get, true},
    {"clock_time_get", "iIi:i", clock_time_get, true},
    {"environ_get", "ii:i", environ_get, true},
    {"environ_sizes_get", "ii:i", environ_sizes_get, true},
    {"fd_close", "i:i", fd_close, true},
    {"fd_fdstat_get", "ii:i", fd_fdstat_get, true},
    {"fd_filestat_get", "ii:i", fd_filestat_get, false},
    {"fd_pread", "iiiIi:i", fd_pread, true},
    {"fd_pwrite", "iiiIi:i", fd_pwrite, true},
    {"fd_read", "iiii:i", fd_read, true},
    {"fd_seek", "iIii:i", fd_seek, false},
    {"fd_tell", "ii:i", fd_tell, true},
    {"fd_write", "iiii:i", fd_write, true},
    {"path_filestat_get", "iiiii:i", path_filestat_get, false},
    {"path_open", "iiiiiIIii:i", path_open, true},
    {"proc_exit", "i:", proc_exit, true},
    {"random_get", "ii:i", random_get, true},
    {"sched_yield", ":i", sched_yield_, true},
};

static bool has_type(const char *text, const lucet_functype *type) {
    enum { I32 = 0x7f, I64 = 0x7e };
    const char *colon = strchr(text, ':');
    u32 params = (u32)(colon - text), results = (u32)strlen(colon + 1);
    if (type->params_count != params || type->results_count != results)
        return false;
    for (u32 i = 0; i < params + results; i++)
        if (type->valtypes[i] != (text[i < params ? i : i + 1] == 'i' ? I32 : I64))
            return false;
    return true;
}

lucet_host_function lucet_wasi_function(const char *module, const char *name, const lucet_functype *type) {
    bool is_preview0 = strcmp(module, "wasi_unstable") == 0;
    if (!is_preview0 && strcmp(module, "wasi_snapshot_preview1") != 0)
        return NULL;
    for (u32 i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, name) == 0) {
            bool is_there = (!is_preview0 || functions[i].in_preview0) && has_type(functions[i].type, type);
            return is_there ? functions[i].function : NULL;
        }
    return NULL;
}
