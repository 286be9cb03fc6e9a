/* x86-64 with AVX-512 F, BW, DQ and VL (Skylake-X and later). */
#define FA_LEVEL_AVX512 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))),              \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
#include "level.h"

const fa_level fa_level_avx512 = {"avx512", &fa_kernels_f32, &fa_kernels_f64};
/* With BF16 (Cooper Lake, Zen 4 and later): the kernels of float32 and float64 are the same. */
const fa_level fa_level_avx512bf16 = {"avx512bf16", &fa_kernels_f32, &fa_kernels_f64};
#if defined(__clang__)
#pragma clang attribute pop
#endif
