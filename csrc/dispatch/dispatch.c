/* The levels of this build and what the machine allows of them.
 *
 * A level needs its instructions (cpuid) and an operating system that saves its registers (XGETBV): a kernel or a
 * hypervisor may mask either. AVX-512 means F, BW, DQ and VL together.
 */
#include "dispatch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

extern const fa_level fa_level_generic, fa_level_avx2, fa_level_avx512, fa_level_avx512bf16, fa_level_neon;

static const fa_level *const levels[] = {
    &fa_level_generic,
#if defined(FA_HAVE_AVX2)
    &fa_level_avx2,
#endif
#if defined(FA_HAVE_AVX512)
    &fa_level_avx512,
#endif
#if defined(FA_HAVE_AVX512BF16)
    &fa_level_avx512bf16,
#endif
#if defined(FA_HAVE_NEON)
    &fa_level_neon,
#endif
};

int fa_levels(void) { return (int)(sizeof levels / sizeof levels[0]); }
const fa_level *fa_level_at(int index) { return levels[index]; }

#if defined(__x86_64__)
static int bits(uint32_t word, uint32_t wanted) { return (word & wanted) == wanted; }

static int x86_rank(void) { /* 0 generic, 1 avx2, 2 avx512, 3 avx512bf16 */
    uint32_t a, b, c, d, highest = __get_cpuid_max(0, 0);
    if (highest < 7) return 0;
    __cpuid(1, a, b, c, d);
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    if (!bits(c, fma | osxsave | avx | f16c)) return 0;
    uint32_t state, state_high;
    __asm__ volatile("xgetbv" : "=a"(state), "=d"(state_high) : "c"(0));
    if (!bits(state, 0x6)) return 0; /* xmm, ymm */
    uint32_t subleaves;
    __cpuid_count(7, 0, subleaves, b, c, d);
    const uint32_t avx2 = 1u << 5, avx512f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    if (!bits(b, avx2)) return 0;
    if (!bits(state, 0xe6) || !bits(b, avx512f | dq | bw | vl)) return 1; /* opmask, upper zmm, zmm16-31 */
    if (subleaves < 1) return 2;
    __cpuid_count(7, 1, a, b, c, d);
    return bits(a, 1u << 5) ? 3 : 2;
}
#endif

int fa_level_supported(int index) {
#if defined(__x86_64__)
    static const char *const names[] = {"generic", "avx2", "avx512", "avx512bf16"};
    int rank = x86_rank();
    for (int i = 0; i <= rank; i++) {
        const char *s = names[i], *t = levels[index]->name;
        while (*s && *s == *t) s++, t++;
        if (*s == *t) return 1;
    }
    return 0;
#else
    (void)index;
    return 1;
#endif
}
