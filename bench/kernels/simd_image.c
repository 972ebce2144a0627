/* SIMD (compiled with -msimd128): the image kernel again, with vectors of bytes and of 16-bit words. */
#include "image.c"
