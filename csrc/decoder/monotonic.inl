/* One step of monotonic attention (Raffel et al. 2017), or of monotonic chunkwise attention (Chiu, Raffel 2018).
 *
 *   e_j = v . tanh(query + key_j) + r + noise_j      p_j = sigmoid(e_j), 0 where the mask forbids
 *   q_j = (1 - p_{j-1}) q_{j-1} + previous_j         a_j = p_j q_j,   and without chunks weight_j = a_j
 *   u_j = v' . tanh(query' + key'_j)                 weight_j = sum_{k=j}^{j+w-1} a_k exp(u_j) / Z_k
 *                                                    Z_k = sum_{l=k-w+1}^k exp(u_l)
 *   back, from da_j:   dq_j = p_j da_j + (1 - p_j) dq_{j+1} = d previous_j
 *                      de_j = p_j (1 - p_j) q_j (da_j - dq_{j+1})
 *   hard: the first j from start on with e_j > 0, and softmax(u) over the w keys up to it; no such key: nothing.
 *
 * No term of the scan is negative and 1 - p_j is sigmoid(-e_j): a_j has a relative error of O(j) roundings, whatever
 * the energies, so that it needs neither logarithms nor the quotient of a cumulative sum and product, which fails.
 * Exponentials of a chunk are relative to its own largest energy.
 *
 *   query (B, D), previous (B, S), energy and chunk_energy (B, S), alignment: a, weights (B, S), context (B, Dv),
 *   seeds (B): contiguous; keys and values by strides, entry memory_rows[b] or b. Sums that are added to have B first.
 *
 * Soft steps read keys that are packed as exponentials (attention/scores/additive.inl), a hard one the few rows that it
 * passes: T steps over S keys T + S rows of keys, and T rows of values, in all.
 *
 * One pass over the keys and one over the values. Bound for a step: 3 S D / VL cycles, S Dv / VL for the context,
 * 45 S / VL instructions for sigmoids, 4 S cycles for the scan (one chain of fused multiply-adds); a chunk 3 S D / VL
 * and 45 w S / VL more. Back 24 S D / VL instructions and 2 S Dv / VL. Bytes: S (D + Dv) elements, back S (3 D + Dv):
 * for S 100, D and Dv 256 and float32 200 KB a sample, twice that back: 32 samples run at the speed of L3 or memory.
 */
#ifndef FA_DECODER_MONOTONIC_INL
#define FA_DECODER_MONOTONIC_INL
#include <math.h>
#include "../sizes.h"
#include "../dropout.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"
#include "../attention/rows.inl"
#include "../attention/query_gradient.inl"
#include "steps.inl"
#include "steps_forward.inl"
#include "steps_backward.inl"

/* One worker's workspace: rows of S elements, with room for a chunk and a vector on both sides. */
typedef struct {
    fa_steps align, chunk; /* of each energy, what the functions for steps ask for */
    step_memory m;
    real *p, *stay, *q, *a, *d_weight, *d_align, *u, *top, *inverse;
    real *v, *packed; /* the vector up to a multiple of four; additive_query_width */
} chunk_memory;

FA_FUNC int64_t monotonic_carve(const fa_monotonic *a, chunk_memory *w, real *base) {
    const fa_steps both = {.B = a->B,
                           .T = 1,
                           .S = a->S,
                           .D = a->D,
                           .Dv = a->Dv,
                           .score = FA_SCORE_ADDITIVE,
                           .scale = 1,
                           .value_strides = a->value_strides,
                           .mask = a->mask};
    w->align = w->chunk = both;
    w->align.vector = a->vector;
    w->align.key_strides = a->key_strides;
    w->chunk.vector = a->chunk_vector;
    w->chunk.key_strides = a->chunk_key_strides;
    int64_t used = step_carve(&both, &w->m, base);
    const int64_t side = step_round(a->chunk) + VL, row = step_round(a->S) + 2 * side;
    real **parts[] = {&w->p, &w->stay, &w->q, &w->a, &w->d_weight, &w->d_align, &w->u, &w->top, &w->inverse};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i] = base ? base + used + side : NULL;
        used += row;
    }
    w->v = base ? base + used : NULL;
    used += step_round(a->D + 4);
    w->packed = base ? base + used : NULL;
    return used + step_round(additive_query_width(a->D));
}

FA_FUNC int64_t monotonic_workspace(const fa_monotonic *a) {
    chunk_memory w;
    return fa_size_mul(monotonic_carve(a, &w, NULL), sizeof(real));
}

/* A normal deviate of (seed, step, key) by Box and Muller's formula; a hash of dropout that no dropout has. */
FA_FUNC real monotonic_noise(const fa_monotonic *a, int64_t b, int64_t j) {
    const uint64_t key = fa_row_key(a->seeds[b], -2, a->step);
    const double u = fa_key_uniform(key, (uint32_t)(2 * j));
    const double angle = (double)fa_key_hash(key, (uint32_t)(2 * j + 1)) * (0x1p-31 * 3.14159265358979323846);
    return (real)(a->noise * sqrt(-2 * log(u)) * cos(angle));
}

/* Scores of all keys from their packed exponentials, in m->score, -inf where the mask forbids. */
FA_FUNC void monotonic_scores(const fa_steps *s, const chunk_memory *w, int64_t b, const element *queries,
                              const element *key, const real *panel, int64_t last) {
    const int64_t D = s->D, D4 = (D + 3) / 4 * 4;
    const element *query = queries + b * D;
    uint8_t flag = 0;
    const score_form form = {.activation = FA_TANH, .D = D, .vector = s->vector, .v = w->v};
    score_vector(s->vector, D, w->v, D4);
    additive_pack_query(&form, query, w->packed, &flag, NULL);
    for (int64_t j0 = 0; j0 < last; j0 += PW, panel += panel_stride(FA_SCORE_ADDITIVE, D)) {
        const int64_t n = last - j0 < PW ? last - j0 : PW;
        const uint8_t *flags = (const uint8_t *)(panel + (D4 + 1) * PW);
        int any = flag;
        for (int64_t j = 0; j < n; j++) any |= flags[j];
        additive_tile(1, any, &form, w->packed, 0, panel, D4, n, 1, w->m.score + j0, 0, NULL, 0);
        for (int64_t j = 0; j < n; j++) {
            real *score = w->m.score + j0 + j;
            if (!step_read(s, b, j0 + j))
                *score = NEG_INF;
            else if ((flag | flags[j]) & FA_DIRECT)
                *score = additive_direct(&form, query, key + (j0 + j) * s->key_strides.row);
        }
    }
}

/* e of keys first..last-1 from their scores. */
FA_FUNC void monotonic_energies(const fa_monotonic *a, const chunk_memory *w, int64_t b, int64_t first, int64_t last,
                                real *energy) {
    const real offset = to_real(*a->offset);
    for (int64_t j = first; j < last; j++) energy[j] = w->m.score[j] + offset;
    if (a->seeds)
        for (int64_t j = first; j < last; j++)
            if (step_read(&w->align, b, j)) energy[j] += monotonic_noise(a, b, j);
}

/* p, 1 - p, q and a from the energies. */
FA_FUNC void monotonic_scan(const chunk_memory *w, const real *energy, const element *previous, int64_t last) {
    for (int64_t j = 0; j < last; j += VL) {
        const vec e = vload_or(energy + j, last - j, NEG_INF);
        vstore(w->p + j, vsigmoid(e));
        vstore(w->stay + j, vsigmoid(-e));
    }
    real q = 0, stay = 0;
    for (int64_t j = 0; j < last; j++) {
        q = stay * q + to_real(previous[j]);
        stay = w->stay[j];
        w->q[j] = q;
    }
    for (int64_t j = 0; j < last; j += VL) vstore(w->a + j, vload(w->p + j) * vload_n(w->q + j, last - j));
}

/* de in m->score, and d_previous, from da. */
FA_FUNC void monotonic_scan_back(const chunk_memory *w, const real *d_align, real *d_previous, int64_t last) {
    real later = 0;
    for (int64_t j = last - 1; j >= 0; j--) {
        w->m.score[j] = w->p[j] * w->stay[j] * (w->q[j] * (d_align[j] - later));
        later = w->stay[j] * later + w->p[j] * d_align[j];
        d_previous[j] = later;
    }
}

/* u between sides of -inf, the largest of each window that ends at k and the inverse of its sum; +inf and 0 behind. */
FA_FUNC void monotonic_windows(const fa_monotonic *a, const chunk_memory *w, const real *chunk_energy, int64_t last) {
    const int64_t side = step_round(a->chunk), end = step_round(last);
    for (int64_t j = 0; j < side; j++) w->u[j - side] = NEG_INF;
    for (int64_t j = 0; j < end; j++) w->u[j] = j < last ? chunk_energy[j] : NEG_INF;
    for (int64_t j = last; j < end + side; j++) {
        w->top[j] = (real)INFINITY;
        w->inverse[j] = w->a[j] = w->d_align[j] = 0;
    }
    const vec lowest = vset1(NEG_INF), zero = vset1(0);
    for (int64_t k = 0; k < last; k += VL) {
        vec top = lowest, sum = zero;
        for (int64_t o = 0; o < a->chunk; o++) top = vmax(top, vload(w->u + k - o));
        const vec base = (vec)((ivec)top & ~(ivec)(top == lowest)); /* nothing to read: any base does */
        for (int64_t o = 0; o < a->chunk; o++) sum = sum + vexp_soft(vload(w->u + k - o) - base);
        vstore_n(w->top + k, base, last - k);
        vstore_n(w->inverse + k, vselect_lt(zero, sum, vset1(1) / sum, zero), last - k);
    }
}

FA_FUNC void monotonic_chunks(const fa_monotonic *a, const chunk_memory *w, real *weights, int64_t last) {
    for (int64_t j = 0; j < last; j += VL) {
        const vec u = vload(w->u + j);
        vec sum = vset1(0);
        for (int64_t k = j; k < j + a->chunk; k++)
            sum = vfma(vload(w->a + k) * vload(w->inverse + k), vexp_soft(u - vload(w->top + k)), sum);
        vstore_n(weights + j, sum, last - j);
    }
}

/* da in d_align, which is the mean of d_weight over each window, and du in m->score. */
FA_FUNC void monotonic_chunks_back(const fa_monotonic *a, const chunk_memory *w, int64_t last) {
    const int64_t side = step_round(a->chunk);
    for (int64_t j = 0; j < side; j++) w->d_weight[j - side] = 0;
    for (int64_t j = last; j < step_round(last); j++) w->d_weight[j] = 0;
    for (int64_t k = 0; k < last; k += VL) {
        const vec top = vload(w->top + k);
        vec sum = vset1(0);
        for (int64_t o = 0; o < a->chunk; o++)
            sum = vfma(vload(w->d_weight + k - o), vexp_soft(vload(w->u + k - o) - top), sum);
        vstore_n(w->d_align + k, sum * vload(w->inverse + k), last - k);
    }
    for (int64_t j = 0; j < last; j += VL) {
        const vec u = vload(w->u + j), d = vload(w->d_weight + j);
        vec sum = vset1(0);
        for (int64_t k = j; k < j + a->chunk; k++) {
            const vec share = vload(w->a + k) * vload(w->inverse + k) * vexp_soft(u - vload(w->top + k));
            sum = vfma(share, d - vload(w->d_align + k), sum);
        }
        vstore_n(w->m.score + j, sum, last - j);
    }
}

FA_FUNC void monotonic_hard(const fa_monotonic *a, chunk_memory *w, int64_t b, const element *key,
                            const element *chunk_key, const element *value, real *weights, element *context) {
    const int64_t last = a->lengths[b];
    int64_t j = a->start[b];
    for (; j < last; j++) {
        if (!step_read(&w->align, b, j)) continue;
        step_scores(&w->align, &w->m, b, a->query + b * a->D, key, value, j, j + 1);
        monotonic_energies(a, w, b, j, j + 1, w->q);
        if (w->q[j] > 0) break;
    }
    a->found[b] = j < last ? j : last;
    if (j >= last) {
        memset(context, 0, (size_t)a->Dv * sizeof(element));
        return;
    }
    int64_t first = j;
    if (a->chunk) {
        first = j + 1 > a->chunk ? j + 1 - a->chunk : 0;
        step_pack(&w->chunk, &w->m);
        step_scores(&w->chunk, &w->m, b, a->chunk_query + b * a->D, chunk_key, value, first, j + 1);
        step_normalize(&w->chunk, w->m.score, weights, first, j + 1);
    } else {
        weights[j] = 1;
    }
    step_context(&w->chunk, &w->m, weights, value, first, j + 1, context);
}

FA_FUNC void monotonic_forward(const fa_monotonic *a, int64_t b, void *workspace) {
    chunk_memory w;
    monotonic_carve(a, &w, workspace);
    const int64_t entry = a->memory_rows ? a->memory_rows[b] : b, at = b * a->S, last = a->lengths[b];
    const element *key = a->key + entry * a->key_strides.batch;
    const element *chunk_key = a->chunk ? a->chunk_key + entry * a->chunk_key_strides.batch : NULL;
    const element *value = a->value + entry * a->value_strides.batch;
    element *context = a->context + b * a->Dv;
    real *weights = row_out(a->weights + at, w.d_weight);
    memset(weights, 0, (size_t)a->S * sizeof(real));
    if (a->hard) {
        step_pack(&w.align, &w.m);
        monotonic_hard(a, &w, b, key, chunk_key, value, weights, context);
        row_done(a->weights + at, weights, a->S);
        return;
    }
    real *energy = row_out(a->energy + at, w.u);
    const real *panels = a->panels + entry * a->panels_batch;
    monotonic_scores(&w.align, &w, b, a->query, key, panels, last);
    monotonic_energies(a, &w, b, 0, last, energy);
    row_done(a->energy + at, energy, last);
    monotonic_scan(&w, energy, a->previous + at, last);
    memcpy(weights, w.a, (size_t)last * sizeof(real));
    if (a->chunk) {
        memset(a->alignment + at, 0, (size_t)a->S * sizeof(element));
        store_row(a->alignment + at, w.a, last);
        const real *chunk_panels = a->chunk_panels + entry * a->panels_batch;
        monotonic_scores(&w.chunk, &w, b, a->chunk_query, chunk_key, chunk_panels, last);
        store_row(a->chunk_energy + at, w.m.score, last);
        monotonic_windows(a, &w, w.m.score, last);
        monotonic_chunks(a, &w, weights, last);
    }
    step_context(&w.align, &w.m, weights, value, 0, last, context);
    row_done(a->weights + at, weights, a->S);
}

/* From the gradients of energies in m->score to those of query, keys and vector. */
FA_FUNC void monotonic_energies_back(const fa_steps *s, const chunk_memory *w, int64_t b, const element *query,
                                     const element *key, element *d_query, real *d_key, real *d_vector, int64_t last) {
    step_pack(s, &w->m);
    memset(w->m.d_query, 0, (size_t)w->m.Dp * sizeof(real));
    memset(w->m.d_v, 0, (size_t)w->m.Dp * sizeof(real));
    step_back_additive(s, &w->m, query + b * s->D, key, d_key + b * s->S * s->D, 0, last);
    store_row(d_query + b * s->D, w->m.d_query, s->D);
    step_add(d_vector + b * s->D, w->m.d_v, s->D);
}

/* d_weight, or less of it; returns whether it is finite. */
FA_FUNC int monotonic_weight_gradients(const int lessened, const fa_monotonic *a, const chunk_memory *w, int64_t b,
                                       const element *value, const element *d_context, int64_t last) {
    const element *d_weights = a->d_weights ? a->d_weights + b * a->S : NULL;
    for (int64_t j = 0; j < last; j++) {
        w->d_weight[j] = 0;
        if (!step_read(&w->align, b, j)) continue;
        w->d_weight[j] = weight_gradient(lessened, d_context, value + j * a->value_strides.row, a->Dv,
                                         d_weights ? d_weights + j : NULL);
    }
    return !has_nonfinite(w->d_weight, last);
}

FA_FUNC void monotonic_backward(const fa_monotonic *a, int64_t b, void *workspace) {
    chunk_memory w;
    monotonic_carve(a, &w, workspace);
    const int64_t at = b * a->S, last = a->lengths[b];
    const element *value = a->value + b * a->value_strides.batch, *d_context = a->d_context + b * a->Dv;
    monotonic_scan(&w, row_in(a->energy + at, w.u, last), a->previous + at, last);
    const int lessened = !monotonic_weight_gradients(0, a, &w, b, value, d_context, last);
    if (lessened) monotonic_weight_gradients(1, a, &w, b, value, d_context, last);
    real *d_align = w.d_weight;
    if (a->chunk) {
        const element *chunk_key = a->chunk_key + b * a->chunk_key_strides.batch;
        monotonic_windows(a, &w, row_in(a->chunk_energy + at, w.u, last), last);
        monotonic_chunks_back(a, &w, last);
        for (int64_t j = 0; lessened && j < last; j++) w.m.score[j] = whole(w.m.score[j]);
        monotonic_energies_back(&w.chunk, &w, b, a->chunk_query, chunk_key, a->d_chunk_query, a->d_chunk_key,
                                a->d_chunk_vector, last);
        d_align = w.d_align;
    }
    if (a->d_alignment)
        for (int64_t j = 0; j < last; j++) {
            const real d = to_real(a->d_alignment[at + j]);
            d_align[j] += lessened ? less(d) : d;
        }
    real *d_previous = row_out(a->d_previous + at, w.u);
    memset(d_previous, 0, (size_t)a->S * sizeof(real));
    monotonic_scan_back(&w, d_align, d_previous, last);
    for (int64_t j = 0; lessened && j < last; j++) {
        w.m.score[j] = whole(w.m.score[j]);
        d_previous[j] = whole(d_previous[j]);
    }
    real sum = 0;
    for (int64_t j = 0; j < last; j++) sum += w.m.score[j];
    a->d_offset[b] += sum;
    row_done(a->d_previous + at, d_previous, a->S);
    monotonic_energies_back(&w.align, &w, b, a->query, a->key + b * a->key_strides.batch, a->d_query, a->d_key,
                            a->d_vector, last);
}
#endif
