/* Memory: a sieve of primes over bytes, and one over bits. */
#include "kernel.h"
#define N 2000000
static u8 composite[N];
static u64 odd[N / 128 + 1];

static NOINLINE u32 by_bytes(void) {
    u32 count = 0;
    for (u32 i = 0; i < N; i++)
        composite[i] = 0;
    for (u32 i = 2; i < N; i++)
        if (!composite[i]) {
            count++;
            for (u64 j = (u64)i * i; j < N; j += i)
                composite[j] = 1;
        }
    return count;
}

static NOINLINE u32 by_bits(void) {
    u32 count = 1;
    for (u32 i = 0; i < N / 128 + 1; i++)
        odd[i] = ~0ULL;
    for (u32 i = 1; i < N / 2; i++)
        if (odd[i / 64] >> i % 64 & 1) {
            count++;
            for (u64 j = 2 * (u64)i * (i + 1); j < N / 2; j += 2 * i + 1)
                odd[j / 64] &= ~(1ULL << j % 64);
        }
    return count;
}

u64 run(void) {
    u64 sum = 0;
    for (int repeat = 0; repeat < 10; repeat++)
        sum = mix(sum, (u64)by_bytes() << 32 | by_bits());
    return sum;
}
