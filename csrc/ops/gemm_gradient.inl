/* Gradients of y = x w + b:  d_w = x^T d_y  and  d_b = sum_m d_y_m,  x (M, K), d_y (M, N), d_w (K, N).
 *
 * Rows whose d_y is zero do not count and are not read; those that do are taken in ascending order, in pieces of
 * tn_depth. Both operands are packed, because their columns lie in as many pages as there are rows:
 *   1. x, a piece of rows, into tiles of 6 columns, [K / 6][depth][6]
 *   2. for each panel of PW columns: d_y into [depth][PW], which stays in L2; its rows are summed for d_b on the way
 *   3.   for each tile: blocks of TN_BLOCK rows are one chain of multiply-adds each; blocks are added, then pieces, and
 *        from the TN_PLAIN-th piece on with their rounding errors (tile/sums.inl)
 * Rows are counted as they count, so that neither padding nor threads change a bit.
 *
 * Bound: 2 M K N flops at the peak of the core. Packing reads x and d_y once; d_w is written once for each piece.
 */
#ifndef FA_OPS_GEMM_GRADIENT_INL
#define FA_OPS_GEMM_GRADIENT_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../tile/fma.inl"
#include "../tile/sums.inl"

#define TN_BLOCK 64

FA_FUNC int64_t gemm_tn_depth(void) { return 4096 / (int64_t)sizeof(real); }
/* Elements of one tile. The rest keeps tiles of 512 rows, say, from lying a multiple of 4096 bytes apart: a row is
 * packed into many tiles at once, which would share a set of L1. */
FA_INLINE int64_t tn_tile(int64_t depth) { return (depth + 8) * MR; }
FA_FUNC int64_t gemm_tn_packed_bytes(int64_t depth, int64_t K) {
    return fa_size_mul((K + MR - 1) / MR, tn_tile(depth) * (int64_t)sizeof(real));
}
FA_FUNC int64_t gemm_tn_workspace(int64_t depth) { return (depth + MR) * PW * (int64_t)sizeof(real); }

/* Writes the numbers of the next `most` rows of d_y, from *next on, that have an element which is not zero; returns how
 * many there are. */
FA_FUNC int64_t gemm_tn_rows(const element *dy, int64_t dy_row, int64_t *next, int64_t M, int64_t N, int64_t most,
                             int64_t *rows) {
    int64_t count = 0, m = *next;
    for (; m < M && count < most; m++) {
        const element *row = dy + m * dy_row;
        int found = N > 0 && to_real(row[0]) != 0; /* nearly always */
        for (int64_t c = 0; !found && c < N; c += 8 * VL) {
            ivec any = vset1(0) != vset1(0);
            for (int i = 0; i < 8 && c + i * VL < N; i++) any |= eload_n(row + c + i * VL, N - c - i * VL) != vset1(0);
            for (int i = 0; i < VL; i++) found |= any[i] != 0;
        }
        rows[count] = m;
        count += found;
    }
    *next = m;
    return count;
}

/* Tiles tile0..tile1-1 of `depth` rows of x. Where there is room, 8 elements are copied in one go: the two too many
 * land where the next row's come. */
FA_FUNC void gemm_tn_pack(const element *x, int64_t x_row, const int64_t *rows, int64_t depth, int64_t K, int64_t tile0,
                          int64_t tile1, real *packed) {
    for (int64_t m = 0; m < depth; m++) {
        const element *row = x + rows[m] * x_row;
        real *dst = packed + tile0 * tn_tile(depth) + m * MR;
        int64_t t = tile0;
        if (m + 1 < depth)
            for (; t < tile1 && t * MR + 8 <= K; t++, dst += tn_tile(depth)) {
                real copied[8];
                for (int i = 0; i < 8; i++) copied[i] = to_real(row[t * MR + i]);
                memcpy(dst, copied, sizeof(copied));
            }
        for (; t < tile1; t++, dst += tn_tile(depth))
            for (int i = 0; i < MR; i++) dst[i] = t * MR + i < K ? to_real(row[t * MR + i]) : (real)0;
    }
}

/* n columns of the rows into a panel, if it is to be kept, and the sum of the rows. */
FA_INLINE void tn_panel(const int kept, const element *src, int64_t row_stride, const int64_t *rows, int64_t depth,
                        const int64_t n, real *panel, real *sums) {
    const int vectors = (int)((n + VL - 1) / VL);
    vec total[PW / VL];
    for (int v = 0; v < vectors; v++) total[v] = vset1(0);
    for (int64_t m = 0; m < depth;) {
        const int64_t end = m + TN_BLOCK < depth ? m + TN_BLOCK : depth;
        vec sum[PW / VL];
        for (int v = 0; v < vectors; v++) sum[v] = vset1(0);
        for (; m < end; m++)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; v++) {
                vec row = eload_n(src + rows[m] * row_stride + v * VL, n - v * VL);
                if (kept) vstore(panel + m * PW + v * VL, row);
                sum[v] = sum[v] + row;
            }
        for (int v = 0; v < vectors; v++) total[v] = total[v] + sum[v];
    }
    for (int v = 0; v < vectors; v++) vstore(sums + v * VL, total[v]);
}

/* to = x, to += x, or (to, low) += x. */
FA_INLINE void tn_add(int fresh, real *to, real *low, const real *x, int64_t n) {
    if (low)
        sum_keep(to, low, x, n);
    else
        for (int64_t c = 0; c < n; c += VL) {
            const vec v = vload_n(x + c, n - c);
            vstore_n(to + c, fresh ? v : vload_n(to + c, n - c) + v, n - c);
        }
}

/* Columns of panels panel0..panel1-1 of d_w, rows of tiles tile0..tile1-1; d_b (NULL: not wanted) of these columns.
 * fresh: d_w is set instead of added to. low: NULL, or K N + N elements. */
FA_FUNC void gemm_tn(int fresh, const real *packed, const int64_t *rows, const element *dy, int64_t dy_row, real *dw,
                     real *db, real *low, int64_t depth, int64_t K, int64_t N, int64_t panel0, int64_t panel1,
                     int64_t tile0, int64_t tile1, void *workspace) {
    real *b = workspace, *tile = b + depth * PW, *low_b = low ? low + K * N : NULL;
    for (int64_t p = panel0; p < panel1; p++) {
        const int64_t n = N - p * PW < PW ? N - p * PW : PW;
        const element *src = dy + p * PW;
        real *out = dw + p * PW;
        if (n == PW)
            tn_panel(1, src, dy_row, rows, depth, PW, b, tile);
        else
            tn_panel(1, src, dy_row, rows, depth, n, b, tile);
        if (db) tn_add(fresh, db + p * PW, low ? low_b + p * PW : NULL, tile, n);
        for (int64_t t = tile0; t < tile1; t++) {
            const real *a = packed + t * tn_tile(depth);
            real *c = out + t * MR * N;
            const int tile_rows = (int)(K - t * MR < MR ? K - t * MR : MR);
            const int more = (int)(K - (t + 1) * MR < MR ? K - (t + 1) * MR : MR);
            for (int i = 0; t + 1 < tile1 && i < more; i++)
                for (int64_t j = 0; j < n; j += 64 / (int64_t)sizeof(real))
                    __builtin_prefetch(c + (MR + i) * N + j, 1, 3);
            /* One block that is added, or a first piece, needs no place of its own. */
            const int direct = n % VL == 0 && !low && (fresh || depth <= TN_BLOCK);
            real *to = direct ? c : tile;
            const int64_t to_row = direct ? N : PW;
            for (int64_t m = 0; m < depth; m += TN_BLOCK)
                micro_gemm(m || (direct && !fresh) ? MICRO_ADD : MICRO_FRESH, tile_rows, n, a + m * MR, 1, MR,
                           b + m * PW, PW, to, to_row, depth - m < TN_BLOCK ? depth - m : TN_BLOCK);
            for (int i = 0; !direct && i < tile_rows; i++)
                tn_add(fresh, c + i * N, low ? low + (c - dw) + i * N : NULL, tile + i * PW, n);
        }
    }
}

/* What low holds, added to d_w and d_b. */
FA_FUNC void gemm_tn_settle(real *dw, real *db, const real *low, int64_t K, int64_t N) {
    sum_settle(dw, dw, low, K * N);
    if (db) sum_settle(db, db, low + K * N, N);
}
#endif
