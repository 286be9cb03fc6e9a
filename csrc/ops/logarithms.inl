/* Logarithms of samples, one element after the other: of a (seed, step, key), whatever the batch.
 *
 *   y = log x, with seeds plus -log(-log u), u uniform: the argument of a Gumbel softmax        x, y (B, S)
 *
 * The hash is dropout's with head -3, which no dropout has. Bound: a logarithm of the C library an element, three with
 * seeds, of 10 to 20 ns each: small beside the scores of a row.
 */
#ifndef FA_OPS_LOGARITHMS_INL
#define FA_OPS_LOGARITHMS_INL
#include "../dropout.h"
#include "../vec/vec.h"

FA_FUNC void logarithms(const element *x, const uint64_t *seeds, int64_t step, element *y, int64_t B, int64_t S) {
    for (int64_t b = 0; b < B; b++) {
        const uint64_t key = seeds ? fa_row_key(seeds[b], -3, step) : 0;
        for (int64_t j = 0; j < S; j++) {
            double found = log((double)to_real(x[b * S + j]));
            if (seeds && found != -INFINITY) found -= log(-log(fa_key_uniform(key, (uint32_t)j)));
            y[b * S + j] = to_element((real)found);
        }
    }
}
#endif
