/* Gradients of y = x w + b:  d_w = x^T d_y  and  d_b = sum_m d_y_m,  x (M, K), d_y (M, N), d_w (K, N).
 *
 * Both operands are packed, because their columns lie in as many pages as there are rows:
 *   1. x, at most TN_DEPTH rows at once, into tiles of 6 columns, [K / 6][depth][6]; a row whose d_y is zero becomes
 *      zero without being read
 *   2. for each panel of PW columns: d_y into [depth][PW], which stays in L2; its rows are added to d_b on the way
 *   3.   for each tile: one chain of multiply-adds over the rows, which starts at zero or continues in d_w
 * Rows are always taken in ascending order, so that neither blocks of rows nor threads change a bit.
 *
 * Bound: 2 M K N flops at the peak of the core. Packing reads x and d_y once; d_w is written once for each TN_DEPTH
 * rows.
 */
#define tn_depth FN(tn_depth)
#define tn_tile FN(tn_tile)
#define tn_packed_bytes FN(tn_packed_bytes)
#define tn_workspace FN(tn_workspace)
#define tn_rows FN(tn_rows)
#define tn_pack FN(tn_pack)
#define tn_panel_whole FN(tn_panel_whole)
#define tn_run FN(tn_run)

FA_FUNC int64_t tn_depth(void) { return 4096 / (int64_t)sizeof(real); }
/* Elements of one tile. The rest keeps tiles of 512 rows, say, from lying a multiple of 4096 bytes apart: a row is
 * packed into many tiles at once, which would share a set of L1. */
FA_INLINE int64_t tn_tile(int64_t depth) { return (depth + 8) * MR; }
FA_FUNC int64_t tn_packed_bytes(int64_t depth, int64_t K) {
    return (K + MR - 1) / MR * tn_tile(depth) * (int64_t)sizeof(real);
}
FA_FUNC int64_t tn_workspace(int64_t depth) { return (depth + MR) * PW * (int64_t)sizeof(real); }

/* read[m] = whether row m of d_y has an element that is not zero. */
FA_FUNC void tn_rows(const void *dy, int64_t dy_row, int64_t M, int64_t N, uint8_t *read) {
    for (int64_t m = 0; m < M; m++) {
        const real *row = (const real *)dy + m * dy_row;
        int found = N > 0 && row[0] != 0; /* nearly always */
        for (int64_t c = 0; !found && c < N; c += 8 * VL) {
            ivec any = vset1(0) != vset1(0);
            for (int i = 0; i < 8 && c + i * VL < N; i++) any |= vload_n(row + c + i * VL, N - c - i * VL) != vset1(0);
            for (int i = 0; i < VL; i++) found |= any[i] != 0;
        }
        read[m] = (uint8_t)found;
    }
}

/* Tiles tile0..tile1-1 of `depth` rows of x. Where there is room, 8 elements are copied in one go: the two too many
 * land where the next row's come. */
FA_FUNC void tn_pack(const void *x, int64_t x_row, const uint8_t *read, int64_t depth, int64_t K, int64_t tile0,
                     int64_t tile1, void *packed) {
    for (int64_t m = 0; m < depth; m++) {
        const real *row = (const real *)x + m * x_row;
        real *dst = (real *)packed + tile0 * tn_tile(depth) + m * MR;
        int64_t t = tile0;
        if (read[m] && m + 1 < depth)
            for (; t < tile1 && t * MR + 8 <= K; t++, dst += tn_tile(depth))
                memcpy(dst, row + t * MR, 8 * sizeof(real));
        for (; t < tile1; t++, dst += tn_tile(depth))
            for (int i = 0; i < MR; i++) dst[i] = read[m] && t * MR + i < K ? row[t * MR + i] : (real)0;
    }
}

/* A panel of PW columns. */
FA_FUNC void tn_panel_whole(const real *src, int64_t row_stride, int64_t depth, real *panel, vec *sum) {
    for (int64_t m = 0; m < depth; m++) {
#pragma GCC unroll 16
        for (int v = 0; v < PW / VL; v++) {
            vec row = vload(src + m * row_stride + v * VL);
            vstore(panel + m * PW + v * VL, row);
            sum[v] = sum[v] + row;
        }
    }
}

/* Columns of panels panel0..panel1-1 of d_w, rows of tiles tile0..tile1-1; d_b (NULL: not wanted) of these columns. */
FA_FUNC void tn_run(int fresh, const void *packed, const void *dy, int64_t dy_row, void *dw, void *db, int64_t depth,
                    int64_t K, int64_t N, int64_t panel0, int64_t panel1, int64_t tile0, int64_t tile1,
                    void *workspace) {
    real *b = workspace, *edge = b + depth * PW;
    for (int64_t p = panel0; p < panel1; p++) {
        const int64_t n = N - p * PW < PW ? N - p * PW : PW, vectors = (n + VL - 1) / VL;
        const real *src = (const real *)dy + p * PW;
        real *out = (real *)dw + p * PW, *sums = db ? (real *)db + p * PW : NULL;
        vec sum[PW / VL];
        for (int64_t v = 0; v < vectors; v++) sum[v] = sums && !fresh ? vload_n(sums + v * VL, n - v * VL) : vset1(0);
        if (n == PW)
            tn_panel_whole(src, dy_row, depth, b, sum);
        else
            for (int64_t m = 0; m < depth; m++)
                for (int64_t v = 0; v < vectors; v++) {
                    vec row = vload_n(src + m * dy_row + v * VL, n - v * VL);
                    vstore(b + m * PW + v * VL, row);
                    sum[v] = sum[v] + row;
                }
        for (int64_t v = 0; sums && v < vectors; v++) vstore_n(sums + v * VL, sum[v], n - v * VL);
        if (n % VL) memset(edge, 0, MR * PW * sizeof(real));
        for (int64_t t = tile0; t < tile1; t++) {
            const real *a = (const real *)packed + t * tn_tile(depth);
            real *c = out + t * MR * N;
            int rows = (int)(K - t * MR < MR ? K - t * MR : MR);
            const int more = (int)(K - (t + 1) * MR < MR ? K - (t + 1) * MR : MR);
            for (int i = 0; t + 1 < tile1 && i < more; i++)
                for (int64_t j = 0; j < n; j += 64 / (int64_t)sizeof(real))
                    __builtin_prefetch(c + (MR + i) * N + j, 1, 3);
            if (n % VL == 0) {
                micro_gemm(fresh, rows, n, a, 1, MR, b, PW, c, N, depth);
            } else {
                for (int i = 0; !fresh && i < rows; i++) memcpy(edge + i * PW, c + i * N, (size_t)n * sizeof(real));
                micro_gemm(fresh, rows, n, a, 1, MR, b, PW, edge, PW, depth);
                for (int i = 0; i < rows; i++) memcpy(c + i * N, edge + i * PW, (size_t)n * sizeof(real));
            }
        }
    }
}
