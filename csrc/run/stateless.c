/* Attention for compiled plugins: the structures of the public header, checked, as the kernels read them. */
#include <string.h>

#include "capi.h"
#include "pool.h"
#include "run.h"

#define FA_LARGEST ((int64_t)1 << 40)  /* of a size: a product of two fits 64 bits with what is added to it */
#define FA_FARTHEST ((int64_t)1 << 61) /* side of a window: positions plus this fit 64 bits */

static int is_size(int64_t n) { return 0 <= n && n <= FA_LARGEST; }
static int64_t side(int64_t n) { return n < FA_FARTHEST ? n : FA_FARTHEST; }
static fa_strides3 strides3(const int64_t *s) { return (fa_strides3){s[0], s[1], s[2]}; }
static fa_strides4 strides4(const int64_t *s) { return (fa_strides4){s[0], s[1], s[2], s[3]}; }

/* Sizes and numbers that kernels index by, and options that there are. */
static int is_valid(const fastattn_attention *c) {
    if (c->struct_size != sizeof *c || c->unused) return 0;
    if (c->dtype != FASTATTN_FLOAT32 && c->dtype != FASTATTN_FLOAT64) return 0;
    if (c->memory_dtype != c->dtype || c->precision < FASTATTN_AS_SET || c->precision > FASTATTN_MEDIUM) return 0;
    if (c->score < FASTATTN_DOT || c->score > FASTATTN_L1) return 0;
    if (c->activation < FASTATTN_BY_TANH || c->activation > FASTATTN_BY_RELU) return 0;
    if (c->causal < FASTATTN_NOT_CAUSAL || c->causal > FASTATTN_BOTTOM_RIGHT) return 0;
    if (!is_size(c->B) || !is_size(c->H) || !is_size(c->Hk) || !is_size(c->Tq) || !is_size(c->Tk) || !is_size(c->D) ||
        !is_size(c->Dv))
        return 0;
    if (c->Hk ? c->H == 0 || c->H % c->Hk : c->H != 0) return 0;
    if (c->windowed != 0 && (c->windowed != 1 || c->left < -1 || c->right < -1)) return 0;
    if (!(0 <= c->dropout && c->dropout < 1)) return 0;
    if (c->dropout > 0 && (!c->seeds || c->Tk > (int64_t)1 << 32)) return 0;
    if (c->score == FASTATTN_ADDITIVE && !c->score_vector) return 0;
    for (int64_t b = 0; c->key_lengths && b < c->B; b++)
        if (c->key_lengths[b] < 0 || c->key_lengths[b] > c->Tk) return 0;
    return 1;
}

static fa_attention problem(const fastattn_attention *c) {
    static const int32_t scores[] = {FA_SCORE_DOT, FA_SCORE_ADDITIVE, FA_SCORE_L1};
    fa_attention a = {
        .B = c->B,
        .H = c->H,
        .Hk = c->Hk,
        .Tq = c->Tq,
        .Tk = c->Tk,
        .D = c->D,
        .Dv = c->Dv,
        .query = c->query,
        .key = c->key,
        .value = c->value,
        .query_strides = strides3(c->query_strides),
        .key_strides = strides3(c->key_strides),
        .value_strides = strides3(c->value_strides),
        .score = scores[c->score],
        .activation = c->activation,
        .causal = c->causal,
        .scale = c->scale,
        .softcap = c->softcap,
        .score_vector = c->score_vector,
        .mask = c->mask,
        .mask_strides = strides4(c->mask_strides),
        .bias = c->bias,
        .bias_strides = strides4(c->bias_strides),
        .key_lengths = c->key_lengths,
        .left = c->windowed ? side(c->left) : -1,
        .right = c->windowed ? side(c->right) : -1,
        .keep_scale = 1,
        .context = c->context,
        .context_strides = strides3(c->context_strides),
        .weights = c->weights,
        .lse = c->lse,
        .row_max = c->row_max,
        .row_sum = c->row_sum,
    };
    if (c->dropout > 0) {
        a.seeds = c->seeds;
        a.drop_below = (uint32_t)(c->dropout * 4294967296.0);
        a.keep_scale = 1 / (1 - c->dropout);
    }
    return a;
}

/* Returns what the precision of this thread's products was; a call's holds until the other function gives it back. */
static int set_precision(int precision) {
    const int before = fa_parts(1);
    if (precision != FASTATTN_AS_SET) fa_set_parts(FASTATTN_MEDIUM + 1 - precision, 1);
    return before;
}

int fa_api_attention_forward(const fastattn_attention *c) {
    if (!is_valid(c)) return FASTATTN_INVALID;
    const fa_attention a = problem(c);
    const int before = set_precision(c->precision);
    const int status = fa_attention_forward(fa_api_kernels(c->dtype), &a, fa_threads);
    fa_set_parts(before, 1);
    return status;
}

static int is_contiguous(const fastattn_attention *c) {
    const int64_t *s = c->context_strides, row = c->Dv, head = fa_size_mul(c->Tq, row), batch = fa_size_mul(c->H, head);
    if (c->B == 0 || batch == 0) return 1;
    return (c->Tq == 1 || s[2] == row) && (c->H == 1 || s[1] == head) && (c->B == 1 || s[0] == batch);
}

int fa_api_attention_backward(const fastattn_attention *c, const fastattn_attention_gradient *d) {
    if (!is_valid(c) || d->struct_size != sizeof *d || d->unused) return FASTATTN_INVALID;
    if (!is_contiguous(c) || (d->d_weights && !c->weights)) return FASTATTN_INVALID;
    if (c->B && c->H && c->Tq && !(c->row_max && c->row_sum)) return FASTATTN_INVALID;
    if (c->score == FASTATTN_ADDITIVE && !d->d_score_vector) return FASTATTN_INVALID;
    if (d->d_bias && (!c->bias || (d->d_bias_dtype != c->dtype && d->d_bias_dtype != FASTATTN_FLOAT64)))
        return FASTATTN_INVALID;
    const fa_kernels *k = fa_api_kernels(c->dtype);
    const fa_attention_grad g = {
        .f = problem(c),
        .d_context = d->d_context,
        .d_context_strides = strides3(d->d_context_strides),
        .d_weights = d->d_weights,
        .d_lse = d->d_lse,
        .d_query = d->d_query,
        .d_key = d->d_key,
        .d_value = d->d_value,
        .d_bias = d->d_bias,
        .d_bias_wide = d->d_bias_dtype == FASTATTN_FLOAT64,
        .d_bias_strides = strides4(d->d_bias_strides),
        .d_score_vector = d->d_score_vector,
    };
    /* Without a batch entry there is no task that would write it. */
    if (c->score == FASTATTN_ADDITIVE) memset(d->d_score_vector, 0, (size_t)(c->D * k->element_bytes));
    const int before = set_precision(c->precision);
    const int status = fa_attention_backward(k, &g, fa_threads);
    fa_set_parts(before, 1);
    return status;
}
