/* Integer hashing: SipHash-2-4 of many short strings, 64-bit rotations and unaligned loads. */
#include "kernel.h"
static u8 text[1 << 14];

static u64 rotate(u64 x, int n) {
    return x << n | x >> (64 - n);
}

#define ROUND                                                                                                          \
    v0 += v1, v1 = rotate(v1, 13) ^ v0, v0 = rotate(v0, 32), v2 += v3, v3 = rotate(v3, 16) ^ v2, v0 += v3,             \
              v3 = rotate(v3, 21) ^ v0, v2 += v1, v1 = rotate(v1, 17) ^ v2, v2 = rotate(v2, 32)

static NOINLINE u64 hash(const u8 *data, u32 size, u64 k0, u64 k1) {
    u64 v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL, v2 = k0 ^ 0x6c7967656e657261ULL,
        v3 = k1 ^ 0x7465646279746573ULL, last = (u64)size << 56;
    u32 i = 0;
    for (; i + 8 <= size; i += 8) {
        u64 word;
        __builtin_memcpy(&word, data + i, 8);
        v3 ^= word;
        ROUND;
        ROUND;
        v0 ^= word;
    }
    for (u32 shift = 0; i < size; i++, shift += 8)
        last |= (u64)data[i] << shift;
    v3 ^= last;
    ROUND;
    ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    ROUND;
    ROUND;
    ROUND;
    ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

u64 run(void) {
    random_state = 9;
    for (u32 i = 0; i < sizeof text; i++)
        text[i] = (u8)random_u32();
    u64 sum = 0;
    for (u32 i = 0; i < 2500000; i++)
        sum += hash(text + i % 16000, 8 + i % 57, i, sum);
    return sum;
}
