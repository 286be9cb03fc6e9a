/* x86-64 with AVX2, FMA and F16C (Haswell and later). */
#define FA_LEVEL_AVX2 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#include "level.h"

const fa_level fa_level_avx2 = {"avx2", &fa_kernels_f32, &fa_kernels_f64};
#if defined(__clang__)
#pragma clang attribute pop
#endif
