/* What a decode step does for its one token beside its 4-bit products: norms, turned heads, attention and the router.
 *
 * bf16 comes in and goes out, sums are float32 in between. Every number is summed in one order by one thread, so that
 * the number of threads changes no bit.
 *
 * omni/experts/native.py compiles this file together with nf4.c and layer.c.
 */

#include <float.h>

#include "products.h"

#define WORTH_THREADS (1 << 16) /* products from which on a second thread is woken */

/* exp(x) for x <= 0, to 2 in the last place or so: 2^n times a polynomial, in a form that compiles to vectors. */
static inline float exp_of(float x) {
    x = x < -87.0f ? -87.0f : x; /* what is not a number stays so */
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693145752f - n * 1.42860677e-6f;
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

static inline float dot(const float *a, const float *b, long size) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < size; i++) sum += a[i] * b[i];
    return sum;
}

static inline float dot_wide(const uint16_t *a, const float *b, long size) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < size; i++) sum += wide(a[i]) * b[i];
    return sum;
}

/* RMS norm (arXiv 1910.07467) of x (rows, width), rounded once, at its end. */
void rms_norm(long rows, long width, const uint16_t *x, const float *weight, float epsilon, uint16_t *out) {
    for (long row = 0; row < rows; row++) {
        const uint16_t *from = x + row * width;
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (long i = 0; i < width; i++) squares += wide(from[i]) * wide(from[i]);
        float scale = 1.0f / sqrtf(squares / width + epsilon);
#pragma omp simd
        for (long i = 0; i < width; i++) out[row * width + i] = narrow(wide(from[i]) * scale * weight[i]);
    }
}

/* Heads x (heads, width), each RMS-normalised where there is a weight (width), turned by the angles of their position
 * (RoPE, arXiv 2104.09864; a head's first half against its second), into out (heads, width). */
void turn_heads(long heads, long width, const float *x, const float *weight, float epsilon, const uint16_t *cosine,
                const uint16_t *sine, uint16_t *out) {
    const long half = width / 2;
    for (long head = 0; head < heads; head++) {
        const float *from = x + head * width;
        uint16_t *to = out + head * width;
        float scale = weight ? 1.0f / sqrtf(dot(from, from, width) / width + epsilon) : 1.0f;
#pragma omp simd
        for (long i = 0; i < half; i++) {
            float first = from[i] * scale, second = from[i + half] * scale;
            if (weight) first *= weight[i], second *= weight[i + half];
            to[i] = narrow(first * wide(cosine[i]) - second * wide(sine[i]));
            to[i + half] = narrow(second * wide(cosine[i + half]) + first * wide(sine[i + half]));
        }
    }
}

/* One query q (group, width) over keys and values (length, width) of one head, into out (group, width). ``memory`` holds
 * group * (width + length) + width floats. */
static void attend_head(long group, long width, long length, const uint16_t *q, const uint16_t *keys,
                        const uint16_t *values, float scale, float *memory, float *out) {
    float *query = memory, *shares = query + group * width, *row = shares + group * length;
    for (long i = 0; i < group * width; i++) query[i] = wide(q[i]) * scale;
    for (long t = 0; t < length; t++) {
        for (long i = 0; i < width; i++) row[i] = wide(keys[t * width + i]);
        for (long g = 0; g < group; g++) shares[g * length + t] = dot(query + g * width, row, width);
    }
    for (long g = 0; g < group; g++) {
        float *mine = shares + g * length, most = -FLT_MAX, sum = 0;
#pragma omp simd reduction(max : most)
        for (long t = 0; t < length; t++) most = mine[t] > most ? mine[t] : most;
#pragma omp simd reduction(+ : sum)
        for (long t = 0; t < length; t++) {
            mine[t] = exp_of(mine[t] - most);
            sum += mine[t];
        }
        for (long t = 0; t < length; t++) mine[t] /= sum;
    }
    memset(out, 0, group * width * sizeof(float));
    for (long t = 0; t < length; t++) {
        for (long i = 0; i < width; i++) row[i] = wide(values[t * width + i]);
        for (long g = 0; g < group; g++) {
            float share = shares[g * length + t], *to = out + g * width;
#pragma omp simd
            for (long i = 0; i < width; i++) to[i] += share * row[i];
        }
    }
}

/* Attention of one token with grouped queries (arXiv 2305.13245): q (heads, width) over keys and values of ``length``
 * tokens, a head every ``key_stride`` and ``value_stride`` numbers, to out (heads, width). Returns 1 without memory. */
int attend(long heads, long kv_heads, long width, long length, const uint16_t *q, const uint16_t *keys, long key_stride,
           const uint16_t *values, long value_stride, float scale, float *out, int threads) {
    const long group = heads / kv_heads, each = group * (width + length) + width;
    float *memory = malloc(kv_heads * each * sizeof(float));
    if (!memory) return 1;
    if (heads * width * length < WORTH_THREADS) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long head = 0; head < kv_heads; head++)
        attend_head(group, width, length, q + head * group * width, keys + head * key_stride,
                    values + head * value_stride, scale, memory + head * each, out + head * group * width);
    free(memory);
    return 0;
}

/* The router: logits of x (hidden) for each expert, weight (experts, hidden); the ``count`` largest shares of their
 * softmax, the largest first, which add up to 1 where ``normalised``, and whose they are. Returns 1 without memory. */
int route(long experts, long hidden, long count, int normalised, const uint16_t *x, const uint16_t *weight,
          uint16_t *logits, uint16_t *shares, int64_t *chosen, int threads) {
    float *token = malloc((hidden + 2 * experts) * sizeof(float));
    if (!token) return 1;
    float *probable = token + hidden, *taken = probable + experts, most = -FLT_MAX, sum = 0, kept = 0;
    for (long i = 0; i < hidden; i++) token[i] = wide(x[i]);
    if (experts * hidden < WORTH_THREADS) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long e = 0; e < experts; e++) logits[e] = narrow(dot_wide(weight + e * hidden, token, hidden));
    for (long e = 0; e < experts; e++) most = wide(logits[e]) > most ? wide(logits[e]) : most;
    for (long e = 0; e < experts; e++) {
        sum += probable[e] = exp_of(wide(logits[e]) - most);
        if (probable[e] != probable[e]) probable[e] = 0; /* the sum is not a number now, nor will the shares be */
    }
    for (long place = 0; place < count; place++) {
        long best = 0;
        for (long e = 1; e < experts; e++) best = probable[e] > probable[best] ? e : best;
        chosen[place] = best;
        kept += taken[place] = probable[best] / sum;
        probable[best] = -1;
    }
    for (long place = 0; place < count; place++) shares[place] = narrow(normalised ? taken[place] / kept : taken[place]);
    free(token);
    return 0;
}
