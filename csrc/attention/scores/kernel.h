/* What the kernel of a score is: functions that attention calls for tiles, panels and pairs of queries and keys.
 *
 * Each score fills a table, name_kernel, in its own file; scores.def lists them. Where it is NULL, queries and keys are
 * compared as they come. All sums have one order of their own, whatever the tile or the block.
 */
#ifndef FA_ATTENTION_SCORES_KERNEL_H
#define FA_ATTENTION_SCORES_KERNEL_H
#include "../../vec/vec.h"
#include "../../kernels.h"

/* Memory that is read after work which leaves the bus idle, as exponentials and pairs do: they ask for it meanwhile. */
typedef struct {
    const char *at[3];
    int64_t lines[3];
} fa_ahead;

FA_INLINE void fa_ask(fa_ahead *ahead, int64_t lines) {
    for (int i = 0; i < 3; i++)
        for (; lines > 0 && ahead->lines[i] > 0; lines--, ahead->lines[i]--, ahead->at[i] += 64)
            __builtin_prefetch(ahead->at[i], 0, 2);
}

/* The score of a call. */
typedef struct {
    int activation, estimates; /* see fa_attention */
    int64_t D;
    const element *vector; /* its vector, or NULL; v: a copy with zeros beyond, where there is one */
    const real *v;
    real v_sum, unit; /* with estimates alone: the sum of v, and what additive_inverse says */
    const real *inverse;
    real *d_v;                    /* the vector's gradient, where one is added to */
    const fa_compiled *functions; /* of a score from outside, and where sums for their parameters are */
    double *const *sums;
} score_form;

/* Copies a score's vector with zeros up to `width`. */
FA_FUNC void score_vector(const element *from, int64_t D, real *v, int64_t width) {
    for (int64_t t = 0; t < width; t++) v[t] = t < D ? to_real(from[t]) : (real)0;
}

/* Where the scores of one task come from. */
typedef struct {
    const fa_attention *a;
    score_form form;    /* v has zeros up to a multiple of 4 */
    const element *key; /* of this batch entry and key head */
    int64_t key_row;    /* row stride of keys */
    int64_t ldq;        /* row stride of packed queries */
} score_source;

/* Up to MR packed queries against the first `keys` keys of a panel, which begins with key `first`. */
typedef struct {
    int rows;
    const real *query;
    const uint8_t *flags;      /* of the queries, as packing left them */
    const element *const *raw; /* the queries before packing */
    const real *panel;
    int64_t first, keys;
    fa_ahead *ahead; /* what the next task reads, `asked` lines at each step of the work; NULL: nothing */
    int64_t asked;
    real *S; /* rows lds apart; lanes up to the next whole vector receive numbers of no meaning */
    int64_t lds;
} score_tile_rows;

#define FA_QUERY_BLOCK 48 /* rows of a block of gradients, at most */

/* The gradients of one block of up to FA_QUERY_BLOCK queries and the keys of one panel: rows of queries and their
 * gradients are ld apart, those of keys key_ld, with zeros beyond D up to ld, and
 * g[i * PW + j] = d loss / d score_ij times the scale is 0 for a pair that does not count. */
typedef struct {
    int64_t rows, keys, ld, key_ld;
    const real *g, *query, *key;      /* as pack_row left them */
    real *d_query, *d_key;            /* added to, the first by one sum of the block */
    const uint8_t *q_flags, *k_flags; /* what packing left beside them */
    const real *query_lost, *key_lost;
    const element *const *raw_query, *raw_key;
    int64_t raw_key_row;
} score_block;

typedef struct {
    /* Elements of a packed query, and rows of PW of a packed panel. NULL: D of each. */
    int64_t (*query_width)(int64_t D);
    int64_t (*panel_rows)(int64_t D);
    /* What becomes of a query; of a panel, whose lanes are n keys, features in rows; and of a row of either for the
     * backward pass, with zeros up to ld. */
    void (*pack_query)(const score_form *f, const element *x, real *q, uint8_t *flag, real *lost);
    void (*pack_panel)(const score_form *f, real *panel, int64_t n, fa_ahead ahead);
    void (*pack_row)(const score_form *f, const element *x, real *row, int64_t ld, uint8_t *flag, real *lost);
    /* With estimates, a panel of rows that pack_row made: what is in it beside their features. */
    void (*close_panel)(const score_form *f, real *panel, int64_t n, const uint8_t *flags);
    /* Scores of a tile, times the scale. */
    void (*tile)(const score_source *s, const score_tile_rows *t);
    /* The same of keys as they lie, where that takes less time for one tile than to pack them first; else NULL. Returns
     * 0 if it cannot. */
    int (*tile_of_rows)(const score_source *s, const score_tile_rows *t, const element *key);
    /* The score of one pair, without the scale, and its gradients times g, added to dq, dk and f->d_v. A score without
     * the first or query_backward is none for steps. */
    real (*pair)(const score_form *f, const element *q, const element *k);
    void (*pair_backward)(const score_form *f, real g, const element *q, const element *k, real *dq, real *dk);
    /* NULL: a product of query and key, whose queries are packed times the scale, and whose gradients are products. */
    void (*block_backward)(const score_form *f, const score_block *b);
    /* What all gradients of queries and keys lack, beside the vector; NULL: 1. */
    real (*gradient_factor)(const score_form *f);
    /* dq = gradient of one query: a sum over the keys of weights that are not 0, ascending; g has the scale. */
    void (*query_backward)(const score_form *f, const element *q, const element *key, int64_t key_row, int64_t keys,
                           const element *weights, const real *g, element *dq);
} score_kernel;
#endif
