/* Spreads the samples of a call of a decoder's steps, or of one query's gradient, over the pool. */
#include "for.h"
#include "run.h"

FA_BODY(steps_forward, fa_steps, k->steps_forward(a, first, workspace))
FA_BODY(steps_backward, fa_steps, k->steps_backward(a, first, workspace))
FA_BODY(monotonic_forward, fa_monotonic, k->monotonic_forward(a, first, workspace))
FA_BODY(monotonic_backward, fa_monotonic, k->monotonic_backward(a, first, workspace))
FA_BODY(query_backward, fa_query_gradient, k->query_backward(a, first, last))

static int run_steps(const fa_kernels *k, fa_body body, const fa_steps *a, double factor, int n_threads) {
    double features = (double)a->C * ((double)a->D + (double)a->K);
    double each = (double)a->D * fa_facts(a->score)->alone + (double)a->Dv + features;
    double work = factor * (double)a->B * (double)a->T * (double)a->S * each;
    if (a->B == 0 || a->T == 0) return FA_OK;
    return fa_run_each(
        k, body, a, (fa_loop){.items = a->B, .threads = threads_for(work, n_threads), .each = k->steps_workspace(a)});
}

int fa_steps_forward(const fa_kernels *k, const fa_steps *a, int n_threads) {
    return run_steps(k, steps_forward, a, 1, n_threads);
}

int fa_steps_backward(const fa_kernels *k, const fa_steps *a, int n_threads) {
    return run_steps(k, steps_backward, a, 2.5, n_threads);
}

static int run_monotonic(const fa_kernels *k, fa_body body, const fa_monotonic *a, double factor, int n_threads) {
    const double energies = (a->chunk ? 2 : 1) * 16 * (double)a->D;
    const double rows = a->hard ? 1 : (double)a->S; /* a hard step passes few keys */
    const double work = factor * (double)a->B * rows * (energies + (double)a->Dv);
    if (a->B == 0) return FA_OK;
    return fa_run_each(
        k, body, a,
        (fa_loop){.items = a->B, .threads = threads_for(work, n_threads), .each = k->monotonic_workspace(a)});
}

int fa_monotonic_forward(const fa_kernels *k, const fa_monotonic *a, int n_threads) {
    return run_monotonic(k, monotonic_forward, a, 1, n_threads);
}

int fa_monotonic_backward(const fa_kernels *k, const fa_monotonic *a, int n_threads) {
    return run_monotonic(k, monotonic_backward, a, 2.5, n_threads);
}

void fa_query_backward(const fa_kernels *k, const fa_query_gradient *a, int n_threads) {
    double each = (double)a->Dv + (double)a->D * fa_facts(a->score)->alone;
    if (a->B == 0) return;
    n_threads = threads_for((double)a->B * (double)a->Tk * each, n_threads);
    fa_for(k, query_backward, a, .items = a->B, .block = ceil_div(a->B, n_threads == 1 ? 1 : 4 * n_threads),
           .threads = n_threads);
}
