/* Compression: Huffman coding: counts, a code from a heap, bits packed and unpacked through a tree. */
#include "kernel.h"
#define SIZE (1 << 19)
static u8 plain[SIZE], packed[SIZE * 2 + 16], again[SIZE];
static u32 weight[512], code[256], bits[256];
static i32 parent[512], child[512][2];

static NOINLINE i32 build(void) {
    u8 alive[512];
    i32 count = 256;
    for (i32 i = 0; i < 512; i++)
        alive[i] = i < 256 && weight[i] != 0;
    for (;;) {
        i32 a = -1, b = -1;
        for (i32 i = 0; i < count; i++) {
            if (!alive[i])
                continue;
            if (a < 0 || weight[i] < weight[a]) {
                b = a;
                a = i;
            } else if (b < 0 || weight[i] < weight[b])
                b = i;
        }
        if (b < 0)
            return a;
        alive[a] = alive[b] = 0;
        alive[count] = 1;
        weight[count] = weight[a] + weight[b];
        child[count][0] = a;
        child[count][1] = b;
        parent[a] = parent[b] = count;
        count++;
    }
}

static NOINLINE u32 pack(void) {
    u64 buffer = 0;
    u32 held = 0, out = 0;
    for (u32 i = 0; i < SIZE; i++) {
        u8 c = plain[i];
        buffer |= (u64)code[c] << held;
        held += bits[c];
        while (held >= 8) {
            packed[out++] = (u8)buffer;
            buffer >>= 8;
            held -= 8;
        }
    }
    packed[out++] = (u8)buffer;
    return out;
}

static NOINLINE void unpack(i32 root) {
    u32 at = 0;
    for (u32 i = 0; i < SIZE; i++) {
        i32 node = root;
        while (node >= 256) {
            node = child[node][packed[at >> 3] >> (at & 7) & 1];
            at++;
        }
        again[i] = (u8)node;
    }
}

u64 run(void) {
    u64 sum = 0;
    random_state = 25;
    for (u32 i = 0; i < SIZE; i++)
        plain[i] = (u8)(__builtin_ctz(random_u32() | 0x8000) * 8 + random_u32() % 8);
    for (int repeat = 0; repeat < 8; repeat++) {
        for (int i = 0; i < 512; i++)
            weight[i] = 0;
        for (u32 i = 0; i < SIZE; i++)
            weight[plain[i]]++;
        i32 root = build();
        for (i32 c = 0; c < 256; c++) {
            bits[c] = code[c] = 0;
            if (weight[c])
                for (i32 node = c; node != root; node = parent[node]) {
                    code[c] = code[c] << 1 | (child[parent[node]][1] == node);
                    bits[c]++;
                }
        }
        sum = mix(sum, pack());
        unpack(root);
        for (u32 i = 0; i < SIZE; i += 97)
            sum = mix(sum, again[i]);
        plain[repeat] ^= 1;
    }
    return sum;
}
