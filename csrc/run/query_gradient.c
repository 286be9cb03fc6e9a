/* Spreads the samples of one call of the query's gradient over the pool. */
#include "pool.h"
#include "run.h"
#include "tasks.h"

typedef struct {
    const fa_kernels *k;
    const fa_query_gradient *g;
    int64_t block;
} query_gradient_call;

static void query_gradient_one(void *context, int64_t task, int worker) {
    query_gradient_call *c = context;
    int64_t first = task * c->block, last = first + c->block < c->g->B ? first + c->block : c->g->B;
    (void)worker;
    c->k->query_backward(c->g, first, last);
}

void fa_query_gradient_run(const fa_kernels *k, const fa_query_gradient *g, int n_threads) {
    double each = (double)g->Dv + (double)g->D * (g->score == FA_SCORE_ADDITIVE ? 16 : 1);
    if (g->B == 0) return;
    n_threads = threads_for((double)g->B * (double)g->Tk * each, n_threads);
    int64_t block = ceil_div(g->B, n_threads == 1 ? 1 : 4 * n_threads);
    query_gradient_call call = {k, g, block};
    fa_parallel(ceil_div(g->B, block), n_threads, query_gradient_one, &call);
}
