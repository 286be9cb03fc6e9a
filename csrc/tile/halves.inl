/* bfloat16 numbers as operands of a matrix unit: tiles of 16 rows of 32 numbers, 1024 bytes.
 *
 *   rows       16 rows of 32 numbers, as they lie: the left side of a product over their columns
 *   columns    of 16 rows of 32 numbers: row k has numbers 2 k and 2 k + 1 of each of the 16, the right side of it
 *   pairs      of 32 rows of 32 numbers, in two tiles: row k has those of rows k and k + 16, side by side, of even
 *              columns in one, of odd in the other: the right side of a product over rows, whose left side has its
 *              numbers in that order (half_pair), and whose sums are put in order afterwards (half_in_order)
 *
 * The unit takes numbers below the smallest normal one for zero, and 0 times what a masked row holds may be NaN. So a
 * row with a number whose products could be lost, or that is not finite, is a plain row: tiles have zeros in its place,
 * and whoever multiplies adds what it would have given, in float32, for the pairs that count. Which rows are plain is
 * decided row by row.
 */
#ifndef FA_TILE_HALVES_INL
#define FA_TILE_HALVES_INL
#include "../vec/vec.h"
#include "shape.h"

typedef uint16_t hvec __attribute__((vector_size(FA_VBYTES / 2)));

/* Sizes of finite numbers, as bits: products of two below HALF_LARGE do not overflow, and those of one of at least
 * HALF_SMALL with a weight or a gradient are lost only where these are below 2^-66. */
#define HALF_SMALL 0x2180u   /* 2^-60 */
#define HALF_LARGE 0x5d80u   /* 2^60 */
#define HALF_LARGEST 0x5780u /* 2^48, of values, which meet weights of up to 2^60 */
#define HALF_NORMAL 0x80u    /* the smallest normal number */
#define HALF_INFINITE 0x7f80u

FA_INLINE float half_real(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* To nearest, ties to even; a finite number stays finite. */
FA_INLINE uint16_t half_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    const uint16_t found = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    return (found & 0x7fff) == 0x7f80 && (bits & 0x7fffffff) != 0x7f800000 ? (uint16_t)(found - 1) : found;
}

/* The same of a vector, whose NaN are those of bfloat16 and the processor's own; no number of it is rounded to one
 * beyond the largest. The bits are in lanes of 32. */
FA_INLINE uvec half_nearest(vec x) {
    const uvec bits = (uvec)x;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
FA_INLINE hvec half_vector(vec x) { return __builtin_convertvector(half_nearest(x), hvec); }
FA_INLINE uvec half_bits(const uint16_t *x) {
    hvec h;
    memcpy(&h, x, sizeof h);
    return __builtin_convertvector(h, uvec);
}
FA_INLINE vec half_load(const uint16_t *x) { return (vec)(half_bits(x) << 16); }

/* `found`, with bits of 0x8000 set where one of the numbers is of size `large` or more, or, unless `small` is 0, below
 * that other than zero. */
FA_INLINE uvec half_beyond(uvec found, uvec numbers, uint32_t small, uint32_t large) {
    const uvec size = numbers & 0x7fff7fffu; /* none of the sums reaches the other half */
    found |= size + (0x8000u - large) * 0x10001u;
    if (small) found |= ~(size + (0x8000u - small) * 0x10001u) & (size + 0x7fff7fffu);
    return found;
}
FA_INLINE uvec half_beyond_row(uvec found, const uint16_t *x, int64_t n, uint32_t small, uint32_t large) {
    int64_t c = 0;
    uvec numbers, more = {0}, here = {0}; /* apart, so that no number waits for the one before, nor for the stack */
    for (; c + 4 * VL <= n; c += 4 * VL) {
        uvec next;
        memcpy(&numbers, x + c, sizeof numbers);
        memcpy(&next, x + c + 2 * VL, sizeof next);
        here = half_beyond(here, numbers, small, large);
        more = half_beyond(more, next, small, large);
    }
    for (; c + 2 * VL <= n; c += 2 * VL) {
        memcpy(&numbers, x + c, sizeof numbers);
        here = half_beyond(here, numbers, small, large);
    }
    if (c < n) {
        numbers = (uvec){0};
        memcpy(&numbers, x + c, (size_t)(n - c) * 2);
        here = half_beyond(here, numbers, small, large);
    }
    return found | here | more;
}

FA_INLINE int half_any(uvec found) {
    uint64_t lanes[sizeof found / 8], any = 0;
    memcpy(lanes, &found, sizeof found);
    for (size_t i = 0; i < sizeof found / 8; i++) any |= lanes[i];
    return (any & 0x8000800080008000u) != 0;
}

FA_INLINE int half_plain(const uint16_t *x, int64_t n, uint32_t small, uint32_t large) {
    return half_any(half_beyond_row((uvec){0}, x, n, small, large));
}

/* 32 numbers of a row from column `at`, zeros beyond n. */
FA_INLINE void half_row(const uint16_t *x, int64_t at, int64_t n, char *to) {
    if (at + TILE_K <= n) {
        memcpy(to, x + at, 2 * TILE_K);
        return;
    }
    memset(to, 0, 2 * TILE_K);
    if (at < n) memcpy(to, x + at, (size_t)(n - at) * 2);
}

/* A square of 32-bit numbers, 16 rows of 64 bytes: rows become columns. */
FA_INLINE void half_transpose(const char *from, char *to) {
#if defined(vtranspose) && FA_VBYTES == 64
    vec a[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) memcpy(&a[i], from + i * 64, 64);
    vtranspose(a);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) memcpy(to + i * 64, &a[i], 64);
#else
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) memcpy(to + i * 64 + j * 4, from + j * 64 + i * 4, 4);
#endif
}

FA_INLINE void half_turn(char *tile) {
    _Alignas(64) char rows[TILE_BYTES];
    memcpy(rows, tile, TILE_BYTES);
    half_transpose(rows, tile);
}

/* Rows of an array. Beyond the n of them, and of plain ones, what is packed is zeros. */
typedef struct {
    const uint16_t *rows;
    int64_t stride, n, width;
    const uint8_t *plain; /* of each of the n; NULL: none */
    int64_t ahead;        /* from a row to one that is read later, which is asked for */
} half_source;

FA_INLINE const uint16_t *half_source_row(const half_source *s, int64_t i) {
    return i < s->n && !(s->plain && s->plain[i]) ? s->rows + i * s->stride : NULL;
}

/* Asks for what is `ahead` of rows first..first+n-1. */
FA_INLINE void half_ask(const half_source *s, int64_t first, int64_t n) {
    const char *row = (const char *)(s->rows + first * s->stride + s->ahead);
    if (s->stride == s->width && s->width % TILE_K == 0) {
        const char *end = row + 2 * n * s->width;
#pragma GCC unroll 4
        for (; row < end; row += 64) __builtin_prefetch(row, 0, 2);
        return;
    }
    for (int64_t i = 0; i < n; i++, row += 2 * s->stride)
        for (int64_t c = 0; c < s->width; c += TILE_K) __builtin_prefetch(row + 2 * c, 0, 2);
}

FA_INLINE int64_t half_blocks(int64_t n) { return (n + TILE_K - 1) / TILE_K; }

/* Columns of 16 rows: a tile for each 32 numbers. */
FA_INLINE void half_columns(const half_source *s, int64_t first, char *to) {
    for (int64_t c = 0; c < s->width; c += TILE_K, to += TILE_BYTES) {
        _Alignas(64) char rows[TILE_BYTES];
        for (int i = 0; i < TILE_N; i++) {
            const uint16_t *row = half_source_row(s, first + i);
            if (row)
                half_row(row, c, s->width, rows + i * 64);
            else
                memset(rows + i * 64, 0, 64);
        }
        half_transpose(rows, to);
    }
}

/* Two vectors side by side in pairs of 16 bits. */
FA_INLINE uvec half_beside(uvec first, uvec second) { return first | second << 16; }

/* Where column c of 32 is among those of two tiles of pairs, of even and of odd columns. */
FA_INLINE int64_t half_place(int64_t c) { return c / TILE_K * TILE_K + c % 2 * TILE_N + c % TILE_K / 2; }

/* Columns of sums over pairs: from their places in order. */
FA_INLINE void half_in_order(float *sums, int64_t blocks) {
    for (; blocks > 0; blocks--, sums += TILE_K) {
        float even[TILE_N], odd[TILE_N];
        memcpy(even, sums, sizeof even);
        memcpy(odd, sums + TILE_N, sizeof odd);
        for (int i = 0; i < TILE_N; i++) {
            sums[2 * i] = even[i];
            sums[2 * i + 1] = odd[i];
        }
    }
}

/* Pairs of 32 rows: two tiles for each 32 numbers, those in even columns and those in odd ones, so that nothing crosses
 * lanes. Returns `found` with what half_beyond finds, if `large` is not 0. */
FA_INLINE uvec half_pairs(const half_source *s, int64_t first, char *to, uvec found, uint32_t small, uint32_t large) {
    static const uint16_t zeros[TILE_K];
    for (int k = 0; k < TILE_N; k++) {
        const uint16_t *one = half_source_row(s, first + k), *two = half_source_row(s, first + TILE_N + k);
        if (s->ahead) {
            half_ask(s, first + k, 1);
            half_ask(s, first + TILE_N + k, 1);
        }
        char *pairs = to + k * 64;
        for (int64_t c = 0; c < s->width; c += TILE_K, pairs += 2 * TILE_BYTES) {
            const uint16_t *x = one ? one + c : zeros, *y = two ? two + c : zeros;
            char rest[2][2 * TILE_K];
            if (c + TILE_K > s->width) {
                half_row(x, 0, one ? s->width - c : 0, rest[0]);
                half_row(y, 0, two ? s->width - c : 0, rest[1]);
                x = (const uint16_t *)rest[0];
                y = (const uint16_t *)rest[1];
            }
#pragma GCC unroll 4
            for (int i = 0; i < TILE_N; i += VL) {
                uvec a, b;
                memcpy(&a, x + 2 * i, sizeof a);
                memcpy(&b, y + 2 * i, sizeof b);
                if (large) found = half_beyond(half_beyond(found, a, small, large), b, small, large);
                const uvec even = half_beside(a & 0xffffu, b), odd = (a >> 16) | (b & 0xffff0000u);
                memcpy(pairs + i * 4, &even, sizeof even);
                memcpy(pairs + TILE_BYTES + i * 4, &odd, sizeof odd);
            }
        }
    }
    return found;
}

/* x and y, rounded to nearest, ties away from zero, and side by side: a row of a left side. */
FA_INLINE uvec half_pair(vec x, vec y) { return ((uvec)x + 0x8000u) >> 16 | (((uvec)y + 0x8000u) & 0xffff0000u); }

/* The product of two rows of bfloat16, times a factor, for plain rows: in float64, in which nothing on the way is lost
 * or overflows. */
FA_FUNC float half_product(const uint16_t *x, const uint16_t *y, int64_t n, float factor) {
    double sum = 0;
    for (int64_t c = 0; c < n; c++) sum += (double)half_real(x[c]) * (double)half_real(y[c]);
    return (float)(sum * (double)factor);
}
#endif
