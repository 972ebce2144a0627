/* inject.h: in the core built with LUCET_INJECT, everything that can fail asks lucet_inject first. */
#ifndef LUCET_TESTS_INJECT_H
#define LUCET_TESTS_INJECT_H

#include <errno.h>
#include <stdbool.h>

/* True: pretend to have failed; errno is set. */
bool lucet_inject(const char *function);

#define malloc(...) (lucet_inject("malloc") ? NULL : malloc(__VA_ARGS__))
#define calloc(...) (lucet_inject("calloc") ? NULL : calloc(__VA_ARGS__))
#define realpath(...) (lucet_inject("realpath") ? NULL : realpath(__VA_ARGS__))
#define mmap(...) (lucet_inject("mmap") ? MAP_FAILED : mmap(__VA_ARGS__))
#define mprotect(...) (lucet_inject("mprotect") ? -1 : mprotect(__VA_ARGS__))
#define madvise(...) (lucet_inject("madvise") ? -1 : madvise(__VA_ARGS__))
#define pread(...) (lucet_inject("pread") ? -1 : pread(__VA_ARGS__))
#define write(...) (lucet_inject("write") ? -1 : write(__VA_ARGS__))
#define open(...) (lucet_inject("open") ? -1 : open(__VA_ARGS__))
#define fcntl(...) (lucet_inject("fcntl") ? -1 : fcntl(__VA_ARGS__))
#define fstat(...) (lucet_inject("fstat") ? -1 : fstat(__VA_ARGS__))
#define memfd_create(...) (lucet_inject("memfd_create") ? -1 : memfd_create(__VA_ARGS__))
#define getrandom(...) (lucet_inject("getrandom") ? -1 : getrandom(__VA_ARGS__))
#define preadv(...) (lucet_inject("preadv") ? -1 : preadv(__VA_ARGS__))
#define pwritev(...) (lucet_inject("pwritev") ? -1 : pwritev(__VA_ARGS__))
#define lseek(...) (lucet_inject("lseek") ? -1 : lseek(__VA_ARGS__))
#define dlopen(...) (lucet_inject("dlopen") ? NULL : dlopen(__VA_ARGS__))
#define dlinfo(...) (lucet_inject("dlinfo") ? -1 : dlinfo(__VA_ARGS__))
#define sigaltstack(...) (lucet_inject("sigaltstack") ? -1 : sigaltstack(__VA_ARGS__))

#endif
