/* Register tile: sum_k A[r * lda + k * ska] * B[k * ldb + c],  r < rows, c < vectors * VL, in one of three modes:
 * MICRO_FRESH writes it to C[r][c], MICRO_ADD adds it to C[r][c], MICRO_CONTINUE begins with C[r][c].
 *
 * A is read by scalar broadcast, so any strides do (P and its transpose alike); B and C by whole vectors.
 * Every sum is one chain of multiply-adds in ascending k, whatever the tile: a row has the same bits alone and among
 * others. The error of a chain grows with its length, so that long sums are cut into pieces that are added.
 * 6 x 4 vectors = 24 accumulators on 32 registers (6 x 2 on 16): 10 loads for 24 multiply-adds.
 */
#ifndef FA_TILE_FMA_INL
#define FA_TILE_FMA_INL
#include "../vec/vec.h"

#ifndef FA_MICRO_MODES
#define FA_MICRO_MODES
enum { MICRO_CONTINUE = 0, MICRO_FRESH = 1, MICRO_ADD = 2 };
#endif

typedef void (*micro_fn)(const real *A, int64_t lda, int64_t ska, const real *B, int64_t ldb, real *C, int64_t ldc,
                         int64_t K);

FA_INLINE void micro_body(const int rows, const int vectors, const int mode, const real *A, int64_t lda, int64_t ska,
                          const real *B, int64_t ldb, real *C, int64_t ldc, int64_t K) {
    vec acc[MR][NV];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) acc[r][n] = mode == MICRO_CONTINUE ? vload(C + r * ldc + n * VL) : vset1(0);
    for (int64_t k = 0; k < K; k++) {
        vec b[NV];
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) b[n] = vload(B + n * VL);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            vec a = vset1(A[r * lda]);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) acc[r][n] = vfma(a, b[n], acc[r][n]);
        }
        A += ska;
        B += ldb;
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) {
            real *c = C + r * ldc + n * VL;
            vstore(c, mode == MICRO_ADD ? vload(c) + acc[r][n] : acc[r][n]);
        }
}

#define FA_MICRO_ARGS                                                                                                  \
    const real *A, int64_t lda, int64_t ska, const real *B, int64_t ldb, real *C, int64_t ldc, int64_t K
#define FA_MICRO(rows, vectors)                                                                                        \
    FA_FUNC void micro_##rows##x##vectors(FA_MICRO_ARGS) {                                                             \
        micro_body(rows, vectors, MICRO_CONTINUE, A, lda, ska, B, ldb, C, ldc, K);                                     \
    }                                                                                                                  \
    FA_FUNC void micro_fresh_##rows##x##vectors(FA_MICRO_ARGS) {                                                       \
        micro_body(rows, vectors, MICRO_FRESH, A, lda, ska, B, ldb, C, ldc, K);                                        \
    }                                                                                                                  \
    FA_FUNC void micro_add_##rows##x##vectors(FA_MICRO_ARGS) {                                                         \
        micro_body(rows, vectors, MICRO_ADD, A, lda, ska, B, ldb, C, ldc, K);                                          \
    }
#if NV == 4
#define FA_MICRO_ROW(rows) FA_MICRO(rows, 1) FA_MICRO(rows, 2) FA_MICRO(rows, 3) FA_MICRO(rows, 4)
#define FA_MICRO_LIST(pre, rows)                                                                                       \
    { micro_##pre##rows##x1, micro_##pre##rows##x2, micro_##pre##rows##x3, micro_##pre##rows##x4 }
#else
#define FA_MICRO_ROW(rows) FA_MICRO(rows, 1) FA_MICRO(rows, 2)
#define FA_MICRO_LIST(pre, rows)                                                                                       \
    { micro_##pre##rows##x1, micro_##pre##rows##x2 }
#endif
FA_MICRO_ROW(1)
FA_MICRO_ROW(2)
FA_MICRO_ROW(3)
FA_MICRO_ROW(4)
FA_MICRO_ROW(5)
FA_MICRO_ROW(6)

/* [mode][rows - 1][vectors - 1] */
#define FA_MICRO_LISTS(pre)                                                                                            \
    {                                                                                                                  \
        FA_MICRO_LIST(pre, 1), FA_MICRO_LIST(pre, 2), FA_MICRO_LIST(pre, 3), FA_MICRO_LIST(pre, 4),                    \
            FA_MICRO_LIST(pre, 5), FA_MICRO_LIST(pre, 6)                                                               \
    }
static const micro_fn micro_table[3][MR][NV] = {FA_MICRO_LISTS(), FA_MICRO_LISTS(fresh_), FA_MICRO_LISTS(add_)};
#undef FA_MICRO_LISTS
#undef FA_MICRO_ARGS
#undef FA_MICRO
#undef FA_MICRO_ROW
#undef FA_MICRO_LIST

/* Rows of the next tile when `left` are left: as even as possible, so that 8 rows are 4 + 4 and not 6 + 2. */
FA_INLINE int balanced_rows(int64_t left) {
    if (left > 5 * MR) return MR;
    int rows = (int)left, tiles = (rows + MR - 1) / MR;
    return (rows + tiles - 1) / tiles;
}

/* The same product for any number of rows and of columns; columns are rounded up to whole vectors in B and C. */
FA_FUNC void micro_gemm(int mode, int64_t rows, int64_t columns, const real *A, int64_t lda, int64_t ska, const real *B,
                        int64_t ldb, real *C, int64_t ldc, int64_t K) {
    int64_t vectors = (columns + VL - 1) / VL;
    for (int64_t n = 0; n < vectors; n += NV) {
        int width = (int)(vectors - n < NV ? vectors - n : NV);
        for (int64_t r = 0; r < rows;) {
            int tile = balanced_rows(rows - r);
            micro_table[mode][tile - 1][width - 1](A + r * lda, lda, ska, B + n * VL, ldb, C + r * ldc + n * VL, ldc,
                                                   K);
            r += tile;
        }
    }
}

/* panel[t][j] = rows[j][t] for j < n <= PW, zero beyond n up to a whole vector; panel rows are PW wide. */
FA_FUNC void pack_panel(real *panel, const element *rows, int64_t row_stride, int64_t n, int64_t width) {
#if defined(vtranspose) && FA_VBYTES == 64
    /* Long rows, of weights: whole rows of the panel at a time, which is written from beginning to end. Short ones, of
     * keys: whole rows of the source, which comes from memory in order; otherwise a decoder's step took 19 % more.
     * Their lines are asked for one after the other first, since the squares take every fourth of them: 3 %. */
    const int weights = width > 256;
    for (int64_t outer = 0; outer < (weights ? width : n); outer += VL) {
        for (int64_t j = outer; !weights && j < n && j < outer + VL; j++)
            for (int64_t t = 0; t < width; t += VL) (void)*(const volatile element *)(rows + j * row_stride + t);
        for (int64_t inner = 0; inner < (weights ? n : width); inner += VL) {
            const int64_t t = weights ? outer : inner, j0 = weights ? inner : outer;
            const int64_t lanes = n - j0 < VL ? n - j0 : VL, depth = width - t < VL ? width - t : VL;
            const element *src = rows + j0 * row_stride + t;
            real *dst = panel + t * PW + j0;
            vec a[VL];
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) a[i] = i < lanes ? eload_n(src + i * row_stride, depth) : vset1(0);
            vtranspose(a);
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++)
                if (i < depth) vstore(dst + i * PW, a[i]);
        }
    }
#else
    for (int64_t j0 = 0; j0 < n; j0 += VL) {
        int64_t lanes = n - j0 < VL ? n - j0 : VL;
        const element *src = rows + j0 * row_stride;
        real *dst = panel + j0;
        int64_t t = 0;
#if defined(vtranspose)
        for (; lanes == VL && t + VL <= width; t += VL) {
            vec a[VL];
#pragma GCC unroll 8
            for (int i = 0; i < VL; i++) a[i] = eload(src + i * row_stride + t);
            vtranspose(a);
#pragma GCC unroll 8
            for (int i = 0; i < VL; i++) vstore(dst + (t + i) * PW, a[i]);
        }
#endif
        for (; t < width; t++)
            for (int i = 0; i < VL; i++) dst[t * PW + i] = i < lanes ? to_real(src[i * row_stride + t]) : (real)0;
    }
#endif
}
#endif
