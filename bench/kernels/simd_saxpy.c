/* SIMD (compiled with -msimd128): vectors of floats and of integers, by clang's vectoriser. */
#include "kernel.h"
#define N 8192
static f32 x[N], y[N];
static i32 p[N], q[N];

static NOINLINE void axpy(f32 a) {
    for (int i = 0; i < N; i++)
        y[i] = y[i] * 0.5f + a * x[i];
}

static NOINLINE i32 dot(void) {
    i32 sum = 0;
    for (int i = 0; i < N; i++)
        sum += p[i] * q[i];
    return sum;
}

static NOINLINE void clamp(i32 low, i32 high) {
    for (int i = 0; i < N; i++) {
        i32 v = p[i] + q[i];
        p[i] = v < low ? low : v > high ? high : v;
    }
}

u64 run(void) {
    u64 sum = 0;
    random_state = 29;
    for (int i = 0; i < N; i++) {
        x[i] = (f32)random_f64();
        y[i] = (f32)random_f64();
        p[i] = (i32)random_u32() >> 8;
        q[i] = (i32)random_u32() >> 16;
    }
    for (int repeat = 0; repeat < 12000; repeat++) {
        axpy((f32)(repeat & 15));
        clamp(-1000000, 1000000);
        sum = mix(sum, (u32)dot());
    }
    for (int i = 0; i < N; i += 7)
        sum = mix(sum, bits_f32(y[i]));
    return sum;
}
