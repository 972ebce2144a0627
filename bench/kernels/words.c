/* String handling: cuts text into words, folds their case, counts them in a table with chains. */
#include "kernel.h"
#define TEXT (1 << 20)
#define BUCKETS 4096
typedef struct Word Word;
struct Word {
    Word *next;
    const u8 *start;
    u32 size, count;
};
static u8 text[TEXT], folded[TEXT];
static Word pool[60000], *buckets[BUCKETS];
static u32 used;

static int same(const u8 *a, const u8 *b, u32 size) {
    for (u32 i = 0; i < size; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

static NOINLINE void count(const u8 *start, u32 size) {
    u32 hash = 2166136261u;
    for (u32 i = 0; i < size; i++)
        hash = (hash ^ start[i]) * 16777619u;
    Word **bucket = &buckets[hash % BUCKETS];
    for (Word *word = *bucket; word; word = word->next)
        if (word->size == size && same(word->start, start, size)) {
            word->count++;
            return;
        }
    Word *word = &pool[used++];
    *word = (Word){*bucket, start, size, 1};
    *bucket = word;
}

static NOINLINE void scan(void) {
    u32 start = 0;
    for (u32 i = 0; i < TEXT; i++) {
        u8 c = text[i];
        if (c >= 'A' && c <= 'Z')
            c += 32;
        folded[i] = c;
        if (c < 'a' || c > 'z') {
            if (i > start)
                count(folded + start, i - start);
            start = i + 1;
        }
    }
}

u64 run(void) {
    random_state = 20;
    for (u32 i = 0; i < TEXT;) {
        u32 r = random_u32(), word = r % 3000 * (r >> 20 & 3), length = 2 + word % 7;
        for (u32 k = 0; k < length && i < TEXT; k++, word = word * 5 + 3)
            text[i++] = (u8)((k || r & 0x8000000 ? 'a' : 'A') + word % 26);
        if (i < TEXT)
            text[i++] = r & 0x3000000 ? ' ' : '\n';
    }
    u64 sum = 0;
    for (int repeat = 0; repeat < 20; repeat++) {
        used = 0;
        for (u32 i = 0; i < BUCKETS; i++)
            buckets[i] = 0;
        scan();
        for (u32 i = 0; i < used; i++)
            sum = mix(sum, pool[i].count);
    }
    return sum;
}
