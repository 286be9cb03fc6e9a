/* Register tile: sum_k A[r * lda + k * ska] * B[k * ldb + c],  r < rows, c < vectors * VL, in one of three modes:
 * MICRO_FRESH writes it to C[r][c], MICRO_ADD adds it to C[r][c], MICRO_CONTINUE begins with C[r][c].
 *
 * A is read by scalar broadcast, so any strides do (P and its transpose alike); B and C by whole vectors.
 * Every sum is one chain of multiply-adds in ascending k, whatever the tile: a row has the same bits alone and among
 * others. The error of a chain grows with its length, so that long sums are cut into pieces that are added.
 * 6 x 4 vectors = 24 accumulators on 32 registers (6 x 2 on 16): 10 loads for 24 multiply-adds.
 */
#ifndef FA_MICRO_MODES
#define FA_MICRO_MODES
enum { MICRO_CONTINUE = 0, MICRO_FRESH = 1, MICRO_ADD = 2 };
#endif
#define micro_body FN(micro_body)
#define micro_fn FN(micro_fn)
#define micro_table FN(micro_table)
#define micro_gemm FN(micro_gemm)
#define pack_panel FN(pack_panel)
#define balanced_rows FN(balanced_rows)

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
    FA_FUNC void FN(micro_##rows##x##vectors)(FA_MICRO_ARGS) {                                                         \
        micro_body(rows, vectors, MICRO_CONTINUE, A, lda, ska, B, ldb, C, ldc, K);                                     \
    }                                                                                                                  \
    FA_FUNC void FN(micro_fresh_##rows##x##vectors)(FA_MICRO_ARGS) {                                                   \
        micro_body(rows, vectors, MICRO_FRESH, A, lda, ska, B, ldb, C, ldc, K);                                        \
    }                                                                                                                  \
    FA_FUNC void FN(micro_add_##rows##x##vectors)(FA_MICRO_ARGS) {                                                     \
        micro_body(rows, vectors, MICRO_ADD, A, lda, ska, B, ldb, C, ldc, K);                                          \
    }
#if NV == 4
#define FA_MICRO_ROW(rows) FA_MICRO(rows, 1) FA_MICRO(rows, 2) FA_MICRO(rows, 3) FA_MICRO(rows, 4)
#define FA_MICRO_LIST(pre, rows)                                                                                       \
    { FN(micro_##pre##rows##x1), FN(micro_##pre##rows##x2), FN(micro_##pre##rows##x3), FN(micro_##pre##rows##x4) }
#else
#define FA_MICRO_ROW(rows) FA_MICRO(rows, 1) FA_MICRO(rows, 2)
#define FA_MICRO_LIST(pre, rows)                                                                                       \
    { FN(micro_##pre##rows##x1), FN(micro_##pre##rows##x2) }
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
FA_FUNC void micro_gemm(int mode, int64_t rows, int64_t columns, const real *A, int64_t lda, int64_t ska,
                        const real *B, int64_t ldb, real *C, int64_t ldc, int64_t K) {
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
FA_FUNC void pack_panel(real *panel, const real *rows, int64_t row_stride, int64_t n, int64_t width) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    /* Long rows, of weights: whole rows of the panel at a time, which is written from beginning to end. Short ones, of
     * keys: whole rows of the source, which comes from memory in order; otherwise a decoder's step takes 19 % more.
     * Their lines are asked for one after the other first, since the squares take every fourth of them: 3 %. */
    const int weights = width > 256;
    for (int64_t outer = 0; outer < (weights ? width : n); outer += 16) {
        for (int64_t j = outer; !weights && j < n && j < outer + 16; j++)
            for (int64_t t = 0; t < width; t += 16) (void)*(const volatile real *)(rows + j * row_stride + t);
        for (int64_t inner = 0; inner < (weights ? n : width); inner += 16) {
            const int64_t t = weights ? outer : inner, j0 = weights ? inner : outer;
            int64_t lanes = n - j0 < 16 ? n - j0 : 16, depth = width - t < 16 ? width - t : 16;
            const real *src = rows + j0 * row_stride + t;
            real *dst = panel + t * PW + j0;
            __mmask16 in = (__mmask16)((1u << depth) - 1);
            __m512 a[16], b[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                a[i] = i < lanes ? _mm512_maskz_loadu_ps(in, src + i * row_stride) : _mm512_setzero_ps();
#pragma GCC unroll 4
            for (int i = 0; i < 16; i += 4) {
                __m512 lo0 = _mm512_unpacklo_ps(a[i], a[i + 1]), hi0 = _mm512_unpackhi_ps(a[i], a[i + 1]);
                __m512 lo1 = _mm512_unpacklo_ps(a[i + 2], a[i + 3]), hi1 = _mm512_unpackhi_ps(a[i + 2], a[i + 3]);
                b[i] = _mm512_shuffle_ps(lo0, lo1, 0x44);
                b[i + 1] = _mm512_shuffle_ps(lo0, lo1, 0xee);
                b[i + 2] = _mm512_shuffle_ps(hi0, hi1, 0x44);
                b[i + 3] = _mm512_shuffle_ps(hi0, hi1, 0xee);
            }
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                __m512 p = _mm512_shuffle_f32x4(b[c], b[c + 4], 0x88), q = _mm512_shuffle_f32x4(b[c], b[c + 4], 0xdd);
                __m512 u = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0x88);
                __m512 w = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0xdd);
                a[c] = _mm512_shuffle_f32x4(p, u, 0x88);
                a[c + 8] = _mm512_shuffle_f32x4(p, u, 0xdd);
                a[c + 4] = _mm512_shuffle_f32x4(q, w, 0x88);
                a[c + 12] = _mm512_shuffle_f32x4(q, w, 0xdd);
            }
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                if (i < depth) _mm512_storeu_ps(dst + i * PW, a[i]);
        }
    }
#else
    for (int64_t j0 = 0; j0 < n; j0 += VL) {
        int64_t lanes = n - j0 < VL ? n - j0 : VL;
        const real *src = rows + j0 * row_stride;
        real *dst = panel + j0;
        int64_t t = 0;
#if defined(FA_LEVEL_AVX2) && FA_BITS == 32
        if (lanes == 8)
            for (; t + 8 <= width; t += 8) {
                __m256 a[8], b[8];
#pragma GCC unroll 8
                for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps(src + i * row_stride + t);
#pragma GCC unroll 2
                for (int i = 0; i < 8; i += 4) {
                    __m256 lo0 = _mm256_unpacklo_ps(a[i], a[i + 1]), hi0 = _mm256_unpackhi_ps(a[i], a[i + 1]);
                    __m256 lo1 = _mm256_unpacklo_ps(a[i + 2], a[i + 3]), hi1 = _mm256_unpackhi_ps(a[i + 2], a[i + 3]);
                    b[i] = _mm256_shuffle_ps(lo0, lo1, 0x44);
                    b[i + 1] = _mm256_shuffle_ps(lo0, lo1, 0xee);
                    b[i + 2] = _mm256_shuffle_ps(hi0, hi1, 0x44);
                    b[i + 3] = _mm256_shuffle_ps(hi0, hi1, 0xee);
                }
#pragma GCC unroll 4
                for (int c = 0; c < 4; c++) {
                    _mm256_storeu_ps(dst + (t + c) * PW, _mm256_permute2f128_ps(b[c], b[c + 4], 0x20));
                    _mm256_storeu_ps(dst + (t + c + 4) * PW, _mm256_permute2f128_ps(b[c], b[c + 4], 0x31));
                }
            }
#endif
        for (; t < width; t++)
            for (int i = 0; i < VL; i++) dst[t * PW + i] = i < lanes ? src[i * row_stride + t] : (real)0;
    }
#endif
}
