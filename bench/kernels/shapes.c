/* Indirect calls: virtual methods of a few classes over an array of objects. */
#include "kernel.h"
typedef struct Shape Shape;
typedef struct {
    f64 (*area)(const Shape *);
    void (*grow)(Shape *, f64);
} Class;
struct Shape {
    const Class *class;
    f64 a, b;
};

static f64 circle_area(const Shape *s) {
    return 3.14159265358979 * s->a * s->a;
}
static f64 box_area(const Shape *s) {
    return s->a * s->b;
}
static f64 triangle_area(const Shape *s) {
    return 0.5 * s->a * s->b;
}
static void grow_one(Shape *s, f64 by) {
    s->a += by;
}
static void grow_both(Shape *s, f64 by) {
    s->a += by;
    s->b -= by * 0.5;
}
static const Class classes[] = {{circle_area, grow_one}, {box_area, grow_both}, {triangle_area, grow_both}};
#define N 2000
static Shape shapes[N];

u64 run(void) {
    random_state = 19;
    for (int i = 0; i < N; i++)
        shapes[i] = (Shape){&classes[random_u32() % 3], random_f64(), random_f64()};
    f64 total = 0;
    for (int step = 0; step < 4000; step++)
        for (int i = 0; i < N; i++) {
            Shape *s = &shapes[i];
            s->class->grow(s, step & 1 ? -0.125 : 0.125);
            total += s->class->area(s);
        }
    return bits_f64(total);
}
