/* Two rows of numbers: their product, and one added to the other. */
#ifndef FA_TILE_ROW_INL
#define FA_TILE_ROW_INL
#include "../vec/vec.h"

/* sum_c a_c b_c in four chains, which are joined at the end. */
FA_INLINE real product_in_chains(const element *a, const element *b, int64_t n) {
    vec sum[4] = {vset1(0), vset1(0), vset1(0), vset1(0)};
    int64_t c = 0;
    for (; c + 4 * VL <= n; c += 4 * VL)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) sum[i] = vfma(eload(a + c + i * VL), eload(b + c + i * VL), sum[i]);
    for (; c < n; c += VL) sum[0] = vfma(eload_n(a + c, n - c), eload_n(b + c, n - c), sum[0]);
    return vhsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* to += factor * from */
FA_INLINE void row_add(real *to, real factor, const element *from, int64_t n) {
    const vec f = vset1(factor);
    int64_t c = 0;
    for (; c + VL <= n; c += VL) vstore(to + c, vfma(f, eload(from + c), vload(to + c)));
    if (c < n) vstore_n(to + c, vfma(f, eload_n(from + c, n - c), vload_n(to + c, n - c)), n - c);
}
#endif
