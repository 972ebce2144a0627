/* Integer hashing: CRC-32, eight tables of 256 words. */
#include "kernel.h"
static u32 tables[8][256];
static u8 data[1 << 16];

static NOINLINE u32 checksum(u32 crc, const u8 *p, u32 size) {
    for (; size >= 8; size -= 8, p += 8) {
        u32 low, high;
        __builtin_memcpy(&low, p, 4);
        __builtin_memcpy(&high, p + 4, 4);
        low ^= crc;
        crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^ tables[4][low >> 24] ^
              tables[3][high & 255] ^ tables[2][high >> 8 & 255] ^ tables[1][high >> 16 & 255] ^ tables[0][high >> 24];
    }
    return crc;
}

u64 run(void) {
    random_state = 10;
    for (u32 i = 0; i < 256; i++) {
        u32 crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        tables[0][i] = crc;
    }
    for (u32 i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255];
    for (u32 i = 0; i < sizeof data; i++)
        data[i] = (u8)random_u32();
    u32 crc = ~0u;
    for (int repeat = 0; repeat < 2500; repeat++)
        crc = checksum(crc, data, sizeof data);
    return crc;
}
