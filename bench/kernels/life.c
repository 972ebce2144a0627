/* Bits: the game of life, 64 cells in a word. */
#include "kernel.h"
#define ROWS 512
#define WORDS 8
static u64 field[2][ROWS + 2][WORDS + 2];

static NOINLINE void step(u64 (*to)[WORDS + 2], u64 (*from)[WORDS + 2]) {
    for (int r = 1; r <= ROWS; r++)
        for (int w = 1; w <= WORDS; w++) {
            u64 ones = 0, twos = 0, fours = 0;
            for (int d = -1; d <= 1; d++) {
                u64 x = from[r + d][w], left = x << 1 | from[r + d][w - 1] >> 63,
                    right = x >> 1 | from[r + d][w + 1] << 63;
                u64 sum = left ^ right, carry = left & right;
                if (d) {
                    carry |= sum & x;
                    sum ^= x;
                }
                u64 c = ones & sum;
                ones ^= sum;
                u64 both = twos & carry;
                twos ^= carry;
                fours |= both | (twos & c);
                twos ^= c;
            }
            to[r][w] = twos & ~fours & (ones | from[r][w]);
        }
}

u64 run(void) {
    random_state = 27;
    for (int r = 1; r <= ROWS; r++)
        for (int w = 1; w <= WORDS; w++)
            field[0][r][w] = (u64)random_u32() << 32 | random_u32();
    for (int t = 0; t < 2000; t++) {
        step(field[1], field[0]);
        step(field[0], field[1]);
    }
    u64 sum = 0;
    for (int r = 1; r <= ROWS; r++)
        for (int w = 1; w <= WORDS; w++)
            sum = mix(sum, field[0][r][w]);
    return sum;
}
