/* A small WASI command: greets (NAME in the environment), echoes its arguments and does a little work.
   How hello.wasm was built from it: see README.md. */
#include <stdio.h>
#include <stdlib.h>

#define LIMIT 1000000

static int primes_below_limit(void) {
    static char composite[LIMIT];
    int count = 0;
    for (int i = 2; i < LIMIT; i++) {
        if (composite[i])
            continue;
        count++;
        if (i > LIMIT / i)
            continue;
        for (int j = i * i; j < LIMIT; j += i)
            composite[j] = 1;
    }
    return count;
}

int main(int argc, char **argv) {
    const char *name = getenv("NAME");
    printf("hello, %s, from WebAssembly compiled to native code\n", name ? name : "world");
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    printf("%d primes are below %d\n", primes_below_limit(), LIMIT);
    return 0;
}
