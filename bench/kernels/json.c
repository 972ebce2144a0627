/* String handling: writes and parses JSON: numbers, strings with escapes, nested arrays and objects. */
#include "kernel.h"
#define SIZE (1 << 20)
static char text[SIZE + 64];
static u32 written;

static void put(char c) {
    text[written++] = c;
}

static void put_number(u32 value) {
    char digits[10];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        put(digits[--n]);
}

static void put_string(void) {
    put('"');
    for (u32 n = random_u32() % 12; n; n--) {
        char c = (char)('a' + random_u32() % 28);
        if (c > 'z')
            put('\\');
        put(c > 'z' ? 'n' : c);
    }
    put('"');
}

static void put_value(int depth) {
    u32 kind = random_u32() % (depth ? 6 : 3);
    if (kind < 2)
        put_number(random_u32() >> random_u32() % 30);
    else if (kind == 2)
        put_string();
    else {
        put(kind < 5 ? '{' : '[');
        for (u32 n = random_u32() % 9, i = 0; i < n; i++) {
            if (i)
                put(',');
            if (kind < 5) {
                put_string();
                put(':');
            }
            put_value(depth - 1);
        }
        put(kind < 5 ? '}' : ']');
    }
}

typedef struct {
    const char *at;
    u64 sum;
    u32 values;
} Parser;

static void parse_string(Parser *p) {
    u64 hash = 5381;
    for (p->at++; *p->at != '"'; p->at++) {
        char c = *p->at;
        if (c == '\\')
            c = *++p->at == 'n' ? '\n' : *p->at;
        hash = hash * 33 + (u8)c;
    }
    p->at++;
    p->sum += hash;
}

static NOINLINE void parse_value(Parser *p) {
    p->values++;
    switch (*p->at) {
    case '"':
        parse_string(p);
        break;
    case '{':
        p->at++;
        while (*p->at != '}') {
            parse_string(p);
            p->at++;
            parse_value(p);
            if (*p->at == ',')
                p->at++;
        }
        p->at++;
        break;
    case '[':
        p->at++;
        while (*p->at != ']') {
            parse_value(p);
            if (*p->at == ',')
                p->at++;
        }
        p->at++;
        break;
    default: {
        u64 value = 0;
        for (; *p->at >= '0' && *p->at <= '9'; p->at++)
            value = value * 10 + (u64)(*p->at - '0');
        p->sum ^= value * 0x9e3779b97f4a7c15ULL;
    }
    }
}

u64 run(void) {
    random_state = 22;
    written = 0;
    put('[');
    while (written < SIZE / 2) {
        put_value(5);
        put(',');
    }
    put('1');
    put(']');
    Parser p = {0, 0, 0};
    for (int repeat = 0; repeat < 50; repeat++) {
        p.at = text;
        parse_value(&p);
    }
    return p.sum + p.values;
}
