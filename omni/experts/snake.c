/* The activation of neural vocoders, which torch spells out in five passes over the longest tensors there are. */

#include "products.h"

/* sin(pi * turns)^2, to 1e-7: the square has a period of one, in which a polynomial has to hold for half a turn only. */
static inline float squared_sine(float turns) {
    const float f = turns - rintf(turns), s = f * f;
    float p = -7.37043e-3f; /* sin(pi f) = f * (pi - pi^3 / 3! s + ...) */
    p = p * s + 8.2145887e-2f;
    p = p * s - 5.99264529e-1f;
    p = p * s + 2.55016404f;
    p = p * s - 5.16771278f;
    p = p * s + 3.14159265f;
    p *= f;
    return p * p;
}

/* Snake (arXiv 2006.08195) of x (channels, length): x + scale * sin(pi * turns * x)^2, with numbers of each channel. */
void snake(long channels, long length, const uint16_t *x, const float *turns, const float *scale, uint16_t *out,
           int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long channel = 0; channel < channels; channel++) {
        const uint16_t *from = x + channel * length;
        uint16_t *to = out + channel * length;
        const float rate = turns[channel], size = scale[channel];
#pragma omp simd
        for (long i = 0; i < length; i++) to[i] = narrow(wide(from[i]) + size * squared_sine(wide(from[i]) * rate));
    }
}
