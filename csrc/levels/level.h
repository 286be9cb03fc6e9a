/* One ISA level: every kernel for both element types, and the one symbol that leaves this translation unit. */
#include "../fastattn.h"
#include "../dropout/dropout.h"

#define FA_BITS 32
#include "kernels.h"
#undef FA_BITS
#define FA_BITS 64
#include "kernels.h"
#undef FA_BITS
