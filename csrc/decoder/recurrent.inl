/* What the recurrent kernels share: sizes, and the walk over panels of weights. */
#ifndef FA_DECODER_RECURRENT_INL
#define FA_DECODER_RECURRENT_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"
#include "../ops/gemm.inl"
#include "sequences.h"

/* The products of a tile of rows and one panel, each row those of every gate side by side. They are made there, or, on
 * a matrix unit, are there already: of all entries of the call, which has one panel then. */
#define PRODUCTS (4 * PW)
FA_FUNC int64_t recurrent_workspace(void) { return MR * PRODUCTS * (int64_t)sizeof(real); }

FA_INLINE int64_t recurrent_gates(const fa_recurrent *a) { return a->cell == FA_LSTM ? 4 : 3; }

/* States by sample, or zeros, to rows by entry; and back. */
FA_FUNC void recurrent_load(const fa_recurrent *a, const fa_states *s, const element *states, real *rows, int64_t first,
                            int64_t last) {
    for (int64_t i = first; i < last; i++) {
        real *row = rows + i * s->row;
        if (states)
            load_row(row, states + entry_sample(a, i) * a->H, a->H, 1);
        else
            memset(row, 0, (size_t)a->H * sizeof(real));
    }
}
FA_FUNC void recurrent_store(const fa_recurrent *a, const fa_states *s, const real *rows, element *states,
                             int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) store_row(states + entry_sample(a, i) * a->H, rows + i * s->row, a->H);
}

/* Each tile of rows asks for its share of the weights that the next panel of units needs: `parts` runs of K rows of
 * panels, `part_stride` elements apart. */
FA_INLINE void fetch_next_panel(const real *next, int64_t parts, int64_t part_stride, int64_t K, int64_t share,
                                int64_t *done) {
    int64_t asked = *done + share < K ? share : K - *done;
    for (int64_t g = 0; g < parts; g++) prefetch_rows(next + g * part_stride + *done * PW, PW_BYTES, asked, PW_BYTES);
    *done += asked;
}

/* Results below e^-87 (float32) or e^-708 are not told apart. */
FA_INLINE vec gate_sigmoid(vec x) {
    const vec bound = vset1((real)(FA_BITS == 32 ? 87 : 708));
    return vquotient(vset1(1), vset1(1) + vexp_soft(vmin(bound, vmax(-bound, -x))));
}

/* vtanh with another division. */
FA_INLINE vec gate_tanh(vec x) {
    const vec bound = vset1((real)FA_TANH_MAX);
    vec c = vmin(bound, vmax(-bound, x));
    vec n, q = vexp_parts(c + c, &n), s = vscale2(vset1(1), n), m = vfma(s, q, s - vset1(1));
    return vquotient(m, m + vset1(2));
}
#endif
