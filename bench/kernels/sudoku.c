/* Recursion and branches: a sudoku by backtracking, with tables of what is left. */
#include "kernel.h"
static const char puzzle[] = "4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4......";
static u8 cells[81];
static u16 rows[9], columns[9], boxes[9];
static u32 tried;

static NOINLINE int solve(void) {
    int best = -1, fewest = 10;
    u32 choices = 0;
    for (int i = 0; i < 81; i++) {
        if (cells[i])
            continue;
        u32 left = 511u & ~(u32)(rows[i / 9] | columns[i % 9] | boxes[i / 27 * 3 + i % 9 / 3]);
        int n = __builtin_popcount(left);
        if (n < fewest) {
            fewest = n;
            best = i;
            choices = left;
        }
    }
    if (best < 0)
        return 1;
    for (; choices; choices &= choices - 1) {
        u32 digit = (u32)__builtin_ctz(choices);
        u16 bit = (u16)(1u << digit);
        u16 *row = &rows[best / 9], *column = &columns[best % 9], *box = &boxes[best / 27 * 3 + best % 9 / 3];
        tried++;
        cells[best] = (u8)(digit + 1);
        *row |= bit;
        *column |= bit;
        *box |= bit;
        if (solve())
            return 1;
        cells[best] = 0;
        *row ^= bit;
        *column ^= bit;
        *box ^= bit;
    }
    return 0;
}

u64 run(void) {
    u64 sum = 0;
    tried = 0;
    for (int repeat = 0; repeat < 4; repeat++) {
        for (int i = 0; i < 9; i++)
            rows[i] = columns[i] = boxes[i] = 0;
        for (int i = 0; i < 81; i++) {
            cells[i] = puzzle[i] == '.' ? 0 : (u8)(puzzle[i] - '0');
            if (cells[i]) {
                u16 bit = (u16)(1u << (cells[i] - 1));
                rows[i / 9] |= bit;
                columns[i % 9] |= bit;
                boxes[i / 27 * 3 + i % 9 / 3] |= bit;
            }
        }
        sum += (u64)solve();
        for (int i = 0; i < 81; i++)
            sum = mix(sum, cells[i]);
    }
    return mix(sum, tried);
}
