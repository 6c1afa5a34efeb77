/* Products of a few tokens with NF4 matrices on a CPU, fast enough to wait for memory only.
 *
 * A matrix stands row by row as bitsandbytes has it: 64 weights a block, the first of two neighbours in the high half of
 * a byte, one float32 maximum a block. The levels are rounded to 8 bits, and so is the token, with a scale of its own for
 * each block of 64; whole numbers are multiplied and added up block by block, blocks in float32. Both roundings together
 * are a tenth of what NF4 itself leaves off. Every row is summed in one order by one thread, so that the same numbers
 * give the same bits whatever else is computed beside them.
 *
 * omni/experts/native.py compiles this file and calls the functions at its end.
 */

#include <float.h>

#include "products.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define BLOCK 64   /* weights with one maximum */
#define GROUP 128  /* weights in 64 bytes: two blocks */
#define LANES 16   /* 32-bit sums of a group, eight for each block */
#define TOP 127    /* what stands for the largest level, and for a block's largest activation */
#define AHEAD 2048 /* bytes of a matrix that are asked for before they are needed */

/* The NF4 levels (QLoRA, arXiv 2305.14314, appendix E) times TOP, rounded. */
static const int8_t LEVELS[16] = {-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127};

/* A vector of activations in 8 bits. A group has its 64 even columns first, then its 64 odd ones. */
typedef struct {
    int8_t *codes;  /* GROUP for each group */
    int32_t *start; /* LANES for each group: what undoes that levels are taken 128 too high */
    float *scale;   /* LANES for each group: that of the lane's block */
} Activations;

static size_t groups_of(long columns) { return (size_t)(columns + GROUP - 1) / GROUP; }

static size_t bytes_of(long columns) {
    return groups_of(columns) * (GROUP + LANES * (sizeof(int32_t) + sizeof(float)));
}

static Activations at(char *memory, long columns) {
    size_t groups = groups_of(columns);
    Activations made;
    made.start = (int32_t *)memory;
    made.scale = (float *)(made.start + groups * LANES);
    made.codes = (int8_t *)(made.scale + groups * LANES);
    return made;
}

/* Round x (columns,) to 8 bits; what is not finite makes its block not a number. */
static void round_activations(const float *x, long columns, Activations to) {
    memset(to.codes, 0, groups_of(columns) * GROUP);
    memset(to.scale, 0, groups_of(columns) * LANES * sizeof(float));
    for (long block = 0; block < columns / BLOCK; block++) {
        const float *from = x + block * BLOCK;
        int8_t *even = to.codes + block / 2 * GROUP + block % 2 * (BLOCK / 2), *odd = even + GROUP / 2;
        float most = 0, poison = 0;
        for (int i = 0; i < BLOCK; i++) {
            float size = fabsf(from[i]);
            most = size > most ? size : most;
            poison += from[i] * 0.0f;
        }
        float steps = most > FLT_MIN * TOP ? TOP / most : 0.0f;
        if (poison == 0.0f)
            for (int i = 0; i < BLOCK / 2; i++) {
                even[i] = (int8_t)nearbyintf(from[2 * i] * steps);
                odd[i] = (int8_t)nearbyintf(from[2 * i + 1] * steps);
            }
        for (int i = 0; i < LANES / 2; i++) to.scale[block * (LANES / 2) + i] = most / (TOP * TOP) + poison;
    }
    for (size_t lane = 0; lane < groups_of(columns) * LANES; lane++) {
        const int8_t *even = to.codes + lane / LANES * GROUP + lane % LANES * 4, *odd = even + GROUP / 2;
        int sum = 0;
        for (int i = 0; i < 4; i++) sum += even[i] + odd[i];
        to.start[lane] = -128 * sum;
    }
}

/* Each way below gives ``dots``: one row against ``count`` vectors, into ``out``. What it unpacks of the row serves all of
 * them. It is compiled for each count that it is called with, up to TOGETHER, and sums in the same order for any count. */
#define TOGETHER 4
#define COMPILED_FOR_EACH_COUNT static inline __attribute__((always_inline))

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

/* Adds to each sum what one group contributes: its 64 bytes, and its two maxima as one number. */
COMPILED_FOR_EACH_COUNT void add_group(const int count, __m512 *sums, __m512i bytes, int64_t maxima,
                                       const Activations *x, long group) {
    const __m512i low = _mm512_set1_epi8(15), halves = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m128i signed_levels = _mm_loadu_si128((const __m128i *)LEVELS);
    const __m512i levels = _mm512_broadcast_i32x4(_mm_xor_si128(signed_levels, _mm_set1_epi8(-128)));
    const __m512i even = _mm512_shuffle_epi8(levels, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low));
    const __m512i odd = _mm512_shuffle_epi8(levels, _mm512_and_si512(bytes, low));
    const __m512 spread = _mm512_permutexvar_ps(halves, _mm512_castsi512_ps(_mm512_set1_epi64(maxima)));
    for (int i = 0; i < count; i++) {
        __m512i whole = _mm512_loadu_si512(x[i].start + group * LANES);
        whole = _mm512_dpbusd_epi32(whole, even, _mm512_loadu_si512(x[i].codes + group * GROUP));
        whole = _mm512_dpbusd_epi32(whole, odd, _mm512_loadu_si512(x[i].codes + group * GROUP + GROUP / 2));
        __m512 scale = _mm512_mul_ps(spread, _mm512_loadu_ps(x[i].scale + group * LANES));
        sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scale, sums[i]);
    }
}

COMPILED_FOR_EACH_COUNT void dots(const int count, const uint8_t *packed, const float *absmax, long columns,
                                  const Activations *x, float *out) {
    __m512 even[TOGETHER], odd[TOGETHER]; /* sums of the groups with even numbers, and with odd ones */
    for (int i = 0; i < count; i++) even[i] = odd[i] = _mm512_setzero_ps();
    long group = 0;
    int64_t maxima = 0;
    for (; group < columns / GROUP; group++) {
        const uint8_t *from = packed + group * (GROUP / 2);
        memcpy(&maxima, absmax + 2 * group, 8);
        _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
        add_group(count, group % 2 ? odd : even, _mm512_loadu_si512(from), maxima, x, group);
    }
    if (columns % GROUP) { /* one block is left */
        maxima = 0;
        memcpy(&maxima, absmax + 2 * group, 4);
        __m512i bytes = _mm512_maskz_loadu_epi32(0xFF, packed + group * (GROUP / 2));
        add_group(count, even, bytes, maxima, x, group);
    }
    for (int i = 0; i < count; i++) out[i] = _mm512_reduce_add_ps(_mm512_add_ps(even[i], odd[i]));
}

#elif defined(__AVX2__) && defined(__FMA__)

static inline __m256i multiplied(__m256i levels, const int8_t *codes) {
    __m256i signs = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *)codes), levels);
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(levels), signs), _mm256_set1_epi16(1));
}

COMPILED_FOR_EACH_COUNT void dots(const int count, const uint8_t *packed, const float *absmax, long columns,
                                  const Activations *x, float *out) {
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i levels = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)LEVELS));
    __m256 sums[TOGETHER];
    for (int i = 0; i < count; i++) sums[i] = _mm256_setzero_ps();
    for (long block = 0; block < columns / BLOCK; block++) {
        const uint8_t *from = packed + block * (BLOCK / 2);
        const long at = block / 2 * GROUP + block % 2 * (BLOCK / 2);
        __m256i bytes = _mm256_loadu_si256((const __m256i *)from);
        _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
        __m256i even = _mm256_shuffle_epi8(levels, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low));
        __m256i odd = _mm256_shuffle_epi8(levels, _mm256_and_si256(bytes, low));
        for (int i = 0; i < count; i++) {
            const int8_t *codes = x[i].codes + at;
            __m256i sum = _mm256_add_epi32(multiplied(even, codes), multiplied(odd, codes + GROUP / 2));
            __m256 scale = _mm256_set1_ps(absmax[block] * x[i].scale[block * (LANES / 2)]);
            sums[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, sums[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        float lanes[8];
        _mm256_storeu_ps(lanes, sums[i]);
        out[i] = 0;
        for (int lane = 0; lane < 8; lane++) out[i] += lanes[lane];
    }
}

#else

COMPILED_FOR_EACH_COUNT void dots(const int count, const uint8_t *packed, const float *absmax, long columns,
                                  const Activations *x, float *out) {
    for (int i = 0; i < count; i++) {
        out[i] = 0;
        for (long block = 0; block < columns / BLOCK; block++) {
            const uint8_t *from = packed + block * (BLOCK / 2);
            const int8_t *even = x[i].codes + block / 2 * GROUP + block % 2 * (BLOCK / 2), *odd = even + GROUP / 2;
            int sum = 0;
            for (int j = 0; j < BLOCK / 2; j++) sum += LEVELS[from[j] >> 4] * even[j] + LEVELS[from[j] & 15] * odd[j];
            out[i] += sum * (absmax[block] * x[i].scale[block * (LANES / 2)]);
        }
    }
}

#endif

static inline float row_of(const uint8_t *packed, const float *absmax, long row, long columns, Activations x) {
    float made;
    dots(1, packed + row * (columns / 2), absmax + row * (columns / BLOCK), columns, &x, &made);
    return made;
}

/* x (tokens, columns) times a matrix (rows, columns), transposed, into out (tokens, rows). Returns 1 without memory. */
int nf4_product(long tokens, long rows, long columns, const float *x, const uint8_t *packed, const float *absmax,
                float *out, int threads) {
    Activations *rounded = malloc(tokens * (sizeof(Activations) + bytes_of(columns)));
    if (!rounded) return 1;
    for (long token = 0; token < tokens; token++) {
        rounded[token] = at((char *)(rounded + tokens) + token * bytes_of(columns), columns);
        round_activations(x + token * columns, columns, rounded[token]);
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row++) {
        const uint8_t *bytes = packed + row * (columns / 2);
        const float *maxima = absmax + row * (columns / BLOCK);
        float made[TOGETHER];
        long token = 0;
        for (; token + TOGETHER <= tokens; token += TOGETHER) {
            dots(TOGETHER, bytes, maxima, columns, rounded + token, made);
            for (int i = 0; i < TOGETHER; i++) out[(token + i) * rows + row] = made[i];
        }
        for (; token < tokens; token++) dots(1, bytes, maxima, columns, rounded + token, out + token * rows + row);
    }
    free(rounded);
    return 0;
}

/* One token x (columns) times each of ``count`` matrices, one behind the other into out. Returns 1 without memory. */
int nf4_products(long count, const Matrix *matrices, long columns, const float *x, float *out, int threads) {
    char *memory = malloc(bytes_of(columns));
    if (!memory) return 1;
    Activations token = at(memory, columns);
    round_activations(x, columns, token);
#pragma omp parallel num_threads(threads)
    {
        float *to = out;
        for (long i = 0; i < count; to += matrices[i++].rows)
#pragma omp for schedule(static) nowait
            for (long row = 0; row < matrices[i].rows; row++)
                to[row] = row_of(matrices[i].packed, matrices[i].absmax, row, columns, token);
    }
    free(memory);
    return 0;
}

/* One token x (hidden) through SwiGLU experts, each into its row of out (count, hidden). Returns 1 without memory. */
int nf4_experts(long count, long hidden, long inner, const float *x, const Expert *experts, float *out, int threads) {
    char *memory = malloc(bytes_of(hidden) + count * (bytes_of(inner) + inner * sizeof(float)));
    if (!memory) return 1;
    Activations token = at(memory, hidden);
    char *rounded = memory + bytes_of(hidden);
    float *gated = (float *)(rounded + count * bytes_of(inner));
    round_activations(x, hidden, token);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for collapse(2) schedule(static)
        for (long i = 0; i < count; i++)
            for (long row = 0; row < inner; row++) {
                float gate = row_of(experts[i].gate, experts[i].gate_absmax, row, hidden, token);
                float up = row_of(experts[i].up, experts[i].up_absmax, row, hidden, token);
                gated[i * inner + row] = gate / (1.0f + expf(-gate)) * up;
            }
#pragma omp for schedule(static)
        for (long i = 0; i < count; i++)
            round_activations(gated + i * inner, inner, at(rounded + i * bytes_of(inner), inner));
#pragma omp for collapse(2) schedule(static)
        for (long i = 0; i < count; i++)
            for (long row = 0; row < hidden; row++)
                out[i * hidden + row] = row_of(experts[i].down, experts[i].down_absmax, row, inner,
                                               at(rounded + i * bytes_of(inner), inner));
    }
    free(memory);
    return 0;
}
