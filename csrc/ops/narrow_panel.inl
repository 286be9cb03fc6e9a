/* What products with narrow packed weights share: where a panel lies, and how a tile of sums becomes y. */
#ifndef FA_OPS_NARROW_PANEL_INL
#define FA_OPS_NARROW_PANEL_INL
#include "../vec/vec.h"
#include "../kernels.h"

#define NARROW_BLOCK 4096 /* bytes of a block of K, PW columns */
#define NARROW_TILE 1024  /* 16 columns of it */

/* Numbers of a block. */
FA_INLINE int64_t narrow_depth(int32_t type) { return type == FA_INT8 ? 64 : 32; }
FA_INLINE int64_t narrow_blocks(int32_t type, int64_t K) { return (K + narrow_depth(type) - 1) / narrow_depth(type); }
FA_INLINE const char *narrow_panel(const fa_narrow *a, int64_t panel) {
    return a->w + panel * narrow_blocks(a->type, a->K) * NARROW_BLOCK;
}
FA_INLINE int64_t narrow_columns(const fa_narrow *a, int64_t panel) {
    return a->N - panel * PW < PW ? a->N - panel * PW : PW;
}

/* y = f(sum + b) for a vector of a row from `column` on: the lanes that have their bit in `wanted`. */
FA_INLINE void narrow_put(const fa_narrow *a, int64_t row, int64_t column, vec sum, uint64_t wanted) {
    const uint64_t all = ((uint64_t)1 << VL) - 1;
    const int64_t n = a->N - column;
    element *y = a->y + row * a->N + column;
    if (a->bias) sum = sum + eload_n(a->bias + column, n);
    if (a->relu) sum = vselect_lt(sum, vset1(0), vset1(0), sum);
    if ((wanted & all) == all)
        estore_n(y, sum, n);
    else
        for (int i = 0; i < VL && i < n; i++)
            if (wanted >> i & 1) y[i] = to_element(sum[i]);
}
#endif
