/* Gradients of one sample's steps (features.h has the formulas); what is summed over steps is added to, the sum of each
 * step by itself.
 *
 *   dW_j = d_context . value_j + d_weight_j       d_factor_j = p_j dW_j        dP_j = factor_j dW_j
 *   dS_j = scale p_j (dP_j - sum_k p_k dP_k)      times 1 - sigmoid(score_j) where p is of sigmoids
 *   d_query += dS_j d score_j / d query            d_key_j += dS_j d score_j / d key_j
 *   additive:  g_jd = dS_j v_d (1 - tanh^2)       d_query += g_j,  d_key_j += g_j,  d_v += dS_j tanh
 *              d_U_c += f_cj g_j                  df_cj = U_c . g_j
 *              d_filter_ck += sum_j df_cj h_{j+k-left}        d_history_i = sum_ck filter_ck df_{c, i-k+left}
 *
 *   d_context (B, T, Dv), d_weights (B, T, S) or NULL; d_query (B, T, D), d_history and d_factor (B, T, S), and the
 *   sums d_key (B, S, D), d_vector (B, D), d_feature_weights (B, C, D), d_filters (B, C, K): contiguous
 *
 * The gradient of the values is a product of weights and d_context over all steps, which the caller makes. Keys and
 * values whose weight is 0 are not read.
 */
#ifndef FA_DECODER_STEPS_BACKWARD_INL
#define FA_DECODER_STEPS_BACKWARD_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "../attention/query_gradient.inl"
#include "recurrent.inl"
#include "steps.inl"

/* Leaves dS in m->score. */
FA_FUNC void step_score_gradient(const fa_steps *a, const step_memory *m, int64_t row, const element *value,
                                 int64_t first, int64_t last) {
    const int64_t at = row * a->S;
    const element *weights = a->normalized + at;
    const real scale = (real)a->scale, total = a->total[row];
    const row_gradient of_row = {weights,
                                 a->d_context + row * a->Dv,
                                 value,
                                 a->d_weights ? a->d_weights + at : NULL,
                                 a->factor ? a->factor + at : NULL,
                                 a->factor ? a->d_factor + at : NULL,
                                 a->value_strides.row,
                                 a->Dv};
    real delta = weight_gradients(0, &of_row, first, last, m->score);
    const int lessened = delta - delta != 0;
    if (lessened) delta = weight_gradients(1, &of_row, first, last, m->score);
    for (int64_t j = first; j < last; j++) {
        const real p = to_real(weights[j]);
        if (p == 0) continue;
        real d = p * (m->score[j] - delta);
        if (a->sigmoid) d *= 1 - p * total;
        m->score[j] = lessened ? whole(scale * d) : scale * d;
    }
}

FA_FUNC void step_back_pairs(const fa_steps *a, const step_memory *m, const element *query, const element *key,
                             real *d_key, int64_t first, int64_t last) {
    const score_form form = {.D = a->D};
    for (int64_t j = first; j < last; j++)
        if (m->score[j] != 0)
            score_kernels[a->score]->pair_backward(&form, m->score[j], query, key + j * a->key_strides.row, m->d_query,
                                                   d_key + j * a->D);
}

FA_FUNC void step_back_additive(const fa_steps *a, const step_memory *m, const element *query, const element *key,
                                real *d_key, int64_t first, int64_t last) {
    const vec one = vset1(1);
    if (a->C <= 1) { /* sums stay in registers, and so does what the feature gets */
        for (int64_t j = first; j < last; j++) {
            if (m->score[j] == 0) continue;
            const element *k = key + j * a->key_strides.row;
            const real *u = a->C ? m->u : NULL;
            const vec dS = vset1(m->score[j]), f = vset1(a->C ? m->features[j] : (real)0);
            vec df = vset1(0);
            for (int64_t d = 0; d < a->D; d += VL) {
                const int64_t n = a->D - d;
                const vec y = gate_tanh(step_sum(a, m, query, k, j, d, n));
                const vec g = dS * vload(m->v + d) * vfma(-y, y, one);
                vstore(m->d_v + d, vfma(dS, y, vload(m->d_v + d)));
                vstore(m->d_query + d, vload(m->d_query + d) + g);
                vstore_n(d_key + j * a->D + d, vload_n(d_key + j * a->D + d, n) + g, n);
                if (!u) continue;
                vstore(m->d_u + d, vfma(f, g, vload(m->d_u + d)));
                df = vfma(vload(u + d), g, df);
            }
            if (a->C) m->d_features[a->K + j] = vhsum(df);
        }
        return;
    }
    for (int64_t j = first; j < last; j += STEP_ROWS) {
        const int rows = (int)(last - j < STEP_ROWS ? last - j : STEP_ROWS);
        uint8_t marked[STEP_ROWS];
        for (int r = 0; r < rows; r++) marked[r] = m->score[j + r] != 0;
        step_sums(a, m, query, key, j, rows, marked);
        for (int r = 0; r < rows; r++) {
            real *x = m->tile + r * m->Dp, *dk = d_key + (j + r) * a->D;
            if (!marked[r]) {
                memset(x, 0, (size_t)m->Dp * sizeof(real));
                continue;
            }
            const vec dS = vset1(m->score[j + r]);
            for (int64_t d = 0; d < a->D; d += VL) {
                const int64_t n = a->D - d;
                const vec y = gate_tanh(vload(x + d)), g = dS * vload(m->v + d) * vfma(-y, y, one);
                vstore(x + d, g);
                vstore(m->d_v + d, vfma(dS, y, vload(m->d_v + d)));
                vstore(m->d_query + d, vload(m->d_query + d) + g);
                vstore_n(dk + d, vload_n(dk + d, n) + g, n);
            }
        }
        micro_gemm(MICRO_ADD, a->C, a->D, m->features + j, m->Sp, 1, m->tile, m->Dp, m->d_u, m->Dp, rows);
        micro_gemm(MICRO_FRESH, rows, a->C, m->tile, m->Dp, 1, m->u_transposed, m->Cp, m->d_block, m->Cp, a->D);
        for (int64_t c = 0; c < a->C; c++)
            for (int r = 0; r < rows; r++) m->d_features[c * m->side + a->K + j + r] = m->d_block[r * m->Cp + c];
    }
}

/* From df to the gradients of filters and history. */
FA_FUNC void step_back_features(const fa_steps *a, const step_memory *m, int64_t b, element *d_history, int64_t first,
                                int64_t last) {
    const int64_t K = a->K, left = (K - 1) / 2;
    if (!a->filters) {
        for (int64_t j = first; j < last; j++) d_history[j] = to_element(m->d_features[K + j]);
        return;
    }
    for (int64_t i = 0; i < a->S; i += VL) {
        vec sum = vset1(0);
        for (int64_t c = 0; c < a->C; c++) {
            const element *filter = a->filters + c * K;
            const real *df = m->d_features + c * m->side + K + i + left;
            for (int64_t k = 0; k < K; k++) sum = vfma(vset1(to_real(filter[k])), vload(df - k), sum);
        }
        estore_n(d_history + i, sum, a->S - i);
    }
    for (int64_t c = 0; c < a->C; c++) {
        real *d_filter = a->d_filters + (b * a->C + c) * K;
        const real *df = m->d_features + c * m->side + K;
        for (int64_t k = 0; k < K; k += 4 * VL) {
            vec sum[4];
            for (int i = 0; i < 4; i++) sum[i] = vset1(0);
            for (int64_t j = first; j < last; j++) {
                const vec d = vset1(df[j]);
                const real *h = m->history + j + k;
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++)
                    if (k + i * VL < K) sum[i] = vfma(d, vload_n(h + i * VL, K - k - i * VL), sum[i]);
            }
            for (int i = 0; i < 4; i++)
                if (k + i * VL < K)
                    vstore_n(d_filter + k + i * VL, vload_n(d_filter + k + i * VL, K - k - i * VL) + sum[i],
                             K - k - i * VL);
        }
    }
}

FA_INLINE void step_add(real *sums, const real *x, int64_t n) {
    for (int64_t d = 0; d < n; d += VL) vstore_n(sums + d, vload_n(sums + d, n - d) + vload_n(x + d, n - d), n - d);
}

FA_FUNC void steps_backward(const fa_steps *a, int64_t b, void *workspace) {
    step_memory m;
    step_carve(a, &m, workspace);
    step_pack(a, &m);
    const int additive = a->score == FA_SCORE_ADDITIVE;
    const size_t item = sizeof(real);
    const element *key = a->key + b * a->key_strides.batch, *value = a->value + b * a->value_strides.batch;
    real *d_key = a->d_key + b * a->S * a->D;
    real *d_vector = additive ? a->d_vector + b * a->D : NULL;
    real *d_weights = a->C ? a->d_feature_weights + b * a->C * a->D : NULL;
    for (int64_t t = a->first_step; t < a->last_step; t++) {
        const int64_t row = b * a->T + t, at = row * a->S, first = a->first[row], last = a->last[row];
        const element *query = a->query + row * a->D;
        memset(m.d_query, 0, (size_t)m.Dp * item);
        memset(m.d_v, 0, (size_t)m.Dp * item);
        memset(m.d_u, 0, (size_t)(a->C * m.Dp) * item);
        if (a->d_factor) memset(a->d_factor + at, 0, (size_t)a->S * sizeof(element));
        step_score_gradient(a, &m, row, value, first, last);
        if (a->C) {
            step_features(a, &m, a->history + at, first, last);
            memset(m.d_features, 0, (size_t)(a->C * m.side) * item);
        }
        if (additive)
            step_back_additive(a, &m, query, key, d_key, first, last);
        else
            step_back_pairs(a, &m, query, key, d_key, first, last);
        store_row(a->d_query + row * a->D, m.d_query, a->D);
        if (additive) step_add(d_vector, m.d_v, a->D);
        for (int64_t c = 0; c < a->C; c++) step_add(d_weights + c * a->D, m.d_u + c * m.Dp, a->D);
        if (a->C) {
            memset(a->d_history + at, 0, (size_t)a->S * sizeof(element));
            step_back_features(a, &m, b, a->d_history + at, first, last);
        }
    }
}
#endif
