/* One step of gated recurrent units or of long short-term memory, all entries of a batch, some panels of units.
 *
 *   GRU   r, z = sigmoid((W x + b) + (U h + c)),  h' = n + z (h - n),
 *         after:  n = tanh((W_n x + b_n) + r (U_n h + c_n [+ inside])),
 *         before: n = tanh((W_n x + b_n) + (U_n (r h) + c_n))
 *   LSTM  i, f, o = sigmoid((W x + b) + U h),  g = tanh((W x + b) + U h),  c' = f c + i g,  h' = o tanh c'
 *
 *   1. for each panel of PW units (its weights, PW columns of each gate, stay in L2 while all entries pass)
 *   2.   for each tile of up to 6 entries: the gates' products into a tile in L1, one chain over H for each element
 *   3.     each entry's units from the tile and from W x, which was computed for all positions before
 * "before" has two phases: r, z and r * h first, and n, which needs r * h of all units, after.
 * Odd steps walk the panels backwards: the weights that a step used last are in L2 when the next begins.
 * An element's operations depend neither on the entries beside it nor on which panels a thread has.
 *
 * Bound: 2 B G H^2 flops at the peak of the core from 6 entries up; below that G H^2 weights from their cache.
 * The units cost about 5 vector exponentials and divisions for each VL of them, 70 cycles against G H VL B / (2 VL).
 */
#ifndef FA_DECODER_RECURRENT_FORWARD_INL
#define FA_DECODER_RECURRENT_FORWARD_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "../ops/gemm.inl"
#include "recurrent.inl"
#include "sequences.h"

/* Lanes c.. of n units, g numbers on, and as much of a user's array. */
#define AT(base, g) vload_n((base) + (g) + c, n - c)
#define IN(base, g) eload_n((base) + (g) + c, n - c)
#define PUT(base, g, v) estore_n((base) + (g) + c, (v), n - c)

/* tile: the products of one entry, one gate every PW elements; units u..u+n-1. */
FA_INLINE void gru_after_row(const fa_recurrent *a, const fa_states *s, int64_t step, int64_t i, int64_t u, int64_t n,
                             const real *tile) {
    const int64_t H = a->H, row = entry_row(a, i, step), part = PW;
    const element *b = a->b_input + u, *bh = a->b_hidden + u;
    const real *h = s->state[step & 1] + i * s->row + u;
    element *gates = a->gates + row * 3 * H + u;
    real *next = s->state[~step & 1] + i * s->row + u;
    element *y = a->y ? a->y + entry_place(a, i, step) * H + u : NULL;
    const element *inside = a->inside ? a->inside + entry_sample(a, i) * H + u : NULL;
    for (int64_t c = 0; c < n; c += VL) {
        vec r = gate_sigmoid((IN(gates, 0) + IN(b, 0)) + (vload(tile + c) + IN(bh, 0)));
        vec z = gate_sigmoid((IN(gates, H) + IN(b, H)) + (vload(tile + part + c) + IN(bh, H)));
        vec inner = vload(tile + 2 * part + c) + IN(bh, 2 * H);
        if (inside) inner = inner + IN(inside, 0);
        vec m = gate_tanh(vfma(r, inner, IN(gates, 2 * H) + IN(b, 2 * H)));
        vec old = AT(h, 0), now = vfma(z, old - m, m);
        vstore_n(next + c, now, n - c);
        if (y) PUT(y, 0, now);
        if (a->aux) {
            PUT(gates, 0, r);
            PUT(gates, H, z);
            PUT(gates, 2 * H, m);
            PUT(a->aux, row * H + u, inner);
            PUT(a->before, row * H + u, old);
        }
    }
}

FA_INLINE void gru_before_row(const fa_recurrent *a, const fa_states *s, int64_t step, int phase, int64_t i, int64_t u,
                              int64_t n, const real *tile) {
    const int64_t H = a->H, row = entry_row(a, i, step), part = PW;
    const element *b = a->b_input + u, *bh = a->b_hidden + u;
    const real *h = s->state[step & 1] + i * s->row + u;
    element *gates = a->gates + row * 3 * H + u;
    real *next = s->state[~step & 1] + i * s->row + u;
    real *reset = s->reset + i * s->row + u;
    element *y = a->y ? a->y + entry_place(a, i, step) * H + u : NULL;
    for (int64_t c = 0; c < n; c += VL) {
        vec old = AT(h, 0);
        if (phase == 0) {
            vec r = gate_sigmoid((IN(gates, 0) + IN(b, 0)) + (vload(tile + c) + IN(bh, 0)));
            vec z = gate_sigmoid((IN(gates, H) + IN(b, H)) + (vload(tile + part + c) + IN(bh, H)));
            PUT(gates, H, z);
            vstore_n(reset + c, r * old, n - c);
            if (a->aux) {
                PUT(gates, 0, r);
                PUT(a->aux, row * H + u, r * old);
                PUT(a->before, row * H + u, old);
            }
        } else {
            vec m = gate_tanh((IN(gates, 2 * H) + IN(b, 2 * H)) + (vload(tile + c) + IN(bh, 2 * H)));
            vec now = vfma(IN(gates, H), old - m, m);
            vstore_n(next + c, now, n - c);
            if (y) PUT(y, 0, now);
            if (a->aux) PUT(gates, 2 * H, m);
        }
    }
}

FA_INLINE void lstm_row(const fa_recurrent *a, const fa_states *s, int64_t step, int64_t i, int64_t u, int64_t n,
                        const real *tile) {
    const int64_t H = a->H, row = entry_row(a, i, step), part = PW;
    const element *b = a->b_input + u;
    const real *h = s->state[step & 1] + i * s->row + u;
    element *gates = a->gates + row * 4 * H + u;
    real *next = s->state[~step & 1] + i * s->row + u;
    real *memory = s->memory + i * s->row + u;
    element *y = a->y ? a->y + entry_place(a, i, step) * H + u : NULL;
    for (int64_t c = 0; c < n; c += VL) {
        vec in = gate_sigmoid((IN(gates, 0) + IN(b, 0)) + vload(tile + c));
        vec forget = gate_sigmoid((IN(gates, H) + IN(b, H)) + vload(tile + part + c));
        vec g = gate_tanh((IN(gates, 2 * H) + IN(b, 2 * H)) + vload(tile + 2 * part + c));
        vec out = gate_sigmoid((IN(gates, 3 * H) + IN(b, 3 * H)) + vload(tile + 3 * part + c));
        vec cell = vfma(forget, AT(memory, 0), in * g), now = out * gate_tanh(cell);
        vstore_n(memory + c, cell, n - c);
        vstore_n(next + c, now, n - c);
        if (y) PUT(y, 0, now);
        if (a->aux) {
            PUT(gates, 0, in);
            PUT(gates, H, forget);
            PUT(gates, 2 * H, g);
            PUT(gates, 3 * H, out);
            PUT(a->aux, row * H + u, cell);
            PUT(a->before, row * H + u, AT(h, 0));
        }
    }
}
#undef AT
#undef IN
#undef PUT

FA_FUNC void recurrent_forward(const fa_recurrent *a, const fa_states *s, int64_t step, int32_t phase, int64_t first,
                               int64_t last, int64_t panel0, int64_t panel1, void *workspace) {
    const int64_t H = a->H, gates = recurrent_gates(a), gate_stride = (H + PW - 1) / PW * PW * H;
    const int64_t gate0 = a->cell == FA_GRU_BEFORE && phase ? 2 : 0;
    const int64_t gate1 = a->cell == FA_GRU_BEFORE && !phase ? 2 : gates;
    const real *w = a->w_hidden + gate0 * gate_stride;
    const real *h = phase ? s->reset : s->state[step & 1];
    const int64_t tiles = (last - first + MR - 1) / MR, share = tiles > 2 ? (H + tiles - 1) / tiles : 0;
    real *products = workspace;
    for (int64_t k = 0; k < panel1 - panel0; k++) {
        const int64_t p = step & 1 ? panel1 - 1 - k : panel0 + k, u = p * PW, n = H - u < PW ? H - u : PW;
        const real *next = w + (step & 1 ? p - 1 : p + 1) * PW * H;
        int64_t asked = k + 1 < panel1 - panel0 ? 0 : H;
        for (int64_t i = first; i < last;) {
            const int rows = balanced_rows(last - i);
            real *tile = products + (a->parts ? (i - first) * PRODUCTS : 0);
            for (int r = 0; r < rows; r++)
                prefetch_rows(a->gates + entry_row(a, i + r, step) * gates * H + gate0 * H + u,
                              H * (int64_t)sizeof(element), gate1 - gate0, n * (int64_t)sizeof(element));
            fetch_next_panel(next, gate1 - gate0, gate_stride, H, share, &asked);
            for (int64_t g = 0; !a->parts && g < gate1 - gate0; g++)
                micro_gemm(1, rows, n, h + i * s->row, s->row, 1, w + g * gate_stride + p * PW * H, PW, tile + g * PW,
                           PRODUCTS, H);
            for (int r = 0; r < rows; r++) {
                if (a->cell == FA_LSTM)
                    lstm_row(a, s, step, i + r, u, n, tile + r * PRODUCTS);
                else if (a->cell == FA_GRU_AFTER)
                    gru_after_row(a, s, step, i + r, u, n, tile + r * PRODUCTS);
                else
                    gru_before_row(a, s, step, phase, i + r, u, n, tile + r * PRODUCTS);
            }
            i += rows;
        }
    }
}
#endif
