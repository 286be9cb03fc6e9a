/* Gradients of weights over threads: x is packed once by all, then each thread takes panels of columns of d_w, or
 * parts of panels when there are few. Neither changes a bit (ops/gemm_gradient.inl). */
#include <string.h>

#include "pool.h"
#include "run.h"
#include "tasks.h"

#define TILE 6
#define TILES_PER_PACK 8 /* 192 bytes of a row */
#define TN_PLAIN 16      /* pieces of rows that are added without their rounding errors */

typedef struct {
    const fa_kernels *k;
    const char *x, *dy;
    void *dw, *db, *low;
    const int64_t *rows;
    char *packed, *workspace;
    int64_t x_row, dy_row, depth, K, N, tiles, parts, workspace_bytes;
    int fresh;
} gradient_call;

static void pack_one(void *context, int64_t task, int worker) {
    gradient_call *c = context;
    int64_t first = task * TILES_PER_PACK, last = first + TILES_PER_PACK;
    (void)worker;
    c->k->gemm_tn_pack(c->x, c->x_row, c->rows, c->depth, c->K, first, last < c->tiles ? last : c->tiles, c->packed);
}

static void gradient_one(void *context, int64_t task, int worker) {
    gradient_call *c = context;
    int64_t panel = task / c->parts, part = task % c->parts;
    c->k->gemm_tn(c->fresh, c->packed, c->rows, c->dy, c->dy_row, c->dw, part == 0 ? c->db : 0, c->low, c->depth, c->K,
                  c->N, panel, panel + 1, part * c->tiles / c->parts, (part + 1) * c->tiles / c->parts,
                  c->workspace + worker * c->workspace_bytes);
}

int fa_gemm_tn(const fa_kernels *k, const void *x, int64_t x_row, const void *dy, int64_t dy_row, void *dw, void *db,
               int accumulate, int64_t M, int64_t K, int64_t N, int n_threads) {
    const int64_t item = k->element_bytes, most = k->gemm_tn_depth(), deepest = M < most ? M : most;
    if (N == 0) return FA_OK;
    n_threads = threads_for((double)M * (double)N * (double)K, n_threads);
    gradient_call call = {.k = k, .x = x, .dy = dy, .dw = dw, .db = db, .x_row = x_row, .dy_row = dy_row};
    call.K = K;
    call.N = N;
    call.tiles = ceil_div(K, TILE);
    call.workspace_bytes = aligned(k->gemm_tn_workspace(deepest));
    const int64_t packed_bytes = aligned(k->gemm_tn_packed_bytes(deepest, K)), panels = ceil_div(N, k->panel_width);
    const int64_t low_bytes = M > TN_PLAIN * most ? aligned(fa_size_mul(fa_size_mul(K + 1, N), item)) : 0;
    const int64_t own_bytes = fa_size_mul(call.workspace_bytes, n_threads);
    const int64_t rows_bytes = most * (int64_t)sizeof(int64_t);
    call.packed = fa_workspace(packed_bytes + own_bytes + low_bytes + rows_bytes);
    if (!call.packed) return FA_NO_MEMORY;
    call.workspace = call.packed + packed_bytes;
    char *low = call.workspace + own_bytes;
    int64_t *rows = (int64_t *)(low + low_bytes);
    /* Parts of a panel pack it again each: few, but enough that all threads have work. */
    call.parts = panels >= 4 * n_threads ? 1 : ceil_div(2 * n_threads, panels);
    if (call.parts > call.tiles) call.parts = call.tiles ? call.tiles : 1;
    if (n_threads == 1) call.parts = 1;
    call.rows = rows;
    call.fresh = !accumulate;
    int64_t next = 0;
    for (int piece = 0; (call.depth = k->gemm_tn_rows(dy, dy_row, &next, M, N, most, rows)) > 0; piece++) {
        if (piece == TN_PLAIN) {
            memset(low, 0, (size_t)low_bytes);
            call.low = low;
        }
        fa_parallel(ceil_div(call.tiles, TILES_PER_PACK), n_threads, pack_one, &call);
        fa_parallel(panels * call.parts, n_threads, gradient_one, &call);
        call.fresh = 0;
    }
    if (call.fresh) memset(dw, 0, (size_t)(K * N * item));
    if (call.fresh && db) memset(db, 0, (size_t)(N * item));
    if (call.low) k->gemm_tn_settle(dw, db, low, K, N);
    return FA_OK;
}
