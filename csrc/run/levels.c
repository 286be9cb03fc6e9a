/* The levels of this build and what the machine allows of them.
 *
 * A level needs its instructions (cpuid) and an operating system that saves its registers (XGETBV): a kernel or a
 * hypervisor may mask either. Tile registers are 8 KiB a thread, which Linux saves for those processes only that ask.
 */
#define _GNU_SOURCE
#include <string.h>

#include "run.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* A level that was not built has no tables: their addresses are NULL then. */
#define LEVEL(name, vectors, tiles, machine, needs, probe)                                                             \
    extern const fa_kernels fa_kernels_##vectors##_f32 __attribute__((weak));                                          \
    extern const fa_kernels fa_kernels_##vectors##_f64 __attribute__((weak));                                          \
    extern const fa_tiles fa_tiles_##tiles __attribute__((weak));
#include "../levels.def"

enum {
#define LEVEL(name, ...) LEVEL_##name,
#include "../levels.def"
    LEVELS
};

static fa_level levels[LEVELS] = {
#define LEVEL(name, vectors, tiles, machine, needs, probe)                                                             \
    {#name, needs, &fa_kernels_##vectors##_f32, &fa_kernels_##vectors##_f64},
#include "../levels.def"
};

/* A level with a matrix unit has the kernels of another, and its own products beside them. While the library is loaded,
 * when there is one thread. */
__attribute__((constructor)) static void add_tiles(void) {
    static const struct {
        const char *name;
        const fa_tiles *tiles;
    } units[LEVELS] = {
#define LEVEL(name, vectors, tiles, ...) {#tiles, &fa_tiles_##tiles},
#include "../levels.def"
    };
    static fa_kernels own[LEVELS];
    for (int i = 0; i < LEVELS; i++) {
        if (!levels[i].f32 || strcmp(units[i].name, "none") == 0) continue;
        if (units[i].tiles) own[i] = *levels[i].f32;
        own[i].tiles = units[i].tiles;
        if (units[i].tiles) own[i].narrow = &units[i].tiles->narrow;
        levels[i].f32 = units[i].tiles ? &own[i] : NULL;
    }
}

const fa_level *fa_level_at(int index) {
    for (int i = 0; i < LEVELS; i++)
        if (levels[i].f32 && index-- == 0) return &levels[i];
    return NULL;
}
int fa_levels(void) {
    int n = 0;
    while (fa_level_at(n)) n++;
    return n;
}

/* Whether Linux lets this process use tile registers: asked once for it, its threads, and what it forks. */
static int tiles_permitted(void) {
#if defined(__x86_64__) && defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* of arch_prctl; older kernels refuse */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return 0;
#endif
}

/* Whether the processor has an instruction set, in the words of compilers; with `saved`, whether the operating system
 * saves its registers, too. */
static int allowed(const char *word, size_t length, int saved) {
#if defined(__x86_64__)
    uint32_t a, b, c, d, c1, b7, d7, a71 = 0, subleaves, state = 0, state_high;
    if (__get_cpuid_max(0, 0) < 7) return 0;
    __cpuid(1, a, b, c1, d);
    if (c1 >> 27 & 1) /* the operating system uses XSAVE */
        __asm__ volatile("xgetbv" : "=a"(state), "=d"(state_high) : "c"(0));
    __cpuid_count(7, 0, subleaves, b7, c, d7);
    if (subleaves) __cpuid_count(7, 1, a71, b, c, d);
    const int ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6; /* with opmask, upper zmm, zmm16-31 */
    const int tmm = (state & 0x60000) == 0x60000;                       /* tile shapes, tile data */
    const struct {
        const char *name;
        uint32_t there;
        int saved;
    } words[] = {
        {"fma", c1 >> 28 & c1 >> 12 & 1, ymm},
        {"f16c", c1 >> 28 & c1 >> 29 & 1, ymm},
        {"avx2", c1 >> 28 & b7 >> 5 & 1, ymm},
        {"avx512f", b7 >> 16 & 1, zmm},
        {"avx512dq", b7 >> 17 & 1, zmm},
        {"avx512bw", b7 >> 30 & 1, zmm},
        {"avx512vl", b7 >> 31 & 1, zmm},
        {"avx512bf16", a71 >> 5 & 1, zmm},
        {"amx-tile", d7 >> 24 & 1, tmm && tiles_permitted()},
        {"amx-bf16", d7 >> 22 & 1, tmm},
        {"amx-int8", d7 >> 25 & 1, tmm},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i].name) == length && memcmp(words[i].name, word, length) == 0)
            return words[i].there && (!saved || words[i].saved);
#else
    (void)word, (void)length, (void)saved;
#endif
    return 0;
}

static int all_allowed(int index, int saved) {
    for (const char *word = fa_level_at(index)->needs; *word;) {
        const size_t length = strcspn(word, ",");
        if (!allowed(word, length, saved)) return 0;
        word += length + (word[length] == ',');
    }
    return 1;
}

int fa_level_supported(int index) { return all_allowed(index, 1); }
int fa_level_refused(int index) { return all_allowed(index, 0) && !all_allowed(index, 1); }
