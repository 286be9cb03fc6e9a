/* Attention of a decoder's steps that depends on earlier weights, or on a range of keys: what forward.h and backward.h
 * share. For a sample with steps t, keys j in [first_t, last_t) that its mask allows, and h the history of step t:
 *
 *   f_cj    = sum_k filter_ck h_{j + k - (K - 1) / 2}    zero outside [0, S); without filters f_0j = h_j
 *   score_j = scale * score(query, key_j), or with features
 *             scale * sum_d v_d tanh(query_d + key_jd + sum_c f_cj U_cd)
 *   p_j     = softmax_j(score), or sigmoid(score_j) / sum_k sigmoid(score_k)
 *   weight_j = factor_j p_j,   context = sum_j weight_j value_j
 *
 * A key's sums stay in registers. In the backward pass of several features keys pass in blocks of STEP_ROWS, whose sums
 * (rows, D) stay in L1 for the small matrix products with U; the bits of the sums are the same.
 * Every sum runs in an order of its own: over d in four chains, over keys, filters and positions ascending. So neither
 * the batch nor padding changes a bit. Positions that are masked or out of range are not read.
 *
 * Bound for a step forward: S D (C + 24) / VL instructions, of which tanh takes 22, S C K / VL for the filters and
 * 2 S Dv / VL for the context; back 2 S D (C + 8) / VL more, and as much again for filters and context.
 */
#ifndef FA_DECODER_STEPS_INL
#define FA_DECODER_STEPS_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"

#define STEP_ROWS 12

/* One worker's workspace, in parts of whole vectors. */
typedef struct {
    real *v, *u, *u_transposed;  /* the vector; (C, Dp) and (D, Cp) of the features' weights */
    real *history, *features;    /* zeros on both sides; (C, Sp) */
    real *tile, *score;          /* (STEP_ROWS, Dp); Sp */
    real *d_query, *d_v, *d_u;   /* Dp; Dp; (C, Dp) */
    real *d_block, *d_features;  /* (STEP_ROWS, Cp); (C, Sp + 2 K), zeros on both sides */
    real *p, *weights, *context; /* of a step, where outputs cannot hold them: Sp, Sp, Dv */
    int64_t Dp, Sp, Cp, side;    /* side: of a row of d_features */
} step_memory;

FA_INLINE int64_t step_round(int64_t n) { return (n + VL - 1) / VL * VL; }

/* Sets the parts; returns how many reals they are. */
FA_FUNC int64_t step_carve(const fa_steps *a, step_memory *m, real *base) {
    int64_t used = 0;
    m->Dp = step_round(a->D);
    m->Sp = step_round(a->S) + 4 * VL;
    m->Cp = step_round(a->C);
    m->side = m->Sp + 2 * step_round(a->K + 1);
#define FA_PART(name, n)                                                                                               \
    do {                                                                                                               \
        m->name = base ? base + used : NULL;                                                                           \
        used += (n);                                                                                                   \
    } while (0)
    FA_PART(v, m->Dp);
    FA_PART(u, fa_size_mul(a->C, m->Dp));
    FA_PART(u_transposed, fa_size_mul(a->D, m->Cp));
    FA_PART(history, m->side);
    FA_PART(features, fa_size_mul(a->C, m->Sp));
    FA_PART(tile, fa_size_mul(STEP_ROWS, m->Dp));
    FA_PART(score, m->Sp);
    FA_PART(d_query, m->Dp);
    FA_PART(d_v, m->Dp);
    FA_PART(d_u, fa_size_mul(a->C, m->Dp));
    FA_PART(d_block, fa_size_mul(STEP_ROWS, m->Cp));
    FA_PART(d_features, fa_size_mul(a->C, m->side));
    FA_PART(p, FA_IN_PLACE ? 0 : m->Sp);
    FA_PART(weights, FA_IN_PLACE ? 0 : m->Sp);
    FA_PART(context, FA_IN_PLACE ? 0 : step_round(a->Dv));
#undef FA_PART
    return used;
}

FA_FUNC int64_t steps_workspace(const fa_steps *a) {
    step_memory m;
    return fa_size_mul(step_carve(a, &m, NULL), sizeof(real));
}

/* Copies of what all steps read, with zeros up to whole vectors. */
FA_FUNC void step_pack(const fa_steps *a, const step_memory *m) {
    if (!a->vector) return;
    memset(m->v, 0, (size_t)m->Dp * sizeof(real));
    load_row(m->v, a->vector, a->D, 1);
    memset(m->u, 0, (size_t)(a->C * m->Dp) * sizeof(real));
    memset(m->u_transposed, 0, (size_t)(a->D * m->Cp) * sizeof(real));
    for (int64_t c = 0; c < a->C; c++)
        for (int64_t d = 0; d < a->D; d++)
            m->u[c * m->Dp + d] = m->u_transposed[d * m->Cp + c] = to_real(a->feature_weights[c * a->D + d]);
}

/* The features of keys first..last-1 of one step; elements beyond, up to four vectors, are arbitrary numbers. */
FA_FUNC void step_features(const fa_steps *a, const step_memory *m, const element *history, int64_t first,
                           int64_t last) {
    const int64_t left = (a->K - 1) / 2;
    if (a->C == 0) return;
    memset(m->history, 0, (size_t)m->side * sizeof(real));
    load_row(m->history + (a->filters ? left : 0), history, a->S, 1);
    for (int64_t c = 0; c < a->C; c++) {
        const element *filter = a->filters + c * a->K;
        real *f = m->features + c * m->Sp;
        for (int64_t j = first; j < last; j += 4 * VL) {
            const real *h = m->history + j;
            vec sum[4] = {vload(h), vload(h + VL), vload(h + 2 * VL), vload(h + 3 * VL)};
            if (a->filters) {
                for (int i = 0; i < 4; i++) sum[i] = vset1(0);
                for (int64_t k = 0; k < a->K; k++)
#pragma GCC unroll 4
                    for (int i = 0; i < 4; i++) sum[i] = vfma(vset1(to_real(filter[k])), vload(h + k + i * VL), sum[i]);
            }
            for (int i = 0; i < 4; i++) vstore(f + j + i * VL, sum[i]);
        }
    }
}

/* Whether key j of sample b may be read. */
FA_INLINE int step_read(const fa_steps *a, int64_t b, int64_t j) { return !a->mask || a->mask[b * a->S + j]; }

/* VL elements from d of query + key_j + sum_c f_cj U_c, c ascending; beyond D zeros and the part of the features. */
FA_INLINE vec step_sum(const fa_steps *a, const step_memory *m, const element *query, const element *key, int64_t j,
                       int64_t d, int64_t n) {
    vec x = eload_n(query + d, n) + eload_n(key + d, n);
    for (int64_t c = 0; c < a->C; c++) x = vfma(vset1(m->features[c * m->Sp + j]), vload(m->u + c * m->Dp + d), x);
    return x;
}

/* tile[r] = query + key_{j + r} + features' part for the rows that are marked, zeros and that part for others. */
FA_FUNC void step_sums(const fa_steps *a, const step_memory *m, const element *query, const element *key, int64_t j,
                       int rows, const uint8_t *marked) {
    for (int r = 0; r < rows; r++) {
        real *row = m->tile + r * m->Dp;
        const element *k = key + (j + r) * a->key_strides.row;
        for (int64_t d = 0; d < a->D; d += VL) {
            const int64_t n = a->D - d;
            vstore(row + d, marked[r] ? eload_n(query + d, n) + eload_n(k + d, n) : vset1(0));
        }
    }
    micro_gemm(MICRO_CONTINUE, rows, a->D, m->features + j, 1, m->Sp, m->u, m->Dp, m->tile, m->Dp, a->C);
}
#endif
