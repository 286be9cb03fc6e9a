/* Additive scores of one tile of queries against one panel of keys (additive.h has the formula and the bound). */
#ifndef FA_ATTENTION_SCORES_ADDITIVE_TILE_INL
#define FA_ATTENTION_SCORES_ADDITIVE_TILE_INL
#include "../../vec/vec.h"
#include "../../kernels.h"
#include "../../vec/math.h"
#include "additive.inl"
#include "kernel.h"

FA_INLINE void additive_tile_body(const int rows, const int activation, const int capped, const int estimates,
                                  const real *q, int64_t ldq, const real *k, const score_form *f, int64_t D4, real *S,
                                  int64_t lds, real scale, fa_ahead *ahead, int64_t asked) {
    const int exact_tanh = activation == FA_TANH && !estimates;
    const real *v = estimates ? f->inverse : f->v;
    vec acc[MR];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) acc[r] = vset1(0);
    if (activation == FA_RELU) {
        for (int64_t t = 0; t < D4; t++) {
            vec kt = vload(k + t * PW), vt = vset1(v[t]);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) acc[r] = vfma(vt, vmax(vset1(0), vset1(q[r * ldq + t]) + kt), acc[r]);
        }
    } else {
        const vec one = vset1(1), cap = vset1(FA_ADDITIVE_CAP);
        for (int64_t t = 0; t < D4; t += 4) {
            vec kt[4], vt[4];
            if (ahead) fa_ask(ahead, asked);
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                kt[c] = vload(k + (t + c) * PW);
                vt[c] = vset1(v[t + c]);
            }
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const real *e = q + r * ldq + t, *ve = e + D4;
                vec n[4], d[4];
#pragma GCC unroll 4
                for (int c = 0; c < 4; c++) {
                    if (estimates) { /* X, and no numerators */
                        d[c] = vfma(vset1(ve[c]), kt[c], vt[c]);
                        if (capped) d[c] = vwithin(d[c], cap);
                        continue;
                    }
                    d[c] = vfma(vset1(e[c]), kt[c], one);
                    n[c] = exact_tanh ? vfma_once(vset1(ve[c]), kt[c], -vt[c]) : vt[c];
                    if (capped) {
                        if (exact_tanh) n[c] = vselect_lt(d[c], cap, n[c], vt[c] * cap);
                        d[c] = vmin(cap, d[c]);
                    }
                }
                const vec n01 = estimates ? d[0] + d[1] : vfma(n[0], d[1], n[1] * d[0]);
                const vec n23 = estimates ? d[2] + d[3] : vfma(n[2], d[3], n[3] * d[2]);
                const vec d01 = d[0] * d[1], d23 = d[2] * d[3];
                const vec n0123 = vfma(n01, d23, n23 * d01);
                acc[r] = estimates ? vfma(n0123, vreciprocal(d01 * d23), acc[r]) : acc[r] + n0123 / (d01 * d23);
            }
        }
    }
    const vec k_correction = vload(k + D4 * PW);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        vec s = acc[r];
        if (exact_tanh) s = (s + vset1(q[r * ldq + 2 * D4])) + k_correction;
        if (activation == FA_TANH && estimates) s = vfma(vset1(-2 * f->unit), s, vset1(f->v_sum));
        if (activation == FA_SIGMOID && estimates) s = s * vset1(f->unit);
        vstore(S + r * lds, s * vset1(scale));
    }
}

#define FA_TILE(R, ACTIVATION, CAPPED, ESTIMATES)                                                                      \
    additive_tile_body(R, ACTIVATION, CAPPED, ESTIMATES, q, ldq, k, f, D4, s, lds, scale, ahead, asked)
#define FA_ROWS(R)                                                                                                     \
    case R:                                                                                                            \
        if (activation == FA_RELU)                                                                                     \
            FA_TILE(R, FA_RELU, 0, 0);                                                                                 \
        else if (estimates && activation == FA_TANH && capped)                                                         \
            FA_TILE(R, FA_TANH, 1, 1);                                                                                 \
        else if (estimates && activation == FA_TANH)                                                                   \
            FA_TILE(R, FA_TANH, 0, 1);                                                                                 \
        else if (estimates)                                                                                            \
            FA_TILE(R, FA_SIGMOID, 1, 1);                                                                              \
        else if (activation == FA_TANH && capped)                                                                      \
            FA_TILE(R, FA_TANH, 1, 0);                                                                                 \
        else if (activation == FA_TANH)                                                                                \
            FA_TILE(R, FA_TANH, 0, 0);                                                                                 \
        else                                                                                                           \
            FA_TILE(R, FA_SIGMOID, 1, 0);                                                                              \
        break;
/* S[r][j] = scale * score for the first n keys of one panel (rounded up to whole vectors). capped = 0 where no row
 * and no key is flagged: the cap would change nothing. */
FA_FUNC void additive_tile(int rows, int capped, const score_form *f, const real *q, int64_t ldq, const real *panel,
                           int64_t D4, int64_t n, real scale, real *S, int64_t lds, fa_ahead *ahead, int64_t asked) {
    const int activation = f->activation, estimates = f->estimates;
    for (int64_t j = 0; j < n; j += VL) {
        const real *k = panel + j;
        real *s = S + j;
        switch (rows) {
            FA_ROWS(1)
            FA_ROWS(2)
            FA_ROWS(3)
            FA_ROWS(4)
            FA_ROWS(5)
            FA_ROWS(6)
        }
    }
}
#undef FA_ROWS
#undef FA_TILE

/* One score by the activation itself, for rows and keys out of the factored range. */
FA_FUNC real additive_direct(const score_form *f, const element *q, const element *k) {
    const int activation = f->activation;
    const int64_t D = f->D;
    vec acc = vset1(0);
    for (int64_t t = 0; t < D; t += VL) {
        vec x = eload_n(q + t, D - t) + eload_n(k + t, D - t);
        vec y = activation == FA_TANH ? vtanh(x) : activation == FA_SIGMOID ? vsigmoid(x) : vmax(vset1(0), x);
        acc = vfma(vload_n(f->v + t, D - t), y, acc);
    }
    return vhsum(acc);
}
#endif
