/* Pointer chasing: merge sort of a linked list whose nodes lie in random order. */
#include "kernel.h"
#define N 100000
typedef struct Node Node;
struct Node {
    Node *next;
    u32 value;
};
static Node nodes[N];
static u32 order[N];

static NOINLINE Node *merge(Node *a, Node *b) {
    Node *head = 0, **tail = &head;
    while (a && b) {
        if (a->value <= b->value) {
            *tail = a;
            a = a->next;
        } else {
            *tail = b;
            b = b->next;
        }
        tail = &(*tail)->next;
    }
    *tail = a ? a : b;
    return head;
}

static Node *sort(Node *list) {
    Node *parts[24] = {0};
    while (list) {
        Node *one = list;
        list = list->next;
        one->next = 0;
        int i = 0;
        for (; parts[i]; i++) {
            one = merge(parts[i], one);
            parts[i] = 0;
        }
        parts[i] = one;
    }
    Node *result = 0;
    for (int i = 0; i < 24; i++)
        result = merge(parts[i], result);
    return result;
}

u64 run(void) {
    random_state = 15;
    for (u32 i = 0; i < N; i++)
        order[i] = i;
    for (u32 i = N - 1; i > 0; i--) {
        u32 j = random_u32() % (i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    u64 sum = 0;
    for (int repeat = 0; repeat < 2; repeat++) {
        for (u32 i = 0; i < N; i++) {
            nodes[order[i]].value = random_u32();
            nodes[order[i]].next = i + 1 < N ? &nodes[order[i + 1]] : 0;
        }
        for (Node *node = sort(nodes + order[0]); node; node = node->next)
            sum = mix(sum, node->value);
    }
    return sum;
}
