/* A storage type for the test of vec/types.h: bfloat16 as its bits, float32 arithmetic. A structure, so that nothing
 * but these two functions makes a number of it. */
#include <stdint.h>
#include <string.h>

typedef struct {
    uint16_t bits;
} element;

static inline float to_real(element x) {
    const uint32_t bits = (uint32_t)x.bits << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* To nearest, ties to even. */
static inline element to_element(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (element){(uint16_t)(bits >> 16 | 0x40)};
    return (element){(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
