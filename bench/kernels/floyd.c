/* Integer numeric: all shortest paths of a graph, by Floyd and Warshall. */
#include "kernel.h"
#define N 360
static i32 path[N][N];

static NOINLINE void relax(void) {
    for (int k = 0; k < N; k++)
        for (int i = 0; i < N; i++) {
            i32 first = path[i][k];
            for (int j = 0; j < N; j++) {
                i32 through = first + path[k][j];
                path[i][j] = through < path[i][j] ? through : path[i][j];
            }
        }
}

u64 run(void) {
    u64 sum = 0;
    random_state = 7;
    for (int repeat = 0; repeat < 4; repeat++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                path[i][j] = i == j ? 0 : 1 + (i32)(random_u32() % 10000);
        relax();
        for (int i = 0; i < N; i++)
            sum = mix(sum, (u64)path[i][N - 1 - i]);
    }
    return sum;
}
