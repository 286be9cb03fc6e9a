/* Fused attention, forward: scores, softmax and context of a block of rows in one pass over the keys.
 *
 *   s_ij = options(scale * score(q_i, k_j)),   m_i = max_j s_ij
 *   context_i = sum_j e^(s_ij - m_i) v_j / sum_j e^(s_ij - m_i)
 *
 * Shapes: query (B, H, Tq, D), key (B, Hk, Tk, D), value (B, Hk, Tk, Dv), context (B, H, Tq, Dv).
 * A task is one (batch, key head) and up to rows_per_task rows. Keys come in chunks of FA_CHUNK, in panels of PW.
 *   1. pack the task's queries                       rows x D
 *   2. for each chunk: pack its keys into panels      FA_CHUNK x D, stays in L2 and serves all rows of the task; one
 *                                                       tile: a panel at a time, or keys as they lie
 *   3.   for each tile of up to 6 rows, panel by panel:
 *   4.     scores of 6 x FA_STRIP in register tiles, kept in a strip of 3 KiB; for one tile, of the chunk
 *   5.     softcap, modifier, bias, masks on the strip (skipped where nothing applies); a chunk, panel or strip that
 *          a mask function's blocks exclude is left out
 *   6.     running maximum, exponentials, running sum
 *   7.     context tile += strip x values             values are read in place, or from an aligned copy; each strip is
 *                                                       one chain
 *   8.   merge the chunk's (maximum, sum, context) into the row's totals, whose rounding errors are kept apart
 *   9. divide, write context, lse, weights
 *
 * Numerics. A row's arithmetic depends on its own keys alone: panels and chunks lie at fixed multiples of PW and
 * FA_CHUNK, each chunk starts afresh and chunks are merged in ascending order, so one row alone, a block, or chunks
 * computed by different threads give the same bits.
 * Masked values must not be read, yet 0 * NaN is NaN: step 7 runs as if all were finite; a tile that ends non-finite
 * and has masked pairs is computed again with those pairs left out, in the same order, which leaves all other bits
 * alone. Sums of exponentials times values may overflow where their mean does not: a task with a context that is not
 * finite is computed once more with exponentials times a power of two, which the division takes out again; the rows
 * that were finite stay as they are, since of small weights something may be lost.
 * Bound for D = Dv = 64 on two 512-bit units: 64 + 64 multiply-adds and about 16 other operations for a vector of
 * scores.
 */
#ifndef FA_ATTENTION_FORWARD_INL
#define FA_ATTENTION_FORWARD_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"
#include "../tile/fma.inl"
#include "../tile/sums.inl"
#include "kept.inl"
#include "rows.inl"
#include "tile.inl"

/* Whether keys and values of a chunk are brought together before they are read. */
FA_INLINE int forward_gathers(const fa_attention *a) { return a->position_rows || a->kept; }

/* Lays a worker's workspace out; returns its size in bytes. */
FA_FUNC int64_t forward_layout(forward_state *s, const fa_attention *a, int64_t rows, char *workspace) {
    char *w = workspace;
    int64_t width = query_width(a), ldv = padded(a->Dv);
    const int gather = forward_gathers(a);
    /* For one tile of rows keys and values come from memory, faster in long runs of one than in short turns. */
    const int one_tile = rows <= MR;
    int64_t panels = a->key_panels ? 0 : one_tile && !gather ? 1 : FA_CHUNK / PW;
    s->few = one_tile && !a->key_panels && !gather;
    s->lds = one_tile ? FA_CHUNK : FA_STRIP;
    s->queries = take(&w, rows, width);
    s->panels = take(&w, panels, panel_stride(a->score, a->D));
    s->keys = take_of(sizeof(element), &w, gather ? FA_CHUNK : 0, padded(a->D));
    s->values = take(&w, FA_IN_PLACE && ldv == a->Dv && rows < FA_COPY_ROWS && !gather ? 0 : FA_CHUNK, ldv);
    s->v = take(&w, vector_room(a, width), 1);
    s->strip = take(&w, MR, s->lds);
    s->acc = take(&w, MR, ldv);
    s->max = take(&w, rows, 1);
    s->sum = take(&w, rows, 1);
    s->total = take(&w, rows, ldv);
    s->lost = take(&w, a->Tk > FA_CHUNK ? rows : 0, ldv + VL);
    s->q_flags = (uint8_t *)take(&w, rows, 1);
    s->live = (uint8_t *)take(&w, MR, s->lds);
    return w - workspace;
}

FA_FUNC int64_t attention_forward_chunks(const fa_attention *a) { return (a->Tk + FA_CHUNK - 1) / FA_CHUNK; }
FA_FUNC int64_t attention_forward_partial(const fa_attention *a) {
    return fa_size_mul(fa_size_mul(a->H / a->Hk, a->Tq), padded(a->Dv) + 2) + PW;
}
FA_FUNC int64_t attention_forward_workspace(const fa_attention *a, const fa_plan *plan) {
    forward_state s;
    return forward_layout(&s, a, plan->rows_per_task, (char *)64);
}

/* Step 8: a chunk's maximum m, sum l and context acc of row r into its totals. */
FA_FUNC void forward_merge(forward_state *s, int64_t r, real m, real l, const real *acc) {
    real *total = s->total + r * s->ldv;
    if (m == NEG_INF && l == 0) return; /* nothing was read */
    if (s->max[r] == NEG_INF && s->sum[r] == 0) {
        s->max[r] = m;
        s->sum[r] = l;
        memcpy(total, acc, (size_t)s->ldv * sizeof(real));
        memset(s->lost + r * (s->ldv + VL), 0, (size_t)(s->ldv + VL) * sizeof(real));
        return;
    }
    real top = m > s->max[r] ? m : s->max[r], *lost = s->lost + r * (s->ldv + VL), sum[VL], part[VL];
    vec old = vexp_soft(vset1(s->max[r] - top)), new = vexp_soft(vset1(m - top));
    s->max[r] = top;
    vstore(sum, vset1(s->sum[r]) * old);
    vstore(part, vset1(l) * new);
    scale_row(lost, lost, s->ldv + VL, old[0]);
    sum_keep(sum, lost + s->ldv, part, VL);
    s->sum[r] = sum[0];
    for (int64_t c = 0; c < s->ldv; c += VL) {
        vstore(part, vload(acc + c) * new);
        vstore(total + c, vload(total + c) * old);
        sum_keep(total + c, lost + c, part, VL);
    }
}

/* The rounding errors of the merges of row r into its sums. */
FA_INLINE void forward_settle(forward_state *s, int64_t r) {
    real *total = s->total + r * s->ldv, *lost = s->lost + r * (s->ldv + VL);
    sum_settle(total, total, lost, s->ldv);
    sum_settle(s->sum + r, s->sum + r, lost + s->ldv, 1);
}

/* out = total * inverse / down. A mean of finite numbers is finite: without dropout rounding alone may overflow. */
FA_INLINE void forward_divide(forward_state *s, element *out, const real *total, real inverse) {
    const vec f = vset1(inverse / s->down), zero = vset1(0);
    const int64_t n = s->a->Dv;
    const vec bound = vset1(FA_LARGEST), infinity = vset1((real)INFINITY);
    const int bounded = s->down != 1 && !s->a->seeds;
    ivec unfit = s->unfit;
    for (int64_t c = 0; c < n; c += VL) {
        const vec x = vload(total + c);
        vec y = x * f + zero; /* no zero is negative: how a row was cut must not show */
        unfit |= (ivec)(y * zero);
        if (bounded) y = vselect_lt(vmax(x, -x), infinity, vmin(bound, vmax(-bound, y)), y);
        estore_n(out + c, y, n - c);
    }
    s->unfit = unfit;
}

/* Whether a context that was written is finite. */
FA_FUNC int forward_written(const element *out, int64_t n) {
    const vec zero = vset1(0);
    vec all = zero;
    for (int64_t c = 0; c < n; c += VL) all = all + eload_n(out + c, n - c) * zero;
    return vhsum(all) == 0;
}

/* Whether all contexts so far are finite. */
FA_INLINE int forward_finite(const forward_state *s) {
    const real sum = vhsum((vec)s->unfit); /* of zeros of either sign, or NaN */
    return sum == sum;
}

/* Step 9 for one row, from its maximum, sum and unnormalised context. */
FA_FUNC void forward_finish(forward_state *s, int64_t head, int64_t query, real max, real sum, const real *total) {
    const fa_attention *a = s->a;
    element *out = a->context + row_at(&a->context_strides, s->b, head, query);
    const int empty = max == NEG_INF && sum == 0;
    real inverse = empty ? (real)0 : 1 / sum;
    if (empty)
        memset(out, 0, (size_t)a->Dv * sizeof(element));
    else if (s->down == 1 || !forward_written(out, a->Dv)) /* the second time other rows have what they had */
        forward_divide(s, out, total, inverse);
    int64_t at = (s->b * a->H + head) * a->Tq + query;
    if (a->row_max) a->row_max[at] = max;
    if (a->row_sum) a->row_sum[at] = sum;
    if (a->lse) a->lse[at] = to_element(empty ? NEG_INF : (real)((double)max + log((double)sum)));
    if (a->weights) {
        element *w = a->weights + at * a->Tk;
        vec base = vset1(max == NEG_INF ? (real)0 : max), f = vset1(inverse);
        for (int64_t j = 0; j < a->Tk; j += VL)
            estore_n(w + j, vexp_soft(eload_n(w + j, a->Tk - j) - base) * f, a->Tk - j);
    }
}

/* Batch entry and key head of a task. Beams share the keys of one memory row, or of most positions: they follow each
 * other, so that its panels and values are still in L2. */
FA_INLINE void forward_head(const fa_attention *a, int64_t head_task, int64_t *b, int64_t *hk) {
    const int beams = a->memory_rows || a->position_rows;
    *b = beams ? head_task % a->B : head_task / a->Hk;
    *hk = beams ? head_task / a->B : head_task % a->Hk;
}

/* Step 2 where each position has a row of its own, or rows are of a narrower type: keys and values of the chunk are
 * brought together first. Every line is read once, as it would be in place, and written to memory that stays in L1 or
 * L2. */
FA_FUNC void forward_gather(forward_state *s, forward_chunk *chunk) {
    const fa_attention *a = s->a;
    const int64_t first = chunk->first, ldk = padded(a->D), bytes = kept_bytes(a->kept);
    for (int64_t j = first; j < chunk->last; j++) {
        const int64_t row = a->position_rows ? a->position_rows[j * a->B + s->b] : fa_memory_row(a, s->b);
        const int64_t key = row_at(&a->key_strides, row, s->hk, j), value = row_at(&a->value_strides, row, s->hk, j);
        element *k = s->keys + (j - first) * ldk;
        real *v = s->values + (j - first) * s->ldv;
        if (a->kept) {
            kept_row(k, (const char *)a->key + key * bytes, a->D, a->kept);
            kept_row(v, (const char *)a->value + value * bytes, a->Dv, a->kept);
            continue;
        }
        memcpy(k, a->key + key, (size_t)a->D * sizeof(element));
        load_row(v, a->value + value, a->Dv, 1);
        for (int64_t c = a->Dv; c < s->ldv; c++) v[c] = 0;
    }
    pack_key_panels(a->score, &s->scores.form, s->keys, ldk, 0, chunk->last - first, s->panels, (fa_ahead){0});
    s->scores.key = s->keys - first * ldk;
    s->scores.key_row = ldk;
    chunk->values = s->values;
    chunk->values_stride = s->ldv;
}

/* The rows of a task: those of `block` of one (batch, key head). */
FA_FUNC void forward_rows(forward_state *s, const fa_attention *a, int64_t rows_per_task, int64_t head_task,
                          int64_t block, void *workspace) {
    const int64_t group = a->H / a->Hk, group_rows = group * a->Tq;
    memset(s, 0, sizeof *s);
    forward_layout(s, a, rows_per_task, workspace);
    s->a = a;
    forward_head(a, head_task, &s->b, &s->hk);
    s->first_head = s->hk * group;
    s->row0 = block * rows_per_task;
    s->rows = group_rows - s->row0 < rows_per_task ? group_rows - s->row0 : rows_per_task;
    s->width = query_width(a);
    s->ldv = padded(a->Dv);
    s->length = fa_key_length(a, s->b);
    s->down = 1;
}

/* Where chunk `chunk` of a head leaves its totals. */
FA_INLINE void forward_totals(forward_state *s, const fa_plan *plan, int64_t head_task, int64_t chunk) {
    real *at = plan->partials + (head_task * plan->pieces + chunk) * attention_forward_partial(s->a);
    s->max = at;
    s->sum = at + s->rows;
    s->total = at + 2 * s->rows;
}

/* A power of two with which the exponentials of a row, dropout included, sum to less than 1. */
FA_FUNC real forward_down(const fa_attention *a, int64_t b) {
    const double most = (double)fa_key_length(a, b) * (a->seeds ? a->keep_scale : 1);
    real down = (real)0.5;
    while ((double)down * most >= 0.5) down *= (real)0.5;
    return down;
}

/* Returns whether all contexts are finite; scaled: 0, or 1 for exponentials times a power of two. */
FA_FUNC int forward_pass(const fa_attention *a, const fa_plan *plan, int64_t task, void *workspace, int scaled) {
    forward_state s;
    const int64_t head_task = task / plan->pieces, piece = task % plan->pieces;
    forward_rows(&s, a, plan->rows_per_task, head_task, plan->partials ? 0 : piece, workspace);
    if (scaled) s.down = forward_down(a, s.b);
    int64_t begin = 0, end = a->Tk; /* the keys of this task */
    if (plan->partials) {
        begin = piece * FA_CHUNK;
        end = begin + FA_CHUNK < a->Tk ? begin + FA_CHUNK : a->Tk;
        forward_totals(&s, plan, head_task, piece);
    }
    const int gather = forward_gathers(a);
    const int64_t memory = gather ? 0 : fa_memory_row(a, s.b), hk = s.hk;
    const element *value = gather ? s.values : a->value + row_at(&a->value_strides, memory, hk, 0);
    s.scores = score_from(a, s.v, s.width, s.width);
    if (!gather) s.scores.key = a->key + row_at(&a->key_strides, memory, hk, 0);

    fa_ahead ahead;
    if (score_kernels[a->score]->pack_panel && !plan->partials && plan->pieces == 1 && !s.few && !gather) {
        ahead_of(a, task, &ahead);
        s.ahead = &ahead;
        s.asked = ahead_each(&ahead, (s.rows + MR - 1) / MR * ((a->Tk + VL - 1) / VL) * ((a->D + 3) / 4));
    }
    int64_t key_lo = s.length, key_hi = 0;
    fa_row row = fa_task_row(a, s.row0);
    for (int64_t r = 0; r < s.rows; r++, row = fa_next_row(a, row)) {
        int64_t head = s.first_head + row.head;
        pack_query(&s.scores, forward_query(&s, head, row.query), s.queries + r * s.width, s.q_flags + r, NULL);
        s.max[r] = NEG_INF;
        s.sum[r] = 0;
        fa_range k = fa_row_range(a, s.b, head, s.length, row.query);
        if (k.lo < k.hi) {
            key_lo = k.lo < key_lo ? k.lo : key_lo;
            key_hi = k.hi > key_hi ? k.hi : key_hi;
        }
        if (a->weights) {
            element *w = a->weights + ((s.b * a->H + head) * a->Tq + row.query) * a->Tk;
            for (int64_t j = begin; j < end; j++) w[j] = to_element(NEG_INF);
        }
    }
    if (key_lo < begin) key_lo = begin;
    if (key_hi > end) key_hi = end;
    /* With one chunk there is nothing to merge: rows are finished as their tiles are. */
    const int one_chunk = !plan->partials && key_lo / FA_CHUNK == (key_hi - 1) / FA_CHUNK;
    for (int64_t start = key_lo / FA_CHUNK * FA_CHUNK; start < key_hi; start += FA_CHUNK) {
        forward_chunk chunk = {.first = start > key_lo ? start : key_lo / PW * PW,
                               .last = start + FA_CHUNK < key_hi ? start + FA_CHUNK : key_hi,
                               .values_stride = a->value_strides.row,
                               .panels = s.panels};
        if (a->allow && !fa_rows_reach(a, s.b, s.first_head, s.row0, s.rows, chunk.first, chunk.last)) continue;
        const element *values = gather ? value : value + chunk.first * chunk.values_stride;
        chunk.values = row_in(values, NULL, 0);
        if (gather)
            forward_gather(&s, &chunk);
        else if (a->key_panels)
            chunk.panels = a->key_panels + memory * a->panels_batch + hk * a->panels_head +
                           chunk.first / PW * panel_stride(a->score, a->D);
        else if (!s.few)
            pack_key_panels(a->score, &s.scores.form, s.scores.key, a->key_strides.row, chunk.first, chunk.last,
                            s.panels, (fa_ahead){0});
        if (!gather && (!FA_IN_PLACE || s.ldv != a->Dv ||
                        (s.rows >= FA_COPY_ROWS && unaligned_rows(values, chunk.values_stride, a->Dv)))) {
            load_block(s.values, s.ldv, values, chunk.values_stride, chunk.last - chunk.first, a->Dv, 1);
            chunk.values = s.values;
            chunk.values_stride = s.ldv;
        }
        row = fa_task_row(a, s.row0);
        for (int64_t r = 0; r < s.rows;) {
            forward_tile_rows t;
            t.rows = balanced_rows(s.rows - r);
            t.first = r;
            int64_t lo = chunk.last, hi = chunk.first;
            for (int i = 0; i < t.rows; i++, row = fa_next_row(a, row)) {
                t.head[i] = s.first_head + row.head;
                t.query[i] = row.query;
                t.range[i] = fa_row_range(a, s.b, t.head[i], s.length, row.query);
                if (t.range[i].lo >= t.range[i].hi) continue;
                lo = t.range[i].lo < lo ? t.range[i].lo : lo;
                hi = t.range[i].hi > hi ? t.range[i].hi : hi;
            }
            r += t.rows;
            lo = lo < chunk.first ? chunk.first : lo;
            hi = hi > chunk.last ? chunk.last : hi;
            if (lo >= hi) continue;
            if (!forward_tile(&s, &t, &chunk, lo, hi, 0)) forward_tile(&s, &t, &chunk, lo, hi, 1);
            for (int i = 0; i < t.rows; i++) {
                real sum = vhsum(t.l[i]);
                if (one_chunk) {
                    forward_finish(&s, t.head[i], t.query[i], t.m[i], sum, s.acc + i * s.ldv);
                    s.sum[t.first + i] = -1; /* done */
                } else {
                    forward_merge(&s, t.first + i, t.m[i], sum, s.acc + i * s.ldv);
                }
            }
        }
    }
    if (plan->partials) return 1;
    row = fa_task_row(a, s.row0);
    for (int64_t r = 0; r < s.rows; r++, row = fa_next_row(a, row))
        if (s.sum[r] != -1) {
            if (!(s.max[r] == NEG_INF && s.sum[r] == 0)) forward_settle(&s, r);
            forward_finish(&s, s.first_head + row.head, row.query, s.max[r], s.sum[r], s.total + r * s.ldv);
        }
    return forward_finite(&s);
}

FA_FUNC void attention_forward(const fa_attention *a, const fa_plan *plan, int64_t task, void *workspace) {
    if (!forward_pass(a, plan, task, workspace, 0)) forward_pass(a, plan, task, workspace, 1);
}

/* Step 8 for a head whose chunks were separate tasks: the same merges in the same order as in one task. */
FA_FUNC void attention_forward_join(const fa_attention *a, const fa_plan *plan, int64_t head_task, void *workspace) {
    forward_state s, part;
    forward_rows(&s, a, plan->rows_per_task, head_task, 0, workspace);
    part = s;
    for (int64_t r = 0; r < s.rows; r++) {
        s.max[r] = NEG_INF;
        s.sum[r] = 0;
    }
    for (int64_t chunk = 0; chunk < plan->pieces; chunk++) {
        forward_totals(&part, plan, head_task, chunk);
        for (int64_t r = 0; r < s.rows; r++) forward_merge(&s, r, part.max[r], part.sum[r], part.total + r * s.ldv);
    }
    fa_row row = fa_task_row(a, 0);
    for (int64_t r = 0; r < s.rows; r++, row = fa_next_row(a, row)) {
        if (!(s.max[r] == NEG_INF && s.sum[r] == 0)) forward_settle(&s, r);
        forward_finish(&s, s.first_head + row.head, row.query, s.max[r], s.sum[r], s.total + r * s.ldv);
    }
    if (forward_finite(&s)) return;
    const fa_plan whole = {.rows_per_task = plan->rows_per_task, .pieces = 1}; /* whose workspace is as large */
    forward_pass(a, &whole, head_task, workspace, 1);
}
#endif
