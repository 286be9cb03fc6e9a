/* Vector notation for one element type at one ISA level: types.h has the types, generic.h the functions, and a level's
 * own file (FA_VEC_FILE, as "avx512.h") those that it does better. What needs no instruction of a level is here.
 *
 * Multiply-add is always written (vfma); the build passes -ffp-contract=off, so no compiler makes another one.
 */
#ifndef FA_VEC_H
#define FA_VEC_H
#ifndef FA_VEC_FILE /* a kernel's file is read by itself */
#define FA_VEC_FILE "generic.h"
#endif
#include FA_VEC_FILE

/* Sums of the lanes of many vectors in float64: lane i is added to sum i. */
FA_INLINE void vadd_wide(dvec sums[2], vec x) {
    dvec wide[2];
    vwiden(wide, x);
    sums[0] = sums[0] + wide[0];
    if (FA_BITS == 32) sums[1] = sums[1] + wide[1];
}
FA_INLINE double vhsum_wide(const dvec sums[2]) {
    dvec all = sums[0] + sums[1];
    double sum = 0;
    for (int i = 0; i < DL; i++) sum += all[i];
    return sum;
}

/* The first n lanes from and to users' arrays. */
FA_INLINE vec eload_n(const element *p, int64_t n) {
    if (FA_IN_PLACE) return vload_n((const real *)p, n);
    real lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = i < n ? to_real(p[i]) : (real)0;
    return vload(lanes);
}
FA_INLINE void estore_n(element *p, vec v, int64_t n) {
    if (FA_IN_PLACE) {
        vstore_n((real *)p, v, n);
        return;
    }
    for (int i = 0; i < VL && i < n; i++) p[i] = to_element(v[i]);
}

FA_INLINE dvec dload(const double *p) {
    dvec v;
    memcpy(&v, p, sizeof v);
    return v;
}
FA_INLINE dvec dset1(double x) { return (dvec){0} + x; }
#endif
