/* Products of sizes that come from outside: what is beyond FA_MOST becomes FA_MOST, which no workspace has. So a sum of
 * up to 64 of them cannot overflow either, and whoever asks for that much is told that there is no memory. */
#ifndef FA_SIZES_H
#define FA_SIZES_H
#include <stdint.h>

#define FA_MOST ((int64_t)1 << 56)

static inline int64_t fa_size_mul(int64_t a, int64_t b) {
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) || product > FA_MOST ? FA_MOST : product;
}
#endif
