/* The types that cross from the binding into the kernels, and the table of kernels of one ISA level.
 *
 * Sizes: B batch, H query heads, Hk key heads (Hk divides H), Tq queries, Tk keys, D query and key width, Dv value
 * width. Strides are in elements, signed and 64-bit. Columns of query, key, value and outputs have stride 1.
 */
#ifndef FASTATTN_H
#define FASTATTN_H

#include <stdint.h>

#include "sizes.h"

/* What pointers point at: `element`, what lies in users' arrays, and `real`, what is computed with. Kernels, which
 * include vec/vec.h before, know both types; elsewhere they are memory. */
#ifndef FA_VEC_TYPES_H
typedef void element, real;
#endif

/* unfit: done, but some result is not finite; plain: not done, the product needs packed weights too */
enum fa_status { FA_OK = 0, FA_NO_MEMORY = 1, FA_UNFIT = 2, FA_PLAIN = 3 };
enum fa_score {
#define SCORE(NAME, ...) FA_SCORE_##NAME,
#include "attention/scores/scores.def"
    FA_SCORES
};
enum fa_activation { FA_TANH = 0, FA_SIGMOID = 1, FA_RELU = 2 };
enum fa_causal { FA_NOT_CAUSAL = 0, FA_TOP_LEFT = 1, FA_BOTTOM_RIGHT = 2 };

/* What scores.def says of a score. */
typedef struct {
    const char *name;
    int vector;
    double pair, packing, alone;
} fa_score_facts;
static inline const fa_score_facts *fa_facts(int32_t score) {
    static const fa_score_facts all[] = {
#define SCORE(NAME, name, ...) {#name, __VA_ARGS__},
#include "attention/scores/scores.def"
    };
    return all + score;
}

typedef struct {
    int64_t batch, head, row;
} fa_strides3;
typedef struct {
    int64_t batch, head, row, column;
} fa_strides4;

/* A normalizer from outside: weights of the n keys that a row may read, and the gradient. No array overlaps another. */
typedef void (*fa_row_weights)(const double *scores, double *weights, int64_t n);
typedef void (*fa_row_gradient)(const double *scores, const double *weights, const double *d_weights, double *d_scores,
                                int64_t n);

/* Functions from outside on scores, one in each direction, as fa_compiled carries them. They are given the n scores of
 * query i of a (batch entry, head) with keys j0, j0 + 1, ..., and parameters that are theirs alone; what they make of a
 * score depends on neither n nor j0.
 * A modifier writes scores in place. Backward it takes the scores that it was given and d, the gradient of what it made
 * of them, which becomes that of those; a d of 0 stays so and adds nothing, also where the score is NaN. What is added
 * to sums for parameters does not depend on keys behind the last whose d is not 0. A modifier whose parameters have no
 * gradients may have another function in place of the backward one, which writes its slope at each score beside what it
 * makes of it. A mask function says 1 of a key that the query may attend to. */
typedef void (*fa_modify)(real *scores, int64_t n, int64_t b, int64_t h, int64_t i, int64_t j0,
                          const void *const *parameters);
typedef void (*fa_modify_backward)(const real *scores, real *d, int64_t n, int64_t b, int64_t h, int64_t i, int64_t j0,
                                   const void *const *parameters, double *const *sums);
typedef void (*fa_modify_sloped)(real *scores, real *slopes, int64_t n, int64_t b, int64_t h, int64_t i, int64_t j0,
                                 const void *const *parameters);
typedef void (*fa_allow)(uint8_t *allowed, int64_t n, int64_t b, int64_t h, int64_t i, int64_t j0,
                         const void *const *parameters);
/* Scores of a tile of `rows` queries, ldq apart, and the n keys of a panel, feature d of key j at
 * panel[d * width + j], into rows lds apart; and gradients, times g, added to those of queries and keys, all of whose
 * rows are ld apart. A g of 0 adds nothing, whatever the pair. A score has one order of its terms, in any tile. */
typedef void (*fa_pairs)(const real *query, int64_t ldq, int64_t rows, const real *panel, int64_t width, int64_t n,
                         int64_t D, real *scores, int64_t lds, const void *const *parameters);
typedef void (*fa_pairs_backward)(const real *g, int64_t ldg, const real *query, const real *key, int64_t ld,
                                  int64_t rows, int64_t keys, int64_t D, real *d_query, real *d_key,
                                  const void *const *parameters, double *const *sums);
/* Functions of rows: weights over the n scores of a row, of which those of -inf are masked and get 0, but not all are;
 * and gradients over d, those of the weights, beside them. Arrays have room to the end of a piece of FA_PIECE, where
 * scores are -inf too, and there are as many buffers of such rows as they need. Sums for parameters are added to once a
 * row, or in ascending order of keys. */
#define FA_PIECE 64
typedef void (*fa_row_forward)(real *scores, int64_t n, int64_t b, int64_t h, int64_t i, int64_t j0,
                               const void *const *parameters, real *buffers);
typedef void (*fa_row_backward)(real *scores, real *d, int64_t n, int64_t b, int64_t h, int64_t i, int64_t j0,
                                const void *const *parameters, double *const *sums, real *buffers);
typedef struct fa_compiled {
    void (*forward)(void);
    void (*backward)(void);
    void (*sloped)(void); /* of a modifier, or NULL */
    const void *const *parameters;
    /* Of each of `count` pointers to sums where it points in `size` float64 of all, or -1: not wanted. */
    const int64_t *starts;
    int64_t count, size;
} fa_compiled;

/* What a mask function allows of FA_BLOCK queries and FA_BLOCK keys: none, all, or what the function says of each. */
#define FA_BLOCK 64
enum fa_block { FA_BLOCK_NONE = 0, FA_BLOCK_ALL = 1, FA_BLOCK_SOME = 2 };

/* As attention/kept.inl reads them; plain rows are elements. */
enum fa_kept { FA_KEPT_PLAIN = 0, FA_KEPT_INT8, FA_KEPT_BFLOAT16, FA_KEPT_FLOAT16 };
enum fa_scale { FA_SCALE_BYTES = 4 };

typedef struct fa_attention {
    int64_t B, H, Hk, Tq, Tk, D, Dv;
    const element *query, *key, *value;
    fa_strides3 query_strides, key_strides, value_strides;

    int32_t score, activation, causal;
    int32_t estimates;           /* of reciprocals, 14 bits, in additive scores of float32, in place of divisions */
    double scale;                /* multiplies the raw score */
    double softcap;              /* 0: none */
    const element *score_vector; /* of a score that has one: v, D elements */
    const fa_compiled *pairwise; /* of a score from outside */

    const uint8_t *mask; /* 1 = may attend; NULL: none */
    fa_strides4 mask_strides;
    const element *bias;
    fa_strides4 bias_strides;
    const int64_t *key_lengths; /* B, or NULL */
    int64_t left, right;        /* window; -1: unbounded */

    const fa_compiled *modifier; /* of scores, after softcap and before bias; NULL: none */
    /* A mask function, or NULL, the states of its blocks, and of each row of them the first that allows something and
     * the one after the last, whose strides are those of states by blocks_columns. */
    const fa_compiled *allow;
    const uint8_t *blocks;
    const int64_t *spans;
    int64_t blocks_batch, blocks_head, blocks_columns; /* in rows of blocks */

    const uint64_t *seeds; /* B, or NULL: no dropout */
    uint32_t drop_below;   /* a key is dropped when its 32-bit hash is below this */
    double keep_scale;

    /* Keys packed earlier (fa_pack_keys), or NULL; memory_rows maps a batch entry to its entry in key, value and
     * panels. position_rows (Tk, B) does so for each position; it has no panels and no memory_rows beside it. */
    const real *key_panels;
    int64_t panels_batch, panels_head;
    const int64_t *memory_rows, *position_rows;
    /* In what type rows of key and value are, with strides in numbers of it; for a forward pass of float32 with softmax
     * alone, and without panels. */
    int32_t kept;

    /* Forward writes these; weights is contiguous (B, H, Tq, Tk), the others (B, H, Tq). NULL: not wanted. Backward
     * reads them, and a contiguous context. */
    element *context;
    fa_strides3 context_strides;
    element *weights, *lse;
    real *row_max, *row_sum; /* saved for the backward pass: weight = exp(score - row_max) / row_sum */

    /* A function of rows in place of softmax, whose rows have no lse, row_max and row_sum; NULL: none. */
    const fa_compiled *row_function;
    int64_t row_buffers;

    /* Of sparse weights, whose rows have none of these either: functions of a row, or NULL and alpha-entmax, of query
     * head h with alpha[h * alpha_stride]. */
    fa_row_weights row_weights;
    fa_row_gradient row_gradient;
    const double *alpha;
    int64_t alpha_stride;

    /* Of a call whose query, key, value and context are bfloat16 while all else is float32 (attention/dot_tiles.inl):
     * the context before it was rounded, contiguous, or NULL. Backward reads it, and no context. */
    real *exact;
} fa_attention;

/* How many sums for parameters of functions from outside there are. */
static inline int64_t fa_sums(const fa_attention *a) {
    const fa_compiled *const all[] = {a->modifier, a->pairwise, a->row_function};
    int64_t size = 0;
    for (int i = 0; i < 3; i++) size += all[i] ? all[i]->size : 0;
    return size;
}

typedef struct fa_attention_grad {
    fa_attention f; /* the forward's description; row_max and row_sum filled */
    const element *d_context;
    fa_strides3 d_context_strides;
    const element *d_weights, *d_lse; /* contiguous (B, H, Tq, Tk) and (B, H, Tq), or NULL */
    /* Contiguous outputs. d_key and d_value are (B, Hk, Tk, width). */
    element *d_query, *d_key, *d_value;
    void *d_bias;        /* of elements, laid out by d_bias_strides; zero on entry; NULL: not wanted */
    int32_t d_bias_wide; /* d_bias is of float64, for a bias that pairs share */
    fa_strides4 d_bias_strides;
    element *d_score_vector; /* of a score that has one: D */
    double *d_alpha;         /* (B, H, Tq): what each row adds to the gradient of its alpha; NULL: not wanted */
    double *d_parameters;    /* sums of the modifier's, the score's and the rows' functions; NULL: not wanted */
} fa_attention_grad;

/* Keys first..last-1 of key (B, Hk, T, D), first a multiple of panel_width, to be packed. */
typedef struct fa_packing {
    int32_t score, activation;
    const element *key, *score_vector;
    fa_strides3 key_strides;
    int64_t B, Hk, D, first, last;
    real *panels; /* of key 0 */
    int64_t panels_batch, panels_head;
} fa_packing;

/* How a call of attention is cut into tasks, and what they leave for each other: made by run/, of the call alone. */
typedef struct fa_plan {
    int64_t rows_per_task; /* forward: of one (batch, key head), which has `pieces` tasks */
    int64_t pieces;
    /* Few rows against many keys: a task is one chunk of keys and leaves its rows' maxima, sums and contexts here, in
     * pieces of attention_forward_partial reals, for attention_forward_join. NULL: a task reads all its keys. */
    real *partials;
    int64_t heads_per_task, batches_per_task; /* backward: those that share a bias, whose gradient has one order */
    real *delta;                              /* (B, H, Tq): sum_j weight_ij d_weight_ij - d_lse_i */
    real *d_score_vectors;                    /* (B, Hk, D), to be summed */
    double *d_parameters;                     /* of each task: its sums for parameters; NULL: not wanted */
    int32_t *unfit;                           /* becomes 1 when some gradient is not finite; tasks write it */
} fa_plan;

/* One step of Adam on a parameter (ops/adam.inl). */
typedef struct fa_adam {
    element *value;
    real *gradient, *m, *v;
    double scale, beta1, beta2, size, spread, epsilon, keep;
    int32_t clear; /* whether the gradient is set to zero */
} fa_adam;

/* Layer normalization of rows of N elements; arrays without a stride are contiguous (ops/layer_norm.inl). */
typedef struct fa_layer_norm {
    int64_t rows, N;
    const element *x, *gain, *offset, *dy;
    const element *added; /* rows of N, forward alone: y is of x + added; or NULL */
    int64_t x_row, dy_row;
    double epsilon;
    element *y, *dx;
    real *mean, *inverse;    /* rows, saved for the backward pass */
    real *d_gain, *d_offset; /* added to */
} fa_layer_norm;

/* One query for each sample; see attention/query_gradient.inl. */
typedef struct fa_query_gradient {
    int64_t B, Tk, D, Dv;
    int32_t score, activation;
    double scale;
    const element *query, *key, *value, *score_vector, *weights, *d_context;
    int64_t query_row, d_context_row;
    fa_strides3 key_strides, value_strides; /* head: unused */
    element *d_query;
    real *d_score;            /* for the gradients of keys, which are summed over many queries */
    const element *d_weights; /* (B, Tk), contiguous, or NULL: zeros */
} fa_query_gradient;

enum fa_cell { FA_GRU_AFTER = 0, FA_GRU_BEFORE = 1, FA_LSTM = 2 };

/* A recurrent layer over B samples of up to T positions, H units, 3 (GRU) or 4 (LSTM) gates G. Samples are entries,
 * longest first: entry i is sample order[i], with lengths[i] positions, whose rows start at starts[i]; all three NULL:
 * sample i, T, i T. At one step only the first entries are still running. */
typedef struct fa_recurrent {
    int64_t B, T, H;
    int32_t cell, reverse;
    const int64_t *lengths, *starts, *order;

    /* Packed (H, H) for each gate, one after another, for steps; (G H, H), packed as one, for the backward steps. */
    const real *w_hidden, *w_hidden_transposed;
    const element *b_input, *b_hidden; /* G H; LSTM: b_hidden NULL */

    /* On a matrix unit, the same in so many parts (fa_split), 0: not on one. Steps: (H, H) for each gate; backward:
     * (G H, H), or GRU_BEFORE (2 H, H) of r and z, and (H, H). */
    int32_t parts;
    const uint16_t *parts_of_hidden[4];

    /* One row for each position. Products with x become gates, and these the gradients at the gates' arguments. */
    element *gates; /* (rows, G H) */
    element *aux; /* (rows, H) GRU_AFTER: U_n h + c_n, then its gradient; GRU_BEFORE: r * h; LSTM: c; NULL: not kept */
    element *before; /* (rows, H) h before the step; NULL with aux */
    element *y;      /* (B, T, H), padding left alone; NULL: not wanted */

    const element *dy;           /* (B, T, H), or NULL: zeros */
    const element *memory_first; /* LSTM: c before the first step, contiguous by sample */
    const element *inside;       /* GRU_AFTER: (B, H), by sample, added to U_n h + c_n; NULL: nothing */
} fa_recurrent;

/* What the steps of a recurrent layer leave for each other, one row for each entry, `row` apart: made by run/. */
typedef struct fa_states {
    int64_t row;
    real *state[2];                     /* step s reads h from state[s % 2], writes the other */
    real *reset;                        /* GRU_BEFORE: r * h */
    real *memory;                       /* LSTM: c */
    real *d_state, *d_gates, *d_memory; /* back: gradients of h, of G H elements of one step, and of c */
} fa_states;

/* T steps of attention for each of B samples, over earlier weights or ranges of keys (decoder/steps.inl). Arrays
 * without strides are contiguous, and laid out as decoder/steps_forward.inl and decoder/steps_backward.inl say. */
typedef struct fa_steps {
    int64_t B, T, S, D, Dv;
    int64_t C, K; /* features and the odd size of their filters; C = 0: none */
    int32_t score, sigmoid;
    double scale;
    const element *query, *key, *value, *vector; /* vector: additive, tanh */
    fa_strides3 key_strides, value_strides;      /* head: unused */
    const int64_t *memory_rows;                  /* B, or NULL */
    const int64_t *first, *last;                 /* (B, T): the keys of a step */
    const uint8_t *mask;                         /* (B, S), or NULL */
    const element *history, *filters, *feature_weights;
    const element *factor; /* NULL: 1, and weights are normalized */
    element *context, *weights, *normalized;
    real *total;

    const element *d_context, *d_weights;
    element *d_query, *d_history, *d_factor;
    real *d_key, *d_vector, *d_feature_weights, *d_filters; /* added to, by steps first_step..last_step-1 */
    int64_t first_step, last_step;
} fa_steps;

/* Features of heads turned by the angles of their positions: ops/rotary.inl. */
typedef struct fa_rotary {
    const element *x;
    fa_strides3 x_strides;
    const element *cosines, *sines; /* (T, n / 2) */
    element *y;
    int64_t B, H, T, D, n;
    int32_t interleaved, inverse;
} fa_rotary;

/* One step of monotonic attention for each of B samples, with a softmax over chunks or not (decoder/monotonic.inl). */
typedef struct fa_monotonic {
    int64_t B, S, D, Dv;
    int64_t chunk; /* w; 0: none */
    int32_t hard;
    const element *query, *key, *vector, *offset, *value;
    const element *chunk_query, *chunk_key, *chunk_vector;
    const real *panels, *chunk_panels; /* soft: packed keys, an entry panels_batch reals */
    int64_t panels_batch;
    fa_strides3 key_strides, chunk_key_strides, value_strides; /* head: unused */
    const int64_t *memory_rows, *lengths;                      /* B; memory_rows or NULL */
    const uint8_t *mask;                                       /* (B, S), or NULL */
    const uint64_t *seeds;                                     /* B, or NULL: no noise */
    int64_t step;
    double noise;
    const element *previous;
    const int64_t *start; /* hard: B, and where it ended */
    int64_t *found;
    element *context, *weights, *alignment, *energy, *chunk_energy; /* alignment: with chunks, else weights are */

    const element *d_context, *d_weights, *d_alignment; /* the last two or NULL: zeros */
    element *d_query, *d_chunk_query, *d_previous;
    real *d_key, *d_vector, *d_offset, *d_chunk_key, *d_chunk_vector; /* added to */
} fa_monotonic;

/* A gradient of weights, of a piece of rows: `rows` has their numbers, of `depth`, and `packed` their x
 * (ops/gemm_gradient.inl). low: NULL, or K N + N reals. */
typedef struct fa_gradient {
    const element *x, *dy;
    int64_t x_row, dy_row, depth, K, N;
    const int64_t *rows;
    char *packed;
    real *dw, *low;
    int32_t fresh;  /* d_w and d_b are set instead of added to */
    int32_t stream; /* and d_w is written past the caches, in whole lines */
    int32_t parts;  /* of a number on a matrix unit, 1 to 3; 0: not there */
} fa_gradient;

/* Weights to be split into parts of bfloat16, 1 to 3 of a number (ops/gemm_tiles.inl). */
typedef struct fa_split {
    const element *w;
    int64_t w_row, w_column, K, N;
    int32_t parts;
    uint16_t *split;
} fa_split;

/* A product of float32 with packed weights by parts of bfloat16: a piece k0..k0+depth-1 of K, of `rows` rows of x and
 * y (ops/gemm_tiles.inl). */
typedef struct fa_tiled {
    const element *x;
    int64_t x_row;
    const real *packed;
    const uint16_t *parts_of_w;
    element *y;
    int64_t y_row;
    const element *bias; /* N, or NULL */
    int32_t relu, parts; /* of a number: 3, 2 or 1 */
    int64_t rows, K, N, k0, depth;
    uint16_t *split;     /* the rows in parts */
    uint8_t *plain_rows; /* 1: not for the unit */
} fa_tiled;

/* A product of float32 with packed weights of a narrower type: `rows` rows of x and y, which is contiguous
 * (ops/narrow_bfloat16.inl, ops/narrow_int8.inl). Arrays of a number for each column have whole panels. */
enum fa_narrow_type { FA_BFLOAT16 = 0, FA_INT8 = 1 };
typedef struct fa_narrow {
    int32_t type, relu;
    int32_t halves; /* x and y are bits of bfloat16 */
    const element *x;
    int64_t x_row;
    const char *w;
    const uint8_t *plain; /* bfloat16: 1 for a column with numbers that are not for a matrix unit */
    const float *scales;  /* int8: of columns */
    element *y;
    const element *bias; /* N, or NULL */
    int64_t rows, K, N;
    char *made;         /* the rows as they are multiplied */
    double *row_scales; /* int8 */
    uint8_t *odd_rows;  /* 1: not made, and multiplied as it is */
} fa_narrow;

typedef struct fa_narrow_kernels {
    int64_t (*rows_bytes)(int32_t type, int64_t rows, int64_t K);                     /* of `made` */
    void (*make)(const fa_narrow *a, int64_t tile0, int64_t tile1);                   /* tiles of 16 rows */
    void (*multiply)(const fa_narrow *a, int64_t panel, int64_t first, int64_t last); /* first: a multiple of 32 */
} fa_narrow_kernels;

/* Products on a matrix unit. */
typedef struct fa_tiles {
    int64_t (*bytes)(int parts, int64_t K, int64_t N);             /* of weights */
    int64_t (*rows_bytes)(int parts, int64_t rows, int64_t depth); /* of a piece of rows */
    void (*pack)(const fa_split *a, int64_t panel0, int64_t panel1);
    /* k0..k1-1 of them, multiples of 32 but for the last; then of each panel, with what is 1 of it: `settle`. */
    void (*pack_piece)(const fa_split *a, int64_t panel0, int64_t panel1, int64_t k0, int64_t k1, uint8_t *careful);
    void (*settle)(const fa_split *a, int64_t panel, int careful);
    int (*plain)(const fa_split *a); /* whether there is a column that is not for the unit */
    void (*split)(const fa_tiled *a, int64_t tile0, int64_t tile1);                  /* tiles of 16 rows */
    void (*multiply)(const fa_tiled *a, int64_t panel, int64_t first, int64_t last); /* of the rows */
    fa_narrow_kernels narrow;
    /* Gradients of weights (ops/gemm_gradient_tiles.inl): strips of 32 rows of d_w, groups of 128 columns. */
    int64_t (*gradient_bytes)(int parts, int64_t depth, int64_t K); /* of packed x */
    int64_t (*gradient_workspace)(int parts, int64_t depth);
    void (*gradient_pack)(const fa_gradient *a, int64_t first, int64_t last);
    void (*gradient)(const fa_gradient *a, int64_t group, int64_t first, int64_t last, real *db, void *workspace);
    /* Attention of bfloat16 arrays: attention/dot_tiles.inl. */
    int64_t (*attention_workspace)(const fa_attention *, int64_t rows);
    void (*attention)(const fa_attention *, const fa_plan *, int64_t task, void *workspace);
    int64_t (*attention_backward_workspace)(const fa_attention_grad *);
    void (*attention_backward)(const fa_attention_grad *, const fa_plan *, int64_t task, void *workspace);
} fa_tiles;

/* The kernels of one level and element type; kernels.def lists them. */
typedef struct fa_kernels {
    int64_t panel_width;             /* keys, or columns of packed weights, in a panel */
    int64_t element_bytes;           /* of what lies in users' arrays */
    int64_t real_bytes;              /* of what is computed with: workspaces, packed arrays */
    int32_t in_place;                /* both are the same type */
    const fa_tiles *tiles;           /* of a level with a matrix unit, float32; NULL: none */
    const fa_narrow_kernels *narrow; /* float32 */
#define KERNEL(result, name, arguments) result(*name) arguments;
#include "kernels.def"
} fa_kernels;

enum fa_map { FA_MAP_EXP = 0, FA_MAP_TANH = 1, FA_MAP_SIGMOID = 2 };

typedef struct fa_level {
    const char *name, *needs; /* levels.def */
    const fa_kernels *f32, *f64;
} fa_level;

#endif
