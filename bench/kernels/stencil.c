/* Dense numeric: a five-point stencil over a grid of floats, back and forth. */
#include "kernel.h"
#define N 600
static f32 grid[2][N][N];

static NOINLINE void sweep(f32 (*to)[N], f32 (*from)[N]) {
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            to[i][j] = 0.2f * (from[i][j] + from[i - 1][j] + from[i + 1][j] + from[i][j - 1] + from[i][j + 1]);
}

u64 run(void) {
    random_state = 2;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            grid[0][i][j] = grid[1][i][j] = (f32)random_f64();
    for (int t = 0; t < 300; t++) {
        sweep(grid[1], grid[0]);
        sweep(grid[0], grid[1]);
    }
    u64 sum = 0;
    for (int i = 0; i < N; i++)
        sum = mix(sum, bits_f32(grid[0][i][(i * 13) % N]));
    return sum;
}
