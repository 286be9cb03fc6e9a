/* Attention whose weights a compiled function from outside makes of whole rows of scores, in the arrays' own type: what
 * forward and backward share.
 *
 * The function is given all keys of a row's range, in pieces of FA_PIECE that begin at a multiple of it: what is masked
 * has a score of -inf and gets a weight of 0. Its sums run over the lanes of pieces, so that they have one order
 * whatever follows a row or stands beside it. A weight of 0 reads no value, and a score without a gradient no key:
 * products run as if all were finite, and where they do not end so, once more without those pairs.
 */
#ifndef FA_ATTENTION_ROW_FUNCTION_INL
#define FA_ATTENTION_ROW_FUNCTION_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "rows.inl"

FA_INLINE int64_t whole_pieces(int64_t n) { return (n + FA_PIECE - 1) / FA_PIECE * FA_PIECE; }

/* A row's keys from the beginning of their first piece. */
typedef struct {
    int64_t first, n;
} row_pieces;
FA_INLINE row_pieces pieces_of(fa_range k) {
    const int64_t first = k.lo / FA_PIECE * FA_PIECE;
    return k.lo < k.hi ? (row_pieces){first, k.hi - first} : (row_pieces){k.lo, 0};
}

/* The options on a row of scores, and -inf behind them to the end of a piece; S is that of key `first`. Returns whether
 * the query may attend to some key: a row without one is not the function's. */
FA_FUNC int row_function_options(const fa_attention *a, int64_t b, int64_t h, int64_t i, fa_range k, real *S,
                                 real *slope, real *before) {
    const row_pieces row = pieces_of(k);
    if (has_elementwise(a) || k.lo > row.first || row.n % VL)
        row_options(a, b, h, i, k, row.first, row.n, S, slope, before);
    for (int64_t j = padded(row.n); j < whole_pieces(row.n); j++) S[j] = NEG_INF;
    for (int64_t j = 0; j < row.n; j++)
        if (S[j] != NEG_INF) return 1;
    return 0;
}

/* Weights that are too small beside the row's largest count as 0, and so do their gradients where these are as small:
 * d is NULL or that of the scores. */
FA_FUNC void row_function_flush(int64_t n, real *P, real *d) {
    vec most = vset1(0);
    for (int64_t j = 0; j < n; j += VL) most = vmax(most, vmax(vload(P + j), -vload(P + j)));
    const real top = vhmax(most);
    const vec zero = vset1(0), least = vset1(FA_LEAST_WEIGHT), less = vset1(FA_LEAST_WEIGHT * (top < 1 ? top : 1));
    for (int64_t j = 0; j < n; j += VL) {
        const vec p = vload(P + j), size = vmax(p, -p);
        vstore(P + j, vselect_lt(size, less, zero, p));
        if (!d) continue;
        const vec g = vload(d + j);
        vstore(d + j, vselect_lt(size, less, vselect_lt(vmax(g, -g), least, zero, g), g));
    }
}

/* x[first..last) is 0 but for the row's own pieces; x is that of key 0. */
FA_INLINE void clear_beside(real *x, row_pieces row, int64_t first, int64_t last) {
    if (first < row.first) memset(x + first, 0, (size_t)(row.first - first) * sizeof(real));
    if (row.first + row.n < last) memset(x + row.first + row.n, 0, (size_t)(last - row.first - row.n) * sizeof(real));
}

/* micro_gemm without the pairs whose number in A is 0: the same chains. The mode is MICRO_FRESH or MICRO_ADD. */
FA_FUNC void nonzero_product(int mode, int64_t rows, int64_t width, const real *A, int64_t lda, int64_t ska,
                             const real *B, int64_t ldb, real *C, int64_t ldc, int64_t K) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c += VL) {
            vec sum = vset1(0);
            for (int64_t k = 0; k < K; k++) {
                const real x = A[r * lda + k * ska];
                if (x != 0) sum = vfma(vset1(x), vload(B + k * ldb + c), sum);
            }
            vstore(C + r * ldc + c, mode == MICRO_ADD ? vload(C + r * ldc + c) + sum : sum);
        }
}
#endif
