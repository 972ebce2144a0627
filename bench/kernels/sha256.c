/* Integer hashing: SHA-256, 32-bit rotations and additions. */
#include "kernel.h"
static u32 constants[64];
static u8 message[1 << 16];

static u32 rotate(u32 x, int n) {
    return x >> n | x << (32 - n);
}

static NOINLINE void compress(u32 *state, const u8 *block) {
    u32 w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (u32)block[4 * i] << 24 | (u32)block[4 * i + 1] << 16 | (u32)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        u32 s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        u32 s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        u32 t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        u32 t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

u64 run(void) {
    u32 state[8];
    random_state = 8;
    for (int i = 0; i < 64; i++)
        constants[i] = random_u32();
    for (int i = 0; i < 8; i++)
        state[i] = random_u32();
    for (u32 i = 0; i < sizeof message; i++)
        message[i] = (u8)random_u32();
    for (int repeat = 0; repeat < 300; repeat++)
        for (u32 i = 0; i < sizeof message; i += 64)
            compress(state, message + i);
    return (u64)state[0] << 32 | state[7];
}
