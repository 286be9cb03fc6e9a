/* Fused attention, forward: scores, softmax and context of a block of rows in one pass over the keys.
 *
 *   s_ij = options(scale * score(q_i, k_j)),  context_i = sum_j e^(s_ij - m_i) v_j / sum_j e^(s_ij - m_i),  m_i = max_j s_ij
 *
 * Shapes: query (B, H, Tq, D), key (B, Hk, Tk, D), value (B, Hk, Tk, Dv), context (B, H, Tq, Dv).
 * A task is one (batch, key head) and up to rows_per_task rows. Keys come in chunks of FA_CHUNK, in panels of PW.
 *   1. pack the task's queries                       rows x D
 *   2. for each chunk: pack its keys into panels      FA_CHUNK x D, stays in L2 and serves all rows of the task
 *   3.   for each tile of up to 6 rows, panel by panel:
 *   4.     scores of 6 x PW in register tiles, kept in a strip of 1.5 KiB
 *   5.     softcap, bias, masks on the strip (skipped where nothing applies)
 *   6.     running maximum, exponentials, running sum
 *   7.     context tile += strip x values             values are read in place
 *   8.   merge the chunk's (maximum, sum, context) into the row's totals
 *   9. divide, write context, lse, weights
 *
 * Numerics. A row's arithmetic depends on its own keys alone: panels and chunks lie at fixed multiples of PW and FA_CHUNK,
 * each chunk starts afresh and chunks are merged in ascending order, so one row alone, a block, or chunks computed by
 * different threads give the same bits. Weights are from one exp of at most 1 ulp.
 * Masked values must not be read, yet 0 * NaN is NaN: step 7 runs as if all were finite; a tile that ends non-finite and
 * has masked pairs is computed again with those pairs left out, in the same order, which leaves all other bits alone.
 *
 * Bound for D = Dv = 64 on two 512-bit units: 64 + 64 multiply-adds and about 16 other operations for a vector of scores.
 */
#define forward_state FN(forward_state)
#define forward_layout FN(forward_layout)
#define forward_tasks FN(forward_tasks)
#define forward_workspace FN(forward_workspace)
#define forward_tile FN(forward_tile)
#define forward_task FN(forward_task)
#define forward_row FN(forward_row)
#define forward_merge FN(forward_merge)
#define forward_finish FN(forward_finish)
#define softmax_strip FN(softmax_strip)
#define context_careful FN(context_careful)

#ifndef FA_CHUNK
#define FA_CHUNK 512
#endif

typedef struct {
    const fa_attention *a;
    score_source scores;
    int64_t b, hk, group, row0, rows, width, ldv; /* ldv: columns of context rows, a multiple of VL */
    real *queries, *panels, *scratch, *values, *v, *strip, *acc;
    real *max, *sum, *total; /* of the task's rows, over the chunks so far */
    uint8_t *q_flags, *live;
} forward_state;

/* Lays a worker's workspace out; returns its size in bytes. */
FA_FUNC int64_t forward_layout(forward_state *s, const fa_attention *a, char *workspace) {
    char *w = workspace;
    int64_t rows = a->rows_per_task, width = query_width(a), ldv = padded(a->Dv), panels = FA_CHUNK / PW;
    s->queries = take(&w, rows * width);
    s->panels = take(&w, a->key_panels ? 0 : panels * panel_stride(a->score, a->D));
    s->scratch = take(&w, a->score == FA_SCORE_ADDITIVE ? PW * width : 0);
    s->values = take(&w, ldv == a->Dv ? 0 : FA_CHUNK * ldv);
    s->v = take(&w, a->score == FA_SCORE_ADDITIVE ? width : 0);
    s->strip = take(&w, MR * PW);
    s->acc = take(&w, MR * ldv);
    s->max = take(&w, rows);
    s->sum = take(&w, rows);
    s->total = take(&w, rows * ldv);
    s->q_flags = (uint8_t *)take(&w, rows);
    s->live = (uint8_t *)take(&w, MR * PW);
    return w - workspace;
}

FA_FUNC int64_t forward_tasks(const fa_attention *a) {
    int64_t rows = a->H / a->Hk * a->Tq;
    return a->B * a->Hk * ((rows + a->rows_per_task - 1) / a->rows_per_task);
}
FA_FUNC int64_t forward_workspace(const fa_attention *a) {
    forward_state s;
    return forward_layout(&s, a, (char *)64);
}

FA_INLINE void forward_row(const forward_state *s, int64_t r, int64_t *head, int64_t *query) {
    *head = s->hk * s->group + (s->row0 + r) / s->a->Tq;
    *query = (s->row0 + r) % s->a->Tq;
}

/* Step 6. strip[r][0..end) scores -> exponentials; m and l[r] are the running maximum and the lanes of the running sum.
 * Returns 1 when some row's earlier sums were scaled; factor[r] says by how much. */
FA_INLINE int softmax_strip(int rows, int64_t end, real *strip, real *m, vec *l, real *factor) {
    real safe[MR], new_max[MR];
    for (int r = 0; r < rows; r++) {
        const real *S = strip + r * PW;
        vec mx = vload(S);
        for (int64_t j = VL; j < end; j += VL) mx = vmax(mx, vload(S + j));
        real top = vhmax(mx);
        new_max[r] = top > m[r] ? top : m[r];
        safe[r] = new_max[r] == NEG_INF ? (real)0 : new_max[r];
    }
    int scaled = 0;
    for (int r = 0; r < rows; r++) {
        /* A lane of its own would do for all six rows, but the maximum rarely moves: most rows take no exp here. */
        factor[r] = 1;
        if (new_max[r] != m[r]) {
            factor[r] = vexp_soft(vset1(m[r] - safe[r]))[0];
            scaled = 1;
        }
        m[r] = new_max[r];
    }
    for (int r = 0; r < rows; r++) {
        real *S = strip + r * PW;
        vec base = vset1(safe[r]), sum = vset1(0);
        for (int64_t j = 0; j < end; j += VL) {
            vec p = vexp_soft(vload(S + j) - base);
            vstore(S + j, p);
            sum = sum + p;
        }
        l[r] = vfma(l[r], vset1(factor[r]), sum);
    }
    return scaled;
}

/* Step 7 with masked pairs left out: the same chains as micro_gemm. */
FA_FUNC void context_careful(int rows, int64_t n, const real *P, const uint8_t *live, const real *V, int64_t ldv,
                             real *acc, int64_t width) {
    for (int r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++) {
            if (!live[r * PW + j]) continue;
            vec p = vset1(P[r * PW + j]);
            for (int64_t c = 0; c < width; c += VL)
                vstore(acc + r * width + c, vfma(p, vload(V + j * ldv + c), vload(acc + r * width + c)));
        }
}

/* Steps 4 to 7 for rows r0..r0+rows-1 of the task over keys lo..hi-1 of one chunk. panels[0] holds key `base`, as values
 * does. Returns 0 when a non-finite result may stem from a masked value: then call again with careful = 1. */
FA_FUNC int forward_tile(const forward_state *s, int64_t r0, int rows, const fa_range *range, int64_t lo, int64_t hi,
                         int64_t base, const real *panels, const real *values, int64_t values_stride, int careful,
                         real *m, vec *l) {
    const fa_attention *a = s->a;
    int masked_pairs = a->mask || a->bias;
    const real *raw[MR];
    int64_t head[MR], query[MR];
    for (int r = 0; r < rows; r++) {
        forward_row(s, r0 + r, &head[r], &query[r]);
        raw[r] = (const real *)a->query + s->b * a->query_strides.batch + head[r] * a->query_strides.head +
                 query[r] * a->query_strides.row;
        m[r] = NEG_INF;
        l[r] = vset1(0);
        masked_pairs |= range[r].lo > lo || range[r].hi < hi;
    }
    int fresh = 1;
    for (int64_t j0 = lo / PW * PW; j0 < hi; j0 += PW) {
        int64_t n = hi - j0 < PW ? hi - j0 : PW, end = padded(n);
        score_tile(&s->scores, rows, s->queries + (r0 * s->width), s->q_flags + r0, raw,
                   panels + (j0 - base) / PW * panel_stride(a->score, a->D), j0, n, s->strip);
        for (int r = 0; r < rows; r++) {
            real *S = s->strip + r * PW;
            if (a->softcap > 0 || a->bias || a->mask || n < end || range[r].lo > j0 || range[r].hi < j0 + n)
                row_options(a, s->b, head[r], query[r], range[r], j0, n, S, NULL);
            if (a->weights) {
                real *w = (real *)a->weights + ((s->b * a->H + head[r]) * a->Tq + query[r]) * a->Tk + j0;
                for (int64_t j = 0; j < n; j += VL) vstore_n(w + j, vload(S + j), n - j);
            }
        }
        if (careful)
            for (int r = 0; r < rows; r++)
                for (int64_t j = 0; j < n; j++) s->live[r * PW + j] = s->strip[r * PW + j] != NEG_INF;
        real factor[MR];
        int scaled = softmax_strip(rows, end, s->strip, m, l, factor);
        if (a->seeds)
            for (int r = 0; r < rows; r++) row_dropout(a, s->b, head[r], query[r], j0, n, s->strip + r * PW);
        if (scaled && !fresh)
            for (int r = 0; r < rows; r++) {
                if (factor[r] == 1) continue;
                vec f = vset1(factor[r]);
                for (int64_t c = 0; c < s->ldv; c += VL)
                    vstore(s->acc + r * s->ldv + c, vload(s->acc + r * s->ldv + c) * f);
            }
        const real *V = values + (j0 - base) * values_stride;
        if (careful) {
            if (fresh) memset(s->acc, 0, (size_t)(rows * s->ldv) * sizeof(real));
            context_careful(rows, n, s->strip, s->live, V, values_stride, s->acc, s->ldv);
        } else {
            micro_gemm(fresh, rows, s->ldv, s->strip, PW, 1, V, values_stride, s->acc, s->ldv, n);
        }
        fresh = 0;
    }
    return careful || !masked_pairs || !has_nonfinite(s->acc, rows * s->ldv);
}

/* Step 8: the chunk's maximum m, sum l and context acc of row r into its totals. */
FA_FUNC void forward_merge(const forward_state *s, int64_t r, real m, real l, const real *acc) {
    real *total = s->total + r * s->ldv;
    if (m == NEG_INF && l == 0) return; /* nothing was read */
    if (s->max[r] == NEG_INF && s->sum[r] == 0) {
        s->max[r] = m;
        s->sum[r] = l;
        memcpy(total, acc, (size_t)s->ldv * sizeof(real));
        return;
    }
    real top = m > s->max[r] ? m : s->max[r];
    vec old = vexp_soft(vset1(s->max[r] - top)), new = vexp_soft(vset1(m - top));
    s->max[r] = top;
    s->sum[r] = vfma(vset1(l), new, vset1(s->sum[r]) * old)[0];
    for (int64_t c = 0; c < s->ldv; c += VL)
        vstore(total + c, vfma(vload(acc + c), new, vload(total + c) * old));
}

/* Step 9. */
FA_FUNC void forward_finish(const forward_state *s, int64_t r) {
    const fa_attention *a = s->a;
    int64_t head, query;
    forward_row(s, r, &head, &query);
    real *out = (real *)a->context + s->b * a->context_strides.batch + head * a->context_strides.head +
                query * a->context_strides.row;
    real sum = s->sum[r], inverse = sum == 0 ? (real)0 : 1 / sum;
    for (int64_t c = 0; c < a->Dv; c += VL)
        vstore_n(out + c, vload(s->total + r * s->ldv + c) * vset1(inverse), a->Dv - c);
    int64_t at = (s->b * a->H + head) * a->Tq + query;
    if (a->row_max) ((real *)a->row_max)[at] = s->max[r];
    if (a->row_sum) ((real *)a->row_sum)[at] = sum;
    if (a->lse) ((real *)a->lse)[at] = sum == 0 ? NEG_INF : (real)((double)s->max[r] + log((double)sum));
    if (a->weights) {
        real *w = (real *)a->weights + at * a->Tk;
        vec base = vset1(s->max[r] == NEG_INF ? (real)0 : s->max[r]), f = vset1(inverse);
        for (int64_t j = 0; j < a->Tk; j += VL)
            vstore_n(w + j, vexp_soft(vload_n(w + j, a->Tk - j) - base) * f, a->Tk - j);
    }
}

FA_FUNC void forward_task(const fa_attention *a, int64_t task, void *workspace) {
    forward_state s = {.a = a};
    forward_layout(&s, a, workspace);
    int64_t group_rows = a->H / a->Hk * a->Tq, blocks = (group_rows + a->rows_per_task - 1) / a->rows_per_task;
    s.group = a->H / a->Hk;
    s.b = task / blocks / a->Hk;
    s.hk = task / blocks % a->Hk;
    s.row0 = task % blocks * a->rows_per_task;
    s.rows = group_rows - s.row0 < a->rows_per_task ? group_rows - s.row0 : a->rows_per_task;
    s.width = query_width(a);
    s.ldv = padded(a->Dv);
    int64_t memory = fa_memory_row(a, s.b), length = fa_key_length(a, s.b);
    const real *key = (const real *)a->key + memory * a->key_strides.batch + s.hk * a->key_strides.head;
    const real *value = (const real *)a->value + memory * a->value_strides.batch + s.hk * a->value_strides.head;
    s.scores = (score_source){.a = a, .key = key, .v = s.v, .ldq = s.width};
    if (a->score == FA_SCORE_ADDITIVE) s.scores.v_sum = additive_vector(a->score_vector, a->D, s.v, s.width);

    int64_t key_lo = length, key_hi = 0;
    for (int64_t r = 0; r < s.rows; r++) {
        int64_t head, query;
        forward_row(&s, r, &head, &query);
        pack_queries(a,
                     (const real *)a->query + s.b * a->query_strides.batch + head * a->query_strides.head +
                         query * a->query_strides.row,
                     s.queries + r * s.width, s.width, s.q_flags + r);
        s.max[r] = NEG_INF;
        s.sum[r] = 0;
        memset(s.total + r * s.ldv, 0, (size_t)s.ldv * sizeof(real));
        fa_range k = fa_row_range(a, length, query);
        if (k.lo < k.hi) {
            key_lo = k.lo < key_lo ? k.lo : key_lo;
            key_hi = k.hi > key_hi ? k.hi : key_hi;
        }
        if (a->weights) {
            real *w = (real *)a->weights + ((s.b * a->H + head) * a->Tq + query) * a->Tk;
            for (int64_t j = 0; j < a->Tk; j++) w[j] = NEG_INF;
        }
    }
    for (int64_t chunk = key_lo / FA_CHUNK * FA_CHUNK; chunk < key_hi; chunk += FA_CHUNK) {
        int64_t first = chunk > key_lo ? chunk : key_lo / PW * PW;
        int64_t last = chunk + FA_CHUNK < key_hi ? chunk + FA_CHUNK : key_hi;
        const real *panels = s.panels, *values = value + first * a->value_strides.row;
        int64_t values_stride = a->value_strides.row;
        if (a->key_panels)
            panels = (const real *)a->key_panels + memory * a->panels_batch + s.hk * a->panels_head +
                     first / PW * panel_stride(a->score, a->D);
        else
            pack_keys(a->score, a->activation, key, a->key_strides.row, first, last, a->D, s.panels, s.scratch);
        if (s.ldv != a->Dv) {
            for (int64_t j = 0; j < last - first; j++)
                for (int64_t c = 0; c < s.ldv; c += VL)
                    vstore(s.values + j * s.ldv + c,
                           c < a->Dv ? vload_n(values + j * values_stride + c, a->Dv - c) : vset1(0));
            values = s.values;
            values_stride = s.ldv;
        }
        for (int64_t r = 0; r < s.rows;) {
            int rows = balanced_rows(s.rows - r);
            fa_range range[MR];
            int64_t lo = last, hi = first;
            for (int i = 0; i < rows; i++) {
                range[i] = fa_row_range(a, length, (s.row0 + r + i) % a->Tq);
                if (range[i].lo >= range[i].hi) continue;
                lo = range[i].lo < lo ? range[i].lo : lo;
                hi = range[i].hi > hi ? range[i].hi : hi;
            }
            lo = lo < first ? first : lo;
            hi = hi > last ? last : hi;
            if (lo < hi) {
                real m[MR];
                vec l[MR];
                if (!forward_tile(&s, r, rows, range, lo, hi, first, panels, values, values_stride, 0, m, l))
                    forward_tile(&s, r, rows, range, lo, hi, first, panels, values, values_stride, 1, m, l);
                for (int i = 0; i < rows; i++) forward_merge(&s, r + i, m[i], vhsum(l[i]), s.acc + i * s.ldv);
            }
            r += rows;
        }
    }
    for (int64_t r = 0; r < s.rows; r++) forward_finish(&s, r);
}
