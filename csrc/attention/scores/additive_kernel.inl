/* Additive scores as attention calls them (additive.inl has formulas and bound): what is out of the factored range is
 * evaluated pair by pair. */
#ifndef FA_ATTENTION_SCORES_ADDITIVE_KERNEL_INL
#define FA_ATTENTION_SCORES_ADDITIVE_KERNEL_INL
#include "../../vec/vec.h"
#include "../../vec/math.h"
#include "kernel.h"
#include "additive.inl"
#include "additive_pack.inl"
#include "additive_tile.inl"
#include "additive_backward.inl"

/* Features in fours, then a row of corrections and one that holds PW flags. */
FA_FUNC int64_t additive_panel_rows(int64_t D) { return (D + 3) / 4 * 4 + 2; }

FA_FUNC void additive_score_tile(const score_source *s, const score_tile_rows *t) {
    const score_form *f = &s->form;
    const real scale = (real)s->a->scale;
    const int64_t D4 = (f->D + 3) / 4 * 4;
    const uint8_t *k_flags = (const uint8_t *)(t->panel + (D4 + 1) * PW);
    int any = 0;
    for (int64_t j = 0; j < t->keys; j++) any |= k_flags[j];
    for (int r = 0; r < t->rows; r++) any |= t->flags[r];
    additive_tile(t->rows, any, f, t->query, s->ldq, t->panel, D4, t->keys, scale, t->S, t->lds, t->ahead, t->asked);
    if (!(any & FA_DIRECT)) return;
    for (int r = 0; r < t->rows; r++)
        for (int64_t j = 0; j < t->keys; j++)
            if ((t->flags[r] | k_flags[j]) & FA_DIRECT)
                t->S[r * t->lds + j] = scale * additive_direct(f, t->raw[r], s->key + (t->first + j) * s->key_row);
}

FA_FUNC void additive_block_backward(const score_form *f, const score_block *b) {
    if (f->activation == FA_TANH && !f->estimates)
        additive_correct_vector(b->rows, b->keys, b->g, PW, b->query_lost, b->key_lost, b->ld, f->d_v, b->q_flags,
                                b->k_flags);
    additive_backward(f, b);
    int any = 0;
    for (int64_t i = 0; i < b->rows; i++) any |= b->q_flags[i];
    for (int64_t j = 0; j < b->keys; j++) any |= b->k_flags[j];
    for (int64_t i = 0; any & FA_DIRECT && i < b->rows; i++)
        for (int64_t j = 0; j < b->keys; j++) {
            const real g = b->g[i * PW + j];
            if (g == 0 || !((b->q_flags[i] | b->k_flags[j]) & FA_DIRECT)) continue;
            additive_backward_direct(f, g, b->raw_query[i], b->raw_key + j * b->raw_key_row, b->d_query + i * b->ld,
                                     b->d_key + j * b->key_ld);
        }
}

FA_INLINE void additive_query_body(const int activation, const score_form *f, const element *q, const element *key,
                                   int64_t key_row, int64_t keys, const element *weights, const real *g, element *dq) {
    const vec one = vset1(1), zero = vset1(0);
    for (int64_t t = 0; t < f->D; t += VL) {
        const int64_t n = f->D - t;
        const vec x = eload_n(q + t, n);
        vec sum = zero;
        for (int64_t j = 0; j < keys; j++) {
            if (to_real(weights[j]) == 0) continue;
            vec k = eload_n(key + j * key_row + t, n), slope;
            if (activation == FA_RELU) {
                slope = vselect_lt(zero, x + k, one, (x + k) * zero); /* 0 at x <= 0, NaN at NaN */
            } else if (activation == FA_TANH) {
                vec y = vtanh(x + k);
                slope = vfma(-y, y, one);
            } else {
                vec y = vsigmoid(x + k);
                slope = vfma(-y, y, y);
            }
            sum = vfma(vset1(g[j]), slope, sum);
        }
        estore_n(dq + t, sum * eload_n(f->vector + t, n), n);
    }
}

FA_FUNC void additive_query_backward(const score_form *f, const element *q, const element *key, int64_t key_row,
                                     int64_t keys, const element *weights, const real *g, element *dq) {
#define FA_BODY(ACTIVATION) additive_query_body(ACTIVATION, f, q, key, key_row, keys, weights, g, dq)
    if (f->activation == FA_TANH)
        FA_BODY(FA_TANH);
    else if (f->activation == FA_SIGMOID)
        FA_BODY(FA_SIGMOID);
    else
        FA_BODY(FA_RELU);
#undef FA_BODY
}

/* additive_backward and additive_backward_direct leave v out, and 4 for tanh. */
FA_FUNC real additive_gradient_factor(const score_form *f) { return f->activation == FA_TANH ? (real)4 : (real)1; }

static const score_kernel additive_kernel = {
    .query_width = additive_query_width,
    .panel_rows = additive_panel_rows,
    .pack_query = additive_pack_query,
    .pack_panel = additive_pack_panel,
    .pack_row = additive_pack_features,
    .close_panel = additive_close_panel,
    .tile = additive_score_tile,
    .pair = additive_direct,
    .pair_backward = additive_backward_direct,
    .block_backward = additive_block_backward,
    .gradient_factor = additive_gradient_factor,
    .query_backward = additive_query_backward,
};
#endif
