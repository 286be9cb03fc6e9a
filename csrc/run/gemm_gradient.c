/* Gradients of weights over threads: x is packed once by all, then each thread takes panels of columns of d_w, or
 * parts of panels when there are few. Neither changes a bit (ops/gemm_gradient.inl). */
#include <string.h>

#include "for.h"
#include "run.h"

#define TILE 6
#define TILES_PER_PACK 8 /* 192 bytes of a row */
#define TN_PLAIN 16      /* pieces of rows that are added without their rounding errors */
#define STRIP 32         /* rows of d_w on a matrix unit, */
#define STRIPS_PER_PACK 4
#define GROUP 128          /* and columns */
#define STREAMED (1 << 20) /* bytes of d_w, half of an L2, from which it is out of the caches before it is read */

typedef struct {
    fa_gradient piece;
    void *db;
    int64_t tiles, parts;
} gradient;

FA_BODY(pack, gradient, {
    const fa_gradient *p = &a->piece;
    k->gemm_tn_pack(p->x, p->x_row, p->rows, p->depth, p->K, first, last, p->packed);
})
FA_BODY(pack_strips, gradient, k->tiles->gradient_pack(&a->piece, first, last))

/* A part of a panel. */
FA_BODY(add, gradient, {
    const fa_gradient *p = &a->piece;
    const int64_t panel = first / a->parts, part = first % a->parts;
    k->gemm_tn(p->fresh, p->packed, p->rows, p->dy, p->dy_row, p->dw, part == 0 ? a->db : 0, p->low, p->depth, p->K,
               p->N, panel, panel + 1, part * a->tiles / a->parts, (part + 1) * a->tiles / a->parts, workspace);
})
FA_BODY(add_strips, gradient, {
    const int64_t group = first / a->parts, part = first % a->parts;
    k->tiles->gradient(&a->piece, group, part * a->tiles / a->parts, (part + 1) * a->tiles / a->parts,
                       part == 0 ? a->db : 0, workspace);
})

int fa_gemm_tn(const fa_kernels *k, const void *x, int64_t x_row, const void *dy, int64_t dy_row, void *dw, void *db,
               int accumulate, int parts, int64_t M, int64_t K, int64_t N, int n_threads) {
    const int64_t item = k->real_bytes, most = k->gemm_tn_depth(), deepest = M < most ? M : most;
    const fa_tiles *unit = parts ? k->tiles : NULL;
    if (N == 0) return FA_OK;
    n_threads = threads_for((double)M * (double)N * (double)K / (unit ? 8 / parts : 1), n_threads);
    gradient a = {
        .piece = {.x = x, .dy = dy, .dw = dw, .x_row = x_row, .dy_row = dy_row, .K = K, .N = N, .parts = parts},
        .db = db};
    fa_gradient *p = &a.piece;
    a.tiles = ceil_div(K, unit ? STRIP : TILE);
    const int64_t each = aligned(unit ? unit->gradient_workspace(parts, deepest) : k->gemm_tn_workspace(deepest));
    const int64_t packed_bytes =
        aligned(unit ? unit->gradient_bytes(parts, deepest, K) : k->gemm_tn_packed_bytes(deepest, K));
    const int64_t panels = ceil_div(N, unit ? GROUP : k->panel_width);
    const int64_t low_bytes = M > TN_PLAIN * most ? aligned(fa_size_mul(fa_size_mul(K + 1, N), item)) : 0;
    const int64_t own_bytes = fa_size_mul(each, n_threads);
    const int64_t rows_bytes = most * (int64_t)sizeof(int64_t);
    char *packed = fa_workspace(packed_bytes + own_bytes + low_bytes + rows_bytes);
    if (!packed) return FA_NO_MEMORY;
    char *workspace = packed + packed_bytes, *low = workspace + own_bytes;
    int64_t *rows = (int64_t *)(low + low_bytes);
    p->packed = packed;
    p->rows = rows;
    /* Parts of a panel pack it again each: few, but enough that all threads have work. */
    a.parts = panels >= 4 * n_threads ? 1 : ceil_div(2 * n_threads, panels);
    if (a.parts > a.tiles) a.parts = a.tiles ? a.tiles : 1;
    if (n_threads == 1) a.parts = 1;
    p->fresh = !accumulate;
    p->stream = p->fresh && unit && M <= most && (uintptr_t)dw % 64 == 0 && N * item % 64 == 0 &&
                fa_size_mul(K, N) >= STREAMED / item;
    int64_t next = 0;
    for (int piece = 0; (p->depth = k->gemm_tn_rows(dy, dy_row, &next, M, N, most, rows)) > 0; piece++) {
        if (piece == TN_PLAIN) {
            memset(low, 0, (size_t)low_bytes);
            p->low = (void *)low;
        }
        if (unit)
            fa_for(k, pack_strips, &a, .items = a.tiles, .block = STRIPS_PER_PACK, .threads = n_threads);
        else
            fa_for(k, pack, &a, .items = a.tiles, .block = TILES_PER_PACK, .threads = n_threads);
        fa_for(k, unit ? add_strips : add, &a, .items = panels * a.parts, .threads = n_threads, .workspace = workspace,
               .each = each);
        p->fresh = 0;
    }
    if (p->fresh) memset(dw, 0, (size_t)(K * N * item));
    if (p->fresh && db) memset(db, 0, (size_t)(N * item));
    if (p->low) k->gemm_tn_settle(dw, db, p->low, K, N);
    return FA_OK;
}
