/* Integers of 128 bits: Montgomery multiplication of numbers of 512 bits. */
#include "kernel.h"
#define WORDS 8
typedef unsigned __int128 u128;
static u64 modulus[WORDS], inverse;

static NOINLINE void multiply(u64 *restrict to, const u64 *restrict a, const u64 *restrict b) {
    u64 t[WORDS + 2] = {0};
    for (int i = 0; i < WORDS; i++) {
        u128 carry = 0;
        for (int j = 0; j < WORDS; j++) {
            carry += (u128)a[j] * b[i] + t[j];
            t[j] = (u64)carry;
            carry >>= 64;
        }
        carry += t[WORDS];
        t[WORDS] = (u64)carry;
        t[WORDS + 1] = (u64)(carry >> 64);
        u64 m = t[0] * inverse;
        carry = (u128)m * modulus[0] + t[0];
        carry >>= 64;
        for (int j = 1; j < WORDS; j++) {
            carry += (u128)m * modulus[j] + t[j];
            t[j - 1] = (u64)carry;
            carry >>= 64;
        }
        carry += t[WORDS];
        t[WORDS - 1] = (u64)carry;
        t[WORDS] = t[WORDS + 1] + (u64)(carry >> 64);
    }
    for (int j = 0; j < WORDS; j++)
        to[j] = t[j];
}

u64 run(void) {
    u64 x[WORDS], y[WORDS];
    random_state = 11;
    for (int i = 0; i < WORDS; i++) {
        modulus[i] = (u64)random_u32() << 32 | random_u32() | 1;
        x[i] = (u64)random_u32() << 31 | random_u32();
    }
    modulus[WORDS - 1] >>= 2;
    x[WORDS - 1] >>= 3;
    inverse = 1;
    for (int i = 0; i < 6; i++)
        inverse *= 2 - modulus[0] * inverse;
    inverse = 0 - inverse;
    for (int i = 0; i < 500000; i++) {
        multiply(y, x, x);
        multiply(x, y, y);
    }
    u64 sum = 0;
    for (int i = 0; i < WORDS; i++)
        sum = mix(sum, x[i]);
    return sum;
}
