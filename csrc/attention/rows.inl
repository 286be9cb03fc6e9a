/* What forward and backward share: which keys a row may read, the scores of one tile, the options on a row of scores.
 *
 * A task's rows are the queries of all heads that share one key head, flattened: row r is query r / group of the
 * (r % group)-th head of the group, so that queries that follow move no row. Keys are walked in panels of PW, always at
 * multiples of PW from key 0, so that a row meets the same blocks whatever else is computed with it.
 */
#ifndef FA_ATTENTION_ROWS_INL
#define FA_ATTENTION_ROWS_INL
#include "../sizes.h"
#include "../dropout.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"
#include "../tile/fma.inl"
#include "scores/scores.inl"

/* Row r of a task, and its successor. */
typedef struct {
    int64_t head, query; /* head within the group */
} fa_row;
FA_FUNC fa_row fa_task_row(const fa_attention *a, int64_t r) {
    if (r == 0) return (fa_row){0, 0};
    const int64_t group = a->H / a->Hk;
    fa_row row = {group == 1 ? 0 : r % group, group == 1 ? r : r / group};
    return row;
}
FA_FUNC fa_row fa_next_row(const fa_attention *a, fa_row row) {
    if (++row.head * a->Hk == a->H) row.head = 0, row.query++;
    return row;
}
typedef struct {
    int64_t lo, hi; /* keys lo..hi-1 */
} fa_range;
FA_FUNC int64_t fa_key_length(const fa_attention *a, int64_t b) { return a->key_lengths ? a->key_lengths[b] : a->Tk; }
FA_FUNC int64_t fa_memory_row(const fa_attention *a, int64_t b) { return a->memory_rows ? a->memory_rows[b] : b; }
/* Row of blocks of a query. */
FA_INLINE int64_t fa_block_row(const fa_attention *a, int64_t b, int64_t h, int64_t query) {
    return b * a->blocks_batch + h * a->blocks_head + query / FA_BLOCK;
}
/* Whether a query may read some of keys lo..hi-1, as far as its blocks say. */
FA_FUNC int fa_blocks_reach(const fa_attention *a, int64_t b, int64_t h, int64_t query, int64_t lo, int64_t hi) {
    const uint8_t *states = a->blocks + fa_block_row(a, b, h, query) * a->blocks_columns;
    for (int64_t block = lo / FA_BLOCK; block * FA_BLOCK < hi; block++)
        if (states[block] != FA_BLOCK_NONE) return 1;
    return 0;
}
FA_FUNC fa_range fa_row_range(const fa_attention *a, int64_t b, int64_t h, int64_t length, int64_t query) {
    int64_t position = query + (a->causal == FA_BOTTOM_RIGHT ? length - a->Tq : 0);
    fa_range k = {0, length};
    if (a->causal != FA_NOT_CAUSAL && position + 1 < k.hi) k.hi = position + 1;
    if (a->right >= 0 && position + a->right + 1 < k.hi) k.hi = position + a->right + 1;
    if (a->left >= 0 && position - a->left > k.lo) k.lo = position - a->left;
    if (a->allow) {
        const int64_t *span = a->spans + 2 * fa_block_row(a, b, h, query);
        if (span[0] * FA_BLOCK > k.lo) k.lo = span[0] * FA_BLOCK;
        if (span[1] * FA_BLOCK < k.hi) k.hi = span[1] * FA_BLOCK;
    }
    if (k.hi < 0) k.hi = 0;
    if (k.lo > k.hi) k.lo = k.hi;
    return k;
}
/* Whether some of `rows` rows from row r0 of a task, whose heads begin with first_head, may read some of keys
 * lo..hi-1. */
FA_FUNC int fa_rows_reach(const fa_attention *a, int64_t b, int64_t first_head, int64_t r0, int64_t rows, int64_t lo,
                          int64_t hi) {
    const int64_t length = fa_key_length(a, b);
    fa_row row = fa_task_row(a, r0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        const int64_t head = first_head + row.head;
        fa_range k = fa_row_range(a, b, head, length, row.query);
        k.lo = k.lo > lo ? k.lo : lo;
        k.hi = k.hi < hi ? k.hi : hi;
        if (k.lo < k.hi && (!a->allow || fa_blocks_reach(a, b, head, row.query, k.lo, k.hi))) return 1;
    }
    return 0;
}

/* The key behind the last that some of `rows` rows from row r0 of a task may read, or 0. */
FA_FUNC int64_t fa_rows_end(const fa_attention *a, int64_t b, int64_t first_head, int64_t r0, int64_t rows) {
    const int64_t length = fa_key_length(a, b);
    int64_t end = 0;
    fa_row row = fa_task_row(a, r0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        const fa_range k = fa_row_range(a, b, first_head + row.head, length, row.query);
        if (k.lo < k.hi && k.hi > end) end = k.hi;
    }
    return end;
}

/* Weights below it count as 0: products with subnormal numbers take a hundred times as long as others, and penalties of
 * distance, as ALiBi's, make many of them. */
#undef FA_LEAST_WEIGHT
#define FA_LEAST_WEIGHT (2 * FA_SMALLEST)

#undef FA_LEAST_CAP
#if FA_BITS == 32
#define FA_LEAST_CAP 0x1p-100f
#else
#define FA_LEAST_CAP 0x1p-900
#endif

FA_INLINE int64_t padded(int64_t n) { return (n + VL - 1) / VL * VL; }

/* Elements of a packed query. */
FA_INLINE int64_t query_width(const fa_attention *a) {
    const score_kernel *kernel = score_kernels[a->score];
    return kernel->query_width ? kernel->query_width(a->D) : a->D;
}

/* Elements of a packed key panel. */
FA_INLINE int64_t panel_stride(int score, int64_t D) {
    const score_kernel *kernel = score_kernels[score];
    return fa_size_mul(kernel->panel_rows ? kernel->panel_rows(D) : D, PW);
}

/* Cuts rows * columns numbers off a workspace, on a 64-byte boundary. */
FA_INLINE void *take_of(int64_t bytes, char **workspace, int64_t rows, int64_t columns) {
    char *p = *workspace;
    *workspace += (fa_size_mul(fa_size_mul(rows, columns), bytes) + 63) / 64 * 64;
    return p;
}
FA_INLINE real *take(char **workspace, int64_t rows, int64_t columns) {
    return take_of(sizeof(real), workspace, rows, columns);
}

/* Packs keys first..last-1 (first a multiple of PW) into panels that begin with the panel of key `first`; `ahead` is
 * asked for during the exponentials of a panel. */
FA_FUNC void pack_key_panels(int score, const score_form *f, const element *key, int64_t stride, int64_t first,
                             int64_t last, real *panels, fa_ahead ahead) {
    const score_kernel *kernel = score_kernels[score];
    for (int64_t j = first; j < last; j += PW) {
        int64_t n = last - j < PW ? last - j : PW;
        pack_panel(panels, key + j * stride, stride, n, f->D);
        if (kernel->pack_panel) kernel->pack_panel(f, panels, n, ahead);
        panels += panel_stride(score, f->D);
    }
}

/* How many elements a row is from the first. */
FA_INLINE int64_t row_at(const fa_strides3 *strides, int64_t b, int64_t head, int64_t row) {
    return b * strides->batch + head * strides->head + row * strides->row;
}

/* The i-th of what is asked for: n rows of `width` elements, if they follow each other. */
FA_INLINE void ahead_rows(fa_ahead *ahead, int i, const element *rows, int64_t stride, int64_t n, int64_t width) {
    ahead->at[i] = (const char *)rows;
    ahead->lines[i] = stride == width ? n * width * (int64_t)sizeof(element) / 64 : 0;
}

/* What a task reads whose (batch, key head) is the one after head_task. */
FA_FUNC void ahead_of(const fa_attention *a, int64_t head_task, fa_ahead *ahead) {
    *ahead = (fa_ahead){0};
    if (a->H != a->Hk || a->memory_rows || a->position_rows || head_task + 1 >= a->B * a->Hk) return;
    const int64_t b = (head_task + 1) / a->Hk, h = (head_task + 1) % a->Hk;
    ahead_rows(ahead, 0, a->query + row_at(&a->query_strides, b, h, 0), a->query_strides.row, a->Tq, a->D);
    ahead_rows(ahead, 1, a->key + row_at(&a->key_strides, b, h, 0), a->key_strides.row, a->Tk, a->D);
    ahead_rows(ahead, 2, a->value + row_at(&a->value_strides, b, h, 0), a->value_strides.row, a->Tk, a->Dv);
}

/* Lines at a step, of `steps`. */
FA_INLINE int64_t ahead_each(const fa_ahead *ahead, int64_t steps) {
    const int64_t lines = ahead->lines[0] + ahead->lines[1] + ahead->lines[2];
    return steps ? (lines + steps - 1) / steps : 0;
}

/* n rows of `width` columns into rows of ld, times `factor`; the columns beyond become zero. */
FA_FUNC void load_block(real *dst, int64_t ld, const element *src, int64_t stride, int64_t n, int64_t width,
                        real factor) {
    for (int64_t i = 0; i < n; i++) {
        load_row(dst + i * ld, src + i * stride, width, factor);
        for (int64_t c = width; c < ld; c++) dst[i * ld + c] = 0;
    }
}

/* Whether rows of `width` elements, `stride` apart, are best copied before many passes over them: a vector that
 * crosses a cache line costs two accesses, and NumPy's arrays start 16 bytes into a line. */
FA_INLINE int unaligned_rows(const element *rows, int64_t stride, int64_t width) {
    return width % VL || (uintptr_t)rows % FA_VBYTES || stride * (int64_t)sizeof(element) % FA_VBYTES;
}

/* Elements of what a score's vector is kept in: the vector with zeros beyond, up to `width`, and its inverse. */
FA_INLINE int64_t vector_room(const fa_attention *a, int64_t width) {
    return fa_facts(a->score)->vector ? 2 * padded(width) : 0;
}

/* The scores of a task; v has vector_room(a, width). */
FA_FUNC score_source score_from(const fa_attention *a, real *v, int64_t width, int64_t ldq) {
    const int vector = fa_facts(a->score)->vector;
    score_form form = {.activation = a->activation,
                       .estimates = a->estimates && vector && a->activation != FA_RELU,
                       .D = a->D,
                       .vector = a->score_vector,
                       .v = v,
                       .functions = a->pairwise};
    if (vector) score_vector(a->score_vector, a->D, v, padded(width));
    if (form.estimates) {
        real *inverse = v + padded(width);
        vec sum = vset1(0);
        for (int64_t t = 0; t < a->D; t += VL) sum = sum + vload(v + t);
        form.v_sum = vhsum(sum);
        form.unit = additive_inverse(v, padded(a->D), inverse);
        form.inverse = inverse;
    }
    return (score_source){.a = a, .form = form, .key_row = a->key_strides.row, .ldq = ldq};
}

/* Packs one query row, with zeros up to ldq unless the score does it in its own way, when `lost` may be NULL. */
FA_FUNC void pack_query(const score_source *s, const element *row, real *dst, uint8_t *flag, real *lost) {
    const score_kernel *kernel = score_kernels[s->a->score];
    *flag = 0;
    if (kernel->pack_query)
        kernel->pack_query(&s->form, row, dst, flag, lost);
    else
        load_block(dst, s->ldq, row, 0, 1, s->a->D, kernel->block_backward ? (real)1 : (real)s->a->scale);
}

/* Whether scores change, one by one, before they become weights. */
FA_INLINE int has_elementwise(const fa_attention *a) {
    return a->softcap > 0 || a->modifier || a->bias || a->mask || a->allow;
}

/* What a mask function and its blocks say of n scores of a row. */
FA_FUNC void row_allowed(const fa_attention *a, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n, real *S) {
    const uint8_t *states = a->blocks + fa_block_row(a, b, h, i) * a->blocks_columns;
    uint8_t allowed[FA_BLOCK];
    for (int64_t j = 0, stop; j < n; j = stop) {
        const int64_t block = (j0 + j) / FA_BLOCK;
        stop = (block + 1) * FA_BLOCK - j0 < n ? (block + 1) * FA_BLOCK - j0 : n;
        if (states[block] == FA_BLOCK_ALL) continue;
        if (states[block] == FA_BLOCK_SOME)
            ((fa_allow)a->allow->forward)(allowed, stop - j, b, h, i, j0 + j, a->allow->parameters);
        else
            memset(allowed, 0, sizeof allowed);
        for (int64_t t = 0; t < stop - j; t++) S[j + t] = allowed[t] ? S[j + t] : NEG_INF;
    }
}

/* Whether the derivative of what changes scores is kept as a slope for each: of softcap, and of some modifiers. */
FA_INLINE int has_slope(const fa_attention *a) { return a->softcap > 0 || (a->modifier && a->modifier->sloped); }

/* The modifier on n scores of a row. `before`, if wanted, receives the scores that it is given, or, of a modifier with
 * slopes, is room for these, with which those of softcap in `slope` are multiplied. */
FA_INLINE void row_modifier(const fa_attention *a, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n, real *S,
                            real *slope, real *before) {
    const fa_compiled *f = a->modifier;
    if (!slope || !f->sloped) {
        if (before) memcpy(before, S, (size_t)n * sizeof(real));
        ((fa_modify)f->forward)(S, n, b, h, i, j0, f->parameters);
        return;
    }
    real *own = a->softcap > 0 ? before : slope;
    ((fa_modify_sloped)f->sloped)(S, own, n, b, h, i, j0, f->parameters);
    for (int64_t j = n; j < padded(n); j++) own[j] = 0;
    for (int64_t j = 0; own == before && j < n; j += VL) vstore(slope + j, vload(slope + j) * vload(own + j));
}

/* Asks for n numbers of a row of the bias: rows lie all keys apart, too far for the hardware to foresee. */
FA_INLINE void bias_ahead(const fa_attention *a, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n) {
    const fa_strides4 *in = &a->bias_strides;
    const element *bias = a->bias + b * in->batch + h * in->head + i * in->row + j0;
    for (int64_t c = 0; in->column == 1 && c < n * (int64_t)sizeof(element); c += 64)
        __builtin_prefetch((const char *)bias + c, 0, 3);
}

/* Softcap, modifier, bias, range and mask on the scores of one row against keys j0..j0+n-1; what may not be read
 * becomes -inf, also the lanes from n up to a whole vector. slope, if wanted, receives the derivative of the softcap
 * and of a modifier with slopes, and `before` the scores that another modifier is given. */
FA_FUNC void row_options(const fa_attention *a, int64_t b, int64_t h, int64_t i, fa_range k, int64_t j0, int64_t n,
                         real *S, real *slope, real *before) {
    int64_t end = padded(n);
    if (a->softcap > 0) {
        /* The reciprocal of a cap near 0 is beyond the type: then scores are first multiplied by a power of two. */
        const real up = a->softcap < (double)FA_LEAST_CAP ? 1 / FA_LEAST_CAP : (real)1;
        vec cap = vset1((real)a->softcap), inverse = vset1((real)(1 / (a->softcap * (double)up)));
        if (up != 1) scale_row(S, S, end, up);
        for (int64_t j = 0; j < end; j += VL) {
            vec t = vtanh(vload(S + j) * inverse);
            vstore(S + j, cap * t);
            if (slope) vstore(slope + j, vfma(-t, t, vset1(1)));
        }
    }
    if (a->modifier) row_modifier(a, b, h, i, j0, n, S, slope, before);
    if (a->bias) {
        const element *bias = a->bias + b * a->bias_strides.batch + h * a->bias_strides.head + i * a->bias_strides.row +
                              j0 * a->bias_strides.column;
        const int64_t step = a->bias_strides.column;
        /* -inf masks, also a score that is NaN or +inf */
        const vec largest = vset1(-FA_LARGEST), lowest = vset1(NEG_INF);
        for (int64_t j = 0; j < n; j += VL) {
            real apart[VL] = {0};
            for (int64_t i = 0; step != 1 && i < VL && j + i < n; i++) apart[i] = to_real(bias[(j + i) * step]);
            const vec added = step == 1 ? eload_n(bias + j, n - j) : vload(apart);
            vstore(S + j, vselect_lt(added, largest, lowest, vload(S + j) + added));
        }
    }
    if (a->mask) {
        const uint8_t *mask = a->mask + b * a->mask_strides.batch + h * a->mask_strides.head + i * a->mask_strides.row +
                              j0 * a->mask_strides.column;
        int64_t step = a->mask_strides.column;
        if (step == 1)
            for (int64_t j = 0; j < n; j++) S[j] = mask[j] ? S[j] : NEG_INF;
        else
            for (int64_t j = 0; j < n; j++) S[j] = mask[j * step] ? S[j] : NEG_INF;
    }
    if (a->allow) row_allowed(a, b, h, i, j0, n, S);
    for (int64_t j = 0; j < k.lo - j0 && j < end; j++) S[j] = NEG_INF;
    for (int64_t j = k.hi - j0 > 0 ? (k.hi - j0 < n ? k.hi - j0 : n) : 0; j < end; j++) S[j] = NEG_INF;
}

/* P[j] of dropped keys becomes 0, of kept ones P[j] / (1 - p). */
FA_FUNC void row_dropout(const fa_attention *a, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n, real *P) {
    uint64_t row_key = fa_row_key(a->seeds[b], h, i);
    const real keep = (real)a->keep_scale;
    const uint32_t below = a->drop_below, first = (uint32_t)j0;
    for (uint32_t j = 0; j < (uint32_t)n; j++) P[j] = fa_key_hash(row_key, first + j) < below ? (real)0 : P[j] * keep;
}

/* micro_gemm over live pairs: the same chains. live has A's layout, the mode is MICRO_FRESH or MICRO_ADD. */
FA_FUNC void unmasked_product(int mode, int64_t rows, int64_t n, const real *A, const uint8_t *live, int64_t lda,
                              int64_t ska, const real *B, int64_t ldb, real *C, int64_t ldc, int64_t width) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c += VL) {
            vec sum = vset1(0);
            for (int64_t k = 0; k < n; k++)
                if (live[r * lda + k * ska]) sum = vfma(vset1(A[r * lda + k * ska]), vload(B + k * ldb + c), sum);
            vstore(C + r * ldc + c, mode == MICRO_ADD ? vload(C + r * ldc + c) + sum : sum);
        }
}

/* True when some element is infinite or NaN. */
FA_FUNC int has_nonfinite(const real *p, int64_t n) {
    vec z = vset1(0);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) z = vfma(vload(p + i), vset1(0), z);
    if (i < n) z = vfma(vload_n(p + i, n - i), vset1(0), z);
    real s = vhsum(z);
    return s != s;
}

/* Twice each element of what is half of a mean: a finite one of these is at most the largest number. */
FA_FUNC void double_bounded(real *p, int64_t n) {
    const vec largest = vset1(FA_LARGEST), infinity = vset1((real)INFINITY);
    for (int64_t c = 0; c < n; c += VL) {
        const vec half = vload_n(p + c, n - c), x = half + half;
        vstore_n(p + c, vselect_lt(vmax(half, -half), infinity, vmin(largest, vmax(-largest, x)), half), n - c);
    }
}

/* Where a task's sums for parameters are: one pointer for each of the modifier, then for each of the score and of the
 * function of rows; `sums` NULL: nowhere. */
FA_FUNC void point_at_sums(const fa_attention *a, double *sums, double **pointers) {
    const fa_compiled *const all[] = {a->modifier, a->pairwise, a->row_function};
    for (int i = 0; i < 3; i++) {
        const fa_compiled *f = all[i];
        for (int64_t p = 0; f && p < f->count; p++)
            *pointers++ = sums && f->starts[p] >= 0 ? sums + f->starts[p] : NULL;
        if (f && sums) sums += f->size;
    }
}
FA_INLINE int64_t sums_of_modifier(const fa_attention *a) { return a->modifier ? a->modifier->count : 0; }
FA_INLINE int64_t sums_of_scores(const fa_attention *a) {
    return sums_of_modifier(a) + (a->pairwise ? a->pairwise->count : 0);
}
FA_INLINE int64_t sums_pointers(const fa_attention *a) {
    return sums_of_scores(a) + (a->row_function ? a->row_function->count : 0);
}

/* A task's sums for parameters, as zeros, or NULL. */
FA_FUNC double *task_sums(const fa_attention *a, const fa_plan *plan, int64_t task) {
    if (!plan->d_parameters) return NULL;
    double *sums = plan->d_parameters + task * fa_sums(a);
    memset(sums, 0, (size_t)fa_sums(a) * sizeof(double));
    return sums;
}

/* d of the scores that a modifier made becomes d of those that it was given, unless it has slopes. */
FA_INLINE void modifier_backward(const fa_attention *a, const real *before, real *d, int64_t n, int64_t b, int64_t h,
                                 int64_t i, int64_t j0, double *const *sums) {
    if (!a->modifier->sloped)
        ((fa_modify_backward)a->modifier->backward)(before, d, n, b, h, i, j0, a->modifier->parameters, sums);
}

/* d of n scores times their slopes, up to a whole vector. What has no gradient gets 0 whatever its slope is, which may
 * be NaN where a score is masked; a slope of 0 hides no NaN. */
FA_INLINE void slope_backward(const real *slope, real *d, int64_t n) {
    for (int64_t j = 0; j < n; j += VL) {
        const vec x = vload(d + j);
        const ivec none = x == vset1(0);
        vstore(d + j, (vec)((ivec)(x * vload(slope + j)) & ~none));
    }
}

/* x times the score's vector and a factor, whose product is infinite for the vector's largest numbers. */
FA_INLINE vec times_vector(vec x, vec v, real factor) {
    const vec f = vset1(factor), y = x * (v * f);
    return factor > 1 ? vselect_lt(vmax(v, -v), vset1(1), y, x * f * v) : y;
}

/* What a task of gradients leaves of one (batch, key head): sums for the score vector, and whether all is finite. */
FA_FUNC void backward_report(const fa_plan *plan, const fa_attention *a, int64_t head, const double *sums, int finite) {
    if (fa_facts(a->score)->vector) {
        real *d_v = plan->d_score_vectors + head * a->D;
        for (int64_t t = 0; t < a->D; t++) d_v[t] = (real)sums[t];
        finite &= !has_nonfinite(d_v, a->D);
    }
    if (!finite) __atomic_store_n(plan->unfit, 1, __ATOMIC_RELAXED);
}
#endif
