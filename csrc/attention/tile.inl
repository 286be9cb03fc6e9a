/* One tile of up to MR rows against the keys of one chunk: steps 4 to 7 of forward.c. */
#ifndef FA_ATTENTION_TILE_INL
#define FA_ATTENTION_TILE_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"
#include "../tile/fma.inl"
#include "rows.inl"

#ifndef FA_CHUNK
#define FA_CHUNK 512
#endif
#define FA_STRIP (2 * PW)
#define FA_COPY_ROWS 12 /* from here on copying unaligned values pays */

typedef struct {
    const fa_attention *a;
    score_source scores;
    int64_t b, hk, first_head, row0, rows, length, width, ldv; /* ldv: columns of context rows, a multiple of VL */
    int few;                                                   /* one tile of rows: keys are packed panel by panel */
    fa_ahead *ahead;                                           /* for score_tile_rows */
    int64_t asked;
    int64_t lds;   /* keys whose scores are kept: row r, key j is strip[r * lds + j % lds] */
    element *keys; /* of a chunk, where each position has a row of its own */
    real *queries, *panels, *values, *v, *strip, *acc;
    real *max, *sum, *total; /* of the task's rows, over the chunks so far */
    real *lost;              /* rounding errors of total and, in a vector behind, of sum */
    uint8_t *q_flags, *live;
    real down;  /* a power of two that exponentials are multiplied by before they meet values */
    ivec unfit; /* bits of all contexts times 0 */
} forward_state;

/* One tile: up to MR rows of the task, what they may read, and their running softmax. */
typedef struct {
    int rows;
    int64_t first; /* row of the task */
    int64_t head[MR], query[MR];
    fa_range range[MR];
    real m[MR];
    vec l[MR];
} forward_tile_rows;

/* The keys of one chunk: where their panels and values begin. */
typedef struct {
    int64_t first, last, values_stride;
    const real *panels, *values;
} forward_chunk;

FA_INLINE const element *forward_query(const forward_state *s, int64_t head, int64_t query) {
    const fa_attention *a = s->a;
    return a->query + row_at(&a->query_strides, s->b, head, query);
}

/* Step 6. Scores in strip[r][0..end) -> exponentials; m and l[r] are the running maximum and the lanes of the
 * running sum. Returns 1 when some row's earlier sums were scaled; factor[r] says by how much. */
FA_INLINE int softmax_strip(int rows, int64_t end, real *strip, int64_t lds, real *m, vec *l, real *factor) {
    real safe[MR];
    int scaled = 0;
    for (int r = 0; r < rows; r++) {
        const real *S = strip + r * lds;
        vec mx = vload(S);
        for (int64_t j = VL; j < end; j += VL) mx = vmax(mx, vload(S + j));
        real top = vhmax(mx);
        factor[r] = 1;
        safe[r] = m[r];
        if (top > m[r]) { /* rarely, after a row's first strips */
            factor[r] = m[r] == NEG_INF ? (real)0 : vexp_soft(vset1(m[r] - top))[0];
            m[r] = safe[r] = top;
            scaled = 1;
        } else if (m[r] == NEG_INF) {
            safe[r] = 0;
        }
    }
    for (int r = 0; r < rows; r++) {
        real *S = strip + r * lds;
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

/* Step 7 for one or two rows of wide values, which then stream from memory: whole rows of values in order, four at
 * a time, instead of a strip of columns of all of them. The same chains as micro_gemm; apart: as many rows as acc, for
 * a sum that is to be added. */
FA_FUNC void context_wide(int mode, int rows, int64_t n, const real *P, int64_t ldp, const real *V, int64_t stride,
                          real *acc, real *apart, int64_t width) {
    real *sums = mode == MICRO_ADD ? apart : acc;
    memset(sums, 0, (size_t)(rows * width) * sizeof(real));
    for (int64_t j = 0; j < n; j += 4) {
        const int depth = n - j < 4 ? (int)(n - j) : 4;
        for (int r = 0; r < rows; r++) {
            const real *p = P + r * ldp + j, *v = V + j * stride;
            real *to = sums + r * width;
            for (int64_t c = 0; c < width; c += VL) {
                vec sum = vload(to + c);
                if (depth == 4) {
#pragma GCC unroll 4
                    for (int i = 0; i < 4; i++) sum = vfma(vset1(p[i]), vload(v + i * stride + c), sum);
                } else {
                    for (int i = 0; i < depth; i++) sum = vfma(vset1(p[i]), vload(v + i * stride + c), sum);
                }
                vstore(to + c, sum);
            }
        }
    }
    for (int64_t c = 0; mode == MICRO_ADD && c < rows * width; c += VL)
        vstore(acc + c, vload(acc + c) + vload(apart + c));
}

/* Whether some row of a tile may read some of keys from..to-1, as far as their blocks say. */
FA_INLINE int forward_reach(const forward_state *s, const forward_tile_rows *t, int64_t from, int64_t to) {
    if (!s->a->allow) return 1;
    for (int r = 0; r < t->rows; r++)
        if (fa_blocks_reach(s->a, s->b, t->head[r], t->query[r], from, to)) return 1;
    return 0;
}

/* Step 4 for keys from..to-1 of a chunk. */
FA_FUNC void forward_scores(const forward_state *s, const forward_tile_rows *t, const forward_chunk *chunk,
                            const element *const *raw, int64_t from, int64_t to) {
    const fa_attention *a = s->a;
    for (int64_t j = from; j < to; j += PW) {
        const int64_t keys = to - j < PW ? to - j : PW;
        if (!forward_reach(s, t, j, j + keys)) continue;
        score_tile_rows rows = {.rows = t->rows,
                                .query = s->queries + t->first * s->width,
                                .flags = s->q_flags + t->first,
                                .raw = raw,
                                .panel = chunk->panels + (j - chunk->first) / PW * panel_stride(a->score, a->D),
                                .first = j,
                                .keys = keys,
                                .ahead = s->ahead,
                                .asked = s->asked,
                                .S = s->strip + j % s->lds,
                                .lds = s->lds};
        if (s->few) {
            const element *key = s->scores.key + j * a->key_strides.row;
            const score_kernel *kernel = score_kernels[a->score];
            if (kernel->tile_of_rows && kernel->tile_of_rows(&s->scores, &rows, key)) continue;
            /* The values of these keys, and after the last of them what follows in memory: the next batch entry's. */
            const int64_t next = j + keys < chunk->last ? 0 : chunk->last - chunk->first;
            const fa_ahead ahead = {{(const char *)(chunk->values + (j - chunk->first) * chunk->values_stride),
                                     (const char *)(key + keys * a->key_strides.row)},
                                    {keys * chunk->values_stride * (int64_t)sizeof(real) / 64,
                                     next * a->key_strides.row * (int64_t)sizeof(element) / 64}};
            pack_key_panels(a->score, &s->scores.form, s->scores.key, a->key_strides.row, j, j + keys, s->panels,
                            ahead);
            rows.panel = s->panels;
        }
        score_kernels[a->score]->tile(&s->scores, &rows);
    }
}

/* Steps 4 to 7 for one tile over keys lo..hi-1 of one chunk. Returns 0 when a non-finite result may stem from a masked
 * value: then call again with leave_out = 1. */
FA_FUNC int forward_tile(const forward_state *s, forward_tile_rows *t, const forward_chunk *chunk, int64_t lo,
                         int64_t hi, int leave_out) {
    const fa_attention *a = s->a;
    const int rows = t->rows, elementwise = has_elementwise(a);
    int masked_pairs = a->mask || a->bias || a->modifier || a->allow, mode = MICRO_FRESH;
    const element *raw[MR];
    for (int r = 0; r < rows; r++) {
        raw[r] = forward_query(s, t->head[r], t->query[r]);
        t->m[r] = NEG_INF;
        t->l[r] = vset1(0);
        masked_pairs |= t->range[r].lo > lo || t->range[r].hi < hi;
    }
    for (int64_t from = lo / PW * PW, scored = from; from < hi;) {
        int64_t to = (from / FA_STRIP + 1) * FA_STRIP;
        if (to > hi) to = hi;
        const int64_t n = to - from, end = padded(n);
        if (from >= scored) {
            scored = (from / s->lds + 1) * s->lds < hi ? (from / s->lds + 1) * s->lds : hi;
            for (int r = 0; a->bias && r < rows; r++) bias_ahead(a, s->b, t->head[r], t->query[r], from, scored - from);
            forward_scores(s, t, chunk, raw, from, scored);
        }
        if (!forward_reach(s, t, from, to)) {
            from = to;
            continue;
        }
        real *strip = s->strip + from % s->lds;
        for (int r = 0; r < rows; r++) {
            real *S = strip + r * s->lds;
            if (elementwise || n < end || t->range[r].lo > from || t->range[r].hi < to)
                row_options(a, s->b, t->head[r], t->query[r], t->range[r], from, n, S, NULL, NULL);
            if (a->weights) {
                element *w = a->weights + ((s->b * a->H + t->head[r]) * a->Tq + t->query[r]) * a->Tk + from;
                for (int64_t j = 0; j < n; j += VL) estore_n(w + j, vload(S + j), n - j);
            }
            if (leave_out)
                for (int64_t j = 0; j < n; j++) s->live[r * s->lds + j] = S[j] != NEG_INF;
        }
        real factor[MR];
        int scaled = softmax_strip(rows, end, strip, s->lds, t->m, t->l, factor);
        if (a->seeds)
            for (int r = 0; r < rows; r++) row_dropout(a, s->b, t->head[r], t->query[r], from, n, strip + r * s->lds);
        if (s->down != 1)
            for (int r = 0; r < rows; r++) scale_row(strip + r * s->lds, strip + r * s->lds, end, s->down);
        if (scaled && mode == MICRO_ADD)
            for (int r = 0; r < rows; r++) {
                if (factor[r] == 1) continue;
                vec f = vset1(factor[r]);
                for (int64_t c = 0; c < s->ldv; c += VL)
                    vstore(s->acc + r * s->ldv + c, vload(s->acc + r * s->ldv + c) * f);
            }
        const real *V = chunk->values + (from - chunk->first) * chunk->values_stride;
        if (leave_out) {
            unmasked_product(mode, rows, n, strip, s->live, s->lds, 1, V, chunk->values_stride, s->acc, s->ldv, s->ldv);
        } else if (rows <= 2 && s->ldv > NV * VL) {
            context_wide(mode, rows, n, strip, s->lds, V, chunk->values_stride, s->acc, s->acc + rows * s->ldv, s->ldv);
        } else {
            micro_gemm(mode, rows, s->ldv, strip, s->lds, 1, V, chunk->values_stride, s->acc, s->ldv, n);
        }
        mode = MICRO_ADD;
        from = to;
    }
    return leave_out || !masked_pairs || mode == MICRO_FRESH || !has_nonfinite(s->acc, rows * s->ldv);
}
#endif
