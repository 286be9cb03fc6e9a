/* One backward step: from the gradient of h' (d_state, to which dy is added here) to the gradients d at the gates'
 * arguments and to that of h. What `gates` and `aux` hold of the step is replaced by what weight gradients need.
 *
 *   GRU   dn = d (1 - z) (1 - n^2),  dz = d (h - n) z (1 - z),
 *         after:   dr = dn (U_n h + c_n) r (1 - r),  d_h = d z + [dr dz dn r] U^T
 *         before:  d_rh = dn U_n^T,  dr = d_rh h r (1 - r),  d_h = d z + d_rh r + [dr dz] U_rz^T
 *   LSTM  e = d_c + d o (1 - tanh^2 c'),  di = e g i (1 - i),  df = e c f (1 - f),  dg = e i (1 - g^2),
 *         do = d tanh(c') o (1 - o),  d_h = [di df dg do] U^T,  d_c = e f
 *
 * Phase 0 of step s, panel by panel: d_h of step s + 1 from its d_gates, then this step's gates. All panels of d_gates
 * must be there before the next phase 0; "before" has d_rh, dr and the next d_h in a phase 1 between the two.
 * Since phase 0 of s + 1 wrote d_gates that phase 0 of s reads while writing its own, steps take turns between two.
 * Step -1 has the product alone: the gradient of the first state.
 *
 * Bound: as the step forward, 2 B G H^2 flops; a pass over 2 G + 3 rows of H elements for each entry.
 */
#ifndef FA_DECODER_RECURRENT_BACKWARD_INL
#define FA_DECODER_RECURRENT_BACKWARD_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "recurrent.inl"
#include "sequences.h"

#define AT(base, g) vload_n((base) + (g) + c, n - c)
#define IN(base, g) eload_n((base) + (g) + c, n - c)
#define SET(base, g, v) vstore_n((base) + (g) + c, (v), n - c)
#define PUT(base, g, v) estore_n((base) + (g) + c, (v), n - c)

/* d_gates: the entry's row of this step; units u..u+n-1. */
FA_INLINE void gru_back_row(const fa_recurrent *a, const fa_states *s, int64_t step, int64_t i, int64_t u, int64_t n,
                            real *d_gates) {
    const vec one = vset1(1);
    const int64_t H = a->H, row = entry_row(a, i, step);
    const element *h = a->before + row * H + u;
    const element *dy = a->dy ? a->dy + entry_place(a, i, step) * H + u : NULL;
    element *gates = a->gates + row * 3 * H + u, *aux = a->aux + row * H + u;
    real *d_state = s->d_state + i * s->row + u;
    d_gates += u;
    for (int64_t c = 0; c < n; c += VL) {
        vec r = IN(gates, 0), z = IN(gates, H), m = IN(gates, 2 * H), d = AT(d_state, 0);
        if (dy) d = d + IN(dy, 0);
        vec dn = (d * (one - z)) * vfma(-m, m, one);
        vec dz = (d * (IN(h, 0) - m)) * (z * (one - z));
        SET(d_state, 0, d * z);
        PUT(gates, H, dz);
        PUT(gates, 2 * H, dn);
        SET(d_gates, H, dz);
        if (a->cell == FA_GRU_BEFORE) {
            SET(d_gates, 2 * H, dn);
        } else {
            vec dr = (dn * IN(aux, 0)) * (r * (one - r));
            PUT(gates, 0, dr);
            SET(d_gates, 0, dr);
            SET(d_gates, 2 * H, dn * r);
            PUT(aux, 0, dn * r);
        }
    }
}

/* The reset gate when it acts before the product; tile: the entry's d_rh. */
FA_INLINE void gru_reset_row(const fa_recurrent *a, const fa_states *s, int64_t step, int64_t i, int64_t u, int64_t n,
                             const real *tile, real *d_gates) {
    const int64_t H = a->H, row = entry_row(a, i, step);
    const element *h = a->before + row * H + u;
    element *gates = a->gates + row * 3 * H + u;
    real *d_state = s->d_state + i * s->row + u;
    d_gates += u;
    for (int64_t c = 0; c < n; c += VL) {
        vec r = IN(gates, 0), d_reset = vload(tile + c);
        vec dr = (d_reset * IN(h, 0)) * (r * (vset1(1) - r));
        SET(d_state, 0, vfma(d_reset, r, AT(d_state, 0)));
        PUT(gates, 0, dr);
        SET(d_gates, 0, dr);
    }
}

FA_INLINE void lstm_back_row(const fa_recurrent *a, const fa_states *s, int64_t step, int64_t i, int64_t u, int64_t n,
                             real *d_gates) {
    const vec one = vset1(1);
    const int64_t H = a->H, row = entry_row(a, i, step);
    const element *dy = a->dy ? a->dy + entry_place(a, i, step) * H + u : NULL;
    const element *cell = a->aux + row * H + u;
    const element *old =
        step ? a->aux + entry_row(a, i, step - 1) * H + u : a->memory_first + entry_sample(a, i) * H + u;
    element *gates = a->gates + row * 4 * H + u;
    real *d_state = s->d_state + i * s->row + u;
    real *d_memory = s->d_memory + i * s->row + u;
    d_gates += u;
    for (int64_t c = 0; c < n; c += VL) {
        vec in = IN(gates, 0), forget = IN(gates, H), g = IN(gates, 2 * H), out = IN(gates, 3 * H), d = AT(d_state, 0);
        if (dy) d = d + IN(dy, 0);
        vec t = gate_tanh(IN(cell, 0)), e = vfma(d * out, vfma(-t, t, one), AT(d_memory, 0));
        vec di = (e * g) * (in * (one - in)), df = (e * IN(old, 0)) * (forget * (one - forget));
        vec dg = (e * in) * vfma(-g, g, one), dout = (d * t) * (out * (one - out));
        SET(d_memory, 0, e * forget);
        PUT(gates, 0, di);
        PUT(gates, H, df);
        PUT(gates, 2 * H, dg);
        PUT(gates, 3 * H, dout);
        SET(d_gates, 0, di);
        SET(d_gates, H, df);
        SET(d_gates, 2 * H, dg);
        SET(d_gates, 3 * H, dout);
    }
}
#undef AT
#undef IN
#undef SET
#undef PUT

/* The product of a row and one panel to its gradient, or, fresh, in its place. */
FA_INLINE void add_products(int fresh, real *d_state, const real *tile, int64_t n) {
    for (int64_t c = 0; c < n; c += VL) {
        const vec product = vload(tile + c);
        vstore_n(d_state + c, fresh ? product : vload_n(d_state + c, n - c) + product, n - c);
    }
}

FA_FUNC void recurrent_backward(const fa_recurrent *a, const fa_states *s, int64_t step, int32_t phase, int64_t first,
                                int64_t last, int64_t panel0, int64_t panel1, void *workspace) {
    const int64_t H = a->H, width = recurrent_gates(a) * H, all = a->B * width;
    const int before = a->cell == FA_GRU_BEFORE, fresh = a->cell == FA_LSTM;
    const int64_t running = phase ? last : entries_at(a, first, last, step + 1); /* have a step after this one */
    const int64_t after = before && !phase ? 2 * H : width; /* depth of the product, which ends the step after */
    const real *from = s->d_gates + (phase ? step & 1 : ~step & 1) * all;
    real *to = s->d_gates + (step & 1) * all, *products = workspace;
    const int64_t tiles = (last - first + MR - 1) / MR;
    for (int64_t k = 0; k < panel1 - panel0; k++) {
        const int64_t p = step & 1 ? panel1 - 1 - k : panel0 + k, u = p * PW, n = H - u < PW ? H - u : PW;
        const real *w = a->w_hidden_transposed + p * PW * width;
        const real *next = a->w_hidden_transposed + (step & 1 ? p - 1 : p + 1) * PW * width;
        if (phase) {
            for (int64_t i = first; i < last;) {
                const int rows = balanced_rows(last - i);
                real *tile = products + (a->parts ? (i - first) * PRODUCTS : 0);
                if (!a->parts)
                    micro_gemm(1, rows, n, from + i * width + 2 * H, width, 1, w + 2 * H * PW, PW, tile, PRODUCTS, H);
                for (int r = 0; r < rows; r++)
                    gru_reset_row(a, s, step, i + r, u, n, tile + r * PRODUCTS, to + (i + r) * width);
                i += rows;
            }
            continue;
        }
        if (a->parts) {
            for (int64_t i = first; i < running; i++)
                add_products(fresh, s->d_state + i * s->row + u, products + (i - first) * PRODUCTS, n);
            continue;
        }
        const int64_t share = tiles > 2 ? (after + tiles - 1) / tiles : 0;
        int64_t asked = k + 1 < panel1 - panel0 ? 0 : after;
        for (int64_t i = first; i < running;) {
            const int rows = balanced_rows(running - i);
            fetch_next_panel(next, 1, 0, after, share, &asked);
            micro_gemm(fresh, rows, n, from + i * width, width, 1, w, PW, s->d_state + i * s->row + u, s->row, after);
            i += rows;
        }
    }
    const int64_t u = panel0 * PW, n = (panel1 * PW < H ? panel1 * PW : H) - u;
    for (int64_t i = first; !phase && step >= 0 && i < last; i++) {
        if (a->cell == FA_LSTM)
            lstm_back_row(a, s, step, i, u, n, to + i * width);
        else
            gru_back_row(a, s, step, i, u, n, to + i * width);
    }
}
#endif
