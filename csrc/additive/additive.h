/* Additive scores (Bahdanau, Cho, Bengio 2015, appendix A.1.2; Luong's concat has the same form).
 *
 *   score_ij = sum_h v_h act(q_ih + k_jh),   act = tanh, sigmoid or relu
 *
 * tanh and sigmoid need no function per pair: with E = e^(a q) e^(a k), D = 1 + E and r = 1 / D,
 *   tanh(x)    = (E - 1) / D     (a =  2)     tanh'    = 4 (r - r^2)
 *   sigmoid(x) = r               (a = -1)     sigmoid' =    r - r^2
 * so the exponentials are O((Tq + Tk) D), and a pair costs multiply-adds and a share of a division.
 *
 * Forward. Four features share one division: n1/d1 + n2/d2 = (n1 d2 + n2 d1) / (d1 d2), the same once more, then
 * divide. For tanh v_h is folded into the query, n = (v e^(2q)) e^(2k) - v: 18 operations and 1 division for 4
 * features, 14 for sigmoid. D is capped at 2^30 (float64: 2^250), so that the product of four is finite; that moves
 * r by less than 2^-30.
 * Backward. Each r of four is needed: invert the product of the four, then multiply back (Montgomery 1987).
 * A score depends on q_i and k_j alone, never on neighbours, so bits do not depend on tiles, padding or batch.
 *
 * Accuracy of tanh. n / D has a relative error of a few eps, but the rounding of e^(2q), e^(2k) and v e^(2q) moves
 * small scores by eps v. These roundings are known when they are made; to first order they move the score by
 * tanh' ~ 1 times a sum over h for the row plus one for the key, which are added at the end (`correction`). What
 * remains is of the size of the error of the direct evaluation, also for small q and k.
 *
 * Range: e^(a q) must be finite and normal. A row or a key with some |a x| > 86 (float64: 600), or with a NaN, is
 * flagged when it is packed; scores of flagged rows and keys are evaluated directly (additive_direct). relu always
 * works on the sums themselves.
 *
 * Bound on two 512-bit units: 10.5 cycles for 4 features of 16 pairs (the division alone: 10 on Golden Cove, 6 on
 * Zen 4).
 */
#define additive_factor FN(additive_factor)
#define additive_flag FN(additive_flag)
#define additive_lost FN(additive_lost)
#define additive_pack_panel FN(additive_pack_panel)
#define additive_pack_row FN(additive_pack_row)
#define additive_pack_query FN(additive_pack_query)
#define additive_query_width FN(additive_query_width)
#define additive_tile_body FN(additive_tile_body)
#define additive_tile FN(additive_tile)
#define additive_direct FN(additive_direct)
#define additive_backward FN(additive_backward)
#define additive_backward_body FN(additive_backward_body)
#define additive_backward_direct FN(additive_backward_direct)
#define additive_vector FN(additive_vector)
#define additive_correct_vector FN(additive_correct_vector)

#undef FA_ADDITIVE_LIMIT
#undef FA_ADDITIVE_CAP
#undef FA_ADDITIVE_SMALL
#undef FA_ADDITIVE_HUGE
#if FA_BITS == 32
#define FA_ADDITIVE_LIMIT 86.0f
#define FA_ADDITIVE_CAP 1073741824.0f
#define FA_ADDITIVE_HUGE 1e37f
#define FA_ADDITIVE_SMALL 10.39f /* half of ln(2^30 - 1): no product of two such exponentials reaches the cap */
#else
#define FA_ADDITIVE_LIMIT 600.0
#define FA_ADDITIVE_CAP 1.8092513943330656e75 /* 2^250 */
#define FA_ADDITIVE_HUGE 1e290
#define FA_ADDITIVE_SMALL 86.6
#endif

/* a in e^(a x); relu is marked by 0. */
FA_INLINE real additive_factor(int activation) {
    return activation == FA_TANH ? (real)2 : activation == FA_SIGMOID ? (real)-1 : (real)0;
}

#define FA_DIRECT 1 /* out of the factored range */
#define FA_LARGE 2  /* some |a x| > FA_ADDITIVE_SMALL: products need the cap */

/* What a row or key needs whose largest |a x| is `size`, NaN above all. */
FA_INLINE uint8_t additive_flag(real size) {
    return !(size <= FA_ADDITIVE_LIMIT) ? FA_DIRECT : size > FA_ADDITIVE_SMALL ? FA_LARGE : 0;
}

/* Half the relative rounding error of m = 1 + q, q = e^r - 1: (q + 1 - m) / 2m, with 2 - m for 1 / m, right to within
 * 1/6 on [0.70, 1.42], as good as tanh' ~ 1 is. */
FA_INLINE vec additive_lost(vec q, vec m) { return (q - (m - vset1(1))) * vfma(vset1((real)-0.5), m, vset1(1)); }

/* E[t] = e^(a x_t), or x_t itself for relu and 1 where *flag is FA_DIRECT; columns D..ld-1 become zero. Returns the
 * correction, sum_t v_t lost_t, where lost_t is half the relative rounding error of E_t (tanh; else 0); lost, ld
 * elements, receives these too unless it is NULL. */
FA_FUNC real additive_pack_row(int activation, const real *x, const real *v, int64_t D, real *E, int64_t ld,
                               uint8_t *flag, real *lost) {
    const real a = additive_factor(activation);
    ivec largest = {0};
    vec correction = vset1(0);
    for (int64_t t = 0; t < D; t += VL) {
        vec s = vload_n(x + t, D - t);
        if (a == 0) {
            vstore_n(E + t, s, D - t);
            continue;
        }
        s = s * vset1(a);
        largest = vmax_bits(largest, s);
        vec n, q = vexp_parts(s, &n); /* anything at all out of range: overwritten below */
        vec m = vset1(1) + q;
        vstore_n(E + t, vscale2(m, n), D - t);
        if (activation != FA_TANH) continue;
        vec e = additive_lost(q, m);
        correction = vfma(vload_n(v + t, D - t), e, correction);
        if (lost) vstore_n(lost + t, e, D - t);
    }
    for (int64_t t = D; t < ld; t++) E[t] = 0;
    if (lost)
        for (int64_t t = activation == FA_TANH ? D : 0; t < ld; t++) lost[t] = 0;
    real top = 0;
    for (int i = 0; i < VL; i++) {
        real size = ((vec)largest)[i];
        top = size <= top ? top : size; /* a NaN stays */
        if (size != size) break;
    }
    *flag = additive_flag(top);
    if (*flag != FA_DIRECT) return vhsum(correction);
    for (int64_t t = 0; t < D; t++) E[t] = 1;
    if (lost) memset(lost, 0, (size_t)ld * sizeof(real));
    return 0;
}

/* The same for a whole panel whose lanes are n keys: panel[t][j] = x_jt becomes E_jt; zero rows follow up to D4, then a
 * row of corrections and PW flags. Keys beyond n are zero. */
FA_FUNC void additive_pack_panel(int activation, real *panel, const real *v, int64_t n, int64_t D) {
    const real a = additive_factor(activation);
    const int64_t D4 = (D + 3) / 4 * 4;
    real *corrections = panel + D4 * PW;
    uint8_t *flags = (uint8_t *)(corrections + PW);
    memset(panel + D * PW, 0, (size_t)((D4 - D + 2) * PW) * sizeof(real));
    if (a == 0) return;
    for (int64_t j = 0; j < n; j += VL) {
        ivec largest = {0};
        vec correction = vset1(0);
        for (int64_t t = 0; t < D; t++) {
            vec k, s = vload(panel + t * PW + j) * vset1(a);
            largest = vmax_bits(largest, s);
            vec q = vexp_parts(s, &k), m = vset1(1) + q;
            vstore(panel + t * PW + j, vscale2(m, k));
            if (activation == FA_TANH) correction = vfma(vset1(v[t]), additive_lost(q, m), correction);
        }
        vstore(corrections + j, correction);
        for (int64_t i = j; i < j + VL && i < n; i++) {
            flags[i] = additive_flag(((vec)largest)[i - j]);
            if (flags[i] != FA_DIRECT) continue;
            corrections[i] = 0;
            for (int64_t t = 0; t < D; t++) panel[t * PW + i] = 1;
        }
        for (int64_t i = n; i < j + VL; i++) /* lanes without a key: E = 0, not e^0 */
            for (int64_t t = 0; t < D; t++) panel[t * PW + i] = 0;
    }
}

/* A packed query: E, then v E (tanh), then the correction; additive_query_width elements. */
FA_INLINE int64_t additive_query_width(int64_t D) { return 2 * ((D + 3) / 4 * 4) + 4; }

FA_FUNC void additive_pack_query(int activation, const real *x, const real *v, int64_t D, real *q, uint8_t *flag,
                                 real *lost) {
    int64_t D4 = (D + 3) / 4 * 4;
    q[2 * D4] = additive_pack_row(activation, x, v, D, q, D4, flag, lost);
    vec out_of_range = vset1(0), correction = vset1(0);
    for (int64_t t = 0; t < D4; t += VL) {
        vec e = vload_n(q + t, D4 - t), w = vload_n(v + t, D4 - t), p = w * e;
        vec lost = vfma_once(w, e, -p);
        vstore_n(q + D4 + t, p, D4 - t);
        correction = correction + vselect_lt(vset1(0), e, lost / e, vset1(0));
        out_of_range = out_of_range + vselect_lt(vmax(p, -p), vset1(FA_ADDITIVE_HUGE), vset1(0), vset1(1));
    }
    if (activation != FA_TANH) return;
    if (vhsum(out_of_range) > 0) *flag = FA_DIRECT;
    if (*flag == FA_DIRECT)
        for (int64_t t = 0; t < 2 * D4 + 1; t++) q[t] = t < D4;
    else
        q[2 * D4] += vhsum(correction) / 2;
}

FA_INLINE void additive_tile_body(const int rows, const int activation, const int capped, const real *q, int64_t ldq,
                                  const real *k, const real *v, int64_t D4, real *S, int64_t lds, real scale) {
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
                    d[c] = vfma(vset1(e[c]), kt[c], one);
                    n[c] = activation == FA_TANH ? vfma_once(vset1(ve[c]), kt[c], -vt[c]) : vt[c];
                    if (capped) {
                        if (activation == FA_TANH) n[c] = vselect_lt(d[c], cap, n[c], vt[c] * cap);
                        d[c] = vmin(cap, d[c]);
                    }
                }
                vec n01 = vfma(n[0], d[1], n[1] * d[0]), n23 = vfma(n[2], d[3], n[3] * d[2]);
                vec d01 = d[0] * d[1], d23 = d[2] * d[3];
                acc[r] = acc[r] + vfma(n01, d23, n23 * d01) / (d01 * d23);
            }
        }
    }
    const vec k_correction = vload(k + D4 * PW);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        vec s = activation == FA_TANH ? (acc[r] + vset1(q[r * ldq + 2 * D4])) + k_correction : acc[r];
        vstore(S + r * lds, s * vset1(scale));
    }
}

#define FA_TILE(R, ACTIVATION, CAPPED) additive_tile_body(R, ACTIVATION, CAPPED, q, ldq, k, v, D4, s, lds, scale)
#define FA_ROWS(R)                                                                                                     \
    case R:                                                                                                            \
        if (activation == FA_RELU)                                                                                     \
            FA_TILE(R, FA_RELU, 0);                                                                                    \
        else if (activation == FA_TANH && capped)                                                                      \
            FA_TILE(R, FA_TANH, 1);                                                                                    \
        else if (activation == FA_TANH)                                                                                \
            FA_TILE(R, FA_TANH, 0);                                                                                    \
        else                                                                                                           \
            FA_TILE(R, FA_SIGMOID, 1);                                                                                 \
        break;
/* S[r][j] = scale * score for the first n keys of one panel (rounded up to whole vectors). capped = 0 where no row
 * and no key is flagged: the cap would change nothing. */
FA_FUNC void additive_tile(int rows, int activation, int capped, const real *q, int64_t ldq, const real *panel,
                           const real *v, int64_t D4, int64_t n, real scale, real *S, int64_t lds) {
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
 *   dq_i += g_ij act'_ij,  dk_j += g_ij act'_ij  (times v_h, and 4 for tanh, once at the end),   dv_h += g_ij act_ijh.
 * g_ij = 0 means masked or no influence: the pair is skipped. Four vectors of features share one division.
 */
FA_INLINE void additive_backward_body(const int activation, const int capped, int64_t rows, int64_t keys, const real *g,
                                      int64_t ldg, const real *q, const real *k, int64_t ld, real *dq, real *dk,
                                      real *dv, const uint8_t *q_flags, const uint8_t *k_flags) {
    const vec one = vset1(1), cap = vset1(FA_ADDITIVE_CAP);
    for (int64_t t = 0; t < ld; t += 4 * VL) {
        vec v_sum[4] = {vload(dv + t), vload(dv + t + VL), vload(dv + t + 2 * VL), vload(dv + t + 3 * VL)};
        for (int64_t i = 0; i < rows; i++) {
            if (q_flags[i] == FA_DIRECT) continue;
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
                if (gij == 0 || k_flags[j] == FA_DIRECT) continue;
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
                    for (int c = 0; c < 4; c++) a[c] = vfma(e[c], vload(kj + c * VL), one);
                    if (capped)
#pragma GCC unroll 4
                        for (int c = 0; c < 4; c++) a[c] = vmin(cap, a[c]);
                    vec d01 = a[0] * a[1], d23 = a[2] * a[3];
                    vec inverse = one / (d01 * d23);
                    vec i01 = inverse * d23, i23 = inverse * d01;
                    vec r[4] = {i01 * a[1], i01 * a[0], i23 * a[3], i23 * a[2]};
#pragma GCC unroll 4
                    for (int c = 0; c < 4; c++) {
                        w[c] = vfma(-r[c], r[c], r[c]);
                        if (activation == FA_TANH) { /* tanh as (E - 1) r: 1 - 2 r loses small values */
                            vec x = vfma_once(e[c], vload(kj + c * VL), -one);
                            if (capped) x = vmin(cap, x);
                            r[c] = x * r[c];
                        }
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

FA_FUNC void additive_backward(int activation, int64_t rows, int64_t keys, const real *g, int64_t ldg, const real *q,
                               const real *k, int64_t ld, real *dq, real *dk, real *dv, const uint8_t *q_flags,
                               const uint8_t *k_flags) {
    int capped = 0;
    for (int64_t i = 0; i < rows; i++) capped |= q_flags[i];
    for (int64_t j = 0; j < keys; j++) capped |= k_flags[j];
#define FA_BODY(ACTIVATION, CAPPED)                                                                                    \
    additive_backward_body(ACTIVATION, CAPPED, rows, keys, g, ldg, q, k, ld, dq, dk, dv, q_flags, k_flags)
    if (activation == FA_RELU)
        FA_BODY(FA_RELU, 0);
    else if (activation == FA_SIGMOID)
        FA_BODY(FA_SIGMOID, 1);
    else if (capped)
        FA_BODY(FA_TANH, 1);
    else
        FA_BODY(FA_TANH, 0);
#undef FA_BODY
}

/* The same for one pair by the activation itself; dq and dk in the units of additive_backward. */
FA_FUNC void additive_backward_direct(int activation, real g, const real *q, const real *k, int64_t D, real *dq,
                                      real *dk, real *dv) {
    const vec one = vset1(1), gv = vset1(g);
    for (int64_t t = 0; t < D; t += VL) {
        vec x = vload_n(q + t, D - t) + vload_n(k + t, D - t), y, w;
        if (activation == FA_RELU) {
            y = vmax(vset1(0), x);
            w = vselect_lt(vset1(0), x, one, x * vset1(0));
        } else if (activation == FA_TANH) {
            y = vtanh(x);
            w = vset1((real)0.25) * vfma(-y, y, one);
        } else {
            y = vsigmoid(x);
            w = vfma(-y, y, y);
        }
        vstore_n(dq + t, vfma(gv, w, vload_n(dq + t, D - t)), D - t);
        vstore_n(dk + t, vfma(gv, w, vload_n(dk + t, D - t)), D - t);
        vstore_n(dv + t, vfma(gv, y, vload_n(dv + t, D - t)), D - t);
    }
}

/* tanh: what the rounding of the exponentials moved dv by, to first order (see Accuracy above):
 * dv += sum_i (sum_j g_ij) lost_i + sum_j (sum_i g_ij) lost_j over the pairs that additive_backward computed. */
FA_FUNC void additive_correct_vector(int64_t rows, int64_t keys, const real *g, int64_t ldg, const real *q_lost,
                                     const real *k_lost, int64_t ld, real *dv, const uint8_t *q_flags,
                                     const uint8_t *k_flags) {
    real of_key[PW] = {0}, row[PW];
    for (int64_t i = 0; i < rows; i++) {
        if (q_flags[i] == FA_DIRECT) continue;
        vec sum = vset1(0);
        for (int64_t j = 0; j < keys; j += VL) { /* g is 0 from `keys` up to a whole vector */
            vstore(row + j, vload(g + i * ldg + j));
            for (int64_t c = j; c < j + VL && c < keys; c++)
                if (k_flags[c] == FA_DIRECT) row[c] = 0;
            vstore(of_key + j, vload(of_key + j) + vload(row + j));
            sum = sum + vload(row + j);
        }
        vec of_row = vset1(vhsum(sum));
        for (int64_t t = 0; t < ld; t += VL) vstore(dv + t, vfma(of_row, vload(q_lost + i * ld + t), vload(dv + t)));
    }
    for (int64_t j = 0; j < keys; j++)
        for (int64_t t = 0; t < ld; t += VL)
            vstore(dv + t, vfma(vset1(of_key[j]), vload(k_lost + j * ld + t), vload(dv + t)));
}

/* Copies v with zeros up to `width`. */
FA_FUNC void additive_vector(const void *score_vector, int64_t D, real *v, int64_t width) {
    const real *src = score_vector;
    for (int64_t t = 0; t < width; t++) v[t] = t < D ? src[t] : (real)0;
}
