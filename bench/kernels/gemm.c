/* Dense numeric: a product of two matrices of doubles. */
#include "kernel.h"
#define N 320
static f64 a[N][N], b[N][N], c[N][N];

static NOINLINE void multiply(void) {
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            f64 x = a[i][k];
            for (int j = 0; j < N; j++)
                c[i][j] += x * b[k][j];
        }
}

u64 run(void) {
    random_state = 1;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = random_f64();
            b[i][j] = random_f64();
            c[i][j] = 0;
        }
    for (int repeat = 0; repeat < 12; repeat++)
        multiply();
    u64 sum = 0;
    for (int i = 0; i < N; i++)
        sum = mix(sum, bits_f64(c[i][(i * 7) % N]));
    return sum;
}
