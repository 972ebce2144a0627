/* Sorting: least significant digit first, eight bits at a time, keys with payloads. */
#include "kernel.h"
#define N 800000
typedef struct {
    u32 key, payload;
} Item;
static Item items[2][N];

static NOINLINE void pass(Item *restrict to, const Item *restrict from, int shift) {
    u32 count[257] = {0};
    for (int i = 0; i < N; i++)
        count[1 + (from[i].key >> shift & 255)]++;
    for (int d = 0; d < 256; d++)
        count[d + 1] += count[d];
    for (int i = 0; i < N; i++)
        to[count[from[i].key >> shift & 255]++] = from[i];
}

u64 run(void) {
    u64 sum = 0;
    random_state = 13;
    for (int repeat = 0; repeat < 10; repeat++) {
        for (u32 i = 0; i < N; i++)
            items[0][i] = (Item){random_u32(), i};
        for (int shift = 0; shift < 32; shift += 8)
            pass(items[shift / 8 % 2 ^ 1], items[shift / 8 % 2], shift);
        for (int i = 0; i < N; i += 101)
            sum = mix(sum, items[0][i].payload);
    }
    return sum;
}
