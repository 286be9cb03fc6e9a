/* Limits of one core, for roofline.py, which compiles this file for the machine that it runs on. Each function works
 * for a number of rounds and returns how much it did, in operations or bytes.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>

typedef float vec __attribute__((vector_size(FA_BYTES)));

/* Multiply-adds of float32: 12 chains, which is more than any core has under way, and what 16 registers hold. Chains
 * begin apart and each factor is what came before, or the compiler makes one chain of them, or one product. */
double peak_float32(int64_t rounds, float *kept) {
    enum { CHAINS = 12 };
    vec sum[CHAINS], a, b;
    for (int i = 0; i < FA_BYTES / 4; i++) a[i] = kept[0], b[i] = kept[1];
    for (int i = 0; i < CHAINS; i++) sum[i] = b * (float)i;
    for (int64_t r = 0; r < rounds; r++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * a + b;
    for (int i = 1; i < CHAINS; i++) sum[0] += sum[i];
    for (int i = 0; i < FA_BYTES / 4; i++) kept[2] += sum[0][i];
    return (double)rounds * CHAINS * (FA_BYTES / 4) * 2;
}

/* Reads of contiguous memory. */
double read_bytes(int64_t rounds, const float *from, int64_t bytes, float *kept) {
    const int64_t vectors = bytes / FA_BYTES;
    vec sum[8];
    memset(sum, 0, sizeof sum);
    for (int64_t r = 0; r < rounds; r++) {
        const char *p = (const char *)from;
        for (int64_t v = 0; v + 8 <= vectors; v += 8)
            for (int i = 0; i < 8; i++, p += FA_BYTES) {
                vec x;
                memcpy(&x, p, sizeof x);
                sum[i] += x;
            }
        __asm__ volatile("" : : : "memory");
    }
    for (int i = 1; i < 8; i++) sum[0] += sum[i];
    kept[0] = sum[0][0];
    return (double)rounds * (double)(vectors / 8 * 8 * FA_BYTES);
}

#if defined(__AMX_BF16__) && defined(__x86_64__)
static void shapes(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all = {.palette = 1};
    for (int t = 0; t < 8; t++) all.bytes[t] = 64, all.rows[t] = 16;
    __asm__ volatile("ldtilecfg %0" : : "m"(all));
}

/* Multiply-adds of bfloat16 and of int8, operands in the unit's registers. */
double peak_bfloat16(int64_t rounds) {
    shapes();
    for (int64_t r = 0; r < rounds; r++)
        __asm__ volatile("tdpbf16ps %tmm6, %tmm4, %tmm0\n\ttdpbf16ps %tmm7, %tmm4, %tmm1\n\t"
                         "tdpbf16ps %tmm6, %tmm5, %tmm2\n\ttdpbf16ps %tmm7, %tmm5, %tmm3");
    __asm__ volatile("tilerelease");
    return (double)rounds * 4 * 16 * 16 * 32 * 2;
}
double peak_int8(int64_t rounds) {
    shapes();
    for (int64_t r = 0; r < rounds; r++)
        __asm__ volatile("tdpbssd %tmm6, %tmm4, %tmm0\n\ttdpbssd %tmm7, %tmm4, %tmm1\n\t"
                         "tdpbssd %tmm6, %tmm5, %tmm2\n\ttdpbssd %tmm7, %tmm5, %tmm3");
    __asm__ volatile("tilerelease");
    return (double)rounds * 4 * 16 * 16 * 64 * 2;
}
#else
double peak_bfloat16(int64_t rounds) { return 0 * (double)rounds; }
double peak_int8(int64_t rounds) { return 0 * (double)rounds; }
#endif
