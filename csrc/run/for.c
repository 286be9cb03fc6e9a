/* One loop over the pool, for all bodies. */
#include "for.h"

typedef struct {
    const fa_kernels *k;
    fa_body body;
    const void *problem;
    fa_loop loop;
} loop_call;

static void one_block(void *context, int64_t task, int worker) {
    const loop_call *c = context;
    const int64_t first = task * c->loop.block;
    char *workspace = c->loop.each ? c->loop.workspace + worker * c->loop.each : 0;
    c->body(c->k, c->problem, first, least(first + c->loop.block, c->loop.items), workspace);
}

void fa_run(const fa_kernels *k, fa_body body, const void *problem, fa_loop loop) {
    if (!loop.block) loop.block = 1;
    loop_call call = {k, body, problem, loop};
    fa_parallel(ceil_div(loop.items, loop.block), loop.threads, one_block, &call);
}

int fa_run_each(const fa_kernels *k, fa_body body, const void *problem, fa_loop loop) {
    loop.each = aligned(loop.each);
    loop.workspace = fa_workspace(fa_size_mul(loop.each, loop.threads));
    if (!loop.workspace) return FA_NO_MEMORY;
    fa_run(k, body, problem, loop);
    return FA_OK;
}
