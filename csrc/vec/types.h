/* Types and sizes of one element type at one vector width, FA_VBYTES, which a level's file sets.
 *
 *   real, vec, ivec     what is computed with, vector of VL of them, integer vector of the same lanes
 *   element             what lies in users' arrays: real, or of a file FA_STORED, with its to_real and to_element; zero
 *                       is of zero bytes. Sums that calls add to, and what one pass saves for the next, are real.
 *   uvec                vector of bits, 32 in a lane
 *   dvec                vector of DL float64 numbers, as wide
 *   PW                  panel width in elements: 256 bytes at every level, so packed data has one layout
 *   MR, NV              rows and vectors of one register tile: MR * NV accumulators
 */
#ifndef FA_VEC_TYPES_H
#define FA_VEC_TYPES_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef FA_BITS /* this file, or one that includes it, is read by itself */
#define FA_BITS 32
#endif
#ifndef FA_VBYTES /* the level generic */
#define FA_VBYTES 16
#define NV 2
#endif
#define MR 6
#define FA_INLINE static inline __attribute__((always_inline, unused))
#define FA_FUNC static __attribute__((unused))

#if FA_BITS == 32
typedef float real;
typedef int32_t ireal;
#define FA_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, whose bits end up lowest */
#define FA_MANTISSA 23
#define FA_EXP_BIAS 127
#define FA_LARGEST 0x1.fffffep127f
#define FA_SMALLEST 0x1p-126f /* of the normal numbers */
#define FA_EPSILON 0x1p-23f
#else
typedef double real;
typedef int64_t ireal;
#define FA_MAGIC 6755399441055744.0
#define FA_MANTISSA 52
#define FA_EXP_BIAS 1023
#define FA_LARGEST 0x1.fffffffffffffp1023
#define FA_SMALLEST 0x1p-1022
#define FA_EPSILON 0x1p-52
#endif

#ifdef FA_STORED
#include FA_STORED
#define FA_IN_PLACE 0
#else
typedef real element;
#define FA_IN_PLACE 1 /* users' arrays are read where they lie */
FA_INLINE real to_real(element x) { return x; }
FA_INLINE element to_element(real x) { return x; }
#endif

#define VL ((int)(FA_VBYTES / sizeof(real)))
#define DL ((int)(FA_VBYTES / sizeof(double)))
#define PW ((int)(256 / sizeof(real)))
#define NEG_INF (-(real)INFINITY)

typedef real vec __attribute__((vector_size(FA_VBYTES)));
typedef ireal ivec __attribute__((vector_size(FA_VBYTES)));
typedef uint32_t uvec __attribute__((vector_size(FA_VBYTES)));
typedef double dvec __attribute__((vector_size(FA_VBYTES)));
typedef int64_t lvec __attribute__((vector_size(FA_VBYTES)));

FA_INLINE vec vload(const real *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
FA_INLINE void vstore(real *p, vec v) { memcpy(p, &v, sizeof v); }
#endif
