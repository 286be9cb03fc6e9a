/* Matrix product with packed weights:  y = x w,  x (M, K), w (K, N), y (M, N); and d_w = x^T d_y.
 *
 * w is packed once into panels of PW columns, [N / PW][K][PW], zero beyond N; packing w^T gives d_x = d_y w^T.
 *   1. for each panel of columns (stays in L2 while all rows pass)
 *   2.   for each tile of up to 6 rows: one chain of multiply-adds over K for each element
 * An element's chain does not depend on M, on the tile or on the thread: a row alone has the bits it has among 512.
 * d_w sums over rows in ascending order, in blocks that continue in d_w.
 *
 * Bound: 2 M N K flops at the peak of the core from 6 rows up; below that 4 N K bytes of weights from the cache
 * they are in.
 */
#define gemm_packed_elements FN(gemm_packed_elements)
#define gemm_pack FN(gemm_pack)
#define prefetch_rows FN(prefetch_rows)
#define gemm_run FN(gemm_run)
#define gemm_tn FN(gemm_tn)
#define gemm_tn_panel FN(gemm_tn_panel)
#define gemm_tn_workspace FN(gemm_tn_workspace)

FA_FUNC int64_t gemm_packed_elements(int64_t K, int64_t N) { return (N + PW - 1) / PW * PW * K; }

FA_FUNC void gemm_pack(const void *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N, void *packed,
                       int64_t panel0, int64_t panel1) {
    for (int64_t p = panel0; p < panel1; p++) {
        const real *src = (const real *)w + p * PW * column_stride;
        real *dst = (real *)packed + p * PW * K;
        int64_t n = N - p * PW < PW ? N - p * PW : PW;
        for (int64_t i = 0; n < PW && i < K * PW; i++) dst[i] = 0;
        if (row_stride == 1)
            pack_panel(dst, src, column_stride, n, K);
        else
            for (int64_t k = 0; k < K; k++)
                for (int64_t c = 0; c < n; c++) dst[k * PW + c] = src[k * row_stride + c * column_stride];
    }
}

/* Asks for n rows that will be read soon. */
FA_INLINE void prefetch_rows(const real *rows, int64_t stride, int64_t n, int64_t width) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < width; c += 64 / (int64_t)sizeof(real)) __builtin_prefetch(rows + i * stride + c, 0, 2);
}

FA_FUNC void gemm_run(const void *x, int64_t x_row, const void *packed, void *y, int64_t y_row, int64_t row0,
                      int64_t row1, int64_t panel0, int64_t panel1, int64_t K, int64_t N) {
    for (int64_t p = panel0; p < panel1; p++) {
        const real *panel = (const real *)packed + p * PW * K;
        real *out = (real *)y + p * PW;
        int64_t n = N - p * PW < PW ? N - p * PW : PW;
        /* Each tile of rows asks for its share of the next panel, which comes from L3 or memory while this one is used.
         * With few rows the stream of weights is the bound, and the hardware's own prefetching the fastest. */
        int64_t tiles = (row1 - row0 + MR - 1) / MR, share = p + 1 < panel1 && tiles > 2 ? (K + tiles - 1) / tiles : 0;
        int64_t ahead = K;
        for (int64_t r = row0; r < row1;) {
            real tile[MR * PW];
            int rows = balanced_rows(row1 - r);
            int64_t asked = ahead + share < 2 * K ? share : 2 * K - ahead;
            prefetch_rows(panel + ahead * PW, PW, asked, PW);
            ahead += asked;
            if (n % VL == 0) {
                micro_gemm(1, rows, n, (const real *)x + r * x_row, x_row, 1, panel, PW, out + r * y_row, y_row, K);
            } else {
                micro_gemm(1, rows, n, (const real *)x + r * x_row, x_row, 1, panel, PW, tile, PW, K);
                for (int i = 0; i < rows; i++) memcpy(out + (r + i) * y_row, tile + i * PW, (size_t)n * sizeof(real));
            }
            r += rows;
        }
    }
}

/* Rows of x and d_y in a block of d_w = x^T d_y, and columns of x: 256 KiB of x and 64 KiB of d_y in L2, as float32. */
#define TN_DEPTH 256
#define TN_ROWS 264

FA_FUNC int64_t gemm_tn_workspace(int64_t M) {
    return ((M < TN_DEPTH ? M : TN_DEPTH) * (TN_ROWS + PW) + MR * PW) * (int64_t)sizeof(real) + 64;
}

/* One panel of at most PW columns, for all rows of x^T, in tiles if x_row is MR. Tiles of d_w come from L3 or memory:
 * each is asked for while the one before it is computed. */
FA_INLINE void gemm_tn_panel(int fresh, const real *x, int64_t x_row, const real *dy, int64_t dy_row, real *dw,
                             int64_t dw_row, int64_t rows, int64_t n, int64_t depth, real *tile) {
    for (int64_t r = 0; r < rows;) {
        const int height = balanced_rows(rows - r);
        real *out = dw + r * dw_row;
        const int64_t following = rows - r - height;
        prefetch_rows(out + height * dw_row, dw_row, following < MR ? following : MR, n);
        if (n % VL == 0) {
            micro_gemm(fresh, height, n, x, 1, x_row, dy, dy_row, out, dw_row, depth);
        } else {
            for (int i = 0; !fresh && i < height; i++)
                memcpy(tile + i * PW, out + i * dw_row, (size_t)n * sizeof(real));
            micro_gemm(fresh, height, n, x, 1, x_row, dy, dy_row, tile, PW, depth);
            for (int i = 0; i < height; i++) memcpy(out + i * dw_row, tile + i * PW, (size_t)n * sizeof(real));
        }
        x += x_row == MR ? depth * MR : height;
        r += height;
    }
}

/* Rows k0..k1-1 of d_w (K, N), contiguous. Rows of x and d_y are far apart, often by a multiple of 4 KiB, where they
 * would share a few sets of L1: both are copied block by block, x into tiles [depth][MR], unless they are narrow or
 * used only a few times. */
FA_FUNC void gemm_tn(const void *x, int64_t x_row, const void *dy, int64_t dy_row, void *dw, int64_t M, int64_t K,
                     int64_t N, int64_t k0, int64_t k1, void *workspace) {
    real *tile = workspace, *panel = tile + MR * PW, *tiles = panel + (M < TN_DEPTH ? M : TN_DEPTH) * PW;
    if (M == 0) memset((real *)dw + k0 * N, 0, (size_t)((k1 - k0) * N) * sizeof(real));
    for (int64_t k = k0; k < k1; k += TN_ROWS) {
        const int64_t rows = k1 - k < TN_ROWS ? k1 - k : TN_ROWS;
        const int near_x = x_row <= 2 * PW, near_dy = dy_row <= 2 * PW || rows <= 2 * MR;
        for (int64_t m = 0; m < M; m += TN_DEPTH) {
            const int64_t depth = M - m < TN_DEPTH ? M - m : TN_DEPTH;
            const real *left = near_x ? (const real *)x + m * x_row + k : tiles;
            real *to = tiles;
            for (int64_t r = 0; !near_x && r < rows;) {
                const int height = balanced_rows(rows - r);
                const real *from = (const real *)x + m * x_row + k + r;
                if (k + r + MR <= K) /* a whole tile's width can be read, whether it is used or not */
                    for (int64_t t = 0; t < depth; t++, to += MR) memcpy(to, from + t * x_row, MR * sizeof(real));
                else
                    for (int64_t t = 0; t < depth; t++, to += MR)
                        for (int i = 0; i < height; i++) to[i] = from[t * x_row + i];
                r += height;
            }
            for (int64_t c = 0; c < N; c += PW) {
                const int64_t n = N - c < PW ? N - c : PW;
                const real *from = (const real *)dy + m * dy_row + c;
                real *out = (real *)dw + k * N + c;
                if (near_dy && n % VL == 0) {
                    gemm_tn_panel(m == 0, left, near_x ? x_row : MR, from, dy_row, out, N, rows, n, depth, tile);
                    continue;
                }
                for (int64_t t = 0; t < depth; t++)
                    for (int64_t v = 0; v < n; v += VL)
                        vstore(panel + t * PW + v, vload_n(from + t * dy_row + v, n - v));
                gemm_tn_panel(m == 0, left, near_x ? x_row : MR, panel, PW, out, N, rows, n, depth, tile);
            }
        }
    }
}
