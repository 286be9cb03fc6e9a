/* Matrix product with packed weights:  y = f(x w + b),  x (M, K), w (K, N), y (M, N), f the identity or relu.
 *
 * w is packed once into panels of PW columns, [N / PW][K][PW], zero beyond N; packing w^T gives d_x = d_y w^T.
 *   1. for each panel of columns, in pieces of at most GEMM_DEPTH rows (stays in L2 while all rows of x pass)
 *   2.   for each tile of up to 6 rows: one chain of multiply-adds over K for each element, which continues in y
 * An element's chain does not depend on M, on the tile or on the thread: a row alone has the bits it has among 512.
 *
 * Bound: 2 M N K flops at the peak of the core from 6 rows up; below that 4 N K bytes of weights from the cache
 * they are in.
 */
#ifndef FA_OPS_GEMM_INL
#define FA_OPS_GEMM_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../tile/fma.inl"

#ifndef GEMM_DEPTH
#define GEMM_DEPTH 2048 /* in float32 half a megabyte of a panel */
#endif

FA_FUNC int64_t gemm_packed_elements(int64_t K, int64_t N) { return fa_size_mul((N + PW - 1) / PW * PW, K); }

FA_FUNC void gemm_pack(const element *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N, real *packed,
                       int64_t panel0, int64_t panel1) {
    /* Columns that are neighbours: a row of all these panels in one go, since the next row is pages away. */
    for (int64_t k = 0; column_stride == 1 && k < K; k++)
        for (int64_t p = panel0; p < panel1; p++) {
            const element *src = w + k * row_stride + p * PW;
            real *dst = packed + (p * K + k) * PW;
            const int64_t n = N - p * PW < PW ? N - p * PW : PW;
            load_row(dst, src, n, 1);
            for (int64_t c = n; c < PW; c++) dst[c] = 0;
        }
    for (int64_t p = panel0; column_stride != 1 && p < panel1; p++) {
        const element *src = w + p * PW * column_stride;
        real *dst = packed + p * PW * K;
        int64_t n = N - p * PW < PW ? N - p * PW : PW;
        for (int64_t i = 0; n < PW && i < K * PW; i++) dst[i] = 0;
        if (row_stride == 1)
            pack_panel(dst, src, column_stride, n, K);
        else
            for (int64_t k = 0; k < K; k++)
                for (int64_t c = 0; c < n; c++) dst[k * PW + c] = to_real(src[k * row_stride + c * column_stride]);
    }
}

#define PW_BYTES (PW * (int64_t)sizeof(real))

/* Asks for n rows that will be read soon; stride and width in bytes. */
FA_INLINE void prefetch_rows(const void *rows, int64_t stride, int64_t n, int64_t width) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < width; c += 64) __builtin_prefetch((const char *)rows + i * stride + c, 0, 2);
}

/* y = f(y + b) for a tile that is still in L1. The sum is rounded on its own: the bits are those of an addition
 * afterwards. relu keeps NaN. */
FA_INLINE void gemm_finish(element *y, int64_t y_row, int rows, int64_t n, const element *bias, int relu) {
    for (int i = 0; i < rows; i++)
        for (int64_t c = 0; c < n; c += VL) {
            vec v = eload_n(y + i * y_row + c, n - c);
            if (bias) v = v + eload_n(bias + c, n - c);
            if (relu) v = vselect_lt(v, vset1(0), vset1(0), v);
            estore_n(y + i * y_row + c, v, n - c);
        }
}

/* A tile of the product, from rows of x where they lie, or from copies of pieces of them. */
FA_INLINE void gemm_tile(int fresh, int rows, int64_t n, const element *x, int64_t x_row, const real *panel, real *tile,
                         int64_t tile_row, int64_t depth) {
    const int64_t most = FA_IN_PLACE ? depth : PW;
    int64_t k = 0;
    do {
        real copies[FA_IN_PLACE ? 1 : MR * PW];
        const int64_t length = depth - k < most ? depth - k : most;
        const real *in = row_in(x, copies, 0);
        for (int i = 0; !FA_IN_PLACE && i < rows; i++) load_row(copies + i * PW, x + i * x_row + k, length, 1);
        micro_gemm(fresh && k == 0, rows, n, in, FA_IN_PLACE ? x_row : PW, 1, panel + k * PW, PW, tile, tile_row,
                   length);
        k += most;
    } while (k < depth);
}

FA_FUNC void gemm(const element *x, int64_t x_row, const real *packed, element *y, int64_t y_row, int64_t row0,
                  int64_t row1, int64_t panel0, int64_t panel1, int64_t K, int64_t N, const element *bias, int relu) {
    /* Sums of all pieces stay in the tile where y cannot hold them. */
    const int64_t pieces = FA_IN_PLACE && K ? (K + GEMM_DEPTH - 1) / GEMM_DEPTH : 1, depth = (K + pieces - 1) / pieces;
    const int64_t last = panel1 * K; /* rows of all panels, one after the other */
    for (int64_t p = panel0; p < panel1; p++) {
        element *out = y + p * PW;
        int64_t n = N - p * PW < PW ? N - p * PW : PW;
        for (int64_t piece = 0; piece < pieces; piece++) {
            const int64_t k = piece * depth, length = K - k < depth ? K - k : depth, here = p * K + k;
            const real *panel = packed + here * PW;
            const element *in = x + k;
            /* Each tile of rows asks for its share of the next piece, which comes from L3 or memory while this one is
             * used. With few rows the stream of weights is the bound, and the hardware's own prefetching the fastest.
             */
            int64_t tiles = (row1 - row0 + MR - 1) / MR, share = tiles > 2 ? (depth + tiles - 1) / tiles : 0;
            int64_t ahead = here + length, end = ahead + depth < last ? ahead + depth : last;
            for (int64_t r = row0; r < row1;) {
                real tile[MR * PW];
                int rows = balanced_rows(row1 - r);
                int64_t asked = share < end - ahead ? share : end - ahead;
                prefetch_rows(packed + ahead * PW, PW_BYTES, asked, PW_BYTES);
                ahead += asked;
                if (FA_IN_PLACE && n % VL == 0) {
                    gemm_tile(piece == 0, rows, n, in + r * x_row, x_row, panel, row_out(out + r * y_row, NULL), y_row,
                              length);
                } else {
                    if (piece) memset(tile, 0, sizeof tile);
                    for (int i = 0; piece && i < rows; i++) load_row(tile + i * PW, out + (r + i) * y_row, n, 1);
                    gemm_tile(piece == 0, rows, n, in + r * x_row, x_row, panel, tile, PW, length);
                    for (int i = 0; i < rows; i++) store_row(out + (r + i) * y_row, tile + i * PW, n);
                }
                if ((bias || relu) && piece == pieces - 1)
                    gemm_finish(out + r * y_row, y_row, rows, n, bias ? bias + p * PW : NULL, relu);
                r += rows;
            }
        }
    }
}
#endif
