/* aarch64, whose baseline has 32 vector registers and fused multiply-add. */
#define FA_LEVEL_NEON 1
#include "level.h"

const fa_level fa_level_neon = {"neon", &fa_kernels_f32, &fa_kernels_f64};
