/* Spreads the samples of one call of the query's gradient over the pool. */
#include "../threads/pool.h"
#include "dispatch.h"

#define FA_WORK_PER_THREAD 500000.0 /* multiply-adds, as in run.c */

typedef struct {
    const fa_kernels *k;
    const fa_query_gradient *g;
    int64_t block;
} query_gradient_call;

static void query_gradient_one(void *context, int64_t task, int worker) {
    query_gradient_call *c = context;
    int64_t first = task * c->block, last = first + c->block < c->g->B ? first + c->block : c->g->B;
    (void)worker;
    c->k->query_gradient(c->g, first, last);
}

void fa_query_gradient_run(const fa_kernels *k, const fa_query_gradient *g, int n_threads) {
    double each = (double)g->Dv + (double)g->D * (g->score == FA_SCORE_ADDITIVE ? 16 : 1);
    double most = (double)g->B * (double)g->Tk * each / FA_WORK_PER_THREAD;
    if (most < n_threads) n_threads = most < 1 ? 1 : (int)most;
    int64_t tasks = n_threads == 1 ? 1 : 4 * n_threads, block = (g->B + tasks - 1) / tasks;
    if (g->B == 0) return;
    query_gradient_call call = {k, g, block};
    fa_parallel((g->B + block - 1) / block, n_threads, query_gradient_one, &call);
}
