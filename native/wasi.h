/* wasi.h: what the files of the core's WASI share. Not installed. */
#ifndef LUCET_WASI_H
#define LUCET_WASI_H

#include "internal.h"

enum {
#define OWN_ERRNO(name, code) ERRNO_##name = (code),
#define ERRNO(name, code) ERRNO_##name = (code),
#define RIGHT(name, bit) RIGHT_##name = 1 << (bit),
#include "wasi.def"
#undef OWN_ERRNO
#undef ERRNO
#undef RIGHT
};

/* filetype, fdflags, oflags, as in the witx documents */
enum { TYPE_UNKNOWN, TYPE_BLOCK, TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_REGULAR, TYPE_DGRAM, TYPE_STREAM, TYPE_LINK };
enum { FLAG_APPEND = 1, FLAG_DSYNC = 2, FLAG_NONBLOCK = 4, FLAG_RSYNC = 8, FLAG_SYNC = 16, FLAGS_ALL = 31 };
enum { OPEN_CREAT = 1, OPEN_DIRECTORY = 2, OPEN_EXCL = 4, OPEN_TRUNC = 8, OPEN_ALL = 15 };

enum { WASI_CLOCKS = 4, WASI_FIRST_DESCRIPTORS = 16, WASI_POOL = 512, WASI_POOL_PIECE = 64 };

struct lucet_wasi_file {
    atomic_uint refs;  /* of whoever has a pointer to it; all holds together are one */
    atomic_uint holds; /* descriptors that stand for it, and calls under way: fd is open as long as there are any */
    atomic_int fd;
    lucet_wasi_kind kind;
    u8 filetype;
    bool may_wait; /* reads and writes of fd: a pipe, a socket, a terminal */
    atomic_bool owned;
    atomic_uint flags;
    atomic_ullong rights, inheriting;
};

/* Strings one after the other, as the guest gets them. */
struct wasi_strings {
    char *bytes;
    u32 size, count;
};

struct lucet_wasi {
    atomic_uint refs;
    atomic_flag lock; /* of the table; held for a few instructions */
    u32 limit, capacity, count;
    u32 lowest;              /* no descriptor below it is free */
    lucet_wasi_file **files; /* by descriptor; NULL is free, WASI_RESERVED is being opened */
    struct wasi_strings arguments, environment;
    struct {
        bool from_host;
        u64 start;
    } clocks[WASI_CLOCKS];
    bool random_from_host;
    u32 pool_left,
        pool_forks; /* random bytes got in advance; and how many forks ago that was, by the process's count */
    u8 pool[WASI_POOL];
    u32 exit_status;
};

/* Takes the place of a file that path_open is about to open: so a full table is known before. */
#define WASI_RESERVED ((lucet_wasi_file *)1)

struct wasi_hooks {
    void (*about_to_wait)(void);
    bool (*interrupted)(void);
};
extern LUCET_INTERNAL struct wasi_hooks wasi_hooks;

/* The file, if it is open and has all the rights; to be given to wasi_let_go. */
LUCET_INTERNAL lucet_wasi_file *wasi_hold(lucet_wasi *wasi, u32 descriptor, u64 rights);
/* The error number of closing the host's descriptor, if that was due. */
LUCET_INTERNAL int wasi_let_go(lucet_wasi_file *file);
LUCET_INTERNAL i64 wasi_reserve(lucet_wasi *wasi);
/* The reserved descriptor stands for the file; NULL: for nothing. False if it is no longer there: the file is closed. */
LUCET_INTERNAL bool wasi_fill(lucet_wasi *wasi, u32 descriptor, lucet_wasi_file *file);
/* Close it, unless the host does that itself: then false. */
LUCET_INTERNAL bool wasi_close_unowned(lucet_wasi *wasi, u32 descriptor, int *error);
LUCET_INTERNAL u32 wasi_errno(int host);
/* Up to WASI_POOL_PIECE random bytes; false: the kernel gives none. */
LUCET_INTERNAL bool wasi_random(lucet_wasi *wasi, u8 *bytes, u32 size);

#endif
