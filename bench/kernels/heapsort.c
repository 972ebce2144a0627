/* Sorting: a binary heap of structures, compared by a function behind a pointer. */
#include "kernel.h"
#define N 150000
typedef struct {
    i32 key;
    f32 weight;
    u32 id;
} Item;
static Item heap[N];
typedef int (*Compare)(const Item *, const Item *);

static int by_key(const Item *a, const Item *b) {
    return a->key < b->key ? -1 : a->key > b->key;
}

static int by_weight(const Item *a, const Item *b) {
    return a->weight < b->weight ? -1 : a->weight > b->weight;
}

static NOINLINE void sift(u32 root, u32 size, Compare compare) {
    Item moved = heap[root];
    for (;;) {
        u32 child = 2 * root + 1;
        if (child >= size)
            break;
        if (child + 1 < size && compare(&heap[child], &heap[child + 1]) < 0)
            child++;
        if (compare(&moved, &heap[child]) >= 0)
            break;
        heap[root] = heap[child];
        root = child;
    }
    heap[root] = moved;
}

static NOINLINE void sort(Compare compare) {
    for (u32 i = N / 2; i-- > 0;)
        sift(i, N, compare);
    for (u32 end = N; --end > 0;) {
        Item top = heap[0];
        heap[0] = heap[end];
        heap[end] = top;
        sift(0, end, compare);
    }
}

static volatile Compare comparisons[2] = {by_key, by_weight};

u64 run(void) {
    u64 sum = 0;
    random_state = 14;
    for (u32 i = 0; i < N; i++)
        heap[i] = (Item){(i32)random_u32(), (f32)random_f64(), i};
    for (int repeat = 0; repeat < 4; repeat++) {
        sort(comparisons[repeat % 2]);
        for (int i = 0; i < N; i += 101)
            sum = mix(sum, heap[i].id);
    }
    return sum;
}
