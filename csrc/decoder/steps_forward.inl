/* Scores, weights and contexts of one sample's steps (features.h has the formulas).
 *
 *   query (B, T, D), history and factor (B, T, S), first and last (B, T), context (B, T, Dv), weights and normalized
 *   (B, T, S), total (B, T): contiguous; key (., S, D), value (., S, Dv): by strides, entry memory_rows[b] or b
 *
 * Passes of a step: features; scores; maximum, exponentials and their sum; weights; context.
 */
#ifndef FA_DECODER_STEPS_FORWARD_INL
#define FA_DECODER_STEPS_FORWARD_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"
#include "../attention/query_gradient.inl"
#include "../attention/rows.inl"
#include "recurrent.inl"
#include "steps.inl"

#undef STEP_LOWEST
#if FA_BITS == 32
#define STEP_LOWEST -80
#else
#define STEP_LOWEST -700
#endif

/* Asks for a row of values, which the context will need, while arithmetic leaves the bus idle. */
FA_INLINE void step_ask(const fa_steps *a, const element *value, int64_t j) {
    const char *row = (const char *)(value + j * a->value_strides.row);
    for (int64_t byte = 0; byte < a->Dv * (int64_t)sizeof(element); byte += 64) __builtin_prefetch(row + byte, 0, 2);
}

/* score[j] for first..last-1, -inf where the mask forbids. */
FA_FUNC void step_scores(const fa_steps *a, const step_memory *m, int64_t b, const element *query, const element *key,
                         const element *value, int64_t first, int64_t last) {
    const real scale = (real)a->scale;
    if (a->score != FA_SCORE_ADDITIVE) {
        const score_form form = {.D = a->D};
        const score_kernel *kernel = score_kernels[a->score];
        for (int64_t j = first; j < last; j++)
            m->score[j] =
                step_read(a, b, j) ? scale * kernel->pair(&form, query, key + j * a->key_strides.row) : NEG_INF;
        return;
    }
    for (int64_t j = first; j < last; j++) {
        m->score[j] = NEG_INF;
        if (!step_read(a, b, j)) continue;
        step_ask(a, value, j);
        const element *k = key + j * a->key_strides.row;
        vec sum[4] = {vset1(0), vset1(0), vset1(0), vset1(0)};
        int64_t d = 0;
        for (; d + 4 * VL <= a->D; d += 4 * VL) {
            vec x[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) x[i] = eload(query + d + i * VL) + eload(k + d + i * VL);
            for (int64_t c = 0; c < a->C; c++) {
                const vec f = vset1(m->features[c * m->Sp + j]);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) x[i] = vfma(f, vload(m->u + c * m->Dp + d + i * VL), x[i]);
            }
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) sum[i] = vfma(vload(m->v + d + i * VL), gate_tanh(x[i]), sum[i]);
        }
        for (; d < a->D; d += VL)
            sum[0] = vfma(vload(m->v + d), gate_tanh(step_sum(a, m, query, k, j, d, a->D - d)), sum[0]);
        m->score[j] = scale * vhsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

/* p[j] from the scores; returns the sum of the exponentials or sigmoids. */
FA_FUNC real step_normalize(const fa_steps *a, const real *score, real *p, int64_t first, int64_t last) {
    real top = NEG_INF;
    for (int64_t j = first; j < last; j++) top = score[j] > top ? score[j] : top;
    const vec base = vset1(top == NEG_INF ? (real)0 : top), lowest = vset1(NEG_INF);
    /* Sigmoids that would vanish are exponentials to the last bit, and these need only their distances. */
    const int sigmoid = a->sigmoid && !(top < STEP_LOWEST);
    vec sum = vset1(0);
    for (int64_t j = first; j < last; j += VL) {
        const int64_t n = last - j;
        vec s = vload_or(score + j, n, NEG_INF), e = vexp_soft(s - base);
        if (sigmoid) {
            e = vsigmoid(s);
            ivec none = s == lowest;
            e = (vec)((ivec)e & ~none);
        }
        vstore_n(p + j, e, n);
        sum = sum + e;
    }
    const real total = vhsum(sum);
    const vec inverse = vset1(total == 0 ? (real)0 : 1 / total);
    for (int64_t j = first; j < last; j += VL) vstore_n(p + j, vload_n(p + j, last - j) * inverse, last - j);
    return a->sigmoid && !sigmoid ? total * vexp(vset1(top))[0] : total;
}

/* sum_j weight_j value_j, or half of it, a chain of ascending keys for each column. */
FA_INLINE void step_sum_values(const int half, const fa_steps *a, const real *score, const real *weights,
                               const element *value, int64_t first, int64_t last, real *context) {
    for (int64_t c = 0; c < a->Dv; c += 4 * VL) {
        vec sum[4] = {vset1(0), vset1(0), vset1(0), vset1(0)};
        for (int64_t j = first; j < last; j++) {
            if (score[j] == NEG_INF) continue;
            const element *row = value + j * a->value_strides.row + c;
            const vec w = vset1(half ? weights[j] * (real)0.5 : weights[j]);
            if (c + 4 * VL <= a->Dv)
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) sum[i] = vfma(w, eload(row + i * VL), sum[i]);
            else
                for (int i = 0; c + i * VL < a->Dv; i++)
                    sum[i] = vfma(w, eload_n(row + i * VL, a->Dv - c - i * VL), sum[i]);
        }
        for (int i = 0; i < 4 && c + i * VL < a->Dv; i++) vstore_n(context + c + i * VL, sum[i], a->Dv - c - i * VL);
    }
}

/* A mean of finite values is finite: rounding alone carries it beyond the largest number, where halves of it stay. */
FA_FUNC void step_context(const fa_steps *a, const step_memory *m, const real *weights, const element *value,
                          int64_t first, int64_t last, element *result) {
    const real *score = m->score;
    real *context = row_out(result, m->context);
    step_sum_values(0, a, score, weights, value, first, last, context);
    double sum = 0;
    if (has_nonfinite(context, a->Dv)) {
        for (int64_t j = first; j < last; j++) sum += score[j] == NEG_INF ? 0 : fabs((double)weights[j]);
        if (sum <= 1 + 4 * (double)(last - first) * (double)FA_EPSILON) {
            step_sum_values(1, a, score, weights, value, first, last, context);
            double_bounded(context, a->Dv);
        }
    }
    row_done(result, context, a->Dv);
}

FA_FUNC void steps_forward(const fa_steps *a, int64_t b, void *workspace) {
    step_memory m;
    step_carve(a, &m, workspace);
    step_pack(a, &m);
    const int64_t entry = a->memory_rows ? a->memory_rows[b] : b;
    const element *key = a->key + entry * a->key_strides.batch, *value = a->value + entry * a->value_strides.batch;
    for (int64_t t = 0; t < a->T; t++) {
        const int64_t row = b * a->T + t, at = row * a->S, first = a->first[row], last = a->last[row];
        const element *query = a->query + row * a->D;
        real *p = row_out(a->normalized + at, m.p), *weights = p;
        if (a->weights != a->normalized) weights = row_out(a->weights + at, m.weights);
        memset(weights, 0, (size_t)a->S * sizeof(real));
        if (p != weights) memset(p, 0, (size_t)a->S * sizeof(real));
        if (a->C) step_features(a, &m, a->history + at, first, last);
        step_scores(a, &m, b, query, key, value, first, last);
        a->total[row] = step_normalize(a, m.score, p, first, last);
        if (a->factor)
            for (int64_t j = first; j < last; j++) weights[j] = p[j] * to_real(a->factor[at + j]);
        step_context(a, &m, weights, value, first, last, a->context + row * a->Dv);
        row_done(a->normalized + at, p, a->S);
        if (p != weights) row_done(a->weights + at, weights, a->S);
    }
}
#endif
