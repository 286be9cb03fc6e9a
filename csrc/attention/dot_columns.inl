/* Dot attention of bfloat16 arrays on a matrix unit, forward, with queries as columns: steps 3 to 6 of dot_tiles.inl,
 * of the same bits, for calls of more than 16 rows without options of single scores.
 *
 *   scores^T = K Q^T,   context^T += V^T P^T
 *
 * A column is a query: what it needs of its scores, the largest, the base and the sum, are operations on whole vectors,
 * 16 queries in each, and weights lie in place of scores, 16 KB of 256 keys, so that all but keys and values stays in
 * the first cache; those stream past it. Pieces of the unit's work for 16 queries, two products each, stand between
 * four times two vectors of weights of 16 others, which is as near as they have to be to run at the same time.
 *
 * What lies how. Queries: tiles of pairs of numbers. Keys: tiles of rows. Values: tiles of columns, each of pairs of
 * keys. Sums of weights: lanes of keys, 16 queries in each. Contexts: columns in the order of their tiles, 16 queries
 * in each. Scores: 16 queries for each key, and weights of key j and j + 16 side by side where the scores of j were.
 * dot_turn_rows takes what is kept of 16 queries to rows and back: for a block with scores of 2^14 and more; or to
 * rows, from the first chunk on that has numbers which are not for the unit, and in the end if that is not for
 * columns.
 *
 * Bound for D = Dv = 64, of 16 x 16 scores: 15 operations of vectors for each 16, 120 cycles beside nothing, products
 * of 70 with some 14 operations beside each: 162. Measured (Intel Xeon, 2048 keys): 240 in a loop of its own, of which
 * vectors alone take 117 and tiles alone 137, and 300 in all.
 */
#ifndef FA_ATTENTION_DOT_COLUMNS_INL
#define FA_ATTENTION_DOT_COLUMNS_INL
#include <float.h>
#include "dot_tiles.inl"

#define FA_COLUMNS TILE_N
#define FA_BASE_BELOW_HUGE 0x1.fffffep13f /* the largest number below FA_BASE_HUGE */

/* `block` of 16 x n floats, rows of n or n rows of 16, one for the other; `aside` has as many. */
FA_FUNC void dot_turn_sums(float *block, int64_t n, int to_rows, float *aside) {
    memcpy(aside, block, (size_t)(TILE_N * n) * sizeof *block);
    for (int64_t t = 0; t < n; t += TILE_N) {
        _Alignas(64) char from[TILE_BYTES], to[TILE_BYTES];
        for (int i = 0; i < TILE_N; i++) memcpy(from + i * 64, aside + (to_rows ? (t + i) * TILE_N : i * n + t), 64);
        half_transpose(from, to);
        for (int i = 0; i < TILE_N; i++) memcpy(block + (to_rows ? i * n + t : (t + i) * TILE_N), to + i * 64, 64);
    }
}

/* The state of 16 rows from row r of the task. */
FA_FUNC void dot_turn_rows(dot_state *s, int64_t r, int to_rows) {
    float *sum = (float *)(s->sum + r);
    if (VL == TILE_N) half_turn((char *)sum);
    memcpy(s->aside, sum, TILE_N * sizeof(vec));
    for (int i = 0; VL < TILE_N && i < TILE_N; i++)
        for (int k = 0; k < VL; k++) {
            const int row = i * VL + k, column = k * TILE_N + i;
            sum[to_rows ? row : column] = s->aside[to_rows ? column : row];
        }
    dot_turn_sums(s->context + r * s->ldv, s->ldv, to_rows, s->aside);
    if (s->a->exact) dot_turn_sums(s->rounded + r * TILE_N, TILE_N, to_rows, s->aside);
}

/* Whether queries are columns, as long as all numbers are such as the unit takes. */
FA_INLINE int dot_has_columns(const dot_state *s) {
    const fa_attention *a = s->a;
    return !s->turned && !has_elementwise(a) && (float)a->scale > 0 && !a->weights;
}

/* Step 2 for tiles of keys, and of values as columns. Queries are rows from the first chunk on with other numbers. */
FA_FUNC void dot_pack_key_tiles(dot_state *s) {
    if (s->columns && (s->any_large || s->any_plain)) {
        for (int64_t r = 0; r < s->rows_padded; r += TILE_N) dot_turn_rows(s, r, 1);
        for (int64_t t = 0; t < s->rows_padded / TILE_N * s->depth; t++) half_turn(s->query_tiles + t * TILE_BYTES);
        s->columns = 0;
    }
    const int columns = s->columns;
    const int64_t n = (s->keys.n + TILE_K - 1) / TILE_K * TILE_K;
    for (int64_t j = 0; j < n; j += TILE_N) {
        char *to = s->key_tiles + j / TILE_N * s->depth * TILE_BYTES;
        if (!columns) half_columns(&s->keys, j, to);
        for (int i = 0; columns && i < TILE_N; i++) {
            const uint16_t *row = half_source_row(&s->keys, j + i);
            for (int64_t c = 0; c < s->depth; c++)
                half_row(row, c * TILE_K, row ? s->keys.width : 0, to + c * TILE_BYTES + i * 64);
        }
    }
    for (int64_t t = 0; columns && t < n / TILE_K * (s->ldv / TILE_N); t++) half_turn(s->value_tiles + t * TILE_BYTES);
}

/* What the keys of a block that some column may not read become; all of first..last-1 may be read by all. */
FA_FUNC void dot_columns_mask(const dot_rows *t, int64_t from, int64_t to) {
    _Alignas(64) float lo[FA_COLUMNS], hi[FA_COLUMNS];
    int64_t first = from, last = to;
    for (int i = 0; i < FA_COLUMNS; i++) {
        int64_t begin = i < t->rows ? t->range[i].lo : from, end = i < t->rows ? t->range[i].hi : to;
        begin = begin < from ? from : begin > to ? to : begin;
        end = end < begin ? begin : end > to ? to : end;
        lo[i] = (float)(begin - from);
        hi[i] = (float)(end - from);
        first = begin > first ? begin : first;
        last = end < last ? end : last;
    }
    for (int64_t j = from; j < to; j++) {
        if (j == first && first < last) j = last;
        if (j == to) break;
        float *S = t->strip + (j - t->next) * FA_COLUMNS;
        const vec at = vset1((float)(j - from)), none = vset1(NEG_INF);
        for (int l = 0; l < FA_COLUMNS; l += VL) {
            const vec below = vselect_lt(at, vload(hi + l), vload(S + l), none);
            vstore(S + l, vselect_lt(at, vload(lo + l), none, below));
        }
    }
}

/* The largest scores of keys from..to-1 let bases grow as dot_grow does. 0: some column needs the base of scores of
 * 2^14 and more, and nothing was done. */
FA_FUNC int dot_columns_grow(dot_state *s, const dot_rows *t, int64_t from, int64_t to, float f) {
    const int64_t r = t->first;
    const float *S = t->strip + (from - t->next) * FA_COLUMNS;
    _Alignas(64) float bases[FA_COLUMNS], factors[FA_COLUMNS];
    unsigned grow = 0, had = 0, huge = 0;
    for (int i = 0; i < FA_COLUMNS; i++) huge |= s->huge[r + i];
#pragma GCC unroll 4
    for (int l = 0; l < FA_COLUMNS; l += VL) {
        vec top[4];
        for (int i = 0; i < 4; i++) top[i] = vload(S + i * FA_COLUMNS + l);
        for (int64_t j = 4; j < to - from; j += 4)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) top[i] = vmax(top[i], vload(S + (j + i) * FA_COLUMNS + l));
        top[0] = vmax(vmax(top[0], top[1]), vmax(top[2], top[3]));
        const vec base = vload(s->base + r + l), above = vfma(top[0], vset1(f), -base), zero = vset1(0);
        const vec some = vselect_lt(vset1(NEG_INF), top[0], top[0] * vset1(f), base); /* a column that reads some key */
        const vec next = vselect_lt(vset1(FA_BASE_NEAR), above, some, base);
        const vec grown = vselect_lt(base, vset1(FA_BASE_NONE / 2), some, next);
        const vec size = vselect_lt(vset1(NEG_INF), top[0], vmax(grown, -grown), zero), less = base - grown;
        huge |= vbits_above(size, FA_BASE_BELOW_HUGE);
        grow |= vbits_above(grown - base, 0);
        had |= vbits_above(base, FA_BASE_NONE / 2);
        vstore(bases + l, grown);
        vstore(factors + l, vpower(vselect_lt(less, zero, less, zero)));
    }
    if (huge) return 0;
    if (!grow) return 1;
    memcpy(s->base + r, bases, sizeof bases);
    if (!had) return 1;
    float *const sums[] = {(float *)(s->sum + r), s->context + r * s->ldv, s->rounded + r * TILE_N};
    const int64_t each[] = {VL, s->ldv, s->a->exact ? TILE_N : 0};
    for (int k = 0; k < 3; k++)
        for (int64_t c = 0; c < each[k]; c++)
            for (int l = 0; l < FA_COLUMNS; l += VL) {
                float *to_scale = sums[k] + c * FA_COLUMNS + l;
                vstore(to_scale, vload(to_scale) * vload(factors + l));
            }
    return 1;
}

/* Step 5 by rows, for keys from..to-1 of a block. */
FA_FUNC void dot_columns_as_rows(dot_state *s, const dot_rows *t, int64_t from, int64_t to, int64_t start) {
    dot_rows rows = *t;
    rows.strip = s->aside;
    rows.weights = s->weights[0];
    dot_turn_rows(s, t->first, 1);
    memset(rows.weights, 0, FA_TILE_KEYS / TILE_K * TILE_BYTES); /* of rows that are not there */
    for (int64_t j = from - t->next; j < to - t->next; j += TILE_N) {
        _Alignas(64) char tile[TILE_BYTES];
        half_transpose((const char *)(t->strip + j * FA_COLUMNS), tile);
        for (int i = 0; i < TILE_N; i++) memcpy(s->aside + i * FA_STRIP_ROW + j, tile + i * 64, 64);
    }
    for (int i = 0; i < t->rows; i++) dot_row(s, &rows, i, t->next, from, to, start);
    for (int64_t j = from - t->next; j < to - t->next; j += TILE_K)
        half_transpose(s->weights[0] + j / TILE_K * TILE_BYTES, (char *)(t->strip + j * FA_COLUMNS));
    dot_turn_rows(s, t->first, 0);
}

/* Step 5 of a block that is under way. */
typedef struct {
    float *scores, *sums; /* of the next keys, 4 and the 4 that are 16 further on */
    const float *base;
    vec f;
    int64_t left;   /* times 4 and 4 keys */
    int pace, wait; /* every so many pieces of the unit's work, and how many of them are to come */
} dot_weighing;

/* Weights of 4 and 4 keys in place of the scores of the first ones, and their sums. */
FA_INLINE void dot_columns_weigh(dot_weighing *w) {
    const int key = (int)(4 - w->left % 4) % 4 * 4;
#pragma GCC unroll 4
    for (int l = 0; l < FA_COLUMNS; l += VL) {
        const vec from_base = -vload(w->base + l);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            float *at = w->scores + k * FA_COLUMNS + l, *sum = w->sums + (key + k) % VL * FA_COLUMNS + l;
            const vec one = vpower_times(vfma(vload(at), w->f, from_base), FA_WEIGHT_UP);
            const vec two = vpower_times(vfma(vload(at + TILE_N * FA_COLUMNS), w->f, from_base), FA_WEIGHT_UP);
            vstore(sum, vload(sum) + (one + two));
            const uvec pair = half_pair(one, two);
            memcpy(at, &pair, sizeof pair);
        }
    }
    w->left--;
    w->scores += (w->left % 4 ? 4 : TILE_N + 4) * FA_COLUMNS;
}

/* Stands after each piece of the unit's work, two products. */
FA_INLINE void dot_columns_meanwhile(dot_weighing *w) {
    if (w->left == 0 || --w->wait > 0) return;
    w->wait = w->pace;
    dot_columns_weigh(w);
}

/* Step 6 for the block t->done of 16 columns. */
FA_INLINE void dot_columns_add(dot_state *s, dot_rows *t, int64_t start, dot_weighing *w) {
    TILES_SHARED(&s->registers);
    const int64_t from = dot_from(t, t->done), to = dot_to(t, t->done), wide = s->ldv / TILE_N;
    const int64_t tile = TILE_N * FA_COLUMNS;
    const float *strip = t->strip - t->done * FA_COLUMNS;
    if (s->a->exact) {
        float *sums = s->rounded + t->first * TILE_N;
        TILE_LOAD(0, sums, 64);
        TILE_LOAD(5, s->ones, 64);
        for (int64_t j = from; j < to; j += TILE_K) {
            TILE_LOAD(6, strip + j * FA_COLUMNS, 64);
            TILE_BFLOAT16(0, 5, 6);
        }
        TILE_STORE(0, sums, 64);
    }
    /* Up to four tiles of columns in registers 0 to 3. */
    for (int64_t c = 0; c < wide; c += 4) {
        float *context = s->context + t->first * s->ldv + c * tile;
        const int four = c + 4 <= wide;
        TILE_LOAD(0, context, 64);
        TILE_LOAD(1, context + tile, 64);
        if (four) {
            TILE_LOAD(2, context + 2 * tile, 64);
            TILE_LOAD(3, context + 3 * tile, 64);
        }
        const char *value = s->value_tiles + ((from - start) / TILE_K * wide + c) * TILE_BYTES;
        for (int64_t j = from; j < to; j += TILE_K, value += wide * TILE_BYTES) {
            TILE_LOAD(6, strip + j * FA_COLUMNS, 64);
            TILE_STREAM(7, value, 64);
            TILE_STREAM(5, value + TILE_BYTES, 64);
            TILE_BFLOAT16(0, 7, 6);
            TILE_BFLOAT16(1, 5, 6);
            dot_columns_meanwhile(w);
            if (!four) continue;
            TILE_STREAM(7, value + 2 * TILE_BYTES, 64);
            TILE_STREAM(5, value + 3 * TILE_BYTES, 64);
            TILE_BFLOAT16(2, 7, 6);
            TILE_BFLOAT16(3, 5, 6);
            dot_columns_meanwhile(w);
        }
        TILE_STORE(0, context, 64);
        TILE_STORE(1, context + tile, 64);
        if (four) {
            TILE_STORE(2, context + 2 * tile, 64);
            TILE_STORE(3, context + 3 * tile, 64);
        }
    }
}

/* Scores with 32 keys from `key` on to registers c0 and c1; those with the 32 before, if there are, from p0 and p1 to
 * the strip: a store that follows its products at once lets the next ones wait. */
#define SCORES(c0, c1, p0, p1)                                                                                         \
    TILE_ZERO(c0);                                                                                                     \
    TILE_ZERO(c1);                                                                                                     \
    for (int64_t c = 0; c < s->depth; c++, key += TILE_BYTES) {                                                        \
        TILE_LOAD(4, query + c * TILE_BYTES, 64);                                                                      \
        TILE_STREAM(6, key, 64);                                                                                       \
        TILE_BFLOAT16(c0, 6, 4);                                                                                       \
        TILE_STREAM(7, key + s->depth * TILE_BYTES, 64);                                                               \
        TILE_BFLOAT16(c1, 7, 4);                                                                                       \
        if (c == 0 && j > from) TILE_STORE(p0, strip - 2 * TILE_N * FA_COLUMNS, 64);                                   \
        if (c == s->depth - 1 && j > from) TILE_STORE(p1, strip - TILE_N * FA_COLUMNS, 64);                            \
        dot_columns_meanwhile(w);                                                                                      \
    }                                                                                                                  \
    key += s->depth * TILE_BYTES;                                                                                      \
    strip += 2 * TILE_N * FA_COLUMNS;                                                                                  \
    j += TILE_K;

/* Step 4 for the block t->next of 16 columns. */
FA_INLINE void dot_columns_scores(dot_state *s, dot_rows *t, int64_t start, dot_weighing *w) {
    TILES_SHARED(&s->registers);
    const int64_t from = dot_from(t, t->next), to = dot_to(t, t->next);
    float *strip = t->strip + (from - t->next) * FA_COLUMNS;
    const char *query = s->query_tiles + t->first / TILE_N * s->depth * TILE_BYTES;
    const char *key = s->key_tiles + (from - start) / TILE_N * s->depth * TILE_BYTES;
    int last = 0;
    for (int64_t j = from; j < to;) {
        SCORES(0, 1, 2, 3)
        last = j < to;
        if (!last) break;
        SCORES(2, 3, 0, 1)
    }
    if (last) {
        TILE_STORE(2, strip - 2 * TILE_N * FA_COLUMNS, 64);
        TILE_STORE(3, strip - TILE_N * FA_COLUMNS, 64);
    } else {
        TILE_STORE(0, strip - 2 * TILE_N * FA_COLUMNS, 64);
        TILE_STORE(1, strip - TILE_N * FA_COLUMNS, 64);
    }
}
#undef SCORES

/* Step 5 for the next block of t, if it has one, while the unit does steps 6 and 4 for the blocks of `others`, if it
 * has any; either may be NULL. */
__attribute__((noinline)) FA_FUNC void dot_columns_turn(dot_state *s, dot_rows *t, dot_rows *others, int64_t start) {
    dot_weighing w = {.left = 0};
    const float f = (float)s->a->scale * FA_LOG2E;
    if (t && t->next < t->hi) {
        const int64_t from = dot_from(t, t->next), to = dot_to(t, t->next);
        dot_columns_mask(t, from, to);
        if (dot_columns_grow(s, t, from, to, f)) {
            w.scores = t->strip + (from - t->next) * FA_COLUMNS;
            w.sums = (float *)(s->sum + t->first);
            w.base = s->base + t->first;
            w.f = vset1(f);
            w.left = (to - from) / 8;
            /* 256 keys are 32 times, and 8 for each 32 numbers of a key and of a value the pieces. */
            w.pace = w.wait = (int)((s->depth + s->ldv / TILE_K + 3) / 4);
        } else
            dot_columns_as_rows(s, t, from, to, start);
        t->done = t->next;
        t->next += FA_TILE_KEYS;
        t->part = 1;
    }
    if (others && others->part) dot_columns_add(s, others, start, &w);
    if (others) others->part = 0;
    if (others && others->next < others->hi) dot_columns_scores(s, others, start, &w);
    while (w.left > 0) dot_columns_weigh(&w);
}

/* Steps 3 to 6 for one or two times 16 columns over the keys of a chunk. */
FA_FUNC void dot_columns_chunk(dot_state *s, dot_rows *t, dot_rows *others, int64_t start) {
    dot_columns_turn(s, NULL, t, start);
    while (t->next < t->hi || t->part || (others && (others->next < others->hi || others->part))) {
        if (others) {
            dot_columns_turn(s, t, others, start);
            dot_rows *const turn = t;
            t = others;
            others = turn;
        } else {
            dot_columns_turn(s, t, NULL, start);
            dot_columns_turn(s, NULL, t, start);
        }
    }
}

/* Step 7 for 16 columns whose contexts are whole pairs and have nothing added to them, and none of which is kept in
 * float32: as dot_finish does it. */
FA_FUNC void dot_columns_finish(dot_state *s, int64_t r, fa_row row) {
    const fa_attention *a = s->a;
    float *sum = (float *)(s->sum + r), *context = s->context + r * s->ldv;
    uint16_t *out[FA_COLUMNS];
    _Alignas(64) float whole[FA_COLUMNS], f[FA_COLUMNS];
    for (int l = 0; l < FA_COLUMNS; l += VL) {
        for (int n = VL / 2; n > 0; n /= 2) /* the order of vhsum */
            for (int i = 0; i < n; i++) {
                float *to = sum + i * FA_COLUMNS + l;
                vstore(to, vload(to) + vload(to + n * FA_COLUMNS));
            }
        const vec weights = vload(sum + l);
        vstore(whole + l, weights);
        vstore(f + l, vselect_lt(weights, vset1(FLT_MIN), vset1(0), vset1(1) / weights)); /* or 2^60 and more */
    }
    for (int i = 0; i < FA_COLUMNS && r + i < s->rows; i++, row = fa_next_row(a, row)) {
        const int64_t head = s->first_head + row.head, at = (s->b * a->H + head) * a->Tq + row.query;
        out[i] = (uint16_t *)a->context + row_at(&a->context_strides, s->b, head, row.query);
        dot_finish_sums(s, r + i, at, whole[i]);
    }
    for (int64_t c = 0; c < s->ldv; c += TILE_K, context += TILE_K * FA_COLUMNS) {
        _Alignas(64) char pairs[TILE_BYTES], rows[TILE_BYTES];
        for (int k = 0; k < TILE_N; k++)
            for (int l = 0; l < FA_COLUMNS; l += VL) {
                const float *even = context + k * FA_COLUMNS + l, *odd = even + TILE_N * FA_COLUMNS;
                const vec times = vload(f + l), zero = vset1(0);
                const uvec pair =
                    half_beside(half_nearest(vload(even) * times + zero), half_nearest(vload(odd) * times + zero));
                memcpy(pairs + k * 64 + l * 4, &pair, sizeof pair);
            }
        half_transpose(pairs, rows);
        for (int i = 0; i < FA_COLUMNS && r + i < s->rows; i++) memcpy(out[i] + c, rows + i * 64, 64);
    }
}
#endif
