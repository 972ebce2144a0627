/* Compression: a Lempel-Ziv matcher with a hash table, and the expansion, which copies byte runs. */
#include "kernel.h"
#define SIZE (1 << 19)
static u8 plain[SIZE + 16], packed[2 * SIZE], again[SIZE + 16];
static u32 last[1 << 14];

static u32 word_at(const u8 *p) {
    u32 word;
    __builtin_memcpy(&word, p, 4);
    return word;
}

static NOINLINE u32 compress(u8 *to, const u8 *from, u32 size) {
    u32 out = 0, literal = 0, i = 0;
    for (u32 k = 0; k < 1 << 14; k++)
        last[k] = 0;
    while (i + 4 < size) {
        u32 word = word_at(from + i), slot = word * 2654435761u >> 18, candidate = last[slot];
        last[slot] = i;
        if (candidate < i && i - candidate < 65535 && word_at(from + candidate) == word) {
            u32 length = 4;
            while (i + length < size && length < 255 && from[candidate + length] == from[i + length])
                length++;
            for (u32 rest = i - literal; rest;) {
                u32 part = rest < 255 ? rest : 255;
                to[out++] = 0;
                to[out++] = (u8)part;
                for (u32 k = 0; k < part; k++)
                    to[out++] = from[literal++];
                rest -= part;
            }
            to[out++] = (u8)length;
            to[out++] = (u8)(i - candidate);
            to[out++] = (u8)((i - candidate) >> 8);
            i += length;
            literal = i;
        } else
            i++;
    }
    while (literal < size) {
        to[out++] = 0;
        to[out++] = 1;
        to[out++] = from[literal++];
    }
    return out;
}

static NOINLINE u32 expand(u8 *to, const u8 *from, u32 size) {
    u32 out = 0;
    for (u32 i = 0; i < size;) {
        u32 length = from[i++];
        if (length == 0) {
            for (u32 n = from[i++]; n; n--)
                to[out++] = from[i++];
        } else {
            u32 distance = from[i] | (u32)from[i + 1] << 8;
            i += 2;
            for (; length; length--, out++)
                to[out] = to[out - distance];
        }
    }
    return out;
}

u64 run(void) {
    random_state = 24;
    for (u32 i = 0; i < SIZE;) {
        u32 r = random_u32(), length = 3 + (r >> 24) % 40, back = r % 30000;
        for (u32 k = 0; k < length && i < SIZE; k++, i++)
            plain[i] = back < i && r & 0x800000 ? plain[i - back - 1] : (u8)(random_u32() % 40);
    }
    u64 sum = 0;
    for (int repeat = 0; repeat < 30; repeat++) {
        u32 size = compress(packed, plain, SIZE);
        sum = mix(sum, size + expand(again, packed, size));
        for (u32 i = 0; i < SIZE; i += 997)
            sum = mix(sum, again[i]);
        plain[repeat * 1000] ^= 1;
    }
    return sum;
}
