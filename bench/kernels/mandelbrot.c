/* Numeric: the Mandelbrot set, a loop of scalar doubles that depends on itself. */
#include "kernel.h"
#define N 600

u64 run(void) {
    u64 sum = 0;
    for (int py = 0; py < N; py++)
        for (int px = 0; px < N; px++) {
            f64 cx = px * (3.0 / N) - 2.0, cy = py * (2.0 / N) - 1.0, x = 0, y = 0;
            int count = 0;
            while (count < 300 && x * x + y * y < 4) {
                f64 t = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = t;
                count++;
            }
            sum += (u64)count * (u64)(px + 1);
        }
    return sum;
}
