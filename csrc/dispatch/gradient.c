/* Gradients of weights over threads: x is packed once by all, then each thread takes panels of columns of d_w, or
 * parts of panels when there are few. Neither changes a bit (gemm/gradient.c). */
#include <string.h>

#include "../threads/pool.h"
#include "dispatch.h"
#include "tasks.h"

#define TILE 6
#define TILES_PER_PACK 8 /* 192 bytes of a row */

typedef struct {
    const fa_kernels *k;
    const char *x, *dy;
    void *dw, *db;
    uint8_t *read;
    char *packed, *workspace;
    int64_t x_row, dy_row, depth, K, N, tiles, parts, workspace_bytes;
    int fresh;
} gradient_call;

static void pack_one(void *context, int64_t task, int worker) {
    gradient_call *c = context;
    int64_t first = task * TILES_PER_PACK, last = first + TILES_PER_PACK;
    (void)worker;
    c->k->tn_pack(c->x, c->x_row, c->read, c->depth, c->K, first, last < c->tiles ? last : c->tiles, c->packed);
}

static void gradient_one(void *context, int64_t task, int worker) {
    gradient_call *c = context;
    int64_t panel = task / c->parts, part = task % c->parts;
    c->k->tn_run(c->fresh, c->packed, c->dy, c->dy_row, c->dw, part == 0 ? c->db : 0, c->depth, c->K, c->N, panel,
                 panel + 1, part * c->tiles / c->parts, (part + 1) * c->tiles / c->parts,
                 c->workspace + worker * c->workspace_bytes);
}

int fa_gemm_tn(const fa_kernels *k, const void *x, int64_t x_row, const void *dy, int64_t dy_row, void *dw, void *db,
               int accumulate, int64_t M, int64_t K, int64_t N, int is_double, int n_threads) {
    const int64_t item = is_double ? 8 : 4;
    if (N == 0) return FA_OK;
    if (M == 0) {
        if (!accumulate) memset(dw, 0, (size_t)(K * N * item));
        if (!accumulate && db) memset(db, 0, (size_t)(N * item));
        return FA_OK;
    }
    n_threads = threads_for((double)M * (double)N * (double)K, n_threads);
    const int64_t blocks = ceil_div(M, k->tn_depth()), depth = ceil_div(M, blocks);
    gradient_call call = {.k = k, .dw = dw, .db = db, .x_row = x_row, .dy_row = dy_row, .K = K, .N = N};
    const int64_t packed_bytes = aligned(k->tn_packed_bytes(depth, K)), panels = ceil_div(N, k->panel_width);
    call.tiles = ceil_div(K, TILE);
    call.workspace_bytes = aligned(k->tn_workspace(depth));
    call.packed = fa_workspace(packed_bytes + call.workspace_bytes * n_threads + depth);
    if (!call.packed) return FA_NO_MEMORY;
    call.workspace = call.packed + packed_bytes;
    call.read = (uint8_t *)(call.workspace + call.workspace_bytes * n_threads);
    /* Parts of a panel pack it again each: few, but enough that all threads have work. */
    call.parts = panels >= 4 * n_threads ? 1 : ceil_div(2 * n_threads, panels);
    if (call.parts > call.tiles) call.parts = call.tiles ? call.tiles : 1;
    if (n_threads == 1) call.parts = 1;
    for (int64_t m = 0; m < M; m += depth) {
        call.depth = M - m < depth ? M - m : depth;
        call.x = (const char *)x + m * x_row * item;
        call.dy = (const char *)dy + m * dy_row * item;
        call.fresh = m == 0 && !accumulate;
        k->tn_rows(call.dy, dy_row, call.depth, N, call.read);
        fa_parallel(ceil_div(call.tiles, TILES_PER_PACK), n_threads, pack_one, &call);
        fa_parallel(panels * call.parts, n_threads, gradient_one, &call);
    }
    return FA_OK;
}
