/* Integer hashing and memory: a map with open addressing: insertions, lookups, removals. */
#include "kernel.h"
#define SIZE (1 << 16)
static u64 keys[SIZE];
static u32 values[SIZE];

static u32 slot_of(u64 key) {
    key ^= key >> 33;
    key *= 0xff51afd7ed558ccdULL;
    key ^= key >> 33;
    return (u32)key & (SIZE - 1);
}

static NOINLINE u32 *locate(u64 key) {
    u32 slot = slot_of(key);
    while (keys[slot] && keys[slot] != key)
        slot = (slot + 1) & (SIZE - 1);
    if (!keys[slot]) {
        keys[slot] = key;
        values[slot] = 0;
    }
    return &values[slot];
}

static NOINLINE void discard(u64 key) {
    u32 slot = slot_of(key);
    while (keys[slot] != key) {
        if (!keys[slot])
            return;
        slot = (slot + 1) & (SIZE - 1);
    }
    for (u32 next = (slot + 1) & (SIZE - 1); keys[next]; next = (next + 1) & (SIZE - 1))
        if (((next - slot_of(keys[next])) & (SIZE - 1)) >= ((next - slot) & (SIZE - 1))) {
            keys[slot] = keys[next];
            values[slot] = values[next];
            slot = next;
        }
    keys[slot] = 0;
}

u64 run(void) {
    random_state = 17;
    for (u32 i = 0; i < SIZE; i++)
        keys[i] = 0;
    for (u32 i = 0; i < 6000000; i++) {
        u32 key = 1 + random_u32() % 40000;
        if (i % 8 == 7)
            discard(key);
        else
            *locate(key) += i;
    }
    u64 sum = 0;
    for (u32 i = 0; i < SIZE; i++)
        sum = mix(sum, keys[i] ? keys[i] * 31 + values[i] : 0);
    return sum;
}
