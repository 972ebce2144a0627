/* String handling: base64 there and back, and validation of UTF-8, byte by byte. */
#include "kernel.h"
#define SIZE 300000
static u8 data[SIZE], back[SIZE + 3], coded[SIZE / 3 * 4 + 4], value_of[256];
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static NOINLINE u32 encode(u8 *to, const u8 *from, u32 size) {
    u8 *start = to;
    for (u32 i = 0; i + 3 <= size; i += 3) {
        u32 group = (u32)from[i] << 16 | (u32)from[i + 1] << 8 | from[i + 2];
        *to++ = (u8)alphabet[group >> 18];
        *to++ = (u8)alphabet[group >> 12 & 63];
        *to++ = (u8)alphabet[group >> 6 & 63];
        *to++ = (u8)alphabet[group & 63];
    }
    return (u32)(to - start);
}

static NOINLINE u32 decode(u8 *to, const u8 *from, u32 size) {
    u8 *start = to;
    for (u32 i = 0; i + 4 <= size; i += 4) {
        u32 group = (u32)value_of[from[i]] << 18 | (u32)value_of[from[i + 1]] << 12 | (u32)value_of[from[i + 2]] << 6 |
                    value_of[from[i + 3]];
        *to++ = (u8)(group >> 16);
        *to++ = (u8)(group >> 8);
        *to++ = (u8)group;
    }
    return (u32)(to - start);
}

static NOINLINE u32 characters(const u8 *s, u32 size) {
    u32 count = 0;
    for (u32 i = 0; i < size;) {
        u8 c = s[i];
        u32 more = c < 0x80 ? 0 : c < 0xc0 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        if (more > 3 || i + more >= size) {
            i++;
            continue;
        }
        u32 good = 1;
        for (u32 k = 1; k <= more; k++)
            good &= (s[i + k] & 0xc0) == 0x80;
        count += good;
        i += good ? more + 1 : 1;
    }
    return count;
}

u64 run(void) {
    random_state = 23;
    for (u32 i = 0; i < SIZE; i++)
        data[i] = (u8)(random_u32() % 8 ? random_u32() & 127 : random_u32());
    for (u32 i = 0; i < 64; i++)
        value_of[(u8)alphabet[i]] = (u8)i;
    u64 sum = 0;
    for (int repeat = 0; repeat < 100; repeat++) {
        u32 n = encode(coded, data, SIZE);
        sum = mix(sum, decode(back, coded, n));
        sum = mix(sum, characters(back, SIZE));
        data[repeat] ^= back[repeat + 1];
    }
    return sum;
}
