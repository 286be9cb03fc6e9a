/* AVX-512 with BF16 (Cooper Lake, Zen 4 and later). float32 and float64 kernels are those of avx512. */
#define FA_LEVEL_AVX512 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))),   \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#endif
#include "level.h"

const fa_level fa_level_avx512bf16 = {"avx512bf16", &fa_kernels_f32, &fa_kernels_f64};
#if defined(__clang__)
#pragma clang attribute pop
#endif
