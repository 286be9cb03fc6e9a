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

/* dst[0..n) = factor * src[0..n), touching nothing beyond. */
FA_INLINE void scale_row(real *dst, const real *src, int64_t n, real factor) {
    const vec f = vset1(factor);
    int64_t c = 0;
    for (; c + VL <= n; c += VL) vstore(dst + c, vload(src + c) * f);
    if (c < n) vstore_n(dst + c, vload_n(src + c, n - c) * f, n - c);
}

/* Vectors from and to users' arrays. */
#if FA_IN_PLACE
FA_INLINE vec eload(const element *p) { return vload(p); }
FA_INLINE vec eload_n(const element *p, int64_t n) { return vload_n(p, n); }
FA_INLINE vec eload_or(const element *p, int64_t n, real other) { return vload_or(p, n, other); }
FA_INLINE void estore(element *p, vec v) { vstore(p, v); }
FA_INLINE void estore_n(element *p, vec v, int64_t n) { vstore_n(p, v, n); }
#else
FA_INLINE vec eload_or(const element *p, int64_t n, real other) {
    real lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = i < n ? to_real(p[i]) : other;
    return vload(lanes);
}
FA_INLINE vec eload_n(const element *p, int64_t n) { return eload_or(p, n, 0); }
FA_INLINE vec eload(const element *p) { return eload_or(p, VL, 0); }
FA_INLINE void estore_n(element *p, vec v, int64_t n) {
    for (int i = 0; i < VL && i < n; i++) p[i] = to_element(v[i]);
}
FA_INLINE void estore(element *p, vec v) { estore_n(p, v, VL); }
#endif

/* Rows from and to users' arrays; none is touched beyond n. */
FA_INLINE void load_row(real *dst, const element *src, int64_t n, real factor) {
    const vec f = vset1(factor);
    int64_t c = 0;
    for (; c + VL <= n; c += VL) vstore(dst + c, eload(src + c) * f);
    if (c < n) vstore_n(dst + c, eload_n(src + c, n - c) * f, n - c);
}
FA_INLINE void store_row(element *dst, const real *src, int64_t n) {
    for (int64_t c = 0; c < n; c += VL) estore_n(dst + c, vload_n(src + c, n - c), n - c);
}

/* Rows that are worked on where they lie if that can be, else in `aside`: of an input, and of an output, whose row
 * is stored when it is done. */
#if FA_IN_PLACE
FA_INLINE const real *row_in(const element *row, real *aside, int64_t n) { return (void)aside, (void)n, row; }
FA_INLINE real *row_out(element *row, real *aside) { return (void)aside, row; }
FA_INLINE void row_done(element *row, const real *made, int64_t n) { (void)row, (void)made, (void)n; }
#else
FA_INLINE const real *row_in(const element *row, real *aside, int64_t n) { return load_row(aside, row, n, 1), aside; }
FA_INLINE real *row_out(element *row, real *aside) { return (void)row, aside; }
FA_INLINE void row_done(element *row, const real *made, int64_t n) { store_row(row, made, n); }
#endif

FA_INLINE dvec dload(const double *p) {
    dvec v;
    memcpy(&v, p, sizeof v);
    return v;
}
FA_INLINE dvec dset1(double x) { return (dvec){0} + x; }
#endif
