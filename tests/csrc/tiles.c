/* Tile products of numbers of all kinds, by the instructions' file FA_TILE_FILE: prints a line of bits for each round.
 * An argument: with tile registers, for which Linux is asked, or not.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include FA_TILE_FILE

static uint64_t state = 1;
static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

/* bfloat16 numbers: of sizes within 2^-spread to 2^spread; a few zeros, subnormals, infinities and NaN if wild. */
static uint16_t number(int spread, int wild) {
    const uint32_t kind = draw() % 64;
    if (wild && kind < 4) return (uint16_t)((draw() & 0x8000) | (kind == 0 ? 0 : kind == 1 ? draw() % 128 : 0x7f80));
    if (wild && kind == 4) return 0x7fc0;
    const uint32_t exponent = 127 - (uint32_t)spread + draw() % (2 * (uint32_t)spread + 1);
    return (uint16_t)((draw() & 0x8000) | exponent << 7 | (draw() & 127));
}

static uint64_t hash(const float *c, int rows) {
    uint64_t sum = 0;
    for (int i = 0; i < 16 * rows; i++) {
        uint32_t bits;
        memcpy(&bits, c + i, 4);
        if (c[i] != c[i]) bits = 0x7fc00000; /* which NaN is not promised */
        sum = (sum ^ bits) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
    }
    return sum;
}

static void round_of(int spread, int wild, int rows) {
    _Alignas(64) uint16_t a[512], b[512];
    _Alignas(64) int8_t p[1024], q[1024];
    _Alignas(64) float c[256];
    _Alignas(64) int32_t n[256];
    for (int i = 0; i < 512; i++) a[i] = number(spread, wild), b[i] = number(spread, wild);
    for (int i = 0; i < 1024; i++) p[i] = (int8_t)draw(), q[i] = (int8_t)draw();
    for (int i = 0; i < 256; i++) {
        const uint32_t bits = (uint32_t)number(spread, wild) << 16 | (draw() & 0xffff);
        memcpy(c + i, &bits, 4);
        n[i] = (int32_t)draw();
    }
    TILES_BEGIN(rows);
    TILES(rows);
    TILE_LOAD(0, c, 64);
    TILE_LOAD(1, n, 64);
    TILE_LOAD(4, a, 64);
    TILE_LOAD(5, p, 64);
    TILE_LOAD(6, q, 64);
    TILE_LOAD(7, b, 64);
    TILE_ZERO(2);
    TILE_BFLOAT16(0, 4, 7);
    TILE_BFLOAT16(0, 4, 7);
    TILE_LOAD(7, q, 64);
    TILE_INT8(1, 5, 7);
    TILE_BFLOAT16(2, 4, 7);
    TILE_STORE(0, c, 64);
    TILE_STORE(1, n, 64);
    printf("%016llx ", (unsigned long long)hash(c, rows));
    TILE_STORE(2, c, 64);
    TILES_END();
    uint32_t sum = 0;
    for (int i = 0; i < 16 * rows; i++) sum = sum * 31 + (uint32_t)n[i];
    printf("%016llx %08x\n", (unsigned long long)hash(c, rows), sum);
}

int main(int argc, char **argv) {
    if (argc > 1 && atoi(argv[1]) && syscall(SYS_arch_prctl, 0x1023, 18)) return 77;
    for (int i = 0; i < 200; i++) {
        round_of(3, 0, 16);
        round_of(20, 0, 16);
        round_of(60, 0, 1 + i % 16);
        round_of(63, 1, 16);
        round_of(125, 1, 16);
    }
    return 0;
}
