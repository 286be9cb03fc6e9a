/* Walks a recurrent layer over its steps, on one thread or several.
 *
 * Two ways to share the work, with the same bits. By entries: a thread takes its entries through all steps and waits
 * for nobody; every thread streams all weights. By units: a thread has a run of panels of units, whose weights may stay
 * in its cache, and all meet after each phase of a step. Weights beyond FA_RESIDENT_BYTES come from L3 again at each
 * step, so that only few entries, or many weights, make the second way the better one.
 */
#include <string.h>

#include "../decoder/sequences.h"
#include "for.h"
#include "run.h"

#define FA_RESIDENT_BYTES (1 << 20) /* of weights, about half an L2 */
#define FA_LEAST_ENTRIES 12         /* two tiles of rows */

typedef void (*phase_kernel)(const fa_recurrent *, const fa_states *, int64_t, int32_t, int64_t, int64_t, int64_t,
                             int64_t, void *);

typedef struct {
    const fa_kernels *k;
    const fa_recurrent *a;
    fa_states s;
    char *h_last, *c_last; /* (B, H); forward only; h_last NULL: states end where they are */
    phase_kernel kernel;
    int64_t item, panels, last, step;
    int32_t phases, phase;
    int by_entries; /* each thread takes entries of its own through all steps */
    fa_loop loop;   /* over entries, or over panels */
} walk;

static int64_t gates_of(const fa_recurrent *a) { return a->cell == FA_LSTM ? 4 : 3; }

/* The entries of first..last-1 that end with `step`, the last one that they run. */
static void finish(const walk *w, int64_t first, int64_t last, int64_t step) {
    int64_t running = entries_at(w->a, first, last, step + 1);
    if (!w->h_last) return;
    w->k->recurrent_store(w->a, &w->s, w->s.state[(step + 1) & 1], w->h_last, running, last);
    if (w->c_last) w->k->recurrent_store(w->a, &w->s, w->s.memory, w->c_last, running, last);
}

FA_BODY(forward_entries, walk, {
    for (int64_t step = 0; (last = entries_at(a->a, first, last, step)) > first; step++) {
        for (int32_t phase = 0; phase < a->phases; phase++)
            a->kernel(a->a, &a->s, step, phase, first, last, 0, a->panels, workspace);
        finish(a, first, last, step);
    }
})

FA_BODY(backward_entries, walk, {
    for (int64_t step = a->a->T - 1; step >= -1; step--) {
        const int64_t running = entries_at(a->a, first, last, step < 0 ? 0 : step);
        for (int32_t phase = 0; running > first && phase < (step < 0 ? 1 : a->phases); phase++)
            a->kernel(a->a, &a->s, step, phase, first, running, 0, a->panels, workspace);
    }
})

FA_BODY(units_of_one_phase, walk, a->kernel(a->a, &a->s, a->step, a->phase, 0, a->last, first, last, workspace))

static void phases_by_units(walk *w, int64_t step, int32_t phases) {
    w->step = step;
    for (w->phase = 0; w->last > 0 && w->phase < phases; w->phase++) fa_run(NULL, units_of_one_phase, w, w->loop);
}

/* Chooses how to share the steps, and takes a workspace for each thread and `shared` bytes, which it returns. */
static char *share(walk *w, const fa_kernels *k, int n_threads, int64_t shared) {
    const fa_recurrent *a = w->a;
    double weights = (double)gates_of(a) * (double)a->H * (double)a->H;
    int all = threads_for(weights * (double)(a->B < 8 ? 8 : a->B) * (double)a->T, n_threads);
    int each_step = threads_for(4 * weights * (double)(a->B < 8 ? 8 : a->B), n_threads);
    int64_t by_rows = a->B / FA_LEAST_ENTRIES;
    w->by_entries = all <= 1 || (by_rows >= all && weights * (double)w->item <= FA_RESIDENT_BYTES);
    if (w->by_entries) {
        const int64_t block = all <= 1 ? a->B : ceil_div(ceil_div(a->B, all), 6) * 6;
        w->loop = (fa_loop){.items = a->B, .block = block, .threads = all};
    } else {
        if (each_step > w->panels) each_step = (int)w->panels;
        w->loop = (fa_loop){.items = w->panels, .block = ceil_div(w->panels, each_step), .threads = each_step};
    }
    w->loop.each = aligned(k->recurrent_workspace());
    w->loop.workspace = fa_workspace(w->loop.each * w->loop.threads + shared);
    return w->loop.workspace ? w->loop.workspace + w->loop.each * w->loop.threads : NULL;
}

int fa_recurrent_forward(const fa_kernels *k, const fa_recurrent *a, const void *x, int64_t x_row, const void *w_input,
                         int64_t rows, int64_t D, const void *h_first, const void *c_first, void *h_last, void *c_last,
                         int n_threads) {
    walk w = {.k = k, .a = a, .h_last = h_last, .c_last = c_last, .item = k->real_bytes};
    w.panels = ceil_div(a->H, k->panel_width);
    w.phases = a->cell == FA_GRU_BEFORE ? 2 : 1;
    w.kernel = k->recurrent_forward;
    if (a->B == 0 || a->H == 0) return FA_OK;
    w.s.row = a->H;
    if (x && fa_gemm(k, x, x_row, w_input, a->gates, rows, D, gates_of(a) * a->H, NULL, 0, NULL, 0, n_threads))
        return FA_NO_MEMORY;
    const int64_t state = aligned(fa_size_mul(fa_size_mul(a->B, a->H), w.item));
    char *states = share(&w, k, n_threads, 4 * state);
    if (!states) return FA_NO_MEMORY;
    w.s.state[0] = states;
    w.s.state[1] = states + state;
    w.s.reset = states + 2 * state;
    w.s.memory = states + 3 * state;
    if (!a->order && k->in_place) { /* the last state is written where it belongs */
        w.s.state[a->T & 1] = h_last;
        if (c_last) w.s.memory = c_last;
        w.h_last = NULL;
    }
    if (a->T == 1 && !a->order && k->in_place && h_first)
        w.s.state[0] = (void *)h_first; /* only read */
    else
        k->recurrent_load(a, &w.s, h_first, w.s.state[0], 0, a->B);
    if (a->cell == FA_LSTM) k->recurrent_load(a, &w.s, c_first, w.s.memory, 0, a->B);
    if (w.h_last) finish(&w, 0, a->B, -1);
    if (w.by_entries) {
        fa_run(k, forward_entries, &w, w.loop);
        return FA_OK;
    }
    w.last = a->B;
    for (int64_t step = 0; (w.last = entries_at(a, 0, w.last, step)) > 0; step++) {
        phases_by_units(&w, step, w.phases);
        finish(&w, 0, w.last, step);
    }
    return FA_OK;
}

int fa_recurrent_backward(const fa_kernels *k, const fa_recurrent *a, const void *dh_last, const void *dc_last,
                          void *dh_first, void *dc_first, int n_threads) {
    walk w = {.k = k, .a = a, .item = k->real_bytes};
    w.panels = ceil_div(a->H, k->panel_width);
    w.phases = a->cell == FA_GRU_BEFORE ? 2 : 1;
    w.kernel = k->recurrent_backward;
    if (a->B == 0 || a->H == 0) return FA_OK;
    w.s.row = w.panels * k->panel_width;
    const int64_t state = aligned(fa_size_mul(fa_size_mul(a->B, w.s.row), w.item));
    const int64_t gates = aligned(fa_size_mul(fa_size_mul(a->B, a->H), 2 * gates_of(a) * w.item));
    char *states = share(&w, k, n_threads, 2 * state + gates);
    if (!states) return FA_NO_MEMORY;
    w.s.d_state = states;
    w.s.d_memory = states + state;
    w.s.d_gates = states + 2 * state;
    memset(states, 0, (size_t)(2 * state));
    k->recurrent_load(a, &w.s, dh_last, w.s.d_state, 0, a->B);
    if (a->cell == FA_LSTM) k->recurrent_load(a, &w.s, dc_last, w.s.d_memory, 0, a->B);
    if (w.by_entries) {
        fa_run(k, backward_entries, &w, w.loop);
    } else {
        for (int64_t step = a->T - 1; step >= -1; step--) {
            w.last = entries_at(a, 0, a->B, step < 0 ? 0 : step);
            phases_by_units(&w, step, step < 0 ? 1 : w.phases);
        }
    }
    k->recurrent_store(a, &w.s, w.s.d_state, dh_first, 0, a->B);
    if (dc_first) k->recurrent_store(a, &w.s, w.s.d_memory, dc_first, 0, a->B);
    return FA_OK;
}
