/* Dot attention of bfloat16 arrays on a matrix unit, backward: what backward.inl computes, for scores q_i . k_j.
 *
 *   P_ij = 2^(s_ij log2 e - (m_i log2 e + log2 l_i))        delta_i = d_context_i . context_i - d_lse_i
 *   dS_ij = P_ij (d_context_i . v_j - delta_i)
 *   d_value_j = sum_i P_ij d_context_i,   d_key_j = scale sum_i dS_ij q_i,   d_query_i = scale sum_j dS_ij k_j
 *
 * P and dS are rounded to bfloat16 before they are multiplied; the context is that before it was rounded, without which
 * dS has the error of its sum. Gradients are summed in float32 and rounded once.
 * A task is one (batch, key head). Queries and d_context are packed once, keys and values for each FA_GRADIENT_KEYS:
 *   1. for each 32 rows and FA_PART keys: scores and d_context x value^T by tiles, kept in two strips
 *   2.   options, unless there are none and all rows read all of the keys; P and dS: dS as rows for d_query, both as
 *        pairs of rows i and i + 16 for the others
 *   3.   after all keys: d_query += dS x key
 *   4. after every FA_TILE_TURN rows: d_value^T += d_context^T x P, d_key^T += query^T x dS, for each 32 keys with the
 *      rows, in 32, of which some read some of them
 *   5. after all of them: d_key and d_value of these keys, rounded; in the end d_query
 *
 * Pairs with a plain row of query, key, value or d_context (tile/halves.inl), or with a delta that is not finite, are
 * zero in the tiles of step 3 and 4 and added by themselves, in float32.
 * Order of sums: d_query_i over blocks of 32 keys ascending, d_key_j and d_value_j over blocks of 32 rows ascending.
 * Bound for D = Dv = 64: 176 cycles of the unit for 16 x 16 scores, and 21 vector operations for each 16 of them, which
 * take 180 beside nothing. Measured (Intel Xeon, 2048 keys): about 650.
 */
#ifndef FA_ATTENTION_DOT_TILES_BACKWARD_INL
#define FA_ATTENTION_DOT_TILES_BACKWARD_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/halves.inl"
#include "rows.inl"
#include "dot_tiles.inl"

#define FA_TILE_TURN 128
#define FA_GRADIENT_KEYS 256
#define FA_GRADIENT_ROW (FA_GRADIENT_KEYS + 16)
#define FA_PART 32 /* keys whose scores stay in the first cache until they are gradients */
#define FA_PART_ROW (FA_PART + 16)
#define FA_MAX_HUGE 0x1p13f /* the forward pass has scores less the max from 2^14 ln 2 on, and the same for max here */
#define FA_KEY_TILES (FA_GRADIENT_KEYS / TILE_N)

typedef struct {
    const fa_attention_grad *g;
    const fa_attention *a;
    int64_t b, hk, first_head, rows, length;
    int64_t depth, deep; /* blocks of 32 of queries and keys, and of values */
    half_source keys, values;
    /* Of all rows: as rows, and with columns as rows, pair by pair, for sums over rows. */
    char *queries, *query_left, *d_contexts, *d_context_left;
    /* Of the keys of a block. */
    char *key_columns, *key_pairs, *value_columns;
    char *P, *dS, *dS_rows; /* of a turn of rows, as pairs; of 32 rows */
    float *S, *dP, *d_query, *d_key, *d_value;
    float *delta, *from; /* from: -(max log2 e + log2 sum), so that P = 2^(from + s log2 e) */
    float *huge;         /* a max whose rounding shows, or 0: made less by it before, and `from` is -log2 sum */
    uint8_t *plain_rows, *plain_keys;
    int any_plain_keys;
} dot_backward_state;

FA_FUNC int64_t dot_backward_layout(dot_backward_state *s, const fa_attention *a, char *workspace) {
    char *w = workspace;
    const int64_t rows = (a->H / a->Hk * a->Tq + FA_TILE_ROWS - 1) / FA_TILE_ROWS * FA_TILE_ROWS;
    const int64_t blocks = rows / FA_TILE_ROWS, keys = FA_GRADIENT_KEYS / TILE_K;
    s->depth = half_blocks(a->D);
    s->deep = half_blocks(a->Dv);
    s->queries = take_of(2 * TILE_BYTES, &w, blocks, s->depth);
    s->query_left = take_of(2 * TILE_BYTES, &w, blocks, s->depth);
    s->d_contexts = take_of(2 * TILE_BYTES, &w, blocks, s->deep);
    s->d_context_left = take_of(2 * TILE_BYTES, &w, blocks, s->deep);
    s->key_columns = take_of(2 * TILE_BYTES, &w, keys, s->depth);
    s->key_pairs = take_of(2 * TILE_BYTES, &w, keys, s->depth);
    s->value_columns = take_of(2 * TILE_BYTES, &w, keys, s->deep);
    s->P = take_of(TILE_BYTES, &w, FA_TILE_TURN / FA_TILE_ROWS, FA_KEY_TILES);
    s->dS = take_of(TILE_BYTES, &w, FA_TILE_TURN / FA_TILE_ROWS, FA_KEY_TILES);
    s->dS_rows = take_of(TILE_BYTES, &w, 2, keys);
    s->S = take(&w, FA_TILE_ROWS, FA_PART_ROW);
    s->dP = take(&w, FA_TILE_ROWS, FA_PART_ROW);
    s->d_query = take(&w, rows, s->depth * TILE_K);
    s->d_key = take(&w, s->depth * TILE_K, FA_GRADIENT_ROW);
    s->d_value = take(&w, s->deep * TILE_K, FA_GRADIENT_ROW);
    s->delta = take(&w, rows, 1);
    s->from = take(&w, rows, 1);
    s->huge = take(&w, rows, 1);
    s->plain_rows = take_of(1, &w, rows, 1);
    s->plain_keys = take_of(1, &w, FA_GRADIENT_KEYS, 1);
    return w - workspace;
}

FA_FUNC int64_t dot_tiles_backward_workspace(const fa_attention_grad *g) {
    dot_backward_state s;
    return dot_backward_layout(&s, &g->f, (char *)64);
}

FA_INLINE const uint16_t *dot_d_context(const dot_backward_state *s, int64_t head, int64_t query) {
    return (const uint16_t *)s->g->d_context + row_at(&s->g->d_context_strides, s->b, head, query);
}

/* 32 rows as they lie, two tiles for each 32 columns, one after the other for the first 16 rows and then the others;
 * and with columns as rows, two tiles for each 32 of them. A row of NULL is of zeros. */
FA_FUNC void dot_pack_both(const uint16_t *const *rows, int64_t width, char *as_rows, char *left) {
    const int64_t blocks = half_blocks(width);
    for (int i = 0; i < FA_TILE_ROWS; i++)
        for (int64_t c = 0; c < blocks; c++) {
            char *to = as_rows + (i / TILE_N * blocks + c) * TILE_BYTES + i % TILE_N * 64;
            if (rows[i])
                half_row(rows[i], c * TILE_K, width, to);
            else
                memset(to, 0, 64);
        }
    for (int64_t t = 0; t < 2 * blocks; t++) {
        _Alignas(64) char pairs[TILE_BYTES];
        for (int k = 0; k < TILE_N; k++) {
            const char *one = as_rows + t / 2 * TILE_BYTES + t % 2 * 32 + k * 64, *two = one + blocks * TILE_BYTES;
#pragma GCC unroll 4
            for (int i = 0; i < TILE_N; i += VL) {
                const uvec pair =
                    half_beside(half_bits((const uint16_t *)one + i), half_bits((const uint16_t *)two + i));
                memcpy(pairs + k * 64 + i * 4, &pair, sizeof pair);
            }
        }
        half_transpose(pairs, left + t * TILE_BYTES);
    }
}

FA_FUNC void dot_pack_rows(dot_backward_state *s) {
    const fa_attention *a = s->a;
    fa_row row = fa_task_row(a, 0);
    for (int64_t r0 = 0; r0 < s->rows; r0 += FA_TILE_ROWS) {
        const uint16_t *q[FA_TILE_ROWS], *d[FA_TILE_ROWS];
        for (int i = 0; i < FA_TILE_ROWS; i++) {
            const int64_t r = r0 + i;
            q[i] = d[i] = NULL;
            s->delta[r] = s->from[r] = s->huge[r] = 0;
            s->plain_rows[r] = 0;
            if (r >= s->rows) continue;
            const int64_t head = s->first_head + row.head, at = (s->b * a->H + head) * a->Tq + row.query;
            const uint16_t *query = (const uint16_t *)a->query + row_at(&a->query_strides, s->b, head, row.query);
            const uint16_t *d_context = dot_d_context(s, head, row.query);
            const float *context = a->exact + at * a->Dv;
            row = fa_next_row(a, row);
            if (a->row_sum[at] == 0) continue; /* nothing is read */
            vec sum = vset1(0);
            int64_t c = 0;
            for (; c + VL <= a->Dv; c += VL) sum = vfma(half_load(d_context + c), vload(context + c), sum);
            float delta = vhsum(sum);
            for (; c < a->Dv; c++) delta += half_real(d_context[c]) * context[c];
            if (s->g->d_lse) delta -= s->g->d_lse[at];
            s->delta[r] = delta;
            s->huge[r] = fabsf(a->row_max[at]) < FA_MAX_HUGE || a->row_max[at] == NEG_INF ? 0 : a->row_max[at];
            const double max = s->huge[r] != 0 || a->row_max[at] == NEG_INF ? 0 : (double)a->row_max[at];
            s->from[r] = (float)-(max * 1.44269504088896340736 + (double)log2f(a->row_sum[at]));
            s->plain_rows[r] = (uint8_t)(delta - delta != 0 || half_plain(query, a->D, HALF_SMALL, HALF_LARGEST) ||
                                         half_plain(d_context, a->Dv, HALF_SMALL, HALF_LARGEST));
            if (s->plain_rows[r]) continue;
            q[i] = query;
            d[i] = d_context;
        }
        const int64_t block = r0 / FA_TILE_ROWS * 2 * TILE_BYTES;
        dot_pack_both(q, a->D, s->queries + block * s->depth, s->query_left + block * s->depth);
        dot_pack_both(d, a->Dv, s->d_contexts + block * s->deep, s->d_context_left + block * s->deep);
    }
}

/* Keys and values first..last-1. */
FA_FUNC void dot_backward_keys(dot_backward_state *s, const uint16_t *key, const uint16_t *value, int64_t first,
                               int64_t last) {
    const fa_attention *a = s->a;
    const int64_t n = last - first;
    s->keys = (half_source){key + first * a->key_strides.row, a->key_strides.row, n, a->D, s->plain_keys, 0};
    s->values = (half_source){value + first * a->value_strides.row, a->value_strides.row, n, a->Dv, s->plain_keys, 0};
    uvec found = {0};
    for (int64_t j = 0; j < n; j++) {
        found = half_beyond_row(found, s->keys.rows + j * s->keys.stride, a->D, HALF_SMALL, HALF_LARGEST);
        found = half_beyond_row(found, s->values.rows + j * s->values.stride, a->Dv, HALF_SMALL, HALF_LARGEST);
    }
    s->any_plain_keys = half_any(found);
    for (int64_t j = 0; j < n; j++)
        s->plain_keys[j] =
            (uint8_t)(s->any_plain_keys &&
                      (half_plain(s->keys.rows + j * s->keys.stride, a->D, HALF_SMALL, HALF_LARGEST) ||
                       half_plain(s->values.rows + j * s->values.stride, a->Dv, HALF_SMALL, HALF_LARGEST)));
    for (int64_t j = 0; j < n; j += TILE_N) {
        half_columns(&s->keys, j, s->key_columns + j / TILE_N * s->depth * TILE_BYTES);
        half_columns(&s->values, j, s->value_columns + j / TILE_N * s->deep * TILE_BYTES);
    }
    for (int64_t j = (n + TILE_N - 1) / TILE_N * TILE_N; j < (n + TILE_K - 1) / TILE_K * TILE_K; j += TILE_N) {
        memset(s->key_columns + j / TILE_N * s->depth * TILE_BYTES, 0, (size_t)(s->depth * TILE_BYTES));
        memset(s->value_columns + j / TILE_N * s->deep * TILE_BYTES, 0, (size_t)(s->deep * TILE_BYTES));
    }
    for (int64_t j = 0; j < n; j += TILE_K)
        half_pairs(&s->keys, j, s->key_pairs + j / TILE_K * 2 * s->depth * TILE_BYTES, (uvec){0}, 0, 0);
}

/* Where the tiles of one side of a product are: of the next 16 rows or columns, and of the next 32 terms. */
typedef struct {
    const char *tiles;
    int64_t next, step;
} dot_side;

/* sums += left x right: 16 m rows by 16 n columns, both even, over 32 `steps` terms. */
FA_INLINE void dot_accumulate(dot_side left, int64_t m, dot_side right, int64_t n, int64_t steps, float *sums,
                              int64_t row) {
    TILES(TILE_N);
    const int64_t bytes = row * (int64_t)sizeof(float);
    for (int64_t i = 0; i < m; i += 2)
        for (int64_t j = 0; j < n; j += 2) {
            float *to = sums + i * TILE_N * row + j * TILE_N, *low = to + TILE_N * row;
            const char *a = left.tiles + i * left.next, *b = right.tiles + j * right.next;
            TILE_LOAD(0, to, bytes);
            TILE_LOAD(1, to + TILE_N, bytes);
            TILE_LOAD(2, low, bytes);
            TILE_LOAD(3, low + TILE_N, bytes);
            for (int64_t k = 0; k < steps; k++, a += left.step, b += right.step) {
                TILE_LOAD(4, a, 64);
                TILE_LOAD(6, b, 64);
                TILE_LOAD(7, b + right.next, 64);
                TILE_LOAD(5, a + left.next, 64);
                TILE_BFLOAT16(0, 4, 6);
                TILE_BFLOAT16(1, 4, 7);
                TILE_BFLOAT16(2, 5, 6);
                TILE_BFLOAT16(3, 5, 7);
            }
            TILE_STORE(0, to, bytes);
            TILE_STORE(1, to + TILE_N, bytes);
            TILE_STORE(2, low, bytes);
            TILE_STORE(3, low + TILE_N, bytes);
        }
}

/* What all pairs of a row have in common: P = 2^(f S + from), dS = P (dP - delta). */
typedef struct {
    vec f, from, delta;
} dot_constants;

FA_INLINE dot_constants dot_constants_of(const dot_backward_state *s, int64_t r, float scale) {
    return (dot_constants){vset1(scale * FA_LOG2E), vset1(s->from[r]), vset1(s->delta[r])};
}

/* P and dS of four vectors: rows i and i + 16, keys j and j + 16 for lanes of each. */
FA_INLINE void dot_four(const dot_constants rows[2], const float *S, const float *dP, vec P[4], vec dS[4]) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const dot_constants *const row = rows + k / 2;
        const int64_t at = k / 2 * TILE_N * FA_PART_ROW + k % 2 * TILE_N;
        P[k] = vpower(vfma(vload(S + at), row->f, row->from));
        dS[k] = P[k] * (vload(dP + at) - row->delta);
    }
}

/* Step 2 for rows i and i + 16 of 32, from keys from..to-1, with the first of which strips begin. */
FA_INLINE void dot_backward_rows(const dot_backward_state *s, int64_t r0, int i, const float *scale, int64_t from,
                                 int64_t to, char *P, char *dS) {
    const dot_constants rows[2] = {dot_constants_of(s, r0 + i, scale[i]),
                                   dot_constants_of(s, r0 + i + TILE_N, scale[i + TILE_N])};
    const float *S_row = s->S + i * FA_PART_ROW - from, *dP_row = s->dP + i * FA_PART_ROW - from;
    for (int64_t j = from; j < to; j += TILE_K)
#pragma GCC unroll 4
        for (int c = 0; c < TILE_N; c += VL) {
            vec p[4], d[4];
            dot_four(rows, S_row + j + c, dP_row + j + c, p, d);
            char *one = P + j / TILE_N * TILE_BYTES + i * 64 + c * 4;
            uvec pair = half_pair(p[0], p[2]);
            memcpy(one, &pair, sizeof pair);
            pair = half_pair(p[1], p[3]);
            memcpy(one + TILE_BYTES, &pair, sizeof pair);
            uvec up[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) up[k] = (uvec)d[k] + 0x8000u;
            one = dS + j / TILE_N * TILE_BYTES + i * 64 + c * 4;
            const uvec low[2] = {up[0] >> 16, up[1] >> 16};
            pair = low[0] | (up[2] & 0xffff0000u);
            memcpy(one, &pair, sizeof pair);
            pair = low[1] | (up[3] & 0xffff0000u);
            memcpy(one + TILE_BYTES, &pair, sizeof pair);
            one = s->dS_rows + j / TILE_K * TILE_BYTES + i * 64 + c * 4;
            pair = low[0] | (up[1] & 0xffff0000u);
            memcpy(one, &pair, sizeof pair);
            pair = up[2] >> 16 | (up[3] & 0xffff0000u);
            memcpy(one + FA_GRADIENT_KEYS / TILE_K * TILE_BYTES, &pair, sizeof pair);
        }
}

/* What the pairs of a row with a plain one give; they are masked for the tiles. strip[j] is the score of key j. */
FA_FUNC void dot_plain_pairs(dot_backward_state *s, int64_t r, int64_t head, int64_t query, dot_span span,
                             int64_t begin, float *strip, float scale) {
    const fa_attention *a = s->a;
    const uint16_t *q = (const uint16_t *)a->query + row_at(&a->query_strides, s->b, head, query);
    const uint16_t *d = dot_d_context(s, head, query);
    float *d_query = s->d_query + r * s->depth * TILE_K;
    for (int64_t j = span.lo; j < span.hi; j++) {
        const int64_t at = j - begin;
        if (!s->plain_rows[r] && !s->plain_keys[at]) continue;
        const float score = strip[j] * scale;
        strip[j] = NEG_INF;
        if (score == NEG_INF) continue;
        const uint16_t *k = s->keys.rows + at * s->keys.stride, *v = s->values.rows + at * s->values.stride;
        const float P = vpower(vfma(vset1(score), vset1(FA_LOG2E), vset1(s->from[r])))[0];
        const float dS = P * (half_product(d, v, a->Dv, 1) - s->delta[r]);
        for (int64_t c = 0; c < a->Dv; c++) s->d_value[c * FA_GRADIENT_ROW + at] += P * half_real(d[c]);
        for (int64_t c = 0; c < a->D; c++) {
            s->d_key[c * FA_GRADIENT_ROW + at] += dS * half_real(q[c]);
            d_query[half_place(c)] += dS * half_real(k[c]);
        }
    }
}

/* Steps 1 to 3 for 32 rows from r0, with keys begin..end-1. Returns which of these they read, from
 * `begin`, in whole 32. */
FA_FUNC fa_range dot_backward_block(dot_backward_state *s, int64_t r0, int64_t begin, int64_t end, char *P, char *dS) {
    const fa_attention *a = s->a;
    fa_row row = fa_task_row(a, r0);
    const int64_t rows = s->rows - r0 < FA_TILE_ROWS ? s->rows - r0 : FA_TILE_ROWS, block = r0 / FA_TILE_ROWS;
    int64_t head[FA_TILE_ROWS], query[FA_TILE_ROWS], lo = end, hi = begin, all_lo = begin, all_hi = end;
    fa_range range[FA_TILE_ROWS];
    for (int i = 0; i < rows; i++, row = fa_next_row(a, row)) {
        head[i] = s->first_head + row.head;
        query[i] = row.query;
        range[i] = fa_row_range(a, s->b, head[i], s->length, row.query);
        all_lo = range[i].lo > all_lo ? range[i].lo : all_lo;
        all_hi = range[i].hi < all_hi ? range[i].hi : all_hi;
        if (range[i].lo >= range[i].hi) continue;
        lo = range[i].lo < lo ? range[i].lo : lo;
        hi = range[i].hi > hi ? range[i].hi : hi;
    }
    lo = lo < begin ? begin : lo;
    hi = hi > end ? end : hi;
    if (lo >= hi) return (fa_range){0, 0};
    const int64_t from = lo / TILE_K * TILE_K - begin, to = (hi + TILE_K - 1) / TILE_K * TILE_K - begin;
    int plain = s->any_plain_keys;
    int huge = 0;
    for (int i = 0; i < rows; i++) {
        plain |= s->plain_rows[r0 + i];
        huge |= s->huge[r0 + i] != 0;
    }
    const int simple = !plain && !huge && a->scale > 0 && !has_elementwise(a);
    for (int64_t part = from; part < to; part += FA_PART) {
        const int64_t end_part = part + FA_PART < to ? part + FA_PART : to;
        dot_scores(1, TILE_N, s->queries + block * 2 * s->depth * TILE_BYTES,
                   s->key_columns + part / TILE_N * s->depth * TILE_BYTES, s->depth, end_part - part, s->S,
                   FA_PART_ROW);
        dot_scores(1, TILE_N, s->d_contexts + block * 2 * s->deep * TILE_BYTES,
                   s->value_columns + part / TILE_N * s->deep * TILE_BYTES, s->deep, end_part - part, s->dP,
                   FA_PART_ROW);
        float scale[FA_TILE_ROWS];
        const int whole = simple && rows == FA_TILE_ROWS && all_lo <= begin + part && begin + end_part <= all_hi;
        for (int i = 0; i < FA_TILE_ROWS; i++) {
            scale[i] = (float)a->scale;
            if (whole) continue;
            float *strip = s->S + i * FA_PART_ROW - begin - part;
            const int64_t first = begin + part, last = begin + end_part;
            const dot_span span =
                i < rows ? dot_span_of(range[i], first, last) : (dot_span){first, first, first, first};
            if (!simple) scale[i] = 1;
            for (int64_t j = first; j < (simple ? span.lo : span.first); j++) strip[j] = NEG_INF;
            for (int64_t j = simple ? span.hi : span.last; j < last; j++) strip[j] = NEG_INF;
            if (simple || span.first == span.last) continue;
            for (int64_t j = span.lo; plain && j < span.hi; j++) /* zeros in the tiles */
                if (s->plain_rows[r0 + i] || s->plain_keys[j - begin]) strip[j] = NAN;
            scale[i] = dot_options(a, s->b, head[i], query[i], range[i], span, strip, &s->keys, begin, plain);
            if (s->huge[r0 + i] != 0) {
                dot_less(strip + span.first, span.last - span.first, scale[i], s->huge[r0 + i]);
                scale[i] = 1;
            }
            if (plain) dot_plain_pairs(s, r0 + i, head[i], query[i], span, begin, strip, scale[i]);
            if (s->plain_rows[r0 + i]) /* whose delta may be anything */
                for (int64_t j = part; j < end_part; j++) s->dP[i * FA_PART_ROW + j - part] = 0;
        }
        for (int i = 0; i < TILE_N; i++) dot_backward_rows(s, r0, i, scale, part, end_part, P, dS);
    }
    const dot_side left = {s->dS_rows + from / TILE_K * TILE_BYTES, FA_GRADIENT_KEYS / TILE_K * TILE_BYTES, TILE_BYTES};
    const dot_side right = {s->key_pairs + from / TILE_K * 2 * s->depth * TILE_BYTES, TILE_BYTES,
                            2 * s->depth * TILE_BYTES};
    dot_accumulate(left, 2, right, 2 * s->depth, (to - from) / TILE_K, s->d_query + r0 * s->depth * TILE_K,
                   s->depth * TILE_K);
    return (fa_range){from, to};
}

/* Step 4 for a turn that begins with block `start` of all: `reach` are the keys that its blocks read. */
FA_INLINE void dot_backward_turn(dot_backward_state *s, int64_t start, const fa_range *reach, int64_t keys) {
    const int64_t next = FA_KEY_TILES * TILE_BYTES;
    for (int64_t j = 0; j < keys; j += TILE_K) {
        int64_t first = -1, last = 0;
        for (int64_t k = 0; k < FA_TILE_TURN / FA_TILE_ROWS; k++)
            if (reach[k].lo <= j && j < reach[k].hi) {
                first = first < 0 ? k : first;
                last = k + 1;
            }
        if (first < 0) continue;
        const int64_t at = first * next + j / TILE_N * TILE_BYTES, block = start + first, steps = last - first;
        for (int64_t k = first; k < last; k++)
            if (j < reach[k].lo || reach[k].hi <= j) {
                memset(s->P + k * next + j / TILE_N * TILE_BYTES, 0, 2 * TILE_BYTES);
                memset(s->dS + k * next + j / TILE_N * TILE_BYTES, 0, 2 * TILE_BYTES);
            }
        const dot_side P = {s->P + at, TILE_BYTES, next}, dS = {s->dS + at, TILE_BYTES, next};
        const dot_side values = {s->d_context_left + block * 2 * s->deep * TILE_BYTES, TILE_BYTES,
                                 2 * s->deep * TILE_BYTES};
        const dot_side queries = {s->query_left + block * 2 * s->depth * TILE_BYTES, TILE_BYTES,
                                  2 * s->depth * TILE_BYTES};
        dot_accumulate(values, 2 * s->deep, P, 2, steps, s->d_value + j, FA_GRADIENT_ROW);
        dot_accumulate(queries, 2 * s->depth, dS, 2, steps, s->d_key + j, FA_GRADIENT_ROW);
    }
}

/* Rounds a row of sums times a factor; returns whether all are finite. */
FA_INLINE int dot_round(uint16_t *to, const float *from, int64_t n, float factor) {
    const vec f = vset1(factor);
    ivec finite = f == f;
    for (int64_t c = 0; c < n; c += VL) {
        const vec x = vload_n(from + c, n - c) * f;
        const hvec rounded = half_vector(x);
        finite &= x - x == vset1(0);
        if (n - c >= VL)
            memcpy(to + c, &rounded, sizeof rounded);
        else
            memcpy(to + c, &rounded, (size_t)(n - c) * 2);
    }
    return !half_any((uvec)~finite);
}

/* Step 5: columns of sums as rows of an output. */
FA_FUNC int dot_store_columns(const float *sums, int64_t width, int64_t keys, float factor, uint16_t *to) {
    int finite = 1;
    for (int64_t j = 0; j < keys; j += TILE_N)
        for (int64_t c = 0; c < width; c += TILE_N) {
            _Alignas(64) float square[2][TILE_N * TILE_N];
            for (int i = 0; i < TILE_N; i++)
                memcpy(square[0] + i * TILE_N, sums + (c + i) * FA_GRADIENT_ROW + j, TILE_N * sizeof(float));
            half_transpose((const char *)square[0], (char *)square[1]);
            const int64_t n = width - c < TILE_N ? width - c : TILE_N, m = keys - j < TILE_N ? keys - j : TILE_N;
            for (int64_t i = 0; i < m; i++)
                finite &= dot_round(to + (j + i) * width + c, square[1] + i * TILE_N, n, factor);
        }
    return finite;
}

FA_FUNC void dot_tiles_backward(const fa_attention_grad *g, const fa_plan *plan, int64_t task, void *workspace) {
    dot_backward_state s;
    const fa_attention *a = &g->f;
    memset(&s, 0, sizeof s);
    dot_backward_layout(&s, a, workspace);
    s.a = a;
    s.g = g;
    s.b = task / a->Hk;
    s.hk = task % a->Hk;
    s.first_head = s.hk * (a->H / a->Hk);
    s.rows = a->H / a->Hk * a->Tq;
    s.length = fa_key_length(a, s.b);
    const uint16_t *key = (const uint16_t *)a->key + row_at(&a->key_strides, s.b, s.hk, 0);
    const uint16_t *value = (const uint16_t *)a->value + row_at(&a->value_strides, s.b, s.hk, 0);
    uint16_t *d_key = (uint16_t *)g->d_key + task * a->Tk * a->D,
             *d_value = (uint16_t *)g->d_value + task * a->Tk * a->Dv;
    uint16_t *d_query = (uint16_t *)g->d_query + (s.b * a->H + s.first_head) * a->Tq * a->D;
    const int64_t ldq = s.depth * TILE_K;
    int finite = 1;
    dot_pack_rows(&s);
    memset(s.d_query, 0, (size_t)((s.rows + FA_TILE_ROWS - 1) / FA_TILE_ROWS * FA_TILE_ROWS * ldq) * sizeof(float));
    TILES_BEGIN(TILE_N);
    for (int64_t begin = 0; begin < s.length; begin += FA_GRADIENT_KEYS) {
        const int64_t end = begin + FA_GRADIENT_KEYS < s.length ? begin + FA_GRADIENT_KEYS : s.length;
        dot_backward_keys(&s, key, value, begin, end);
        const size_t cleared = (size_t)(half_blocks(end - begin) * TILE_K) * sizeof(float);
        for (int64_t c = 0; c < ldq; c++) memset(s.d_key + c * FA_GRADIENT_ROW, 0, cleared);
        for (int64_t c = 0; c < s.deep * TILE_K; c++) memset(s.d_value + c * FA_GRADIENT_ROW, 0, cleared);
        for (int64_t turn = 0; turn < s.rows; turn += FA_TILE_TURN) {
            fa_range reach[FA_TILE_TURN / FA_TILE_ROWS] = {{0, 0}};
            int any = 0;
            for (int64_t i = 0; i < FA_TILE_TURN / FA_TILE_ROWS && turn + i * FA_TILE_ROWS < s.rows; i++) {
                const int64_t at = i * FA_KEY_TILES * TILE_BYTES;
                reach[i] = dot_backward_block(&s, turn + i * FA_TILE_ROWS, begin, end, s.P + at, s.dS + at);
                any |= reach[i].lo < reach[i].hi;
            }
            if (any) dot_backward_turn(&s, turn / FA_TILE_ROWS, reach, end - begin);
        }
        finite &= dot_store_columns(s.d_key, a->D, end - begin, (float)a->scale, d_key + begin * a->D);
        finite &= dot_store_columns(s.d_value, a->Dv, end - begin, 1, d_value + begin * a->Dv);
    }
    TILES_END();
    memset(d_key + s.length * a->D, 0, (size_t)((a->Tk - s.length) * a->D) * 2);
    memset(d_value + s.length * a->Dv, 0, (size_t)((a->Tk - s.length) * a->Dv) * 2);
    fa_row row = fa_task_row(a, 0);
    for (int64_t r = 0; r < s.rows; r++, row = fa_next_row(a, row)) {
        half_in_order(s.d_query + r * ldq, s.depth);
        finite &=
            dot_round(d_query + (row.head * a->Tq + row.query) * a->D, s.d_query + r * ldq, a->D, (float)a->scale);
    }
    if (!finite) __atomic_store_n(plan->unfit, 1, __ATOMIC_RELAXED);
}
#endif
