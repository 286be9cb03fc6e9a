/* What the recurrent kernels share: sizes, and the walk over panels of weights. */
#include "sequences.h"

#define recurrent_workspace FN(recurrent_workspace)
#define recurrent_gates FN(recurrent_gates)
#define fetch_next_panel FN(fetch_next_panel)

/* A tile of rows of the products of one panel with every gate. */
FA_FUNC int64_t recurrent_workspace(void) { return 4 * MR * PW * (int64_t)sizeof(real); }

FA_INLINE int64_t recurrent_gates(const fa_recurrent *a) { return a->cell == FA_LSTM ? 4 : 3; }

/* Each tile of rows asks for its share of the weights that the next panel of units needs: `parts` runs of K rows of
 * panels, `part_stride` elements apart. */
FA_INLINE void fetch_next_panel(const real *next, int64_t parts, int64_t part_stride, int64_t K, int64_t share,
                                int64_t *done) {
    int64_t asked = *done + share < K ? share : K - *done;
    for (int64_t g = 0; g < parts; g++) prefetch_rows(next + g * part_stride + *done * PW, PW, asked, PW);
    *done += asked;
}
