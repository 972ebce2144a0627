/* String handling: Horspool's search for patterns, strlen, and comparison of strings. */
#include "kernel.h"
#define TEXT (1 << 20)
static char text[TEXT + 1];

static u32 length(const char *s) {
    u32 n = 0;
    while (s[n])
        n++;
    return n;
}

static NOINLINE u32 occurrences(const char *in, u32 size, const char *what, u32 count) {
    u32 skip[256], found = 0;
    for (int i = 0; i < 256; i++)
        skip[i] = count;
    for (u32 i = 0; i + 1 < count; i++)
        skip[(u8)what[i]] = count - 1 - i;
    for (u32 at = 0; at + count <= size; at += skip[(u8)in[at + count - 1]]) {
        u32 i = count;
        while (i > 0 && in[at + i - 1] == what[i - 1])
            i--;
        found += i == 0;
    }
    return found;
}

u64 run(void) {
    static const char *const patterns[] = {"the", "needle", "abcab", "eeee", "quick brown", "zz", "hast"};
    random_state = 21;
    for (u32 i = 0; i < TEXT; i++)
        text[i] = "etaoin shrdlu cabz"[random_u32() % 18];
    u64 sum = 0;
    for (int repeat = 0; repeat < 12; repeat++)
        for (u32 i = 0; i < sizeof patterns / sizeof *patterns; i++) {
            sum = mix(sum, occurrences(text, length(text), patterns[i], length(patterns[i])));
            text[random_u32() % TEXT] = 'q';
        }
    return sum;
}
