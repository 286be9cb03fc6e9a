/* Weights of one row of scores by alpha-entmax (Peters, Niculae, Martins 2019, eq. 3), 1 <= alpha <= 2:
 *
 *   p_j = y_j^(1 / e),   y_j = [1 + e (z_j - max z - t)]+,   e = alpha - 1,   t such that sum_j p_j = 1
 *
 * alpha = 2 is sparsemax (Martins, Astudillo 2016), alpha = 1 softmax: p_j = exp(z_j - max z - t).
 *
 *   1. the row's maximum
 *   2. candidates: since t >= 0, only z_j > max z - 1 / e can have a weight; they are packed together, in float64
 *   3. the threshold over the candidates alone:
 *      alpha = 2    t from the mean of those left, which drops some, until none is dropped (Michelot 1986): exact
 *      alpha = 1.5  t from the quadratic of those left when all of them stay above it: exact; else a Newton step
 *      other        Newton steps until t stands still, then division by the sum
 *      Newton's steps are taken on |y|_(1/e) - 1, which is convex and falls: t comes from below and drops no weight.
 *   4. weights and y of those above the threshold, with their keys, ascending
 *
 * What is -inf, NaN-free rows apart, is as if it were not there: sums run over the packed candidates, so that bits
 * depend neither on padding nor on where a key stands. A row with a NaN, or +inf, has NaN for all its weights.
 *
 * Bound: two passes of a load, and about 3 operations, for a vector of scores; about 4 operations for each candidate
 * and round, 3 to 6 rounds; other alpha: a logarithm and an exponential, about 40 ns, for each candidate and round.
 */
#ifndef FA_ATTENTION_NORMALIZERS_ENTMAX_INL
#define FA_ATTENTION_NORMALIZERS_ENTMAX_INL
#include "../../vec/vec.h"

#define FA_ENTMAX_ROUNDS 64 /* never reached in tests, which need at most 12 */

/* The weights of a row that are not 0: n keys, ascending, p and y of each. Room for a whole row, rounded up. */
typedef struct {
    int32_t *key;
    double *p, *y;
    real *packed;
    int64_t n;
} sparse_row;

/* Lays a row of up to `columns` weights out at `workspace`; returns what follows. */
FA_FUNC char *sparse_row_layout(sparse_row *row, int64_t columns, char *workspace) {
    const int64_t room = (columns + 63) / 64 * 64 + 64;
    row->p = (double *)workspace;
    row->y = row->p + room;
    row->packed = (real *)(row->y + room);
    row->key = (int32_t *)(row->packed + room);
    row->n = 0;
    return (char *)(row->key + room);
}

/* Largest of S[first..last), whole vectors; NaN is passed over. */
FA_INLINE real entmax_max(const real *S, int64_t first, int64_t last) {
    vec a = vset1(NEG_INF), b = a;
    int64_t j = first;
    for (; j + 2 * VL <= last; j += 2 * VL) {
        a = vmax(vload(S + j), a);
        b = vmax(vload(S + j + VL), b);
    }
    if (j < last) a = vmax(vload(S + j), a);
    return vhmax(vmax(a, b));
}

/* Step 2: y[0..n) = factor * (z_j - max z) of the candidates, -inf from there to whole blocks of 2 DL. Returns 0 if
 * one of them is NaN. */
FA_FUNC int entmax_candidates(sparse_row *row, const real *S, int64_t first, int64_t last, real top, real limit,
                              double factor) {
    const vec base = vset1(top), least = vset1(limit);
    int64_t n = 0, j = first;
    for (; j + 4 * VL <= last; j += 4 * VL) {
        vec d[4];
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) d[c] = vload(S + j + c * VL) - base;
        if (vnone_above(d, least)) continue; /* a branch for each vector is often mispredicted: 100 cycles a row */
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) n = vpack_above(row->packed, row->key, n, d[c], limit, j + c * VL);
    }
    for (; j < last; j += VL) n = vpack_above(row->packed, row->key, n, vload(S + j) - base, limit, j);
    row->n = n;
    int bad = 0;
    for (int64_t i = 0; i < n; i++) {
        bad |= row->packed[i] != row->packed[i];
        row->y[i] = (double)row->packed[i] * factor;
    }
    for (int64_t i = n; i < (n + 2 * DL - 1) / (2 * DL) * (2 * DL); i++) row->y[i] = -INFINITY;
    return !bad;
}

/* Every key that is not masked gets a weight of NaN. */
FA_FUNC void entmax_all_nan(sparse_row *row, const real *S, int64_t first, int64_t last) {
    int64_t n = 0;
    for (int64_t j = first; j < last; j++) {
        if (S[j] == NEG_INF) continue;
        row->key[n] = (int32_t)j;
        row->p[n] = row->y[n] = NAN;
        n++;
    }
    row->n = n;
}

FA_FUNC double sparsemax_threshold(const double *x, int64_t n) {
    double t = -1;
    int64_t before = 0;
    for (;;) {
        dvec sum[2] = {{0}};
        const dvec limit = dset1(t);
        int64_t left = 0;
        for (int64_t i = 0; i < n; i += 2 * DL) {
            sum[0] += dabove(dload(x + i), limit, &left);
            sum[1] += dabove(dload(x + i + DL), limit, &left);
        }
        if (left == before) return t;
        const double next = (dsum(sum[0] + sum[1]) - 1) / (double)left;
        t = next > t ? next : t; /* else by rounding: those dropped stay dropped */
        before = left;
    }
}

FA_FUNC double entmax15_threshold(const double *x, int64_t n) {
    double t = -1;
    int exact = 0;
    for (int round = 0; round < FA_ENTMAX_ROUNDS; round++) {
        dvec sum[2] = {{0}}, square[2] = {{0}};
        const dvec limit = dset1(t), zero = dset1(0);
        int64_t left = 0, over = 0;
        for (int64_t i = 0; i < n; i += 2 * DL)
#pragma GCC unroll 2
            for (int c = 0; c < 2; c++) {
                const dvec a = dabove(dload(x + i + c * DL) - limit, zero, &left);
                sum[c] += a;
                square[c] += a * a;
            }
        const double s1 = dsum(sum[0] + sum[1]), s2 = dsum(square[0] + square[1]);
        const double root = s1 * s1 - (double)left * (s2 - 1);
        if (root >= 0) {
            const double step = (s2 - 1) / (s1 + sqrt(root));
            const dvec next = dset1(t + step);
            for (int64_t i = 0; i < n; i += DL) (void)dabove(dload(x + i), next, &over);
            if (over == left) {
                t += step;
                if (exact) return t;
                exact = 1; /* once more from there, where the root does not cancel */
                continue;
            }
        }
        const double norm = sqrt(s2), next = t + (norm - 1) * norm / s1;
        if (!(next > t)) break;
        t = next;
    }
    return t;
}

/* Drops candidates as t passes them; leaves p and y of those that stay, before division by the sum, which it
 * returns. */
FA_FUNC double entmax_threshold(sparse_row *row, double e) {
    double t = 0, total = 0;
    int last = 0;
    for (int round = 0; round < FA_ENTMAX_ROUNDS; round++) {
        double slope = 0;
        int64_t n = 0;
        total = 0;
        for (int64_t i = 0; i < row->n; i++) {
            const double d = row->packed[i], u = d - t, v = e * u;
            if (v <= -1) continue;
            const double p = exp(e == 0 ? u : log1p(v) / e), y = 1 + v;
            row->packed[n] = row->packed[i];
            row->key[n] = row->key[i];
            row->p[n] = p;
            row->y[n++] = y;
            total += p;
            slope += p / y;
        }
        row->n = n;
        if (last) break;
        const double size = log(total), step = (e == 0 ? size : -expm1(-e * size) / e) * (total / slope);
        last = !(step > 1e-14 * (1 + t)) || round == FA_ENTMAX_ROUNDS - 2;
        if (step > 0) t += step;
    }
    return total;
}

/* The weights of S[lo..hi), whose vectors are whole: lanes before lo and from hi on hold -inf. */
FA_FUNC void entmax_row(double alpha, const real *S, int64_t lo, int64_t hi, sparse_row *row) {
    const int64_t first = lo / VL * VL, last = (hi + VL - 1) / VL * VL;
    const real top = entmax_max(S, first, last);
    const double e = alpha - 1;
    row->n = 0;
    if (lo >= hi) return;
    if (top == NEG_INF || !entmax_candidates(row, S, first, last, top, (real)(-1 / e), alpha == 1.5 ? 0.5 : 1)) {
        entmax_all_nan(row, S, first, last); /* of keys that are not masked: none in an empty row */
        return;
    }
    const int quadratic = alpha == 1.5;
    int64_t n = 0;
    if (quadratic || alpha == 2) {
        const double t = quadratic ? entmax15_threshold(row->y, row->n) : sparsemax_threshold(row->y, row->n);
        for (int64_t i = 0; i < row->n; i++) {
            const double y = row->y[i] - t, p = quadratic ? y * y : y;
            row->key[n] = row->key[i];
            row->p[n] = p;
            row->y[n] = y;
            n += y > 0 && p >= FA_SMALLEST;
        }
    } else {
        const double inverse = 1 / entmax_threshold(row, e);
        for (int64_t i = 0; i < row->n; i++) {
            const double p = row->p[i] * inverse;
            row->key[n] = row->key[i];
            row->p[n] = p;
            row->y[n] = row->y[i];
            n += p >= FA_SMALLEST;
        }
    }
    row->n = n;
}
#endif
