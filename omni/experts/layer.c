/* A decoder layer for one token, in one call: for one token the number of calls is the time.
 *
 * What is rounded to bf16, and where, is as the layer's modules have it one by one.
 */

#include "products.h"

typedef struct {
    long hidden, heads, kv_heads, width, inner; /* inner is 0 where the MLP is somebody else's */
    float scaling, epsilon, head_epsilon;
    const float *before_attention, *before_mlp; /* weights of the norms */
    const float *query_norm, *key_norm;         /* of each head, or none */
    Matrix projections[3];                      /* queries, keys, values */
    Matrix output;
    Expert mlp;
} Layer;

static void widen(const uint16_t *from, long count, float *to) {
    for (long i = 0; i < count; i++) to[i] = wide(from[i]);
}

/* out = x + added, both rounded to bf16. */
static void add(const uint16_t *x, const float *added, long count, uint16_t *out) {
    for (long i = 0; i < count; i++) out[i] = narrow(wide(x[i]) + wide(narrow(added[i])));
}

/* x (hidden) through the layer, into out (hidden). Keys and values of ``length`` tokens lie in rooms, a head every
 * ``key_stride`` and ``value_stride`` numbers; the token's own are written behind them. Where the MLP is somebody else's,
 * out is what it is to be added to, and ``normed`` (hidden) what it takes. Returns 1 without memory. */
int decoder_layer(const Layer *layer, const uint16_t *x, const uint16_t *cosine, const uint16_t *sine, uint16_t *keys,
                  long key_stride, uint16_t *values, long value_stride, long length, uint16_t *out, uint16_t *normed,
                  int threads) {
    const long hidden = layer->hidden, width = layer->width;
    const long queries = layer->heads * width, shared = layer->kv_heads * width;
    float *memory = malloc((2 * hidden + 3 * queries + 2 * shared) * sizeof(float));
    if (!memory) return 1;
    float *token = memory, *made = token + hidden, *projected = made + hidden;
    float *mixed = projected + queries + 2 * shared;
    uint16_t *turned = (uint16_t *)(mixed + queries);
    const float *new_keys = projected + queries, *new_values = new_keys + shared;

    rms_norm(1, hidden, x, layer->before_attention, layer->epsilon, normed);
    widen(normed, hidden, token);
    int failed = nf4_products(3, layer->projections, hidden, token, projected, threads);
    turn_heads(layer->heads, width, projected, layer->query_norm, layer->head_epsilon, cosine, sine, turned);
    for (long head = 0; head < layer->kv_heads; head++) {
        uint16_t *value = values + head * value_stride + length * width;
        turn_heads(1, width, new_keys + head * width, layer->key_norm, layer->head_epsilon, cosine, sine,
                   keys + head * key_stride + length * width);
        for (long i = 0; i < width; i++) value[i] = narrow(new_values[head * width + i]);
    }
    failed |= attend(layer->heads, layer->kv_heads, width, length + 1, turned, keys, key_stride, values, value_stride,
                     layer->scaling, mixed, threads);
    failed |= nf4_products(1, &layer->output, queries, mixed, made, threads);
    add(x, made, hidden, out);
    rms_norm(1, hidden, out, layer->before_mlp, layer->epsilon, normed);
    if (layer->inner) {
        widen(normed, hidden, token);
        failed |= nf4_experts(1, hidden, layer->inner, token, &layer->mlp, made, threads);
        add(out, made, hidden, out);
    }
    free(memory);
    return failed;
}
