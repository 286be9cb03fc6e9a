/* Logarithms and random numbers of samples, one element after the other: of a (seed, step, key), whatever the batch.
 *
 *   y = log x, with seeds plus -log(-log u), u uniform: the argument of a Gumbel softmax        x, y (B, S)
 *   u = uniform in (0, 1), one for each sample
 *
 * The hash is dropout's with heads -3 and -4, which no dropout has. Bound: a logarithm of the C library an element,
 * three with seeds, of 10 to 20 ns each: small beside the scores of a row.
 */
#include <math.h>

#include "../dropout.h"
#include "run.h"

static double uniform(uint64_t row_key, int64_t j) {
    return ((double)fa_key_hash(row_key, (uint32_t)j) + 0.5) * 0x1p-32;
}

void fa_log(const fa_kernels *k, const void *x, const uint64_t *seeds, int64_t step, void *y, int64_t B, int64_t S) {
    for (int64_t b = 0; b < B; b++) {
        const uint64_t key = seeds ? fa_row_key(seeds[b], -3, step) : 0;
        for (int64_t j = 0; j < S; j++) {
            const int64_t at = b * S + j;
            double found = k->element_bytes == 8 ? log(((const double *)x)[at]) : log((double)((const float *)x)[at]);
            if (seeds && found != -INFINITY) found -= log(-log(uniform(key, j)));
            if (k->element_bytes == 8)
                ((double *)y)[at] = found;
            else
                ((float *)y)[at] = (float)found;
        }
    }
}

void fa_uniform(const uint64_t *seeds, int64_t step, int64_t draw, double *u, int64_t B) {
    for (int64_t b = 0; b < B; b++) u[b] = uniform(fa_row_key(seeds[b], -4, step), draw);
}
