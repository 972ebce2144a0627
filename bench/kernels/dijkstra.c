/* Graphs: shortest paths from a few sources with a binary heap, adjacency in arrays. */
#include "kernel.h"
#define NODES 20000
#define DEGREE 8
static u32 target[NODES * DEGREE], length[NODES * DEGREE], distance[NODES];
typedef struct {
    u32 distance, node;
} Entry;
static Entry heap[NODES * DEGREE];
static u32 size;

static void push(u32 d, u32 node) {
    u32 i = size++;
    for (; i && heap[(i - 1) / 2].distance > d; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = (Entry){d, node};
}

static Entry pop(void) {
    Entry top = heap[0], moved = heap[--size];
    u32 i = 0;
    for (u32 child; (child = 2 * i + 1) < size; i = child) {
        if (child + 1 < size && heap[child + 1].distance < heap[child].distance)
            child++;
        if (heap[child].distance >= moved.distance)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
    return top;
}

static NOINLINE void search(u32 source) {
    for (u32 i = 0; i < NODES; i++)
        distance[i] = ~0u;
    size = 0;
    distance[source] = 0;
    push(0, source);
    while (size) {
        Entry next = pop();
        if (next.distance > distance[next.node])
            continue;
        for (u32 k = next.node * DEGREE; k < (next.node + 1) * DEGREE; k++) {
            u32 d = next.distance + length[k];
            if (d < distance[target[k]]) {
                distance[target[k]] = d;
                push(d, target[k]);
            }
        }
    }
}

u64 run(void) {
    u64 sum = 0;
    random_state = 26;
    for (u32 k = 0; k < NODES * DEGREE; k++) {
        target[k] = random_u32() % NODES;
        length[k] = 1 + random_u32() % 1000;
    }
    for (u32 source = 0; source < 18; source++) {
        search(source * 1000);
        for (u32 i = 0; i < NODES; i += 13)
            sum = mix(sum, distance[i]);
    }
    return sum;
}
