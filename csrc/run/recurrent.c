/* Walks a recurrent layer over its steps, on one thread or several.
 *
 * Two ways to share the work, with the same bits. By entries: a thread takes its entries through all steps and waits
 * for nobody; every thread streams all weights. By units: a thread has a run of panels of units, whose weights may stay
 * in its cache, and all meet after each phase of a step. Weights beyond FA_RESIDENT_BYTES come from L3 again at each
 * step, so that only few entries, or many weights, make the second way the better one.
 */
#include "../decoder/sequences.h"
#include "pool.h"
#include "run.h"
#include "tasks.h"

#include <string.h>

#define FA_RESIDENT_BYTES (1 << 20) /* of weights, about half an L2 */
#define FA_LEAST_ENTRIES 12         /* two tiles of rows */

typedef void (*phase_kernel)(const fa_recurrent *, int64_t, int32_t, int64_t, int64_t, int64_t, int64_t, void *);

typedef struct {
    const fa_kernels *k;
    fa_recurrent *a;
    const char *h_first, *c_first; /* (B, H), or NULL: zeros */
    char *h_last, *c_last;         /* (B, H); forward only; h_last NULL: states end where they are */
    char *workspace;
    phase_kernel kernel;
    int64_t workspace_bytes, item, panels, panels_per_task, entries_per_task, last, step;
    int32_t phases, phase;
} walk;

static int64_t gates_of(const fa_recurrent *a) { return a->cell == FA_LSTM ? 4 : 3; }

/* Rows of `from`, by sample, to rows of `to`, by entry. */
static void gather(const walk *w, const char *from, char *to, int64_t first, int64_t last) {
    int64_t bytes = w->a->H * w->item, row = w->a->state_row * w->item;
    for (int64_t i = first; i < last; i++) {
        if (from)
            memcpy(to + i * row, from + entry_sample(w->a, i) * bytes, (size_t)bytes);
        else
            memset(to + i * row, 0, (size_t)bytes);
    }
}

static void scatter(const walk *w, const char *from, char *to, int64_t first, int64_t last) {
    int64_t bytes = w->a->H * w->item, row = w->a->state_row * w->item;
    for (int64_t i = first; i < last; i++) memcpy(to + entry_sample(w->a, i) * bytes, from + i * row, (size_t)bytes);
}

/* The entries of first..last-1 that end with `step`, the last one that they run. */
static void finish(const walk *w, int64_t first, int64_t last, int64_t step) {
    int64_t running = entries_at(w->a, first, last, step + 1);
    if (!w->h_last) return;
    scatter(w, w->a->state[(step + 1) & 1], w->h_last, running, last);
    if (w->c_last) scatter(w, w->a->memory, w->c_last, running, last);
}

static void forward_entries(void *context, int64_t task, int worker) {
    walk *w = context;
    int64_t first = task * w->entries_per_task;
    int64_t last = first + w->entries_per_task < w->a->B ? first + w->entries_per_task : w->a->B;
    for (int64_t step = 0; (last = entries_at(w->a, first, last, step)) > first; step++) {
        for (int32_t phase = 0; phase < w->phases; phase++)
            w->kernel(w->a, step, phase, first, last, 0, w->panels, w->workspace + worker * w->workspace_bytes);
        finish(w, first, last, step);
    }
}

static void backward_entries(void *context, int64_t task, int worker) {
    walk *w = context;
    int64_t first = task * w->entries_per_task, steps = w->a->T;
    int64_t end = first + w->entries_per_task < w->a->B ? first + w->entries_per_task : w->a->B;
    for (int64_t step = steps - 1; step >= -1; step--) {
        int64_t last = entries_at(w->a, first, end, step < 0 ? 0 : step);
        for (int32_t phase = 0; last > first && phase < (step < 0 ? 1 : w->phases); phase++)
            w->kernel(w->a, step, phase, first, last, 0, w->panels, w->workspace + worker * w->workspace_bytes);
    }
}

static void units_of_one_phase(void *context, int64_t task, int worker) {
    walk *w = context;
    int64_t first = task * w->panels_per_task, last = first + w->panels_per_task;
    w->kernel(w->a, w->step, w->phase, 0, w->last, first, last < w->panels ? last : w->panels,
              w->workspace + worker * w->workspace_bytes);
}

static void phases_by_units(walk *w, int64_t step, int32_t phases, int n_threads) {
    w->step = step;
    for (w->phase = 0; w->last > 0 && w->phase < phases; w->phase++)
        fa_parallel(ceil_div(w->panels, w->panels_per_task), n_threads, units_of_one_phase, w);
}

/* Chooses how to share the steps; returns the number of threads, and whether each takes entries of its own. */
static int share(walk *w, int n_threads, int *by_entries) {
    const fa_recurrent *a = w->a;
    double weights = (double)gates_of(a) * (double)a->H * (double)a->H;
    int all = threads_for(weights * (double)(a->B < 8 ? 8 : a->B) * (double)a->T, n_threads);
    int each_step = threads_for(4 * weights * (double)(a->B < 8 ? 8 : a->B), n_threads);
    int64_t by_rows = a->B / FA_LEAST_ENTRIES;
    *by_entries = all <= 1 || (by_rows >= all && weights * (double)w->item <= FA_RESIDENT_BYTES);
    if (*by_entries) {
        w->entries_per_task = all <= 1 ? a->B : ceil_div(ceil_div(a->B, all), 6) * 6;
        return all;
    }
    if (each_step > w->panels) each_step = (int)w->panels;
    w->panels_per_task = ceil_div(w->panels, each_step);
    return each_step;
}

int fa_recurrent_forward(const fa_kernels *k, fa_recurrent *a, const void *x, int64_t x_row, const void *w_input,
                         int64_t rows, int64_t D, const void *h_first, const void *c_first, void *h_last, void *c_last,
                         int n_threads) {
    walk w = {.k = k, .a = a, .h_first = h_first, .c_first = c_first, .h_last = h_last, .c_last = c_last};
    w.item = k->element_bytes;
    w.panels = ceil_div(a->H, k->panel_width);
    w.phases = a->cell == FA_GRU_BEFORE ? 2 : 1;
    w.kernel = k->recurrent_forward;
    if (a->B == 0 || a->H == 0) return FA_OK;
    a->state_row = a->H;
    if (x) fa_gemm(k, x, x_row, w_input, a->gates, rows, D, gates_of(a) * a->H, NULL, 0, n_threads);
    int by_entries, threads = share(&w, n_threads, &by_entries);
    int64_t state = aligned(fa_size_mul(fa_size_mul(a->B, a->H), w.item));
    w.workspace_bytes = aligned(k->recurrent_workspace());
    w.workspace = fa_workspace(w.workspace_bytes * threads + 4 * state);
    if (!w.workspace) return FA_NO_MEMORY;
    char *states = w.workspace + w.workspace_bytes * threads;
    a->state[0] = states;
    a->state[1] = states + state;
    a->reset = states + 2 * state;
    a->memory = states + 3 * state;
    if (!a->order) { /* the last state is written where it belongs */
        a->state[a->T & 1] = h_last;
        if (c_last) a->memory = c_last;
        w.h_last = NULL;
    }
    if (a->T == 1 && !a->order && h_first)
        a->state[0] = (void *)h_first; /* only read */
    else
        gather(&w, h_first, a->state[0], 0, a->B);
    if (a->cell == FA_LSTM) gather(&w, c_first, a->memory, 0, a->B);
    if (w.h_last) finish(&w, 0, a->B, -1);
    if (by_entries) {
        fa_parallel(ceil_div(a->B, w.entries_per_task), threads, forward_entries, &w);
        return FA_OK;
    }
    w.last = a->B;
    for (int64_t step = 0; (w.last = entries_at(a, 0, w.last, step)) > 0; step++) {
        phases_by_units(&w, step, w.phases, threads);
        finish(&w, 0, w.last, step);
    }
    return FA_OK;
}

int fa_recurrent_backward(const fa_kernels *k, fa_recurrent *a, const void *dh_last, const void *dc_last,
                          void *dh_first, void *dc_first, int n_threads) {
    walk w = {.k = k, .a = a};
    w.item = k->element_bytes;
    w.panels = ceil_div(a->H, k->panel_width);
    w.phases = a->cell == FA_GRU_BEFORE ? 2 : 1;
    w.kernel = k->recurrent_backward;
    if (a->B == 0 || a->H == 0) return FA_OK;
    a->state_row = w.panels * k->panel_width;
    int by_entries, threads = share(&w, n_threads, &by_entries);
    int64_t state = aligned(fa_size_mul(fa_size_mul(a->B, a->state_row), w.item));
    int64_t gates = aligned(fa_size_mul(fa_size_mul(a->B, a->H), 2 * gates_of(a) * w.item));
    w.workspace_bytes = aligned(k->recurrent_workspace());
    w.workspace = fa_workspace(w.workspace_bytes * threads + 2 * state + gates);
    if (!w.workspace) return FA_NO_MEMORY;
    char *states = w.workspace + w.workspace_bytes * threads;
    a->d_state = states;
    a->d_memory = states + state;
    a->d_gates = states + 2 * state;
    memset(states, 0, (size_t)(2 * state));
    gather(&w, dh_last, a->d_state, 0, a->B);
    if (a->cell == FA_LSTM) gather(&w, dc_last, a->d_memory, 0, a->B);
    if (by_entries) {
        fa_parallel(ceil_div(a->B, w.entries_per_task), threads, backward_entries, &w);
    } else {
        for (int64_t step = a->T - 1; step >= -1; step--) {
            w.last = entries_at(a, 0, a->B, step < 0 ? 0 : step);
            phases_by_units(&w, step, step < 0 ? 1 : w.phases, threads);
        }
    }
    scatter(&w, a->d_state, dh_first, 0, a->B);
    if (dc_first) scatter(&w, a->d_memory, dc_first, 0, a->B);
    return FA_OK;
}
