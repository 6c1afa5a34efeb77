/* What nf4.c and token.c have for layer.c. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A matrix (rows, columns) in NF4 and its block maxima. */
typedef struct {
    const uint8_t *packed;
    const float *absmax;
    long rows;
} Matrix;

/* What an expert has: its gate and its up (inner, hidden), and its down (hidden, inner). */
typedef struct {
    const uint8_t *gate;
    const float *gate_absmax;
    const uint8_t *up;
    const float *up_absmax;
    const uint8_t *down;
    const float *down_absmax;
} Expert;

int nf4_products(long count, const Matrix *matrices, long columns, const float *x, float *out, int threads);
int nf4_experts(long count, long hidden, long inner, const float *x, const Expert *experts, float *out, int threads);

void rms_norm(long rows, long width, const uint16_t *x, const float *weight, float epsilon, uint16_t *out);
void turn_heads(long heads, long width, const float *x, const float *weight, float epsilon, const uint16_t *cosine,
                const uint16_t *sine, uint16_t *out);
int attend(long heads, long kv_heads, long width, long length, const uint16_t *q, const uint16_t *keys, long key_stride,
           const uint16_t *values, long value_stride, float scale, float *out, int threads);

static inline float wide(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float made;
    memcpy(&made, &bits, 4);
    return made;
}

/* To the nearest bf16, ties to even. */
static inline uint16_t narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7FC0;
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
