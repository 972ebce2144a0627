/* Pointer chasing: a treap of 32-bit keys: insertion by splitting, lookups. */
#include "kernel.h"
#define N 60000
typedef struct Node Node;
struct Node {
    Node *left, *right;
    u32 key, priority, hits;
};
static Node nodes[N];

static void split(Node *tree, u32 key, Node **less, Node **more) {
    if (!tree)
        *less = *more = 0;
    else if (tree->key < key) {
        *less = tree;
        split(tree->right, key, &tree->right, more);
    } else {
        *more = tree;
        split(tree->left, key, less, &tree->left);
    }
}

static void insert(Node **at, Node *node) {
    while (*at && (*at)->priority >= node->priority)
        at = node->key < (*at)->key ? &(*at)->left : &(*at)->right;
    split(*at, node->key, &node->left, &node->right);
    *at = node;
}

static NOINLINE Node *find(Node *tree, u32 key) {
    while (tree && tree->key != key)
        tree = key < tree->key ? tree->left : tree->right;
    return tree;
}

static u64 walk(const Node *tree) {
    return tree ? walk(tree->left) * 31 + tree->key + tree->hits + walk(tree->right) : 0;
}

u64 run(void) {
    Node *root = 0;
    random_state = 16;
    for (u32 i = 0; i < N; i++) {
        nodes[i] = (Node){0, 0, random_u32() % 1000000, random_u32(), 0};
        insert(&root, &nodes[i]);
    }
    for (u32 i = 0; i < 400000; i++) {
        Node *found = find(root, random_u32() % 1000000);
        if (found)
            found->hits++;
    }
    return walk(root);
}
