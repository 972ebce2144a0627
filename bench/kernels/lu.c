/* Dense numeric: LU decomposition with partial pivoting, and a solution. */
#include "kernel.h"
#define N 400
static f64 m[N][N], x[N];

static f64 magnitude(f64 v) {
    return v < 0 ? -v : v;
}

static NOINLINE void decompose(void) {
    for (int k = 0; k < N; k++) {
        int pivot = k;
        for (int i = k + 1; i < N; i++)
            if (magnitude(m[i][k]) > magnitude(m[pivot][k]))
                pivot = i;
        for (int j = 0; j < N; j++) {
            f64 t = m[k][j];
            m[k][j] = m[pivot][j];
            m[pivot][j] = t;
        }
        for (int i = k + 1; i < N; i++) {
            f64 factor = m[i][k] / m[k][k];
            m[i][k] = factor;
            for (int j = k + 1; j < N; j++)
                m[i][j] -= factor * m[k][j];
        }
    }
}

u64 run(void) {
    u64 sum = 0;
    random_state = 3;
    for (int repeat = 0; repeat < 16; repeat++) {
        for (int i = 0; i < N; i++) {
            x[i] = random_f64();
            for (int j = 0; j < N; j++)
                m[i][j] = random_f64() - 0.5;
        }
        decompose();
        for (int i = N - 1; i >= 0; i--) {
            for (int j = i + 1; j < N; j++)
                x[i] -= m[i][j] * x[j];
            x[i] /= m[i][i];
        }
        for (int i = 0; i < N; i++)
            sum = mix(sum, bits_f64(x[i]));
    }
    return sum;
}
