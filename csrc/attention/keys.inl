/* Keys packed once for many calls: panels of PW keys of one (batch, head), in the order in which they are read. */
#ifndef FA_ATTENTION_KEYS_INL
#define FA_ATTENTION_KEYS_INL
#include "../vec/vec.h"
#include "rows.inl"

FA_FUNC int64_t panel_elements(int32_t score, int64_t Tk, int64_t D) {
    return fa_size_mul((Tk + PW - 1) / PW, panel_stride(score, D));
}
FA_FUNC void pack_keys(int32_t score, int32_t activation, const element *key, int64_t row_stride,
                       const element *score_vector, int64_t first, int64_t last, int64_t D, real *panels) {
    const score_form form = {.activation = activation, .D = D, .vector = score_vector};
    pack_key_panels(score, &form, key, row_stride, first, last, panels + first / PW * panel_stride(score, D),
                    (fa_ahead){0});
}
#endif
