/* Attention whose weights are mostly zero (attention/normalizers/entmax.inl): what forward and backward share.
 *
 * A threshold needs a whole row of scores, so a block of rows keeps its scores, rows x Tk, in the workspace: as many
 * rows as 256 KiB hold, at least one tile, at most FA_SPARSE_ROWS. Keys are scored in chunks and panels as in
 * forward.c; what follows goes row by row and touches only the keys that have a weight.
 */
#ifndef FA_ATTENTION_SPARSE_INL
#define FA_ATTENTION_SPARSE_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "rows.inl"
#include "tile.inl"
#include "normalizers/entmax.inl"

#ifndef FA_SPARSE_ROWS
#define FA_SPARSE_ROWS 96
#define FA_SPARSE_BYTES (256 * 1024)
#endif

typedef struct {
    const fa_attention *a;
    score_source scores;
    int64_t b, hk, first_head, row0, rows, length, width;
    int64_t lds; /* row r's score of key j is S[r * lds + j] */
    const element *value;
    const real *key_panels;
    real *queries, *panels, *v, *S, *slope, *before, *weights, *context;
    uint8_t *q_flags;
    sparse_row row;
} sparse_state;

FA_FUNC int64_t sparse_rows(const fa_attention *a) {
    const int64_t bytes = (a->Tk + PW) * (int64_t)sizeof(real), rows = FA_SPARSE_BYTES / bytes / MR * MR;
    return rows < MR ? MR : rows > FA_SPARSE_ROWS ? FA_SPARSE_ROWS : rows;
}

/* Lays a worker's workspace out for blocks of up to `rows` rows; returns what follows. */
FA_FUNC char *sparse_layout(sparse_state *s, const fa_attention *a, int64_t rows, char *workspace) {
    char *w = workspace;
    memset(s, 0, sizeof *s);
    s->a = a;
    s->width = query_width(a);
    s->lds = (a->Tk + FA_PIECE - 1) / FA_PIECE * FA_PIECE; /* and whole panels */
    s->queries = take(&w, rows, s->width);
    s->panels = take(&w, a->key_panels ? 0 : rows <= MR ? 1 : FA_CHUNK / PW, panel_stride(a->score, a->D));
    s->v = take(&w, vector_room(a, s->width), 1);
    s->S = take(&w, rows, s->lds);
    s->slope = take(&w, has_slope(a) ? s->lds : 0, 1);
    s->before = take(&w, a->modifier ? s->lds : 0, 1);
    s->weights = take(&w, s->lds, 1);
    s->context = take(&w, FA_IN_PLACE ? 0 : a->Dv, 1);
    s->q_flags = (uint8_t *)take(&w, rows, 1);
    return sparse_row_layout(&s->row, s->lds, w);
}

FA_INLINE const element *sparse_query(const sparse_state *s, fa_row row) {
    return s->a->query + row_at(&s->a->query_strides, s->b, s->first_head + row.head, row.query);
}

/* Sets the (batch, key head) whose rows follow. */
FA_FUNC void sparse_load(sparse_state *s, int64_t b, int64_t hk) {
    const fa_attention *a = s->a;
    const int64_t memory = fa_memory_row(a, b);
    s->b = b;
    s->hk = hk;
    s->first_head = hk * (a->H / a->Hk);
    s->length = fa_key_length(a, b);
    s->value = a->value + row_at(&a->value_strides, memory, hk, 0);
    s->key_panels = a->key_panels ? a->key_panels + memory * a->panels_batch + hk * a->panels_head : NULL;
    s->scores = score_from(a, s->v, s->width, s->width);
    s->scores.key = a->key + row_at(&a->key_strides, memory, hk, 0);
}

/* Scores of rows row0..row0+rows-1, before the options: each tile against the panels that some row of it reaches. */
FA_FUNC void sparse_scores(sparse_state *s, int64_t row0, int64_t rows) {
    const fa_attention *a = s->a;
    int64_t key_lo = s->length, key_hi = 0;
    s->row0 = row0;
    s->rows = rows;
    fa_row row = fa_task_row(a, row0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        pack_query(&s->scores, sparse_query(s, row), s->queries + r * s->width, s->q_flags + r, NULL);
        const fa_range k = fa_row_range(a, s->b, s->first_head + row.head, s->length, row.query);
        if (k.lo >= k.hi) continue;
        key_lo = k.lo < key_lo ? k.lo : key_lo;
        key_hi = k.hi > key_hi ? k.hi : key_hi;
    }
    const int64_t chunk = s->key_panels ? key_hi : rows <= MR ? PW : FA_CHUNK, each = panel_stride(a->score, a->D);
    for (int64_t first = key_lo / PW * PW; first < key_hi;) {
        const int64_t last = (first / chunk + 1) * chunk < key_hi ? (first / chunk + 1) * chunk : key_hi;
        const real *panels = s->panels;
        if (a->allow && !fa_rows_reach(a, s->b, s->first_head, row0, rows, first, last)) {
            first = last;
            continue;
        }
        if (s->key_panels)
            panels = s->key_panels + first / PW * each;
        else
            pack_key_panels(a->score, &s->scores.form, s->scores.key, a->key_strides.row, first, last, s->panels,
                            (fa_ahead){0});
        row = fa_task_row(a, row0);
        for (int64_t r = 0; r < rows;) {
            const int tile = balanced_rows(rows - r);
            const element *raw[MR];
            int64_t lo = last, hi = first;
            for (int i = 0; i < tile; i++, row = fa_next_row(a, row)) {
                const fa_range k = fa_row_range(a, s->b, s->first_head + row.head, s->length, row.query);
                raw[i] = sparse_query(s, row);
                if (k.lo >= k.hi) continue;
                lo = k.lo < lo ? k.lo : lo;
                hi = k.hi > hi ? k.hi : hi;
            }
            hi = hi < last ? hi : last;
            for (int64_t j = lo > first ? lo / PW * PW : first; j < hi; j += PW) {
                if (a->allow && !fa_rows_reach(a, s->b, s->first_head, row0 + r, tile, j, j + PW)) continue;
                score_kernels[a->score]->tile(&s->scores, &(score_tile_rows){.rows = tile,
                                                                             .query = s->queries + r * s->width,
                                                                             .flags = s->q_flags + r,
                                                                             .raw = raw,
                                                                             .panel = panels + (j - first) / PW * each,
                                                                             .first = j,
                                                                             .keys = hi - j < PW ? hi - j : PW,
                                                                             .S = s->S + r * s->lds + j,
                                                                             .lds = s->lds});
            }
            r += tile;
        }
        first = last;
    }
}

/* The weights of a row by a normalizer from outside: every key that is not masked is in the list, y its score. */
FA_FUNC void sparse_foreign(const fa_attention *a, const real *S, int64_t lo, int64_t hi, sparse_row *row) {
    int64_t n = 0;
    for (int64_t j = lo; j < hi; j++) {
        row->key[n] = (int32_t)j;
        row->y[n] = (double)S[j];
        n += S[j] != NEG_INF;
    }
    row->n = n;
    if (n) a->row_weights(row->y, row->p, n);
}

/* The weights of row r of the block, which becomes s->row. Its scores then hold the options, if `sloped` slope
 * the derivative of these, before the scores that a modifier without slopes was given; all are good for one call. */
FA_FUNC void sparse_weights(sparse_state *s, int64_t r, fa_row row, int sloped) {
    const fa_attention *a = s->a;
    const int64_t head = s->first_head + row.head;
    const fa_range k = fa_row_range(a, s->b, head, s->length, row.query);
    const int64_t j0 = k.lo / PW * PW, n = k.hi - j0;
    real *S = s->S + r * s->lds + j0;
    s->row.n = 0;
    if (k.lo >= k.hi) return;
    if (has_elementwise(a) || k.lo > j0 || n % VL)
        row_options(a, s->b, head, row.query, k, j0, n, S, sloped ? s->slope + j0 : NULL, s->before + j0);
    if (a->row_weights)
        sparse_foreign(a, s->S + r * s->lds, k.lo, k.hi, &s->row);
    else
        entmax_row(a->alpha[head * a->alpha_stride], s->S + r * s->lds, k.lo, k.hi, &s->row);
}

/* to[0..width) = sum_i weights[i] values[key[i]], a chain of ascending keys for each column. */
FA_FUNC void sparse_sum(const sparse_row *row, const real *weights, const element *values, int64_t stride,
                        int64_t width, real *to) {
    int64_t c = 0;
    for (; c + NV * VL <= width; c += NV * VL) {
        vec sum[NV];
#pragma GCC unroll 4
        for (int u = 0; u < NV; u++) sum[u] = vset1(0);
        for (int64_t i = 0; i < row->n; i++) {
            const vec w = vset1(weights[i]);
            const element *v = values + row->key[i] * stride + c;
#pragma GCC unroll 4
            for (int u = 0; u < NV; u++) sum[u] = vfma(w, eload(v + u * VL), sum[u]);
        }
#pragma GCC unroll 4
        for (int u = 0; u < NV; u++) vstore(to + c + u * VL, sum[u]);
    }
    for (; c < width; c += VL) {
        vec sum = vset1(0);
        for (int64_t i = 0; i < row->n; i++)
            sum = vfma(vset1(weights[i]), eload_n(values + row->key[i] * stride + c, width - c), sum);
        vstore_n(to + c, sum, width - c);
    }
}

#endif
