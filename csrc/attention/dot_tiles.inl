/* Dot attention of bfloat16 arrays on a matrix unit, forward: what forward.inl computes, for scores q_i . k_j.
 *
 *   s_ij = options(scale * q_i . k_j),   p_ij = bfloat16(2^(60 + s_ij log2 e - m_i))
 *   context_i = sum_j p_ij v_j / sum_j 2^(60 + s_ij log2 e - m_i)
 *
 * Query, key, value and context are bfloat16 (strides in such numbers), all else is float32. A task is one (batch, key
 * head) and up to rows_per_task rows, whose products with the keys are made for 32 rows at a time:
 *   1. pack the task's queries as rows
 *   2. for each chunk of keys: pack keys as columns, values as pairs; they serve all rows of the task. For up to 16
 *      rows keys are not packed: as they lie they are the left side of the scores turned over, of the same bits. Nor
 *      are values for up to 8 rows: as they lie they are pairs of columns, the right side of two products, with a row
 *      of weights and zeros for even columns and one of zeros and weights for odd ones
 *   3.   for each 32 rows and each block of FA_TILE_KEYS keys, counted from key 0:
 *   4.     scores by tiles, kept in a strip
 *   5.     for each row: options, then exponentials, rounded to bfloat16
 *   6.     context += weights x values, and, before a backward pass, sums of weights x ones by tiles
 *   7. divide, round, write context, lse
 * Two times 32 rows take turns: while vectors do step 5 for one, the unit does steps 6 and 4 for the other.
 * dot_columns.inl has steps 3 to 6 for more than 16 rows without options of single scores, with the same bits.
 *
 * The base m_i is the largest log2 e s_ij of the blocks so far, so that the largest weight of a row, 2^60, is exact:
 * with its error beside that of the others the gate is missed. Few blocks have a larger score than those before. From
 * 2^14 on rounding of the base would show, and from 2^29 on weights would overflow by it: the row's scores are made
 * less by the largest of them then, before they are multiplied by log2 e.
 *
 * Numerics. A context is divided by the sum of the weights before they were rounded, since that of rounded ones may
 * err by u as weights and contexts do, and the gate is 2 u. The one that is kept in float32 for the backward pass is
 * divided by that of rounded weights: the error of a row's sum of d_context_i . context_i is then one of how values
 * differ from their mean, not of the mean.
 * Products with values of size 2^-60 to 2^48 are normal numbers down to weights of 2^-66.
 * A score depends on its query and key alone, a weight on what is left of it in its row: what the tile's other rows and
 * columns hold changes no bit, and a value that may not be read is never multiplied by anything but zero, since plain
 * rows (tile/halves.inl) of values are not in tiles. What they give is added pair by pair, in float32, as are scores
 * summed once more that are not finite.
 * Bound for D = Dv = 64, of 16 x 16 scores: 13 vector operations for each 16, 115 cycles, and 4 products of 17.6
 * cycles, beside each of which some 14 of them take no time: 150. Measured for rows (Intel Xeon, 2048 keys): 410.
 */
#ifndef FA_ATTENTION_DOT_TILES_INL
#define FA_ATTENTION_DOT_TILES_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../vec/math.h"
#include "../kernels.h"
#include "../tile/halves.inl"
#include "rows.inl"
#ifndef FA_TILE_FILE /* this file is read by itself */
#define FA_TILE_FILE "../tile/amx_model.h"
#endif
#include FA_TILE_FILE

#define FA_TILE_ROWS 32
#define FA_TILE_KEYS 256
#define FA_TILE_CHUNK 1024
#define FA_STRIP_ROW (FA_TILE_KEYS + 16) /* rows of a strip do not fall on the same lines of the cache */
#define FA_WEIGHT_UP 60                  /* weights are times 2^60 */
#define FA_BASE_NONE -0x1p100f           /* of a row that has no finite score so far */
#define FA_BASE_NEAR 0x1p-10f            /* above the base by so little is rounded to it */
#define FA_BASE_HUGE 0x1p14f             /* a base from here on is off by more than that */

typedef struct {
    const fa_attention *a;
    int64_t b, hk, first_head, row0, rows, rows_padded, length, chunk;
    int64_t depth, ldv; /* of queries and keys, in blocks of 32; of contexts */
    half_source queries, keys, values;
    char *query_tiles, *key_tiles, *value_tiles, *weights[2];
    uint8_t *plain_values;
    float *strip[2], *context, *far; /* far: of values beyond 2^48 in size, times 2^-100 */
    float *aside;                    /* what is turned over */
    float *base;
    uint8_t *odd;   /* queries: 1: with numbers of 2^60 and more in size, 2: with subnormal ones */
    uint8_t *huge;  /* rows whose base is their largest scaled score, not times log2 e: from FA_BASE_HUGE on */
    vec *sum;       /* of weights before they were rounded */
    float *rounded; /* sums of those that were, 16 of a row, all of them the same: for a backward pass */
    const char *ones;
    int any_plain, any_far; /* values */
    int any_large;          /* 1: queries, 2: keys; without them all scores of tiles are finite */
    int columns;            /* as dot_columns.inl has it; else: */
    int turned;             /* queries are packed as columns, keys not at all */
    int lying;              /* nor are values, of 32 keys that are all there, unless some of the chunk are plain */
    tile_registers registers;
} dot_state;

/* 32 rows, or what is left of them, and where they are in the keys lo..hi-1 that they read of a chunk. */
typedef struct {
    int64_t first, rows;
    int64_t head[FA_TILE_ROWS], query[FA_TILE_ROWS];
    fa_range range[FA_TILE_ROWS];
    int two; /* tiles of rows */
    int64_t lo, hi;
    float *strip;
    char *weights;
    int64_t next, key;    /* the block whose scores are made, and the first key of which they are not */
    int64_t done, column; /* the block that has weights, and the first column to which it was not added */
    int part;             /* of columns: a block has weights that were not added */
} dot_rows;

FA_FUNC int64_t dot_layout(dot_state *s, const fa_attention *a, int64_t rows, char *workspace) {
    char *w = workspace;
    const int64_t tiles = (rows + TILE_N - 1) / TILE_N * TILE_N;
    s->depth = half_blocks(a->D);
    s->ldv = half_blocks(a->Dv) * TILE_K;
    /* What is read once need not wait in the second level of the cache. */
    s->chunk = rows <= FA_TILE_ROWS ? FA_TILE_KEYS : FA_TILE_CHUNK;
    s->query_tiles = take_of(TILE_BYTES, &w, tiles / TILE_N, s->depth);
    s->key_tiles = take_of(TILE_BYTES, &w, s->chunk / TILE_N, s->depth);
    s->value_tiles = take_of(TILE_BYTES, &w, s->chunk / TILE_K, s->ldv / TILE_N);
    for (int i = 0; i < 2; i++) {
        s->weights[i] = take_of(TILE_BYTES, &w, FA_TILE_KEYS / TILE_K, 2);
        s->strip[i] = take(&w, FA_TILE_ROWS, FA_STRIP_ROW);
    }
    s->context = take(&w, tiles, s->ldv);
    s->far = take(&w, tiles, s->ldv);
    s->base = take(&w, tiles, 1);
    s->odd = take_of(1, &w, tiles, 1);
    s->huge = take_of(1, &w, tiles, 1);
    s->sum = take_of(sizeof(vec), &w, tiles, 1);
    s->rounded = take(&w, tiles, TILE_N);
    s->plain_values = take_of(1, &w, s->chunk, 1);
    s->aside = take(&w, TILE_N, s->ldv > FA_STRIP_ROW ? s->ldv : FA_STRIP_ROW);
    return w - workspace;
}

FA_FUNC int64_t dot_tiles_workspace(const fa_attention *a, int64_t rows) {
    dot_state s;
    return dot_layout(&s, a, rows, (char *)64);
}

FA_INLINE const uint16_t *dot_query(const dot_state *s, int64_t head, int64_t query) {
    return (const uint16_t *)s->a->query + row_at(&s->a->query_strides, s->b, head, query);
}

/* Step 1. Rows of a group of heads need not be a stride apart. */
FA_FUNC void dot_pack_queries(dot_state *s) {
    const fa_attention *a = s->a;
    fa_row row = fa_task_row(a, s->row0);
    for (int64_t r = 0; r < (s->rows + TILE_N - 1) / TILE_N * TILE_N; r++) {
        char *to = s->query_tiles + r / TILE_N * s->depth * TILE_BYTES + r % TILE_N * 64;
        const uint16_t *query = NULL;
        if (r < s->rows) {
            query = dot_query(s, s->first_head + row.head, row.query);
            row = fa_next_row(a, row);
            s->odd[r] = 0;
            if (half_plain(query, a->D, HALF_NORMAL, HALF_LARGE)) {
                const int large = half_plain(query, a->D, 0, HALF_LARGE);
                s->any_large |= large;
                s->odd[r] = (uint8_t)(large | half_plain(query, a->D, HALF_NORMAL, HALF_INFINITE) << 1);
            }
        }
        for (int64_t c = 0; c < s->depth; c++, to += TILE_BYTES)
            if (query)
                half_row(query, c * TILE_K, a->D, to);
            else
                memset(to, 0, 64);
    }
    if (s->any_large) s->columns = 0;
    for (int64_t t = 0; (s->turned || s->columns) && t < s->rows_padded / TILE_N * s->depth; t++)
        half_turn(s->query_tiles + t * TILE_BYTES);
}

/* Values of the chunk from `first`, a multiple of 32; if one is plain, of which `found` tells for those before, all. */
FA_FUNC void dot_pack_values(dot_state *s, int64_t first, uvec found) {
    const int64_t n = s->values.n, bytes = s->ldv / TILE_N * TILE_BYTES;
    for (int64_t j = first; j < n; j += TILE_K)
        found = half_pairs(&s->values, j, s->value_tiles + j / TILE_K * bytes, found, HALF_SMALL, HALF_LARGEST);
    s->any_plain = half_any(found);
    if (!s->any_plain) return;
    s->lying = 0;
    for (int64_t j = 0; j < n; j++)
        s->plain_values[j] =
            (uint8_t)half_plain(s->values.rows + j * s->values.stride, s->a->Dv, HALF_SMALL, HALF_LARGEST);
    s->values.plain = s->plain_values;
    s->values.ahead = 0;
    for (int64_t j = 0; j < n; j += TILE_K) half_pairs(&s->values, j, s->value_tiles + j / TILE_K * bytes, found, 0, 0);
}

/* Step 2: keys first..last-1, but for their tiles. */
FA_FUNC void dot_pack_keys(dot_state *s, const uint16_t *key, const uint16_t *value, int64_t first, int64_t last) {
    const fa_attention *a = s->a;
    const int64_t n = last - first;
    const fa_strides3 *k = &a->key_strides, *v = &a->value_strides;
    /* The next keys come from memory while these are computed with. */
    s->keys = (half_source){key + first * k->row, k->row, n, a->D, NULL, s->turned ? n * k->row : 0};
    s->values = (half_source){value + first * v->row, v->row, n, a->Dv, NULL, s->turned ? n * v->row : 0};
    if (!s->turned) {
        uvec large = {0};
        for (int64_t j = 0; j < n; j++)
            large = half_beyond_row(large, s->keys.rows + j * s->keys.stride, a->D, 0, HALF_LARGE);
        s->any_large = (s->any_large & 1) | half_any(large) << 1;
    }
    s->any_plain = 0;
    s->lying = s->turned && 2 * s->rows <= TILE_N && a->Dv % TILE_K == 0;
    if (!s->lying) dot_pack_values(s, 0, (uvec){0});
}

/* A tile of columns by one of rows, or by two, to registers c0 and c1. Only register 7 has 16 rows when there are fewer
 * than that. */
#define PRODUCTS(c0, c1, rows0, rows1, columns)                                                                        \
    TILE_STREAM(7, columns, 64);                                                                                       \
    TILE_LOAD(4, rows0, 64);                                                                                           \
    TILE_BFLOAT16(c0, 4, 7);                                                                                           \
    if (two) {                                                                                                         \
        TILE_LOAD(5, rows1, 64);                                                                                       \
        TILE_BFLOAT16(c1, 5, 7);                                                                                       \
    }

/* Scores with 16 keys to registers c0 and c1, and those with the 16 before from p0 and p1 to the strip: a store that
 * follows its products at once lets the next ones wait. */
#define SCORES(c0, c1, p0, p1, j)                                                                                      \
    TILE_ZERO(c0);                                                                                                     \
    if (two) TILE_ZERO(c1);                                                                                            \
    for (int64_t c = 0; c < tile; c += TILE_BYTES) {                                                                   \
        PRODUCTS(c0, c1, query + c, query + tile + c, columns + (j) / TILE_N * tile + c);                              \
        if (c == 0 && (j) > 0) TILE_STORE(p0, strip + (j)-TILE_N, row);                                                \
    }                                                                                                                  \
    if (tile == 0 && (j) > 0) TILE_STORE(p0, strip + (j)-TILE_N, row);                                                 \
    if (two && (j) > 0) TILE_STORE(p1, strip + TILE_N * ld + (j)-TILE_N, row);

/* Step 4: scores of 32 rows, or of up to 16, with n keys, a multiple of 16; `columns` are tiles of keys. */
FA_INLINE void dot_scores(int two, int rows, const char *query, const char *columns, int64_t depth, int64_t n,
                          float *strip, int64_t ld) {
    TILES(rows);
    const int64_t tile = depth * TILE_BYTES, row = ld * (int64_t)sizeof(float);
    for (int64_t j = 0; j < n; j += 2 * TILE_N) {
        SCORES(0, 1, 2, 3, j)
        if (j + TILE_N < n) {
            SCORES(2, 3, 0, 1, j + TILE_N)
        }
    }
    float *last = strip + n - TILE_N;
    if (n % (2 * TILE_N)) {
        TILE_STORE(0, last, row);
        if (two) TILE_STORE(1, last + TILE_N * ld, row);
    } else {
        TILE_STORE(2, last, row);
        if (two) TILE_STORE(3, last + TILE_N * ld, row);
    }
}
#undef SCORES

/* 16 keys as they lie, a block of 32 numbers after the other: in the array, or in tiles where it has fewer. */
typedef struct {
    const char *from;
    int64_t row, block;
} dot_keys;

FA_INLINE dot_keys dot_keys_as_rows(const dot_state *s, int64_t first, char *tiles) {
    const half_source *keys = &s->keys;
    const int whole = first + TILE_N <= keys->n && keys->width % TILE_K == 0;
    if (whole) return (dot_keys){(const char *)(keys->rows + first * keys->stride), 2 * keys->stride, 64};
    for (int i = 0; i < TILE_N; i++) {
        const uint16_t *row = half_source_row(keys, first + i);
        for (int64_t c = 0; c < s->depth; c++)
            half_row(row, c * TILE_K, row ? keys->width : 0, tiles + c * TILE_BYTES + i * 64);
    }
    return (dot_keys){tiles, 64, TILE_BYTES};
}

/* Asks for n rows of keys and of values of the next chunk. Memory gives some 25 bytes a nanosecond and keeps in mind 16
 * requests of a core, so these are spread over all that is done with the rows of this chunk. */
FA_INLINE void dot_ask(const dot_state *s, int64_t first, int64_t n) {
    half_ask(&s->keys, first, n);
    half_ask(&s->values, first, n);
}

/* `found` with what values first..first+n-1 have that makes them plain. */
FA_INLINE uvec dot_look_through(const half_source *v, int64_t first, int64_t n, uvec found) {
    const int joined = v->stride == v->width;
    const int64_t rows = joined ? 1 : n, each = joined ? n * v->width : v->width;
    for (int64_t i = 0; i < rows; i++)
        found = half_beyond_row(found, v->rows + (first + i) * v->stride, each, HALF_SMALL, HALF_LARGEST);
    return found;
}

/* Step 4 for up to 16 rows, with n keys from `first` of the chunk, a multiple of 32. Values that lie are looked through
 * for plain ones. */
FA_INLINE void dot_scores_turned(dot_state *s, int rows, int64_t first, int64_t n, float *strip) {
    TILES_TURNED(rows);
    uvec found = {0};
    _Alignas(64) char square[2][TILE_BYTES] = {{0}};
    char *low = s->key_tiles + s->depth * TILE_BYTES;
    for (int64_t j = 0; j < n; j += TILE_K) {
        const dot_keys one = dot_keys_as_rows(s, first + j, s->key_tiles);
        const dot_keys two = dot_keys_as_rows(s, first + j + TILE_N, low);
        if (!s->lying) half_ask(&s->keys, first + j, TILE_K);
        if (s->lying && first + j + TILE_K <= s->values.n)
            found = dot_look_through(&s->values, first + j, TILE_K, found);
        TILE_ZERO(2);
        TILE_ZERO(3);
        for (int64_t c = 0; c < s->depth; c++) {
            const int64_t begin = c * TILE_N / s->depth, end = (c + 1) * TILE_N / s->depth;
            if (s->lying) dot_ask(s, (first + j) / 2 + begin, end - begin);
            TILE_LOAD(6, s->query_tiles + c * TILE_BYTES, 64);
            TILE_LOAD(7, one.from + c * one.block, one.row);
            TILE_LOAD(5, two.from + c * two.block, two.row);
            TILE_BFLOAT16(2, 7, 6);
            TILE_BFLOAT16(3, 5, 6);
        }
        if (rows == 1) {
            TILE_STORE(2, strip + j, 4);
            TILE_STORE(3, strip + j + TILE_N, 4);
            continue;
        }
        for (int half = 0; half < 2; half++) {
            if (half)
                TILE_STORE(3, square[0], 64);
            else
                TILE_STORE(2, square[0], 64);
            half_transpose(square[0], square[1]);
            for (int i = 0; i < rows; i++) memcpy(strip + i * FA_STRIP_ROW + j + half * TILE_N, square[1] + i * 64, 64);
        }
    }
    if (s->lying) dot_pack_values(s, s->values.n / TILE_K * TILE_K, found);
}

/* Step 6 for 16 columns: n keys, a multiple of 32, whose values are `wide` tiles for each 32. */
FA_INLINE void dot_context(int two, int rows, const char *weights, const char *values, int64_t wide, int64_t n,
                           float *context, int64_t ldv) {
    TILES(rows);
    const int64_t row = ldv * (int64_t)sizeof(float), tile = FA_TILE_KEYS / TILE_K * TILE_BYTES;
    TILE_LOAD(0, context, row);
    if (two) TILE_LOAD(1, context + TILE_N * ldv, row);
    for (int64_t j = 0; j < n; j += TILE_K, weights += TILE_BYTES, values += wide * TILE_BYTES) {
        PRODUCTS(0, 1, weights, weights + tile, values);
    }
    TILE_STORE(0, context, row);
    if (two) TILE_STORE(1, context + TILE_N * ldv, row);
}

/* Step 6 for the sums of weights: products with ones. */
FA_INLINE void dot_sums(int two, int rows, const char *weights, const char *ones, int64_t n, float *sums) {
    TILES(rows);
    TILE_LOAD(0, sums, 64);
    TILE_LOAD(7, ones, 64);
    if (two) TILE_LOAD(2, sums + TILE_N * TILE_N, 64);
    for (int64_t j = 0; j < n; j += TILE_K, weights += TILE_BYTES) {
        TILE_LOAD(4, weights, 64);
        TILE_BFLOAT16(0, 4, 7);
        if (two) {
            TILE_LOAD(5, weights + FA_TILE_KEYS / TILE_K * TILE_BYTES, 64);
            TILE_BFLOAT16(2, 5, 7);
        }
    }
    TILE_STORE(0, sums, 64);
    if (two) TILE_STORE(2, sums + TILE_N * TILE_N, 64);
}

#undef PRODUCTS

/* Step 6 for up to 8 rows and 32 keys of the chunk, from `first`, whose values are not packed: in the order of
 * dot_context. The unit would make zeros of sums below 2^-126; contexts are these over 2^60, zeros below 2^-90. */
FA_INLINE void dot_context_lying(const dot_state *s, int rows, const char *weights, int64_t first, float *context) {
    TILES_TURNED(rows);
    _Alignas(64) char left[2][TILE_BYTES];
    _Alignas(64) float sums[2][2 * TILE_N * TILE_N];
    const uint16_t *one = s->values.rows + first * s->values.stride, *two = one + TILE_N * s->values.stride;
    const int64_t row = 2 * s->values.stride;
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int k = 0; k < 64; k += FA_VBYTES) {
            uvec w, parts[4];
            memcpy(&w, weights + i * 64 + k, sizeof w);
            parts[0] = w & 0xffffu;
            parts[1] = w << 16;
            parts[2] = w >> 16;
            parts[3] = w & 0xffff0000u;
            for (int p = 0; p < 4; p++) memcpy(left[p / 2] + (2 * i + p % 2) * 64 + k, &parts[p], sizeof w);
        }
    for (int64_t c = 0; c < s->ldv; c += TILE_K) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_LOAD(4, left[0], 64);
        TILE_LOAD(7, one + c, row);
        TILE_LOAD(5, two + c, row);
        TILE_BFLOAT16(0, 4, 7);
        const int64_t begin = c * TILE_N / s->ldv, end = (c + TILE_K) * TILE_N / s->ldv;
        dot_ask(s, (s->chunk + first) / 2 + begin, end - begin);
        TILE_LOAD(4, left[1], 64);
        TILE_BFLOAT16(1, 4, 5);
        TILE_STORE(0, sums[0], 64);
        TILE_STORE(1, sums[1], 64);
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int k = 0; k < TILE_K; k += VL) {
                float *to = context + i * s->ldv + c + k;
                const int64_t at = i * TILE_K + k;
                vstore(to, vload(to) + (vload(sums[0] + at) + vload(sums[1] + at)));
            }
    }
}

/* The keys of a block whose scores a row needs: those of from..to-1 in its range, in whole 32. */
typedef struct {
    int64_t lo, hi, first, last;
} dot_span;

FA_INLINE dot_span dot_span_of(fa_range range, int64_t from, int64_t to) {
    const int64_t lo = range.lo > from ? range.lo : from, hi = range.hi < to ? range.hi : to;
    if (lo >= hi) return (dot_span){from, from, from, from};
    return (dot_span){lo, hi, lo / TILE_K * TILE_K, (hi + TILE_K - 1) / TILE_K * TILE_K};
}

/* Marks scores of a query with keys that the unit takes part of for zero, and that are no zeros, by NaN: subnormal
 * numbers of either, where the other has large ones. */
FA_FUNC void dot_mark_odd(const fa_attention *a, int odd, dot_span span, float *strip, const half_source *keys,
                          int64_t key0) {
    for (int64_t j = span.lo; j < span.hi; j++) {
        const uint16_t *key = keys->rows + (j - key0) * keys->stride;
        if ((odd & 1 && half_plain(key, a->D, HALF_NORMAL, HALF_INFINITE)) ||
            (odd & 2 && half_plain(key, a->D, 0, HALF_LARGE)))
            strip[j] = NAN;
    }
}

/* What is not to be had from tiles, and options, on the scores of a row; strip[j] is that of key j. If some may not be
 * finite, they are computed pair by pair, whose sums may be; what may not be read becomes -inf. Returns the factor that
 * scores have yet to be multiplied by. */
FA_INLINE float dot_options(const fa_attention *a, int64_t b, int64_t head, int64_t query, fa_range range,
                            dot_span span, float *strip, const half_source *keys, int64_t key0, int unsure) {
    float *S = strip + span.first, scale = (float)a->scale;
    const int elementwise = has_elementwise(a);
    const int again = unsure && has_nonfinite(strip + span.lo, span.hi - span.lo);
    if (again || elementwise || !(scale > 0) || a->weights) {
        if (!again) scale_row(S, S, span.last - span.first, scale);
        const uint16_t *q = (const uint16_t *)a->query + row_at(&a->query_strides, b, head, query);
        for (int64_t j = span.lo; again && j < span.hi; j++)
            strip[j] = strip[j] - strip[j] == 0 ? strip[j] * scale
                                                : half_product(q, keys->rows + (j - key0) * keys->stride, a->D, scale);
        scale = 1;
    }
    if (elementwise) {
        const int64_t n = (span.last < a->Tk ? span.last : a->Tk) - span.first;
        row_options(a, b, head, query, range, span.first, n, S, NULL, NULL);
    }
    for (int64_t j = span.first; j < span.lo; j++) strip[j] = NEG_INF;
    for (int64_t j = span.hi; j < span.last; j++) strip[j] = NEG_INF;
    return scale;
}

/* Lets the base of row r grow to the largest of n scores, `top` in some lane, times a factor: that of scores, or this
 * times log2 e. */
FA_FUNC void dot_grow(dot_state *s, int64_t r, vec top, float scale) {
    const float largest = vhmax(top), of_scores = largest * scale, in_powers = largest * (scale * FA_LOG2E);
    const float before = s->base[r];
    const int was = s->huge[r];
    if (largest == NEG_INF || (was && of_scores <= before)) return;
    const int is = s->huge[r] = (uint8_t)(was || !(fabsf(in_powers) < FA_BASE_HUGE));
    const float base = s->base[r] = is ? of_scores : in_powers;
    if (before == FA_BASE_NONE) return;
    const float less = was ? (before - base) * FA_LOG2E : before - in_powers;
    const float factor = vpower(vset1(less > 0 ? 0 : less))[0];
    s->sum[r] = s->sum[r] * vset1(factor);
    scale_row(s->rounded + r * TILE_N, s->rounded + r * TILE_N, TILE_N, factor);
    scale_row(s->context + r * s->ldv, s->context + r * s->ldv, s->ldv, factor);
    if (s->any_far) scale_row(s->far + r * s->ldv, s->far + r * s->ldv, s->ldv, factor);
}

/* Scores, times their factor, less the largest of their row: exact where the two are near. That may have come from sums
 * in another order, backward: nothing is above it. */
FA_INLINE void dot_less(float *S, int64_t n, float scale, float largest) {
    const vec zero = vset1(0);
    for (int64_t j = 0; j < n; j += VL) {
        const vec x = vload(S + j) * vset1(scale) - vset1(largest);
        vstore(S + j, vselect_lt(zero, x, zero, x));
    }
}

/* Weights of n scores times f, a multiple of 32, less a base, to the tiles of row r, and to its sum. */
FA_INLINE void dot_weigh(dot_state *s, int64_t r, const float *S, int64_t n, float f, float base, char *weights) {
    /* Off by some 2^-24 of a score and of the base, no more than the sums that scores are. */
    const vec times = vset1(f), from_base = vset1(-base);
    vec all = s->sum[r];
    for (int64_t j = 0; j < n; j += TILE_K, weights += TILE_BYTES)
#pragma GCC unroll 4
        for (int k = 0; k < TILE_N; k += VL) {
            const vec one = vpower_times(vfma(vload(S + j + k), times, from_base), FA_WEIGHT_UP);
            const vec two = vpower_times(vfma(vload(S + j + TILE_N + k), times, from_base), FA_WEIGHT_UP);
            all = all + (one + two);
            const uvec pair = half_pair(one, two);
            memcpy(weights + k * 4, &pair, sizeof pair);
        }
    s->sum[r] = all;
}

/* The same of a row whose scores are made less by its base first; seldom, and not worth a place among the others. */
__attribute__((noinline)) FA_FUNC void dot_weigh_huge(dot_state *s, int64_t r, float *S, int64_t n, float scale,
                                                      char *weights) {
    dot_less(S, n, scale, s->base[r]);
    dot_weigh(s, r, S, n, FA_LOG2E, 0, weights);
}

FA_INLINE char *dot_weights_of(const dot_rows *t, int i, int64_t key) {
    return t->weights + (i / TILE_N * (FA_TILE_KEYS / TILE_K) + key / TILE_K) * TILE_BYTES + i % TILE_N * 64;
}

/* Step 5 for row i of 32, with keys from..to-1 of a block that begins with key `begin`, of the chunk of key `start`. */
FA_INLINE void dot_row(dot_state *s, const dot_rows *t, int i, int64_t begin, int64_t from, int64_t to, int64_t start) {
    const fa_attention *a = s->a;
    const int64_t r = t->first + i, at = (s->b * a->H + t->head[i]) * a->Tq + t->query[i];
    float *strip = t->strip + i * FA_STRIP_ROW - begin;
    const dot_span span = dot_span_of(t->range[i], from, to);
    for (int64_t j = from; j < to; j += TILE_K)
        if (j < span.first || j >= span.last) memset(dot_weights_of(t, i, j - begin), 0, 64);
    if (span.first == span.last) return;
    if (s->odd[r]) dot_mark_odd(a, s->odd[r], span, strip, &s->keys, start);
    const float scale = dot_options(a, s->b, t->head[i], t->query[i], t->range[i], span, strip, &s->keys, start,
                                    s->turned || s->any_large || s->odd[r]);
    if (a->weights)
        memcpy(a->weights + at * a->Tk + span.lo, strip + span.lo, (size_t)(span.hi - span.lo) * sizeof(float));
    const float *S = strip + span.first, f = scale * FA_LOG2E;
    const int64_t n = span.last - span.first;
    char *weights = dot_weights_of(t, i, span.first - begin);
    vec top = vload(S), other = vload(S + VL);
    for (int64_t j = 2 * VL; j < n; j += 2 * VL) {
        top = vmax(top, vload(S + j));
        other = vmax(other, vload(S + j + VL));
    }
    top = vmax(top, other);
    if (s->huge[r] || s->base[r] == FA_BASE_NONE || vbits_above(vfma(top, vset1(f), vset1(-s->base[r])), FA_BASE_NEAR))
        dot_grow(s, r, top, scale);
    if (s->huge[r])
        dot_weigh_huge(s, r, strip + span.first, n, scale, weights);
    else
        dot_weigh(s, r, S, n, f, s->base[r], weights);
}

/* What plain values add to a row, of keys from..to-1 that it may read. */
FA_FUNC void dot_plain_values(dot_state *s, const dot_rows *t, int i, int64_t begin, int64_t start) {
    const int64_t end = begin + FA_TILE_KEYS;
    const int64_t lo = t->range[i].lo > begin ? t->range[i].lo : begin,
                  hi = t->range[i].hi < end ? t->range[i].hi : end;
    const float *strip = t->strip + i * FA_STRIP_ROW - begin;
    float *context = s->context + (t->first + i) * s->ldv, *far = s->far + (t->first + i) * s->ldv;
    for (int64_t j = lo < start ? start : lo; j < hi && j < start + s->values.n; j++) {
        const int64_t at = j - start;
        if (!s->plain_values[at] || strip[j] == NEG_INF) continue;
        uint16_t p;
        memcpy(&p, dot_weights_of(t, i, j - begin) + (j % TILE_N * 2 + j / TILE_N % 2) * 2, 2);
        const uint16_t *value = s->values.rows + at * s->values.stride;
        if (!s->any_far) memset(s->far, 0, (size_t)(s->rows_padded * s->ldv) * sizeof(float));
        s->any_far = 1;
        for (int64_t c = 0; c < s->a->Dv; c++)
            if ((value[c] & 0x7fffu) >= HALF_LARGEST)
                far[c] += half_real(p) * (0x1p-100f * half_real(value[c]));
            else
                context[half_place(c)] += half_real(p) * half_real(value[c]);
    }
}

/* The keys of a block of which some row reads some: whole 32, from..to-1. */
FA_INLINE int64_t dot_from(const dot_rows *t, int64_t begin) { return t->lo > begin ? t->lo / TILE_K * TILE_K : begin; }
FA_INLINE int64_t dot_to(const dot_rows *t, int64_t begin) {
    const int64_t end = begin + FA_TILE_KEYS < t->hi ? begin + FA_TILE_KEYS : t->hi;
    return (end + TILE_K - 1) / TILE_K * TILE_K;
}

/* The next piece of steps 6 and 4 for 32 rows over the keys of the chunk of key `start`; 0: none is left. */
FA_INLINE int dot_work(dot_state *s, dot_rows *t, int rows, int64_t start) {
    if (t->column < s->ldv) {
        int64_t from = dot_from(t, t->done);
        const int64_t to = dot_to(t, t->done), wide = s->ldv / TILE_N, there = start + s->values.n;
        const char *weights = t->weights + (from - t->done) / TILE_K * TILE_BYTES;
        if (t->column < 0) {
            float *sums = s->rounded + t->first * TILE_N;
            if (t->two)
                dot_sums(1, TILE_N, weights, s->ones, to - from, sums);
            else
                dot_sums(0, rows, weights, s->ones, to - from, sums);
            t->column = 0;
            return 1;
        }
        float *context = s->context + t->first * s->ldv + t->column;
        for (; s->lying && from < to && from + TILE_K <= there; from += TILE_K, weights += TILE_BYTES)
            if (t->column == 0) dot_context_lying(s, rows, weights, from - start, context);
        const char *values = s->value_tiles + ((from - start) / TILE_K * wide + t->column / TILE_N) * TILE_BYTES;
        if (t->two)
            dot_context(1, TILE_N, weights, values, wide, to - from, context, s->ldv);
        else if (from < to)
            dot_context(0, rows, weights, values, wide, to - from, context, s->ldv);
        t->column += TILE_N;
        if (t->column == s->ldv && s->any_plain)
            for (int i = 0; i < t->rows; i++) dot_plain_values(s, t, i, t->done, start);
        return 1;
    }
    if (t->next >= t->hi || t->key >= dot_to(t, t->next)) return 0;
    float *strip = t->strip + (t->key - t->next);
    const char *query = s->query_tiles + t->first / TILE_N * s->depth * TILE_BYTES;
    const char *columns = s->key_tiles + (t->key - start) / TILE_N * s->depth * TILE_BYTES;
    const int64_t n = s->turned ? dot_to(t, t->next) - t->key : TILE_K;
    if (s->turned)
        dot_scores_turned(s, rows, t->key - start, n, strip);
    else if (t->two)
        dot_scores(1, TILE_N, query, columns, s->depth, n, strip, FA_STRIP_ROW);
    else
        dot_scores(0, rows, query, columns, s->depth, n, strip, FA_STRIP_ROW);
    t->key += n;
    return 1;
}

/* Step 5 for 32 rows, between which the unit works for others. */
FA_INLINE void dot_vectors(dot_state *s, dot_rows *t, dot_rows *others, int rows, int64_t start) {
    const int64_t begin = t->next, from = dot_from(t, begin), to = dot_to(t, begin);
    for (int i = 0; i < t->rows; i++) {
        if (others && i % 2 == 0) dot_work(s, others, rows, start);
        dot_row(s, t, i, begin, from, to, start);
    }
    t->done = begin;
    t->column = s->a->exact ? -TILE_N : 0;
    t->next = t->key = begin + FA_TILE_KEYS;
}

/* Steps 3 to 6 for one or two times 32 rows over the keys of a chunk. */
FA_INLINE void dot_blocks(dot_state *s, dot_rows *t, dot_rows *others, int rows, int64_t start) {
    while (t->next < t->hi || (others && others->next < others->hi)) {
        if (t->next < t->hi) {
            while (dot_work(s, t, rows, start))
                ;
            dot_vectors(s, t, others, rows, start);
        }
        if (!others) continue;
        dot_rows *const turn = t;
        t = others;
        others = turn;
    }
    while (dot_work(s, t, rows, start))
        ;
    while (others && dot_work(s, others, rows, start))
        ;
}

/* A row in the order of pairs, of whole 32, times f and rounded to `out`, and times g to `exact`, if not NULL. */
FA_INLINE void dot_round_pairs(const float *total, int64_t n, vec f, uint16_t *out, vec g, float *exact) {
    const vec zero = vset1(0);
    for (int64_t c = 0; c < n; c += TILE_K)
#pragma GCC unroll 4
        for (int i = 0; i < TILE_N; i += VL) {
            const vec x = vload(total + c + i), y = vload(total + c + TILE_N + i);
            const uvec pair = half_beside(half_nearest(x * f + zero), half_nearest(y * f + zero));
            memcpy(out + c + 2 * i, &pair, sizeof pair);
            for (int k = 0; exact && k < VL; k++) {
                exact[c + 2 * (i + k)] = (x * g + zero)[k];
                exact[c + 2 * (i + k) + 1] = (y * g + zero)[k];
            }
        }
}

/* 16 columns of a context, of which n are there: their sums over that of weights; `far` may be NULL. */
FA_INLINE void dot_divide(const float *total, const float *far, int64_t n, float weights, float *to) {
    const vec f = vset1(1 / weights), zero = vset1(0);
    for (int i = 0; i < TILE_N; i += VL) vstore(to + i, vload(total + i) * f + zero);
    for (int i = 0; far && i < n; i++) {
        const float more = far[i] / (weights * 0x1p-60f); /* 2^40 times less than it counts */
        if (more == 0) continue;
        const float x = more * 0x1p40f + to[i]; /* infinite by rounding alone, or of what is infinite */
        to[i] = more - more == 0 && x - x != 0 ? (x > 0 ? 0x1.fep127f : -0x1.fep127f) : x;
    }
}

/* Step 7 for what is kept of the scores of row r, whose weights sum to `whole`: 0 where it reads no key. */
FA_INLINE void dot_finish_sums(const dot_state *s, int64_t r, int64_t at, float whole) {
    const fa_attention *a = s->a;
    const double natural = (double)s->base[r] * (s->huge[r] ? 1 : 0.69314718055994530942); /* ln 2 */
    const float sum = whole * 0x1p-60f;
    const int empty = s->base[r] == FA_BASE_NONE && whole == 0;
    if (a->row_max) a->row_max[at] = empty ? NEG_INF : (float)natural;
    if (a->row_sum) a->row_sum[at] = sum;
    if (a->lse) a->lse[at] = empty ? NEG_INF : (float)(natural + log((double)sum));
    if (!a->weights) return;
    float *w = a->weights + at * a->Tk;
    const vec from = vset1(empty ? 0 : (float)natural), log2e = vset1(FA_LOG2E), g = vset1(empty ? 0 : 1 / sum);
    for (int64_t j = 0; j < a->Tk; j += VL)
        vstore_n(w + j, vpower((vload_n(w + j, a->Tk - j) - from) * log2e) * g, a->Tk - j);
}

/* Step 7 for one row. */
FA_FUNC void dot_finish(const dot_state *s, int64_t r, int64_t head, int64_t query) {
    const fa_attention *a = s->a;
    const int64_t at = (s->b * a->H + head) * a->Tq + query;
    float *total = s->context + r * s->ldv;
    const float *far = s->any_far ? s->far + r * s->ldv : NULL;
    const float whole = vhsum(s->sum[r]), rounded = s->rounded[r * TILE_N];
    const int empty = s->base[r] == FA_BASE_NONE && whole == 0;
    float *exact = a->exact ? a->exact + at * a->Dv : NULL;
    uint16_t *out = (uint16_t *)a->context + row_at(&a->context_strides, s->b, head, query);
    const int plainly = !empty && !far && a->Dv % TILE_K == 0;
    if (empty) {
        memset(out, 0, (size_t)a->Dv * sizeof *out);
        if (exact) memset(exact, 0, (size_t)a->Dv * sizeof *exact);
    } else if (plainly && exact)
        dot_round_pairs(total, a->Dv, vset1(1 / whole), out, vset1(1 / rounded), exact);
    else if (plainly)
        dot_round_pairs(total, a->Dv, vset1(1 / whole), out, vset1(0), NULL);
    else
        half_in_order(total, s->ldv / TILE_K);
    for (int64_t c = 0; !empty && !plainly && c < a->Dv; c += TILE_N) {
        _Alignas(64) float row[TILE_N];
        const int64_t n = a->Dv - c < TILE_N ? a->Dv - c : TILE_N;
        dot_divide(total + c, far ? far + c : NULL, n, whole, row);
        for (int i = 0; i < n; i++) out[c + i] = half_of(row[i]);
        if (!exact) continue;
        dot_divide(total + c, far ? far + c : NULL, n, rounded, row);
        memcpy(exact + c, row, (size_t)n * sizeof(float));
    }
    dot_finish_sums(s, r, at, whole);
}
#endif
