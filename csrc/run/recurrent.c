/* Walks a recurrent layer over its steps, on one thread or several.
 *
 * Two ways to share the work, with the same bits. By entries: a thread takes its entries through all steps and waits
 * for nobody; every thread streams all weights. By units: a thread has a run of panels of units, whose weights may stay
 * in its cache, and all meet after each phase of a step. Weights beyond FA_RESIDENT_BYTES come from L3 again at each
 * step, so that only few entries, or many weights, make the second way the better one.
 *
 * On a matrix unit the products of a phase are made here, by the kernels of ops/gemm_tiles.inl: rows are split into
 * parts once a phase, and the products of one panel of every gate, for 32 entries, stay in L1 for the kernel of steps.
 */
#include <string.h>

#include "../decoder/sequences.h"
#include "for.h"
#include "run.h"

#define FA_RESIDENT_BYTES (1 << 20) /* of weights, about half an L2 */
#define FA_LEAST_ENTRIES 12         /* two tiles of rows */
#define FA_UNIT_ROWS 32             /* of a block of the unit */

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
    int back;
    int by_entries; /* each thread takes entries of its own through all steps */
    fa_loop loop;   /* over entries, or over panels */

    /* On a matrix unit: rows in parts, `split_bytes` for each run of entries that are multiplied together. */
    int64_t run, split_bytes;
    char *split;
    uint8_t *plain_rows;
} walk;

static int64_t gates_of(const fa_recurrent *a) { return a->cell == FA_LSTM ? 4 : 3; }

/* The entries of first..last-1 that end with `step`, the last one that they run. */
static void finish(const walk *w, int64_t first, int64_t last, int64_t step) {
    int64_t running = entries_at(w->a, first, last, step + 1);
    if (!w->h_last) return;
    w->k->recurrent_store(w->a, &w->s, w->s.state[(step + 1) & 1], w->h_last, running, last);
    if (w->c_last) w->k->recurrent_store(w->a, &w->s, w->s.memory, w->c_last, running, last);
}

/* The products of a phase on a matrix unit, of entries from the first of a run on: all but what a panel has alone. */
static fa_tiled products_of(const walk *w, int64_t step, int32_t phase, int64_t first, int64_t last) {
    const fa_recurrent *a = w->a;
    const int64_t H = a->H, width = gates_of(a) * H, parity = step & 1;
    fa_tiled call = {.parts = a->parts, .N = H, .y_row = 4 * w->k->panel_width, .rows = last - first};
    if (w->back) {
        const int64_t slot = phase ? parity : !parity, before = a->cell == FA_GRU_BEFORE;
        call.x = (const float *)w->s.d_gates + (slot * a->B + first) * width + (phase ? 2 * H : 0);
        call.x_row = width;
        call.K = !before ? width : phase ? H : 2 * H;
        if (!phase) call.rows = entries_at(a, first, last, step + 1) - first; /* have a step after this one */
    } else {
        call.x = (const float *)(phase ? w->s.reset : w->s.state[parity]) + first * w->s.row;
        call.x_row = w->s.row;
        call.K = H;
    }
    call.depth = call.K;
    call.split = (void *)(w->split + first / w->run * w->split_bytes);
    call.plain_rows = w->plain_rows + first;
    return call;
}

/* One panel of units: products of 32 entries, then their units. */
static void units_on_tiles(const walk *w, const fa_tiled *all, int64_t step, int32_t phase, int64_t first, int64_t last,
                           int64_t panel, void *workspace) {
    const fa_recurrent *a = w->a;
    const int64_t PW = w->k->panel_width, width = gates_of(a) * a->H, before = a->cell == FA_GRU_BEFORE;
    const int64_t tile = w->k->tiles->rows_bytes(a->parts, 16, all->depth);
    const int matrix0 = before && phase ? (w->back ? 1 : 2) : 0;
    const int matrices = w->back ? 1 : before ? 2 - phase : (int)gates_of(a);
    for (int64_t i = first; i < last; i += FA_UNIT_ROWS) {
        const int64_t at = i - first, end = least(i + FA_UNIT_ROWS, last);
        fa_tiled call = *all;
        call.x = (const float *)all->x + at * all->x_row;
        call.split = (void *)((char *)all->split + at / 16 * tile);
        call.plain_rows = all->plain_rows + at;
        call.rows = least(FA_UNIT_ROWS, all->rows - at);
        for (int m = matrix0; call.rows > 0 && m < matrix0 + matrices; m++) {
            call.parts_of_w = a->parts_of_hidden[m];
            call.y = (float *)workspace + (m - matrix0 - panel) * PW;
            /* gemm finds a panel after those before it, of K rows. */
            call.packed = w->back ? (const float *)a->w_hidden_transposed +
                                        (panel * (width - call.K) + (before && phase ? 2 * a->H : 0)) * PW
                                  : (const float *)a->w_hidden + m * w->panels * a->H * PW;
            w->k->tiles->multiply(&call, panel, 0, call.rows);
        }
        w->kernel(a, &w->s, step, phase, i, end, panel, panel + 1, workspace);
    }
}

static void units(const walk *w, int64_t step, int32_t phase, int64_t first, int64_t last, int64_t panel0,
                  int64_t panel1, void *workspace) {
    if (!w->a->parts) {
        w->kernel(w->a, &w->s, step, phase, first, last, panel0, panel1, workspace);
        return;
    }
    const fa_tiled all = products_of(w, step, phase, first, last);
    for (int64_t p = panel0; p < panel1; p++)
        units_on_tiles(w, &all, step, phase, first, last, step & 1 ? panel0 + panel1 - 1 - p : p, workspace);
}

/* A phase of one thread's own entries. */
static void phase_of_entries(const walk *w, int64_t step, int32_t phase, int64_t first, int64_t last, void *workspace) {
    if (w->a->parts) {
        const fa_tiled all = products_of(w, step, phase, first, last);
        memset(all.plain_rows, 0, (size_t)all.rows);
        w->k->tiles->split(&all, 0, ceil_div(all.rows, 16));
    }
    units(w, step, phase, first, last, 0, w->panels, workspace);
}

FA_BODY(forward_entries, walk, {
    for (int64_t step = 0; (last = entries_at(a->a, first, last, step)) > first; step++) {
        for (int32_t phase = 0; phase < a->phases; phase++) phase_of_entries(a, step, phase, first, last, workspace);
        finish(a, first, last, step);
    }
})

FA_BODY(backward_entries, walk, {
    for (int64_t step = a->a->T - 1; step >= -1; step--) {
        const int64_t running = entries_at(a->a, first, last, step < 0 ? 0 : step);
        for (int32_t phase = 0; running > first && phase < (step < 0 ? 1 : a->phases); phase++)
            phase_of_entries(a, step, phase, first, running, workspace);
    }
})

FA_BODY(split_states, fa_tiled, k->tiles->split(a, first, last))
FA_BODY(units_of_one_phase, walk, units(a, a->step, a->phase, 0, a->last, first, last, workspace))

static void phases_by_units(walk *w, int64_t step, int32_t phases) {
    w->step = step;
    for (w->phase = 0; w->last > 0 && w->phase < phases; w->phase++) {
        if (w->a->parts) {
            const fa_tiled all = products_of(w, step, w->phase, 0, w->last);
            memset(all.plain_rows, 0, (size_t)all.rows);
            fa_for(w->k, split_states, &all, .items = ceil_div(all.rows, 16), .threads = w->loop.threads);
        }
        fa_run(NULL, units_of_one_phase, w, w->loop);
    }
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
    int64_t runs = 0;
    if (a->parts) {
        w->loop.each = FA_UNIT_ROWS * 4 * k->panel_width * w->item;
        w->run = w->by_entries ? w->loop.block : a->B;
        w->split_bytes = aligned(k->tiles->rows_bytes(a->parts, w->run, w->back ? gates_of(a) * a->H : a->H));
        runs = ceil_div(a->B, w->run);
    }
    const int64_t before = fa_size_mul(w->loop.each, w->loop.threads), split = fa_size_mul(runs, w->split_bytes);
    w->loop.workspace = fa_workspace(before + shared + split + (runs ? a->B : 0));
    if (!w->loop.workspace) return NULL;
    w->split = w->loop.workspace + before + shared;
    w->plain_rows = (uint8_t *)w->split + split;
    return w->loop.workspace + before;
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
    walk w = {.k = k, .a = a, .item = k->real_bytes, .back = 1};
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
