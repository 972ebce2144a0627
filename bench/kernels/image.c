/* Dense integers: grey values of an image: blur, threshold, histogram; loops that vectorise. */
#include "kernel.h"
#define W 640
#define H 480
static u8 rgb[H][W][4], grey[H][W], blurred[H][W];
static u32 histogram[256];

static NOINLINE void to_grey(void) {
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            grey[y][x] = (u8)((rgb[y][x][0] * 77 + rgb[y][x][1] * 150 + rgb[y][x][2] * 29) >> 8);
}

static NOINLINE void blur(void) {
    for (int y = 1; y < H - 1; y++)
        for (int x = 1; x < W - 1; x++)
            blurred[y][x] =
                (u8)((4 * grey[y][x] + 2 * (grey[y - 1][x] + grey[y + 1][x] + grey[y][x - 1] + grey[y][x + 1]) +
                      grey[y - 1][x - 1] + grey[y - 1][x + 1] + grey[y + 1][x - 1] + grey[y + 1][x + 1]) /
                     16);
}

static NOINLINE u32 sharpen(void) {
    u32 sum = 0;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int value = 2 * grey[y][x] - blurred[y][x];
            value = value < 0 ? 0 : value > 255 ? 255 : value;
            sum += (u32)value;
            grey[y][x] = (u8)value;
        }
    return sum;
}

u64 run(void) {
    u64 sum = 0;
    random_state = 28;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 4; c++)
                rgb[y][x][c] = (u8)(random_u32() % 64 + (u32)(x ^ y) % 190);
    for (int repeat = 0; repeat < 200; repeat++) {
        to_grey();
        blur();
        sum = mix(sum, sharpen());
        for (int i = 0; i < 256; i++)
            histogram[i] = 0;
        for (int y = 0; y < H; y += 4)
            for (int x = 0; x < W; x++)
                histogram[blurred[y][x]]++;
        sum = mix(sum, histogram[100]);
        rgb[repeat][repeat][1] ^= 8;
    }
    return sum;
}
