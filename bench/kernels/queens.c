/* Recursion: the ways to place queens, with bit masks and with arrays. */
#include "kernel.h"
static NOINLINE u32 by_bits(u32 all, u32 columns, u32 left, u32 right) {
    u32 count = 0;
    if (columns == all)
        return 1;
    for (u32 free = all & ~(columns | left | right); free;) {
        u32 bit = free & (0 - free);
        free ^= bit;
        count += by_bits(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return count;
}

static u8 column[16], up[32], down[32];

static NOINLINE u32 by_arrays(i32 row, i32 n) {
    u32 count = 0;
    if (row == n)
        return 1;
    for (i32 i = 0; i < n; i++)
        if (!column[i] && !up[row + i] && !down[row - i + n]) {
            column[i] = up[row + i] = down[row - i + n] = 1;
            count += by_arrays(row + 1, n);
            column[i] = up[row + i] = down[row - i + n] = 0;
        }
    return count;
}

u64 run(void) {
    return (u64)by_bits((1 << 13) - 1, 0, 0, 0) << 32 | by_arrays(0, 11);
}
