/* The kernels of all scores, by enum fa_score. */
#ifndef FA_ATTENTION_SCORES_INL
#define FA_ATTENTION_SCORES_INL
#include "kernel.h"
#define FA_SCORE_FILES
#include "scores.def"
#undef FA_SCORE_FILES

static const score_kernel *const score_kernels[] = {
#define SCORE(NAME, name, ...) [FA_SCORE_##NAME] = &name##_kernel,
#include "scores.def"
};
#endif
