/* Matrix products with packed weights over threads. */
#include <string.h>

#include "for.h"
#include "run.h"

typedef struct {
    const void *x, *w, *bias;
    void *y;
    int relu;
    int64_t x_row, w_row, w_column, M, K, N, panels, row_block, panel_block, panel_blocks;
} product;

FA_BODY(pack, product, k->gemm_pack(a->w, a->w_row, a->w_column, a->K, a->N, a->y, first, last))

int fa_gemm_pack(const fa_kernels *k, const void *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N,
                 void *packed, int n_threads) {
    const product a = {.w = w, .y = packed, .w_row = row_stride, .w_column = column_stride, .K = K, .N = N};
    fa_for(k, pack, &a, .items = ceil_div(N, k->panel_width),
           .block = column_stride == 1 ? 8 : 1, /* runs of 2 KiB of a row */
           .threads = threads_for((double)K * (double)N * 16, n_threads));
    return FA_OK;
}

/* A block of rows by a block of panels. */
FA_BODY(multiply, product, {
    const int64_t row = first / a->panel_blocks * a->row_block, panel = first % a->panel_blocks * a->panel_block;
    k->gemm(a->x, a->x_row, a->w, a->y, a->N, row, least(row + a->row_block, a->M), panel,
            least(panel + a->panel_block, a->panels), a->K, a->N, a->bias, a->relu);
})

static atomic_int process_parts = 4;
static _Thread_local int thread_parts;

int fa_parts(int of_thread) { return of_thread ? thread_parts : process_parts; }
void fa_set_parts(int parts, int of_thread) {
    if (of_thread)
        thread_parts = parts;
    else
        process_parts = parts;
}

int64_t fa_gemm_parts_bytes(const fa_kernels *k, int parts, int64_t K, int64_t N) {
    return k->tiles && K > 0 && N > 0 ? k->tiles->bytes(parts, K, N) : 0;
}

FA_BODY(pack_parts, fa_split, k->tiles->pack(a, first, last))

int fa_gemm_split(const fa_kernels *k, const fa_split *a, int n_threads) {
    const int64_t panels = ceil_div(a->N, k->panel_width);
    n_threads = threads_for((double)a->K * (double)a->N * 16, n_threads);
    fa_for(k, pack_parts, a, .items = panels,
           .block = a->w_column == 1 ? ceil_div(panels, n_threads) : 1, /* long runs of a row */
           .threads = n_threads);
    return k->tiles->plain(a);
}

/* A product on the unit: blocks of rows, and pieces of K, of which rows are split into parts once, by all threads. A
 * block's parts stay in L2, up to 1 MiB, while weights come from L3 or memory. Sums go to memory and back for each
 * piece but the first, and all weights are read for each block. */
#define TILED_BYTES (1 << 20)
#define TILED_DEPTH 1024 /* of three parts half as much */

typedef struct {
    fa_tiled call;
    int64_t share, shares; /* rows of a task, of which a panel has several when there are few panels */
} tiled;

FA_BODY(split_rows, tiled, k->tiles->split(&a->call, first, last))

FA_BODY(multiply_tiles, tiled, {
    const int64_t row = first % a->shares * a->share;
    if (row < a->call.rows) k->tiles->multiply(&a->call, first / a->shares, row, least(row + a->share, a->call.rows));
})

/* Rows of a block of M, at most `most` times 32, such that no block is much smaller than the others. */
static int64_t even_block(int64_t M, int64_t most) {
    const int64_t blocks = ceil_div(M, 32 * (most < 1 ? 1 : most));
    return least(M, ceil_div(ceil_div(M, blocks), 32) * 32);
}

/* With so many rows for each thread, it has blocks of its own: of a block that all make ready, half of what one of two
 * threads reads comes from the other's L2. That costs more than all of the weights from L3: six products of 256 x 1024
 * by 1024 took 1160 us, and take 815. With 32 rows each, 64 x 512 by 8000 was 30 % slower. */
#define OWN_ROWS 64

/* Rows of a block of M, at most `most` times 32, such that there are as many blocks for each thread. */
static int64_t own_block(int64_t M, int64_t most, int n_threads) {
    const int64_t blocks = ceil_div(ceil_div(M, 32 * (most < 1 ? 1 : most)), n_threads) * n_threads;
    return ceil_div(ceil_div(M, blocks), 32) * 32;
}

typedef struct {
    fa_tiled call;
    int64_t M, block, depth, panels, split; /* rows of all and of a block; bytes of its parts */
    int *plain;
} own_blocks;

FA_BODY(multiply_own, own_blocks, {
    fa_tiled call = a->call;
    const int64_t row = first * a->block;
    call.x = (const float *)call.x + row * call.x_row;
    call.y = (float *)call.y + row * call.N;
    call.rows = least(a->block, a->M - row);
    call.split = workspace;
    call.plain_rows = (uint8_t *)workspace + a->split;
    memset(call.plain_rows, 0, (size_t)call.rows);
    for (; call.k0 < call.K; call.k0 += a->depth) {
        call.depth = least(a->depth, call.K - call.k0);
        k->tiles->split(&call, 0, ceil_div(call.rows, 16));
        for (int64_t p = 0; p < a->panels; p++) k->tiles->multiply(&call, p, 0, call.rows);
    }
    for (int64_t r = 0; !call.packed && r < call.rows; r++)
        if (call.plain_rows[r]) __atomic_store_n(a->plain, 1, __ATOMIC_RELAXED);
})

static int gemm_tiled(const fa_kernels *k, fa_tiled call, int64_t M, int n_threads) {
    const int64_t panels = ceil_div(call.N, k->panel_width);
    const int64_t depth = least(call.K, call.parts < 3 ? TILED_DEPTH : TILED_DEPTH / 2);
    const int64_t most = TILED_BYTES / k->tiles->rows_bytes(call.parts, 32, depth);
    if (n_threads > 1 && M >= OWN_ROWS * n_threads) {
        const int64_t block = own_block(M, most, n_threads);
        const int64_t split = aligned(k->tiles->rows_bytes(call.parts, block, depth)), each = aligned(split + block);
        int plain = 0;
        const own_blocks own = {call, M, block, depth, panels, split, &plain};
        char *workspace = fa_product_workspace(fa_size_mul(each, n_threads));
        if (!workspace) return FA_NO_MEMORY;
        fa_for(k, multiply_own, &own, .items = ceil_div(M, block), .threads = n_threads, .workspace = workspace,
               .each = each);
        return plain ? FA_PLAIN : FA_OK;
    }
    const int64_t block = even_block(M, most);
    const int64_t split = aligned(k->tiles->rows_bytes(call.parts, block, depth));
    tiled a = {.call = call, .shares = 1};
    if (panels < 2 * n_threads) a.shares = least(ceil_div(2 * n_threads, panels), ceil_div(block, 32));
    a.call.split = fa_product_workspace(split + block);
    if (!a.call.split) return FA_NO_MEMORY;
    a.call.plain_rows = (uint8_t *)a.call.split + split;
    for (int64_t row = 0; row < M; row += block) {
        a.call.x = (const float *)call.x + row * call.x_row;
        a.call.y = (float *)call.y + row * call.N;
        a.call.rows = least(block, M - row);
        a.share = ceil_div(ceil_div(a.call.rows, a.shares), 32) * 32;
        memset(a.call.plain_rows, 0, (size_t)a.call.rows);
        for (a.call.k0 = 0; a.call.k0 < call.K; a.call.k0 += depth) {
            a.call.depth = least(depth, call.K - a.call.k0);
            fa_for(k, split_rows, &a, .items = ceil_div(a.call.rows, 16), .threads = n_threads);
            fa_for(k, multiply_tiles, &a, .items = panels * a.shares, .threads = n_threads);
        }
        for (int64_t r = 0; !call.packed && r < a.call.rows; r++)
            if (a.call.plain_rows[r]) return FA_PLAIN;
    }
    return FA_OK;
}

int fa_gemm(const fa_kernels *k, const void *x, int64_t x_row, const void *packed, void *y, int64_t M, int64_t K,
            int64_t N, const void *bias, int relu, const void *split, int parts, int n_threads) {
    if (M == 0 || N == 0) return FA_OK;
    /* With few rows the weights are the work: reading one costs as much as about 8 multiply-adds. */
    n_threads = threads_for((double)(M < 8 ? 8 : M) * (double)N * (double)K, n_threads);
    if (split) {
        fa_tiled call = {
            .x = x, .x_row = x_row, .packed = packed, .parts_of_w = split, .y = y, .bias = bias, .K = K, .N = N};
        call.y_row = N;
        call.relu = relu;
        call.parts = parts;
        return gemm_tiled(k, call, M, n_threads);
    }
    const int64_t panels = ceil_div(N, k->panel_width);
    product a = {.x = x, .x_row = x_row, .w = packed, .y = y, .M = M, .K = K, .N = N, .panels = panels};
    a.bias = bias;
    a.relu = relu;
    /* A task keeps one panel in L2 at a time and passes up to 1024 rows by it. With few rows each thread has one run of
     * panels, which may stay in its cache from call to call. */
    a.row_block = ceil_div(M, ceil_div(M, 1024));
    a.panel_block = n_threads == 1 ? panels : M < 64 ? ceil_div(panels, n_threads) : 1;
    if (n_threads > 1 && M >= 64 && panels < 2 * n_threads) { /* tasks for all, of whole tiles */
        int64_t shared = ceil_div(M, ceil_div(2 * n_threads, panels));
        if (shared < a.row_block) a.row_block = ceil_div(shared, 6) * 6;
    }
    a.panel_blocks = ceil_div(panels, a.panel_block);
    fa_for(k, multiply, &a, .items = ceil_div(M, a.row_block) * a.panel_blocks, .threads = n_threads);
    return FA_OK;
}

/* A product with narrow weights: blocks of rows, which are made ready once, by all threads, and stay in L2 while all
 * panels pass. */
#define NARROW_ROWS 256
#define NARROW_BYTES (1 << 20)

typedef struct {
    fa_narrow call;
    int64_t share, shares; /* as of `tiled` */
} narrow;

FA_BODY(make_rows, narrow, k->narrow->make(&a->call, first, last))

FA_BODY(multiply_narrow, narrow, {
    const int64_t row = first % a->shares * a->share;
    if (row < a->call.rows) k->narrow->multiply(&a->call, first / a->shares, row, least(row + a->share, a->call.rows));
})

typedef struct {
    fa_narrow call;
    int64_t M, block, panels, made, scales, bytes; /* rows of all and of a block; bytes of rows, scales, an element */
} own_narrow;

FA_BODY(multiply_own_narrow, own_narrow, {
    fa_narrow call = a->call;
    const int64_t row = first * a->block;
    call.x = (const char *)call.x + row * call.x_row * a->bytes;
    call.y = (char *)call.y + row * call.N * a->bytes;
    call.rows = least(a->block, a->M - row);
    call.made = workspace;
    call.row_scales = (double *)(call.made + a->made);
    call.odd_rows = (uint8_t *)call.made + a->made + a->scales;
    memset(call.odd_rows, 0, (size_t)call.rows);
    k->narrow->make(&call, 0, ceil_div(call.rows, 16));
    for (int64_t p = 0; p < a->panels; p++) k->narrow->multiply(&call, p, 0, call.rows);
})

int64_t fa_narrow_bytes(int32_t type, int64_t K, int64_t N) {
    const int64_t depth = type == FA_INT8 ? 64 : 32;
    return fa_size_mul(fa_size_mul(ceil_div(N, 64), ceil_div(K, depth)), 4096);
}

int fa_gemm_narrow(const fa_kernels *k, const fa_narrow *call, int n_threads) {
    const int64_t M = call->rows, panels = ceil_div(call->N, k->panel_width);
    if (M == 0 || call->N == 0) return FA_OK;
    n_threads = threads_for((double)(M < 8 ? 8 : M) * (double)call->N * (double)call->K / 4, n_threads);
    const int64_t of_tile = k->narrow->rows_bytes(call->type, 32, call->K);
    const int64_t most = least(of_tile ? NARROW_BYTES / of_tile : 1, NARROW_ROWS / 32);
    const int owned = n_threads > 1 && M >= OWN_ROWS * n_threads;
    const int64_t block = owned ? own_block(M, most, n_threads) : even_block(M, most);
    const int64_t made = aligned(k->narrow->rows_bytes(call->type, block, call->K)), scales = aligned(block * 8);
    const int64_t bytes = call->halves ? 2 : k->element_bytes;
    if (owned) {
        const own_narrow own = {*call, M, block, panels, made, scales, bytes};
        const int64_t each = aligned(made + scales + block);
        char *workspace = fa_product_workspace(fa_size_mul(each, n_threads));
        if (!workspace) return FA_NO_MEMORY;
        fa_for(k, multiply_own_narrow, &own, .items = ceil_div(M, block), .threads = n_threads, .workspace = workspace,
               .each = each);
        return FA_OK;
    }
    narrow a = {.call = *call, .shares = 1};
    if (panels < 2 * n_threads) a.shares = least(ceil_div(2 * n_threads, panels), ceil_div(block, 32));
    a.call.made = fa_product_workspace(made + scales + block);
    if (!a.call.made) return FA_NO_MEMORY;
    a.call.row_scales = (double *)(a.call.made + made);
    a.call.odd_rows = (uint8_t *)a.call.made + made + scales;
    for (int64_t row = 0; row < M; row += block) {
        a.call.x = (const char *)call->x + row * call->x_row * bytes;
        a.call.y = (char *)call->y + row * call->N * bytes;
        a.call.rows = least(block, M - row);
        a.share = ceil_div(ceil_div(a.call.rows, a.shares), 32) * 32;
        memset(a.call.odd_rows, 0, (size_t)a.call.rows);
        fa_for(k, make_rows, &a, .items = ceil_div(a.call.rows, 16), .threads = n_threads);
        fa_for(k, multiply_narrow, &a, .items = panels * a.shares, .threads = n_threads);
    }
    return FA_OK;
}
