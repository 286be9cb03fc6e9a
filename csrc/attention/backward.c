/* Fused attention, backward, by recomputation: nothing of size Tq x Tk was saved, only each row's maximum and sum.
 *
 *   P_ij  = e^(s_ij - m_i) / l_i                        dP_ij = keep_ij (d_context_i . v_j) + d_weights_ij
 *   dS_ij = P_ij (dP_ij - delta_i)                      delta_i = sum_j P_ij dP_ij - d_lse_i   (passed in)
 *   d_value_j = sum_i keep_ij P_ij d_context_i          d_bias = dS
 *   g_ij = dS_ij softcap'_ij scale                      d_query, d_key, d_v: g through the score function
 *
 * A task is one (batch, key head); with a bias that is shared by heads or batch entries, all that share it, in
 * order, so that d_bias has one order of summation. For each block of keys (rows of the outer loop) and of
 * FA_QUERY_BLOCK queries:
 *   1. S  = scores of the block, as in the forward pass, options included          queries x PW
 *   2. dP = d_context x value^T, from value panels packed like keys
 *   3. P and g on the strips
 *   4. d_value += P^T d_context;   dot: d_key += g^T query, d_query += g key;   additive: additive_backward
 *
 * Order of sums: d_query_i over keys ascending, d_key_j and d_value_j over queries ascending, each one chain.
 * Masked pairs: as in the forward pass, a task whose gradients come out non-finite is run again without those pairs.
 *
 * Bound for D = Dv = 64 on two 512-bit units: 5 x 64 multiply-adds and about 20 other operations for a vector of
 * scores.
 */
#define backward_state FN(backward_state)
#define backward_layout FN(backward_layout)
#define backward_tasks FN(backward_tasks)
#define backward_workspace FN(backward_workspace)
#define backward_task FN(backward_task)
#define backward_head FN(backward_head)
#define backward_block FN(backward_block)
#define backward_strips FN(backward_strips)
#define backward_delta FN(backward_delta)
#define careful_product FN(careful_product)

#define FA_QUERY_BLOCK 48

typedef struct {
    const fa_attention_grad *g;
    const fa_attention *a;
    score_source scores;
    int64_t b, hk, group, width, ldq, ldd, ldv,
        block_keys; /* ldd, ldv: columns of D- and Dv-wide rows in the workspace */
    int careful;    /* leave masked pairs out of every product */
    real *key_panels, *value_panels, *keys, *d_keys, *d_values;
    real *queries, *exponentials, *query_lost, *key_lost, *raw_queries, *d_context, *d_query, *S, *dP, *slope, *v, *d_v;
    uint8_t *q_flags, *k_flags, *live;
} backward_state;

FA_FUNC int64_t backward_layout(backward_state *s, const fa_attention_grad *g, char *workspace) {
    const fa_attention *a = &g->f;
    int additive = a->score == FA_SCORE_ADDITIVE;
    char *w = workspace;
    s->a = a;
    s->g = g;
    s->width = query_width(a);
    s->ldd = additive ? (a->D + 4 * VL - 1) / (4 * VL) * (4 * VL) : padded(a->D);
    s->ldv = padded(a->Dv);
    s->block_keys = additive ? 2 * PW : 4 * PW;
    int64_t panels = s->block_keys / PW, Q = FA_QUERY_BLOCK;
    s->key_panels = take(&w, panels * panel_stride(a->score, a->D));
    s->value_panels = take(&w, panels * a->Dv * PW);
    s->keys = take(&w, s->block_keys * s->ldd);
    s->d_keys = take(&w, s->block_keys * s->ldd);
    s->d_values = take(&w, s->block_keys * s->ldv);
    s->ldq = additive ? s->width : s->ldd;
    s->queries = take(&w, Q * s->ldq);
    s->exponentials = additive ? take(&w, Q * s->ldd) : NULL;
    s->query_lost = additive ? take(&w, Q * s->ldd) : NULL;
    s->key_lost = additive ? take(&w, s->block_keys * s->ldd) : NULL;
    s->raw_queries = additive ? take(&w, Q * s->ldd) : s->queries;
    s->d_context = take(&w, Q * s->ldv);
    s->d_query = take(&w, Q * s->ldd);
    s->S = take(&w, Q * PW);
    s->dP = take(&w, Q * PW);
    s->slope = take(&w, a->softcap > 0 ? Q * PW : 0);
    s->v = take(&w, additive ? s->ldd : 0); /* the score vector, zeros beyond D */
    s->d_v = take(&w, additive ? s->ldd : 0);
    s->q_flags = (uint8_t *)take(&w, Q);
    s->k_flags = (uint8_t *)take(&w, s->block_keys);
    s->live = (uint8_t *)take(&w, Q * PW);
    return w - workspace;
}

FA_FUNC int64_t backward_tasks(const fa_attention_grad *g) {
    return (g->f.B / g->batches_per_task) * (g->f.Hk / g->heads_per_task);
}
FA_FUNC int64_t backward_workspace(const fa_attention_grad *g) {
    backward_state s;
    return backward_layout(&s, g, (char *)64);
}

/* C[r] += sum_k A[r][k] B[k] over live pairs; the same chains as micro_gemm. live has A's layout. */
FA_FUNC void careful_product(int64_t rows, int64_t n, const real *A, const uint8_t *live, int64_t lda, int64_t ska,
                             const real *B, int64_t ldb, real *C, int64_t ldc, int64_t width) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < n; k++) {
            if (!live[r * lda + k * ska]) continue;
            vec x = vset1(A[r * lda + k * ska]);
            for (int64_t c = 0; c < width; c += VL)
                vstore(C + r * ldc + c, vfma(x, vload(B + k * ldb + c), vload(C + r * ldc + c)));
        }
}

/* Steps 1 to 3 for `rows` rows (from row r0 of the task) against n keys of panel p: S becomes P (after dropout), dP
 * becomes g. Returns 0 when no row may read any of the keys. */
FA_FUNC int backward_strips(backward_state *s, int64_t r0, int64_t rows, int64_t length, int64_t j0, int64_t n,
                            int64_t p, int count_bias) {
    const fa_attention *a = s->a;
    const fa_attention_grad *g = s->g;
    int64_t end = padded(n);
    int reach = 0;
    for (int64_t r = 0; r < rows && !reach; r++) {
        fa_range k = fa_row_range(a, length, (r0 + r) % a->Tq);
        reach = k.lo < j0 + n && k.hi > j0;
    }
    if (!reach) return 0;
    const real *panel = s->key_panels + p * panel_stride(a->score, a->D);
    for (int64_t r = 0; r < rows;) {
        int tile = balanced_rows(rows - r);
        const real *raw[MR];
        for (int i = 0; i < tile; i++) raw[i] = s->raw_queries + (r + i) * s->ldd;
        score_tile(&s->scores, tile, s->queries + r * s->ldq, s->q_flags + r, raw, panel, j0, n, s->S + r * PW, PW);
        r += tile;
    }
    micro_gemm(1, rows, n, s->d_context, s->ldv, 1, s->value_panels + p * a->Dv * PW, PW, s->dP, PW, a->Dv);

    const real scale = a->score == FA_SCORE_DOT ? (real)1 : (real)a->scale; /* dot: the scale is in the queries */
    for (int64_t r = 0; r < rows; r++) {
        int64_t head = s->hk * s->group + (r0 + r) / a->Tq, query = (r0 + r) % a->Tq;
        int64_t at = (s->b * a->H + head) * a->Tq + query;
        real *S = s->S + r * PW, *dP = s->dP + r * PW, *slope = a->softcap > 0 ? s->slope + r * PW : NULL;
        real sum = ((const real *)a->row_sum)[at], top = ((const real *)a->row_max)[at];
        real delta = ((const real *)g->delta)[at], inverse = sum == 0 ? (real)0 : 1 / sum;
        fa_range k = fa_row_range(a, length, query);
        int options = a->softcap > 0 || a->bias || a->mask || n < end || k.lo > j0 || k.hi < j0 + n;
        if (options) row_options(a, s->b, head, query, k, j0, n, S, slope);
        if (s->careful)
            for (int64_t j = 0; j < n; j++) s->live[r * PW + j] = S[j] != NEG_INF;
        if (a->seeds) row_dropout(a, s->b, head, query, j0, n, dP);
        if (g->d_weights) {
            const real *dw = (const real *)g->d_weights + at * a->Tk + j0;
            for (int64_t j = 0; j < n; j++) dP[j] += dw[j];
        }
        vec base = vset1(top == NEG_INF ? (real)0 : top), f = vset1(inverse), d = vset1(delta), gs = vset1(scale);
        const vec lowest = vset1(NEG_INF);
        for (int64_t j = 0; j < end; j += VL) {
            vec score = vload(S + j), P = vexp_soft(score - base) * f;
            vec dS = P * (vload(dP + j) - d);
            if (options) { /* what may not be read has a score of -inf: its dP and delta do not count, NaN or not */
                ivec masked = score == lowest;
                dS = (vec)((ivec)dS & ~masked);
            }
            vstore(S + j, P);
            vstore(dP + j, dS);
        }
        if (g->d_bias && count_bias) {
            real *db = (real *)g->d_bias + s->b * g->d_bias_strides.batch + head * g->d_bias_strides.head +
                       query * g->d_bias_strides.row + j0 * g->d_bias_strides.column;
            for (int64_t j = 0; j < n; j++) db[j * g->d_bias_strides.column] += dP[j];
        }
        if (slope)
            for (int64_t j = 0; j < end; j += VL) {
                ivec zero = vload(dP + j) == vset1(0); /* slope may be NaN where masked */
                vstore(dP + j, (vec)((ivec)(vload(dP + j) * vload(slope + j)) & ~zero));
            }
        if (scale != 1)
            for (int64_t j = 0; j < end; j += VL) vstore(dP + j, vload(dP + j) * gs);
        if (a->seeds) row_dropout(a, s->b, head, query, j0, n, S);
    }
    return 1;
}

/* Step 4 for one block of rows and one panel. */
FA_FUNC void backward_block(backward_state *s, int64_t rows, int64_t j0, int64_t n, int64_t p, const real *keys,
                            int64_t keys_stride) {
    const fa_attention *a = s->a;
    real *d_values = s->d_values + p * PW * s->ldv, *d_keys = s->d_keys + p * PW * s->ldd;
    (void)j0;
    if (s->careful)
        careful_product(n, rows, s->S, s->live, 1, PW, s->d_context, s->ldv, d_values, s->ldv, s->ldv);
    else
        micro_gemm(0, n, s->ldv, s->S, 1, PW, s->d_context, s->ldv, d_values, s->ldv, rows);
    if (a->score == FA_SCORE_DOT) {
        if (s->careful) {
            careful_product(n, rows, s->dP, s->live, 1, PW, s->queries, s->ldd, d_keys, s->ldd, s->ldd);
            careful_product(rows, n, s->dP, s->live, PW, 1, keys, keys_stride, s->d_query, s->ldd, s->ldd);
        } else {
            micro_gemm(0, n, s->ldd, s->dP, 1, PW, s->queries, s->ldd, d_keys, s->ldd, rows);
            micro_gemm(0, rows, s->ldd, s->dP, PW, 1, keys, keys_stride, s->d_query, s->ldd, n);
        }
        return;
    }
    const uint8_t *k_flags = s->k_flags + p * PW;
    if (a->activation == FA_TANH)
        additive_correct_vector(rows, n, s->dP, PW, s->query_lost, s->key_lost + p * PW * s->ldd, s->ldd, s->d_v,
                                s->q_flags, k_flags);
    additive_backward(a->activation, rows, n, s->dP, PW, s->exponentials, keys, s->ldd, s->d_query, d_keys, s->d_v,
                      s->q_flags, k_flags);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) {
            real g = s->dP[i * PW + j];
            if (g == 0 || !((s->q_flags[i] | k_flags[j]) & FA_DIRECT)) continue;
            additive_backward_direct(a->activation, g, s->raw_queries + i * s->ldd,
                                     s->scores.key + (j0 + j) * a->key_strides.row, a->D, s->d_query + i * s->ldd,
                                     d_keys + j * s->ldd, s->d_v);
        }
}

/* One (batch, key head): all blocks of keys. d_query accumulates in the output. Returns 0 if something non-finite came
 * out in the optimistic pass. */
FA_FUNC int backward_head(backward_state *s, int count_bias) {
    const fa_attention *a = s->a;
    const fa_attention_grad *g = s->g;
    int additive = a->score == FA_SCORE_ADDITIVE;
    int64_t rows_total = s->group * a->Tq, length = fa_key_length(a, s->b);
    const real *value = (const real *)a->value + s->b * a->value_strides.batch + s->hk * a->value_strides.head;
    s->scores.key = (const real *)a->key + s->b * a->key_strides.batch + s->hk * a->key_strides.head;
    real *d_query = (real *)g->d_query + (s->b * a->H + s->hk * s->group) * a->Tq * a->D;
    real *d_key = (real *)g->d_key + (s->b * a->Hk + s->hk) * a->Tk * a->D;
    real *d_value = (real *)g->d_value + (s->b * a->Hk + s->hk) * a->Tk * a->Dv;
    const real factor = !additive ? (real)1 : a->activation == FA_TANH ? (real)4 : (real)1;
    int finite = 1;
    memset(d_query, 0, (size_t)(rows_total * a->D) * sizeof(real));
    if (additive) memset(s->d_v, 0, (size_t)s->ldd * sizeof(real));

    for (int64_t first = 0; first < a->Tk; first += s->block_keys) {
        int64_t last = first + s->block_keys < a->Tk ? first + s->block_keys : a->Tk, used = last - first;
        memset(s->d_keys, 0, (size_t)(used * s->ldd) * sizeof(real));
        memset(s->d_values, 0, (size_t)(used * s->ldv) * sizeof(real));
        int64_t stop = last < length ? last : length;
        if (first < stop) {
            const real *keys = s->scores.key + first * a->key_strides.row;
            int64_t keys_stride = a->key_strides.row;
            const int copy_keys = unaligned_rows(keys, keys_stride, a->D);
            if (additive) {
                const int64_t D4 = (a->D + 3) / 4 * 4;
                for (int64_t j = 0, p = 0; j < stop - first; j += PW, p++) {
                    int64_t n = stop - first - j < PW ? stop - first - j : PW;
                    real corrections[PW];
                    for (int64_t i = j; i < j + n; i++)
                        corrections[i - j] =
                            additive_pack_row(a->activation, keys + i * keys_stride, s->v, a->D, s->keys + i * s->ldd,
                                              s->ldd, s->k_flags + i, s->key_lost + i * s->ldd);
                    pack_exponentials(s->keys + j * s->ldd, s->ldd, corrections, s->k_flags + j, n, D4,
                                      s->key_panels + p * panel_stride(a->score, a->D));
                }
            } else {
                pack_keys(a->score, a->activation, s->scores.key, keys_stride, s->v, first, stop, a->D, s->key_panels,
                          NULL);
                if (copy_keys) load_block(s->keys, s->ldd, keys, keys_stride, stop - first, a->D, 1);
            }
            for (int64_t j = first, p = 0; j < stop; j += PW, p++)
                pack_panel(s->value_panels + p * a->Dv * PW, value + j * a->value_strides.row, a->value_strides.row,
                           stop - j < PW ? stop - j : PW, a->Dv);
            if (additive || copy_keys) {
                keys = s->keys;
                keys_stride = s->ldd;
            }
            for (int64_t r0 = 0; r0 < rows_total; r0 += FA_QUERY_BLOCK) {
                int64_t rows = rows_total - r0 < FA_QUERY_BLOCK ? rows_total - r0 : FA_QUERY_BLOCK;
                int reach = 0;
                for (int64_t r = 0; r < rows && !reach; r++) {
                    fa_range k = fa_row_range(a, length, (r0 + r) % a->Tq);
                    reach = k.lo < stop && k.hi > first && k.lo < k.hi;
                }
                if (!reach) continue;
                for (int64_t r = 0; r < rows; r++) {
                    int64_t head = s->hk * s->group + (r0 + r) / a->Tq, query = (r0 + r) % a->Tq;
                    const real *q = (const real *)a->query + s->b * a->query_strides.batch +
                                    head * a->query_strides.head + query * a->query_strides.row;
                    pack_query(&s->scores, q, s->queries + r * s->ldq, s->q_flags + r,
                               additive ? s->query_lost + r * s->ldd : NULL);
                    if (additive) {
                        for (int64_t t = a->D; t < s->ldd; t++) s->query_lost[r * s->ldd + t] = 0;
                        load_block(s->exponentials + r * s->ldd, s->ldd, s->queries + r * s->ldq, 0, 1, a->D, 1);
                        load_block(s->raw_queries + r * s->ldd, s->ldd, q, 0, 1, a->D, 1);
                    }
                    load_block(s->d_context + r * s->ldv, s->ldv,
                               (const real *)g->d_context + s->b * g->d_context_strides.batch +
                                   head * g->d_context_strides.head + query * g->d_context_strides.row,
                               0, 1, a->Dv, 1);
                }
                load_block(s->d_query, s->ldd, d_query + r0 * a->D, a->D, rows, a->D, 1);
                for (int64_t j0 = first, p = 0; j0 < stop; j0 += PW, p++) {
                    int64_t n = stop - j0 < PW ? stop - j0 : PW;
                    if (!backward_strips(s, r0, rows, length, j0, n, p, count_bias)) continue;
                    backward_block(s, rows, j0, n, p, keys + (j0 - first) * keys_stride, keys_stride);
                }
                for (int64_t i = 0; i < rows; i++)
                    for (int64_t c = 0; c < a->D; c += VL)
                        vstore_n(d_query + (r0 + i) * a->D + c, vload(s->d_query + i * s->ldd + c), a->D - c);
                finite &= !has_nonfinite(s->d_query, rows * s->ldd);
            }
        }
        finite &= !has_nonfinite(s->d_keys, used * s->ldd) && !has_nonfinite(s->d_values, used * s->ldv);
        for (int64_t j = 0; j < used; j++) {
            for (int64_t c = 0; c < a->D; c += VL) {
                vec d = vload(s->d_keys + j * s->ldd + c);
                if (additive) d = d * (vload(s->v + c) * vset1(factor));
                vstore_n(d_key + (first + j) * a->D + c, d, a->D - c);
            }
            for (int64_t c = 0; c < a->Dv; c += VL)
                vstore_n(d_value + (first + j) * a->Dv + c, vload(s->d_values + j * s->ldv + c), a->Dv - c);
        }
    }
    for (int64_t r = 0; r < rows_total; r++)
        for (int64_t c = 0; c < a->D; c += VL) {
            vec f = additive ? vload(s->v + c) * vset1(factor) : vset1((real)a->scale);
            real *d = d_query + r * a->D + c;
            vstore_n(d, vload_n(d, a->D - c) * f, a->D - c);
        }
    return finite;
}

FA_FUNC void backward_task(const fa_attention_grad *g, int64_t task, void *workspace) {
    backward_state s;
    backward_layout(&s, g, workspace);
    const fa_attention *a = s.a;
    int64_t head_tasks = a->Hk / g->heads_per_task;
    s.group = a->H / a->Hk;
    s.scores = (score_source){.a = a, .v = s.v, .ldq = s.ldq};
    if (a->score == FA_SCORE_ADDITIVE) additive_vector(a->score_vector, a->D, s.v, s.ldd);
    for (int64_t i = 0; i < g->batches_per_task; i++)
        for (int64_t j = 0; j < g->heads_per_task; j++) {
            s.b = task / head_tasks * g->batches_per_task + i;
            s.hk = task % head_tasks * g->heads_per_task + j;
            s.careful = 0;
            if (!backward_head(&s, 1)) {
                s.careful = 1;
                backward_head(&s, 0);
            }
            if (g->d_score_vector) {
                real *dv = (real *)g->d_score_vector + (s.b * a->Hk + s.hk) * a->D;
                memcpy(dv, s.d_v, (size_t)a->D * sizeof(real));
            }
        }
}

/* delta_i = d_context_i . context_i + sum_j weights_ij d_weights_ij - d_lse_i for rows row0..row1-1 of (B, H, Tq).
 * d_weights needs f.weights; rows that read nothing get 0. */
FA_FUNC void backward_delta(const fa_attention_grad *g, const void *context, const void *d_lse, void *delta,
                            int64_t row0, int64_t row1) {
    const fa_attention *a = &g->f;
    for (int64_t at = row0; at < row1; at++) {
        int64_t b = at / a->Tq / a->H, h = at / a->Tq % a->H, i = at % a->Tq;
        const real *o = (const real *)context + at * a->Dv;
        const real *d = (const real *)g->d_context + b * g->d_context_strides.batch + h * g->d_context_strides.head +
                        i * g->d_context_strides.row;
        vec sum = vset1(0);
        for (int64_t c = 0; c < a->Dv; c += VL) sum = vfma(vload_n(o + c, a->Dv - c), vload_n(d + c, a->Dv - c), sum);
        if (g->d_weights) {
            const real *w = (const real *)a->weights + at * a->Tk, *dw = (const real *)g->d_weights + at * a->Tk;
            for (int64_t j = 0; j < a->Tk; j += VL) {
                vec x = vload_n(w + j, a->Tk - j), y = vload_n(dw + j, a->Tk - j);
                ivec used = x != vset1(0); /* a masked pair's d_weights may be anything */
                sum = vfma(x, (vec)((ivec)y & used), sum);
            }
        }
        real value = vhsum(sum) - (d_lse ? ((const real *)d_lse)[at] : (real)0);
        ((real *)delta)[at] = ((const real *)a->row_sum)[at] == 0 ? (real)0 : value;
    }
}
