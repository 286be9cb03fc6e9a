/* A handler of signals that uses the matrix unit, as one of another library may: sums of 64 ones. */
#include <signal.h>
#include <sys/time.h>
#include "tile/amx.h"

static volatile long handled, failed;

static void handle(int number) {
    (void)number;
    _Alignas(64) uint16_t ones[512];
    _Alignas(64) float sums[256];
    for (int i = 0; i < 512; i++) ones[i] = 0x3f80;
    TILES_BEGIN(16);
    TILE_ZERO(0);
    TILE_LOAD(4, ones, 64);
    TILE_LOAD(6, ones, 64);
    TILE_BFLOAT16(0, 4, 6);
    TILE_BFLOAT16(0, 4, 6);
    TILE_STORE(0, sums, 64);
    TILES_END();
    for (int i = 0; i < 256; i++) failed += sums[i] != 64;
    handled++;
}

static void every(int microseconds) {
    const struct itimerval each = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &each, NULL);
}

void start(void) {
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    every(500);
}
void stop(void) { every(0); }
long calls(void) { return handled; }
long wrong(void) { return failed; }
