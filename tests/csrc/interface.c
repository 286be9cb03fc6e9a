/* A compiled plugin that calls attention through the table of fastattn.h: test_interface.py, which passes numbers in
 * the order in which they are taken here. */
#include <fastattn.h>

static const int64_t *numbers;
static void *const *arrays;

static void take(int64_t *strides, int count) {
    while (count--) *strides++ = *numbers++;
}

static fastattn_attention described(const double *reals) {
    fastattn_attention a = {.struct_size = sizeof a};
    a.dtype = a.memory_dtype = (int32_t)*numbers++;
    a.precision = (int32_t)*numbers++;
    a.score = (int32_t)*numbers++;
    a.activation = (int32_t)*numbers++;
    a.causal = (int32_t)*numbers++;
    a.windowed = (int32_t)*numbers++;
    a.left = *numbers++;
    a.right = *numbers++;
    int64_t *sizes[] = {&a.B, &a.H, &a.Hk, &a.Tq, &a.Tk, &a.D, &a.Dv};
    for (int i = 0; i < 7; i++) *sizes[i] = *numbers++;
    take(a.query_strides, 3), take(a.key_strides, 3), take(a.value_strides, 3);
    take(a.mask_strides, 4), take(a.bias_strides, 4), take(a.context_strides, 3);
    a.scale = reals[0];
    a.softcap = reals[1];
    a.dropout = reals[2];
    a.query = *arrays++;
    a.key = *arrays++;
    a.value = *arrays++;
    a.score_vector = *arrays++;
    a.mask = *arrays++;
    a.bias = *arrays++;
    a.key_lengths = *arrays++;
    a.seeds = *arrays++;
    a.context = *arrays++;
    a.weights = *arrays++;
    a.lse = *arrays++;
    a.row_max = *arrays++;
    a.row_sum = *arrays++;
    return a;
}

int forward(const fastattn_api *fa, const int64_t *n, const double *reals, void *const *p) {
    numbers = n, arrays = p;
    const fastattn_attention a = described(reals);
    return fa->attention_forward(&a);
}

int backward(const fastattn_api *fa, const int64_t *n, const double *reals, void *const *p) {
    numbers = n, arrays = p;
    const fastattn_attention a = described(reals);
    fastattn_attention_gradient d = {.struct_size = sizeof d};
    take(d.d_context_strides, 3), take(d.d_bias_strides, 4);
    d.d_bias_dtype = (int32_t)*numbers++;
    d.d_context = *arrays++;
    d.d_weights = *arrays++;
    d.d_lse = *arrays++;
    d.d_query = *arrays++;
    d.d_key = *arrays++;
    d.d_value = *arrays++;
    d.d_score_vector = *arrays++;
    d.d_bias = *arrays++;
    return fa->attention_backward(&a, &d);
}

/* How many of the calls that cannot be were not refused: each is right but for one thing. */
int not_refused(const fastattn_api *fa) {
    float x[8] = {0}, y[8];
    const int64_t long_keys = 3;
    const fastattn_attention right = {.struct_size = sizeof right,
                                      .B = 1,
                                      .H = 2,
                                      .Hk = 1,
                                      .Tq = 1,
                                      .Tk = 2,
                                      .D = 2,
                                      .Dv = 2,
                                      .scale = 1,
                                      .query = x,
                                      .key = x,
                                      .value = x,
                                      .context = y,
                                      .context_strides = {4, 2, 2},
                                      .row_max = y + 4,
                                      .row_sum = y + 6};
    const fastattn_attention_gradient gradient = {
        .struct_size = sizeof gradient, .d_context = x, .d_query = y, .d_key = y, .d_value = y};
    int found = 0;
    if (fa->attention_forward(&right) != FASTATTN_OK) return -1;
#define WRONG(field, value)                                                                                            \
    do {                                                                                                               \
        fastattn_attention wrong = right;                                                                              \
        wrong.field = value;                                                                                           \
        found += fa->attention_forward(&wrong) != FASTATTN_INVALID;                                                    \
        found += fa->attention_backward(&wrong, &gradient) != FASTATTN_INVALID;                                        \
    } while (0)
    WRONG(struct_size, sizeof right - 8);
    WRONG(struct_size, 0);
    WRONG(unused, 1);
    WRONG(dtype, 2);
    WRONG(memory_dtype, FASTATTN_FLOAT64);
    WRONG(precision, 4);
    WRONG(score, 3);
    WRONG(score, FASTATTN_ADDITIVE); /* without a vector */
    WRONG(activation, -1);
    WRONG(causal, 3);
    WRONG(windowed, 2);
    WRONG(B, -1);
    WRONG(Tk, (int64_t)1 << 41);
    WRONG(Hk, 3);
    WRONG(Hk, 0);
    WRONG(dropout, 0.5); /* without seeds */
    WRONG(dropout, 1);
    WRONG(key_lengths, &long_keys);
#undef WRONG
#define WRONG(which, field, value)                                                                                     \
    do {                                                                                                               \
        fastattn_attention call = right;                                                                               \
        fastattn_attention_gradient d = gradient;                                                                      \
        which.field = value;                                                                                           \
        found += fa->attention_backward(&call, &d) != FASTATTN_INVALID;                                                \
    } while (0)
    WRONG(d, struct_size, 0);
    WRONG(d, unused, 1);
    WRONG(d, d_weights, x); /* without weights */
    WRONG(d, d_bias, y);    /* without a bias */
    WRONG(call, row_sum, 0);
    WRONG(call, context_strides[1], 3);
    return found;
}
