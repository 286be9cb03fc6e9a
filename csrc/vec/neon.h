/* Vector functions by NEON (aarch64); generic.h says what each one does. */
#ifndef FA_VEC_NEON_H
#define FA_VEC_NEON_H
#define FA_VBYTES 16
#define NV 4
#include <arm_neon.h>

#include "types.h"

#define vfma vfma
#if FA_BITS == 32
FA_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
FA_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#endif

#include "generic.h"
#endif
