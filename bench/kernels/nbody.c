/* Numeric: five bodies that attract each other, scalar doubles with square roots and divisions. */
#include "kernel.h"
typedef struct {
    f64 x, y, z, vx, vy, vz, mass;
} Body;
#define N 5
static Body bodies[N];

static NOINLINE void advance(f64 dt) {
    for (int i = 0; i < N; i++) {
        Body *a = &bodies[i];
        for (int j = i + 1; j < N; j++) {
            Body *b = &bodies[j];
            f64 dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            f64 distance2 = dx * dx + dy * dy + dz * dz;
            f64 magnitude = dt / (distance2 * __builtin_sqrt(distance2));
            a->vx -= dx * b->mass * magnitude;
            a->vy -= dy * b->mass * magnitude;
            a->vz -= dz * b->mass * magnitude;
            b->vx += dx * a->mass * magnitude;
            b->vy += dy * a->mass * magnitude;
            b->vz += dz * a->mass * magnitude;
        }
    }
    for (int i = 0; i < N; i++) {
        bodies[i].x += dt * bodies[i].vx;
        bodies[i].y += dt * bodies[i].vy;
        bodies[i].z += dt * bodies[i].vz;
    }
}

u64 run(void) {
    random_state = 5;
    for (int i = 0; i < N; i++)
        bodies[i] = (Body){i * 10.0 + random_f64(), random_f64(), random_f64(),   0.1 * random_f64(),
                           0.1 * random_f64(),      0.0,          i ? 0.01 : 39.0};
    for (int step = 0; step < 1200000; step++)
        advance(0.001);
    u64 sum = 0;
    for (int i = 0; i < N; i++)
        sum = mix(sum, bits_f64(bodies[i].x) ^ bits_f64(bodies[i].vy));
    return sum;
}
