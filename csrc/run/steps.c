/* Spreads the samples of a call of a decoder's steps over the pool, each worker with its own workspace. */
#include "pool.h"
#include "run.h"
#include "tasks.h"

typedef struct {
    const fa_kernels *k;
    const fa_steps *a;
    char *workspace;
    int64_t workspace_bytes;
    int back;
} steps_call;

static void steps_one(void *context, int64_t task, int worker) {
    steps_call *c = context;
    void *workspace = c->workspace + worker * c->workspace_bytes;
    if (c->back)
        c->k->steps_backward(c->a, task, workspace);
    else
        c->k->steps_forward(c->a, task, workspace);
}

int fa_steps_run(const fa_kernels *k, const fa_steps *a, int back, int n_threads) {
    const int additive = a->score == FA_SCORE_ADDITIVE;
    double features = (double)a->C * ((double)a->D + (double)a->K);
    double each = (double)a->D * (additive ? 16 : 1) + (double)a->Dv + features;
    if (a->B == 0 || a->T == 0) return FA_OK;
    n_threads = threads_for((back ? 2.5 : 1) * (double)a->B * (double)a->T * (double)a->S * each, n_threads);
    steps_call call = {.k = k, .a = a, .workspace_bytes = aligned(k->steps_workspace(a)), .back = back};
    call.workspace = fa_workspace(fa_size_mul(call.workspace_bytes, n_threads));
    if (!call.workspace) return FA_NO_MEMORY;
    fa_parallel(a->B, n_threads, steps_one, &call);
    return FA_OK;
}

typedef struct {
    const fa_kernels *k;
    const fa_monotonic *a;
    char *workspace;
    int64_t workspace_bytes;
    int back;
} monotonic_call;

static void monotonic_one(void *context, int64_t task, int worker) {
    monotonic_call *c = context;
    void *workspace = c->workspace + worker * c->workspace_bytes;
    (c->back ? c->k->monotonic_backward : c->k->monotonic_forward)(c->a, task, workspace);
}

int fa_monotonic_run(const fa_kernels *k, const fa_monotonic *a, int back, int n_threads) {
    const double energies = (a->chunk ? 2 : 1) * 16 * (double)a->D;
    const double rows = a->hard ? 1 : (double)a->S; /* a hard step passes few keys */
    if (a->B == 0) return FA_OK;
    n_threads = threads_for((back ? 2.5 : 1) * (double)a->B * rows * (energies + (double)a->Dv), n_threads);
    monotonic_call call = {.k = k, .a = a, .workspace_bytes = aligned(k->monotonic_workspace(a)), .back = back};
    call.workspace = fa_workspace(fa_size_mul(call.workspace_bytes, n_threads));
    if (!call.workspace) return FA_NO_MEMORY;
    fa_parallel(a->B, n_threads, monotonic_one, &call);
    return FA_OK;
}
