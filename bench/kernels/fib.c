/* Recursion: Fibonacci's numbers and Ackermann's function. */
#include "kernel.h"
static NOINLINE u32 fib(u32 n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
static NOINLINE u32 ackermann(u32 m, u32 n) {
    return !m ? n + 1 : ackermann(m - 1, n ? ackermann(m, n - 1) : 1);
}

u64 run(void) {
    return (u64)fib(36) << 32 | ackermann(3, 8);
}
