/* Additive scores (Bahdanau, Cho, Bengio 2015, eq. in appendix A.1.2; Luong's concat has the same form).
 *
 *   score_ij = sum_h v_h act(q_ih + k_jh),   act = tanh, sigmoid or relu
 *
 * tanh and sigmoid need no function per pair: with E = e^(a q) e^(a k) and r = 1 / (1 + E),
 *   tanh(x)    = 1 - 2 r        (a =  2)     tanh'    = 4 (r - r^2)
 *   sigmoid(x) = r              (a = -1)     sigmoid' =    r - r^2
 * so the exponentials are O((Tq + Tk) D) and a pair costs one multiply-add, the sum of v_h r_h and a share of a division.
 *
 * Forward. Four features share one division:  v1/a1 + v2/a2 = (v1 a2 + v2 a1) / (a1 a2), the same once more, then
 * divide: 17 operations and one division for 4 features. a_h = 1 + E_h is capped at 2^30 (float64: 2^250) so that the
 * product of four is finite; that moves r by less than 2^-30, far below the rounding of 1 - 2 r.
 * Backward. Each r of four is needed: invert the product of the four, then multiply back (Montgomery 1987).
 * A score depends on q_i and k_j alone, never on neighbours, so bits do not depend on tiles, padding or batch.
 *
 * Range: e^(a q) must be finite and normal. A row or a key with some |a x| > 86 (float64: 700), or with a NaN, is
 * flagged when it is packed; scores of flagged rows and keys are evaluated directly (additive_direct). relu always
 * works on the sums themselves.
 *
 * Bound, per vector of pairs: 17 operations + 1 division for 4 features = 8.5 cycles on two 512-bit units, 2.1 a feature.
 */
#define additive_factor FN(additive_factor)
#define additive_pack_rows FN(additive_pack_rows)
#define additive_flag FN(additive_flag)
#define additive_tile_body FN(additive_tile_body)
#define additive_tile FN(additive_tile)
#define additive_direct FN(additive_direct)
#define additive_backward FN(additive_backward)
#define additive_backward_direct FN(additive_backward_direct)
#define additive_vector FN(additive_vector)

#undef FA_ADDITIVE_LIMIT
#undef FA_ADDITIVE_CAP
#if FA_BITS == 32
#define FA_ADDITIVE_LIMIT 86.0f
#define FA_ADDITIVE_CAP 1073741824.0f
#else
#define FA_ADDITIVE_LIMIT 700.0
#define FA_ADDITIVE_CAP 1.8092513943330656e75 /* 2^250 */
#endif

/* a in e^(a x); relu is marked by 0. */
FA_INLINE real additive_factor(int activation) {
    return activation == FA_TANH ? (real)2 : activation == FA_SIGMOID ? (real)-1 : (real)0;
}

/* dst[i][t] = e^(a x), or x itself for relu and 1 on flagged rows; columns D..ld-1 are zero. flags[i] = 1: direct. */
FA_FUNC void additive_pack_rows(int activation, const real *src, int64_t stride, int64_t n, int64_t D, real *dst,
                                int64_t ld, uint8_t *flags) {
    const real a = additive_factor(activation);
    for (int64_t i = 0; i < n; i++) {
        const real *x = src + i * stride;
        real *y = dst + i * ld;
        vec out_of_range = vset1(0);
        for (int64_t t = 0; t < D; t += VL) {
            vec s = vload_n(x + t, D - t);
            if (a == 0) {
                vstore_n(y + t, s, D - t);
                continue;
            }
            s = s * vset1(a);
            vec size = vmax(s, -s);
            /* 0 where |a x| <= limit, 1 beyond it and for NaN */
            vec over = vselect_lt(size, vset1(FA_ADDITIVE_LIMIT), vset1(0), vset1(1));
            out_of_range = out_of_range + over;
            vstore_n(y + t, vexp_soft(vmin(vset1(FA_ADDITIVE_LIMIT), vmax(vset1(-FA_ADDITIVE_LIMIT), s))), D - t);
        }
        for (int64_t t = D; t < ld; t++) y[t] = 0;
        flags[i] = vhsum(out_of_range) > 0;
        if (flags[i])
            for (int64_t t = 0; t < D; t++) y[t] = 1;
    }
}

FA_INLINE void additive_tile_body(const int rows, const int activation, const real *q, int64_t ldq, const real *k,
                                  const real *v, int64_t D4, real *S, real total, real scale) {
    vec acc[MR];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) acc[r] = vset1(0);
    if (activation == FA_RELU) {
        for (int64_t t = 0; t < D4; t++) {
            vec kt = vload(k + t * PW), vt = vset1(v[t]);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++)
                acc[r] = vfma(vt, vmax(vset1(0), vset1(q[r * ldq + t]) + kt), acc[r]);
        }
    } else {
        const vec one = vset1(1), cap = vset1(FA_ADDITIVE_CAP);
        for (int64_t t = 0; t < D4; t += 4) {
            vec k0 = vload(k + t * PW), k1 = vload(k + (t + 1) * PW);
            vec k2 = vload(k + (t + 2) * PW), k3 = vload(k + (t + 3) * PW);
            vec v0 = vset1(v[t]), v1 = vset1(v[t + 1]), v2 = vset1(v[t + 2]), v3 = vset1(v[t + 3]);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const real *e = q + r * ldq + t;
                vec a0 = vmin(cap, vfma(vset1(e[0]), k0, one)), a1 = vmin(cap, vfma(vset1(e[1]), k1, one));
                vec a2 = vmin(cap, vfma(vset1(e[2]), k2, one)), a3 = vmin(cap, vfma(vset1(e[3]), k3, one));
                vec d01 = a0 * a1, d23 = a2 * a3;
                vec n01 = vfma(v0, a1, v1 * a0), n23 = vfma(v2, a3, v3 * a2);
                acc[r] = acc[r] + vfma(n01, d23, n23 * d01) / (d01 * d23);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        vec s = activation == FA_TANH ? vfma(vset1(-2), acc[r], vset1(total)) : acc[r];
        vstore(S + r * PW, s * vset1(scale));
    }
}

/* S[r][j] = scale * score for the first n keys of one panel (rounded up to whole vectors). */
FA_FUNC void additive_tile(int rows, int activation, const real *q, int64_t ldq, const real *panel, const real *v,
                           int64_t D4, int64_t n, real total, real scale, real *S) {
    for (int64_t j = 0; j < n; j += VL) {
        const real *k = panel + j;
        real *s = S + j;
#define FA_ROWS(R)                                                                                                     \
    case R:                                                                                                            \
        if (activation == FA_TANH)                                                                                     \
            additive_tile_body(R, FA_TANH, q, ldq, k, v, D4, s, total, scale);                                         \
        else if (activation == FA_SIGMOID)                                                                             \
            additive_tile_body(R, FA_SIGMOID, q, ldq, k, v, D4, s, total, scale);                                      \
        else                                                                                                           \
            additive_tile_body(R, FA_RELU, q, ldq, k, v, D4, s, total, scale);                                         \
        break;
        switch (rows) {
            FA_ROWS(1)
            FA_ROWS(2)
            FA_ROWS(3)
            FA_ROWS(4)
            FA_ROWS(5)
            FA_ROWS(6)
        }
#undef FA_ROWS
    }
}

/* One score by the activation itself, for rows and keys out of the factored range. */
FA_FUNC real additive_direct(int activation, const real *q, const real *k, const real *v, int64_t D) {
    vec acc = vset1(0);
    for (int64_t t = 0; t < D; t += VL) {
        vec x = vload_n(q + t, D - t) + vload_n(k + t, D - t);
        vec y = activation == FA_TANH ? vtanh(x) : activation == FA_SIGMOID ? vsigmoid(x) : vmax(vset1(0), x);
        acc = vfma(vload_n(v + t, D - t), y, acc);
    }
    return vhsum(acc);
}

/* Gradient of one tile, features in lanes: for g_ij = d loss / d score_ij (already scaled)
 *   dq_i += g_ij act'_ij,  dk_j += g_ij act'_ij  (times v_h and the constant of act', applied once at the end),
 *   dv_h += g_ij r_ijh     (tanh: times -2, plus sum g, applied at the end).
 * g_ij = 0 means masked or no influence: the pair is skipped. Four vectors of features share one division.
 */
FA_FUNC void additive_backward(int activation, int64_t rows, int64_t keys, const real *g, int64_t ldg, const real *q,
                               const real *k, int64_t ld, real *dq, real *dk, real *dv, const uint8_t *q_flags,
                               const uint8_t *k_flags) {
    const vec one = vset1(1), cap = vset1(FA_ADDITIVE_CAP);
    for (int64_t t = 0; t < ld; t += 4 * VL) {
        vec v_sum[4] = {vload(dv + t), vload(dv + t + VL), vload(dv + t + 2 * VL), vload(dv + t + 3 * VL)};
        for (int64_t i = 0; i < rows; i++) {
            if (q_flags[i]) continue;
            const real *qi = q + i * ld + t;
            real *dqi = dq + i * ld + t;
            vec e[4], sum[4];
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                e[c] = vload(qi + c * VL);
                sum[c] = vload(dqi + c * VL);
            }
            for (int64_t j = 0; j < keys; j++) {
                real gij = g[i * ldg + j];
                if (gij == 0 || k_flags[j]) continue;
                const real *kj = k + j * ld + t;
                real *dkj = dk + j * ld + t;
                vec gv = vset1(gij), w[4];
                if (activation == FA_RELU) {
#pragma GCC unroll 4
                    for (int c = 0; c < 4; c++) {
                        vec x = e[c] + vload(kj + c * VL);
                        w[c] = vselect_lt(vset1(0), x, one, x * vset1(0)); /* 0 at x <= 0, NaN at NaN */
                        v_sum[c] = vfma(gv, vmax(vset1(0), x), v_sum[c]);
                    }
                } else {
                    vec a[4];
#pragma GCC unroll 4
                    for (int c = 0; c < 4; c++) a[c] = vmin(cap, vfma(e[c], vload(kj + c * VL), one));
                    vec d01 = a[0] * a[1], d23 = a[2] * a[3];
                    vec inverse = one / (d01 * d23);
                    vec i01 = inverse * d23, i23 = inverse * d01;
                    vec r[4] = {i01 * a[1], i01 * a[0], i23 * a[3], i23 * a[2]};
#pragma GCC unroll 4
                    for (int c = 0; c < 4; c++) {
                        w[c] = vfma(-r[c], r[c], r[c]);
                        v_sum[c] = vfma(gv, r[c], v_sum[c]);
                    }
                }
#pragma GCC unroll 4
                for (int c = 0; c < 4; c++) {
                    sum[c] = vfma(gv, w[c], sum[c]);
                    vstore(dkj + c * VL, vfma(gv, w[c], vload(dkj + c * VL)));
                }
            }
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) vstore(dqi + c * VL, sum[c]);
        }
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) vstore(dv + t + c * VL, v_sum[c]);
    }
}

/* The same for one pair by the activation itself. dq, dk and dv keep the units of additive_backward: act' without its
 * constant, and r = (1 - tanh) / 2 or sigmoid. */
FA_FUNC void additive_backward_direct(int activation, real g, const real *q, const real *k, int64_t D, real *dq, real *dk,
                                      real *dv) {
    const vec one = vset1(1), half = vset1((real)0.5), gv = vset1(g);
    for (int64_t t = 0; t < D; t += VL) {
        vec x = vload_n(q + t, D - t) + vload_n(k + t, D - t), r, w;
        if (activation == FA_RELU) {
            r = vmax(vset1(0), x);
            w = vselect_lt(vset1(0), x, one, x * vset1(0));
        } else {
            r = activation == FA_TANH ? half - half * vtanh(x) : vsigmoid(x);
            w = vfma(-r, r, r);
        }
        vstore_n(dq + t, vfma(gv, w, vload_n(dq + t, D - t)), D - t);
        vstore_n(dk + t, vfma(gv, w, vload_n(dk + t, D - t)), D - t);
        vstore_n(dv + t, vfma(gv, r, vload_n(dv + t, D - t)), D - t);
    }
}

/* Copies v with zeros up to `width`; returns the sum of its elements, in ascending order. */
FA_FUNC real additive_vector(const void *score_vector, int64_t D, real *v, int64_t width) {
    const real *src = score_vector;
    real sum = 0;
    for (int64_t t = 0; t < width; t++) {
        v[t] = t < D ? src[t] : (real)0;
        sum += v[t];
    }
    return sum;
}
