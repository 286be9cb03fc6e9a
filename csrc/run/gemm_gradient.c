/* Gradients of weights over threads: x is packed once by all, then each thread takes panels of columns of d_w, or
 * parts of panels when there are few. Neither changes a bit (ops/gemm_gradient.inl). */
#include <string.h>

#include "for.h"
#include "run.h"

#define TILE 6
#define TILES_PER_PACK 8 /* 192 bytes of a row */
#define TN_PLAIN 16      /* pieces of rows that are added without their rounding errors */

typedef struct {
    const void *x, *dy;
    void *dw, *db, *low;
    int64_t *rows;
    char *packed;
    int64_t x_row, dy_row, depth, K, N, tiles, parts;
    int fresh;
} gradient;

FA_BODY(pack, gradient, k->gemm_tn_pack(a->x, a->x_row, a->rows, a->depth, a->K, first, last, a->packed))

/* A part of a panel. */
FA_BODY(add, gradient, {
    const int64_t panel = first / a->parts, part = first % a->parts;
    k->gemm_tn(a->fresh, a->packed, a->rows, a->dy, a->dy_row, a->dw, part == 0 ? a->db : 0, a->low, a->depth, a->K,
               a->N, panel, panel + 1, part * a->tiles / a->parts, (part + 1) * a->tiles / a->parts, workspace);
})

int fa_gemm_tn(const fa_kernels *k, const void *x, int64_t x_row, const void *dy, int64_t dy_row, void *dw, void *db,
               int accumulate, int64_t M, int64_t K, int64_t N, int n_threads) {
    const int64_t item = k->real_bytes, most = k->gemm_tn_depth(), deepest = M < most ? M : most;
    if (N == 0) return FA_OK;
    n_threads = threads_for((double)M * (double)N * (double)K, n_threads);
    gradient a = {.x = x, .dy = dy, .dw = dw, .db = db, .x_row = x_row, .dy_row = dy_row, .K = K, .N = N};
    a.tiles = ceil_div(K, TILE);
    const int64_t each = aligned(k->gemm_tn_workspace(deepest));
    const int64_t packed_bytes = aligned(k->gemm_tn_packed_bytes(deepest, K)), panels = ceil_div(N, k->panel_width);
    const int64_t low_bytes = M > TN_PLAIN * most ? aligned(fa_size_mul(fa_size_mul(K + 1, N), item)) : 0;
    const int64_t own_bytes = fa_size_mul(each, n_threads);
    const int64_t rows_bytes = most * (int64_t)sizeof(int64_t);
    a.packed = fa_workspace(packed_bytes + own_bytes + low_bytes + rows_bytes);
    if (!a.packed) return FA_NO_MEMORY;
    char *workspace = a.packed + packed_bytes, *low = workspace + own_bytes;
    a.rows = (int64_t *)(low + low_bytes);
    /* Parts of a panel pack it again each: few, but enough that all threads have work. */
    a.parts = panels >= 4 * n_threads ? 1 : ceil_div(2 * n_threads, panels);
    if (a.parts > a.tiles) a.parts = a.tiles ? a.tiles : 1;
    if (n_threads == 1) a.parts = 1;
    a.fresh = !accumulate;
    int64_t next = 0;
    for (int piece = 0; (a.depth = k->gemm_tn_rows(dy, dy_row, &next, M, N, most, a.rows)) > 0; piece++) {
        if (piece == TN_PLAIN) {
            memset(low, 0, (size_t)low_bytes);
            a.low = low;
        }
        fa_for(k, pack, &a, .items = a.tiles, .block = TILES_PER_PACK, .threads = n_threads);
        fa_for(k, add, &a, .items = panels * a.parts, .threads = n_threads, .workspace = workspace, .each = each);
        a.fresh = 0;
    }
    if (a.fresh) memset(dw, 0, (size_t)(K * N * item));
    if (a.fresh && db) memset(db, 0, (size_t)(N * item));
    if (a.low) k->gemm_tn_settle(dw, db, low, K, N);
    return FA_OK;
}
