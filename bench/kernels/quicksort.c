/* Sorting: quicksort of random words, with insertion sort for short runs. */
#include "kernel.h"
#define N 1000000
static u32 a[N];

static NOINLINE void sort(i32 low, i32 high) {
    while (high - low > 12) {
        u32 first = a[low], middle = a[(low + high) / 2], last = a[high];
        u32 pivot = first < middle ? (middle < last  ? middle
                                      : first < last ? last
                                                     : first)
                                   : (first < last    ? first
                                      : middle < last ? last
                                                      : middle);
        i32 i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                u32 t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (j - low < high - i) {
            sort(low, j);
            low = i;
        } else {
            sort(i, high);
            high = j;
        }
    }
    for (i32 i = low + 1; i <= high; i++) {
        u32 x = a[i];
        i32 j = i;
        for (; j > low && a[j - 1] > x; j--)
            a[j] = a[j - 1];
        a[j] = x;
    }
}

u64 run(void) {
    random_state = 12;
    for (int i = 0; i < N; i++)
        a[i] = random_u32();
    sort(0, N - 1);
    u64 sum = 0;
    for (int i = 0; i < N; i += 101)
        sum = mix(sum, a[i]);
    return sum;
}
