/* The gradient of relu: d becomes 0 where the result y is 0, or NaN. A pass over both. */
#ifndef FA_OPS_RELU_INL
#define FA_OPS_RELU_INL
#include "../vec/vec.h"

FA_FUNC void relu_backward(const element *y, element *d, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += VL)
        estore_n(d + i, vselect_lt(vset1(0), eload_n(y + i, last - i), eload_n(d + i, last - i), vset1(0)), last - i);
}
#endif
