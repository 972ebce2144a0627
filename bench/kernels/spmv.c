/* Sparse numeric: conjugate gradients with a matrix in compressed rows. */
#include "kernel.h"
#define N 20000
#define PER_ROW 9
static u32 start[N + 1], column[N * PER_ROW];
static f64 value[N * PER_ROW], x[N], r[N], p[N], q[N];

static NOINLINE void multiply(f64 *restrict to, const f64 *restrict from) {
    for (int i = 0; i < N; i++) {
        f64 sum = 0;
        for (u32 k = start[i]; k < start[i + 1]; k++)
            sum += value[k] * from[column[k]];
        to[i] = sum;
    }
}

static f64 dot(const f64 *a, const f64 *b) {
    f64 sum = 0;
    for (int i = 0; i < N; i++)
        sum += a[i] * b[i];
    return sum;
}

u64 run(void) {
    random_state = 6;
    u32 k = 0;
    for (int i = 0; i < N; i++) {
        start[i] = k;
        for (int j = 0; j < PER_ROW; j++) {
            column[k] = j == 0 ? (u32)i : random_u32() % N;
            value[k++] = j == 0 ? 20.0 : random_f64();
        }
        x[i] = 0;
        r[i] = p[i] = random_f64();
    }
    start[N] = k;
    f64 rr = dot(r, r);
    for (int step = 0; step < 500; step++) {
        multiply(q, p);
        f64 alpha = rr / dot(p, q);
        for (int i = 0; i < N; i++) {
            x[i] += alpha * p[i];
            r[i] -= alpha * q[i];
        }
        f64 next = dot(r, r), beta = next / rr;
        rr = next + 1e-30;
        for (int i = 0; i < N; i++)
            p[i] = r[i] + beta * p[i];
    }
    u64 sum = 0;
    for (int i = 0; i < N; i += 11)
        sum = mix(sum, bits_f64(x[i]));
    return sum;
}
