/* The level for any processor of the architecture: no instructions beyond its baseline. */
#define FA_LEVEL_GENERIC 1
#include "level.h"

const fa_level fa_level_generic = {"generic", &fa_kernels_f32, &fa_kernels_f64};
