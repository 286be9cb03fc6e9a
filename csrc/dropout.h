/* Dropout as a pure function of (sample seed, head, row, key): nothing is stored, the backward pass asks again.
 *
 *   row_key = mix64(mix64(seed + G (head + 1)) + row)          64-bit, G = 0x632be59bd9b4e019
 *   hash    = two multiply-xorshift rounds over key ^ low(row_key), with high(row_key) added between them
 *   dropped when hash < floor(p 2^32)
 *
 * mix64 is the splitmix64 finaliser (Steele, Lea, Flood 2014). The 32-bit rounds are a loop that compilers vectorise.
 */
#ifndef FA_DROPOUT_H
#define FA_DROPOUT_H
#include <stdint.h>

static inline uint64_t fa_mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
static inline uint64_t fa_row_key(uint64_t seed, int64_t head, int64_t row) {
    return fa_mix64(fa_mix64(seed + 0x632be59bd9b4e019u * (uint64_t)(head + 1)) + (uint64_t)row);
}
static inline uint32_t fa_key_hash(uint64_t row_key, uint32_t key) {
    uint32_t u = key ^ (uint32_t)row_key;
    u = (u ^ (u >> 16)) * 0x7feb352du;
    u += (uint32_t)(row_key >> 32);
    u = (u ^ (u >> 15)) * 0x846ca68bu;
    return u ^ (u >> 16);
}
/* In (0, 1), from the same hash. */
static inline double fa_key_uniform(uint64_t row_key, uint32_t key) {
    return ((double)fa_key_hash(row_key, key) + 0.5) * 0x1p-32;
}
#endif
