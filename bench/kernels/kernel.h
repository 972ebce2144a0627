/* What every kernel shares: types, the exported entry `run`, a generator of numbers, a checksum. No libc. */
#ifndef KERNEL_H
#define KERNEL_H

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef short i16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;
typedef double f64;

#if defined(__wasm__)
#define EXPORT __attribute__((export_name("run"), noinline))
#else
#define EXPORT __attribute__((visibility("default"), noinline))
#endif
#define NOINLINE __attribute__((noinline))

/* One run of the kernel: the same work and the same checksum every time. */
EXPORT u64 run(void);

static u32 random_state;

static inline u32 random_u32(void) {
    u32 x = random_state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return random_state = x;
}

static inline f64 random_f64(void) {
    return (f64)(random_u32() >> 8) * (1.0 / 16777216.0);
}

static inline u64 mix(u64 sum, u64 value) {
    return (sum ^ value) * 0x100000001b3ULL + (sum >> 47);
}

static inline u64 bits_f64(f64 value) {
    union {
        f64 f;
        u64 u;
    } both = {.f = value};
    return both.u;
}

static inline u64 bits_f32(f32 value) {
    union {
        f32 f;
        u32 u;
    } both = {.f = value};
    return both.u;
}

#endif
