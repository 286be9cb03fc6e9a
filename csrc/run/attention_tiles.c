/* Attention on a matrix unit over threads. */
#include "for.h"
#include "run.h"

#define TILED_ROWS 1024 /* of a task: packing the keys again for each costs about a thirtieth of its time */
#define TILED_LEAST 32

typedef struct {
    const fa_attention *f;
    const fa_attention_grad *g;
    const fa_plan *plan;
} tiled_attention;

FA_BODY(forward, tiled_attention, k->tiles->attention(a->f, a->plan, first, workspace))
FA_BODY(backward, tiled_attention, k->tiles->attention_backward(a->g, a->plan, first, workspace))

/* In units of a float32 multiply-add, of which the unit does eight in the time of one. Few rows wait for the memory as
 * long as 64 of them compute. */
static double work(const fa_attention *a) {
    const double keys = (double)a->B * (double)a->Hk * (double)a->Tk, rows = (double)(a->H / a->Hk) * (double)a->Tq;
    const double each = (double)(a->D + a->Dv) / 8 + 16;
    return keys * (rows < 64 ? 64 : rows) * each * (a->causal != FA_NOT_CAUSAL ? 0.5 : 1.0);
}

int fa_attention_on_tiles(const fa_kernels *k, const fa_attention *a, int n_threads) {
    const int64_t heads = a->B * a->Hk, rows = heads ? a->H / a->Hk * a->Tq : 0;
    if (rows == 0) return FA_OK;
    n_threads = threads_for(work(a), n_threads);
    int64_t each = least(rows, TILED_ROWS);
    while (heads * ceil_div(rows, each) < 4 * n_threads && n_threads > 1 && each > TILED_LEAST)
        each = ceil_div(each / 2, TILED_LEAST) * TILED_LEAST;
    const fa_plan plan = {.rows_per_task = each, .pieces = ceil_div(rows, each)};
    const tiled_attention call = {.f = a, .plan = &plan};
    return fa_run_each(
        k, forward, &call,
        (fa_loop){.items = heads * plan.pieces, .threads = n_threads, .each = k->tiles->attention_workspace(a, each)});
}

int fa_attention_backward_on_tiles(const fa_kernels *k, const fa_attention_grad *g, int n_threads) {
    const fa_attention *a = &g->f;
    const int64_t heads = a->H ? a->B * a->Hk : 0;
    int32_t unfit = 0;
    if (heads == 0) return FA_OK;
    const fa_plan plan = {.unfit = &unfit};
    const tiled_attention call = {.f = a, .g = g, .plan = &plan};
    const int status = fa_run_each(k, backward, &call,
                                   (fa_loop){.items = heads,
                                             .threads = threads_for(2.5 * work(a), n_threads),
                                             .each = k->tiles->attention_backward_workspace(g)});
    return status == FA_OK && unfit ? FA_UNFIT : status;
}
