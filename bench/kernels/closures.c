/* Indirect calls: an expression tree whose nodes hold the functions that evaluate them. */
#include "kernel.h"
typedef struct Node Node;
struct Node {
    i32 (*evaluate)(const Node *, i32);
    const Node *left, *right;
    i32 value;
};
#define NODES 1023
static Node nodes[NODES];

static i32 constant(const Node *n, i32 x) {
    return n->value + (x & 1);
}
static i32 variable(const Node *n, i32 x) {
    return x ^ n->value;
}
static i32 sum(const Node *n, i32 x) {
    return (i32)((u32)n->left->evaluate(n->left, x) + (u32)n->right->evaluate(n->right, x));
}
static i32 product(const Node *n, i32 x) {
    return (i32)((u32)n->left->evaluate(n->left, x) * (u32)n->right->evaluate(n->right, x + 1));
}
static i32 choose(const Node *n, i32 x) {
    return x & n->value ? n->left->evaluate(n->left, x - 1) : n->right->evaluate(n->right, x);
}

u64 run(void) {
    static i32 (*const inner[])(const Node *, i32) = {sum, product, choose, sum};
    random_state = 18;
    for (u32 i = 0; i < NODES; i++) {
        u32 r = random_u32();
        nodes[i].value = (i32)(r >> 8 & 1023) | 1;
        if (2 * i + 2 < NODES) {
            nodes[i].evaluate = inner[r % 4];
            nodes[i].left = &nodes[2 * i + 1];
            nodes[i].right = &nodes[2 * i + 2];
        } else
            nodes[i].evaluate = r & 1 ? constant : variable;
    }
    u64 total = 0;
    for (i32 x = 0; x < 100000; x++)
        total = mix(total, (u32)nodes[0].evaluate(nodes, x));
    return total;
}
