/* hello.c: the WASI guest of the original's measurements. */

#include <stdio.h>

int main(void) {
    printf("Hello, benchmarks!\n");
    return 0;
}
