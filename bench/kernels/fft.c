/* Numeric: iterative radix-2 Fourier transforms of complex doubles, with a table of roots. */
#include "kernel.h"
#define LOG 14
#define N (1 << LOG)
static f64 re[N], im[N], root_re[N / 2], root_im[N / 2];

static void make_roots(void) {
    /* The N-th roots by repeated halving of the angle, from cos and sin of half a turn. */
    root_re[0] = 1;
    root_im[0] = 0;
    f64 c = -1, s = 0;
    for (int step = N / 2; step >= 1; step /= 2) {
        f64 half_c = __builtin_sqrt((1 + c) / 2), half_s = c <= -1 ? 1 : s / (2 * half_c);
        if (step < N / 2)
            for (int i = 0; i + step < N / 2; i += 2 * step) {
                root_re[i + step] = root_re[i] * c - root_im[i] * s;
                root_im[i + step] = root_re[i] * s + root_im[i] * c;
            }
        c = half_c;
        s = half_s;
    }
}

static NOINLINE void transform(void) {
    for (u32 i = 0, j = 0; i < N; i++) {
        if (i < j) {
            f64 t = re[i];
            re[i] = re[j];
            re[j] = t;
            t = im[i];
            im[i] = im[j];
            im[j] = t;
        }
        u32 bit = N >> 1;
        while (j & bit) {
            j ^= bit;
            bit >>= 1;
        }
        j |= bit;
    }
    for (int size = 1; size < N; size *= 2) {
        int stride = N / 2 / size;
        for (int start = 0; start < N; start += 2 * size)
            for (int k = 0; k < size; k++) {
                f64 wr = root_re[k * stride], wi = -root_im[k * stride];
                f64 *ar = &re[start + k], *ai = &im[start + k];
                f64 br = ar[size] * wr - ai[size] * wi, bi = ar[size] * wi + ai[size] * wr;
                ar[size] = *ar - br;
                ai[size] = *ai - bi;
                *ar += br;
                *ai += bi;
            }
    }
}

u64 run(void) {
    random_state = 4;
    make_roots();
    for (int i = 0; i < N; i++) {
        re[i] = random_f64() - 0.5;
        im[i] = 0;
    }
    for (int repeat = 0; repeat < 200; repeat++) {
        transform();
        for (int i = 0; i < N; i++) {
            re[i] *= 0.0078125;
            im[i] *= 0.0078125;
        }
    }
    u64 sum = 0;
    for (int i = 0; i < N; i += 17)
        sum = mix(sum, bits_f64(re[i]) ^ bits_f64(im[i]));
    return sum;
}
