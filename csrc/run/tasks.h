/* How many threads a call is worth, and sizes of tasks and of workspaces. */
#ifndef FA_TASKS_H
#define FA_TASKS_H
#include <stdint.h>

/* Multiply-adds for each thread: waking a sleeping one costs about 20 us. */
#define FA_WORK_PER_THREAD 500000.0

static inline int threads_for(double work, int n_threads) {
    double most = work / FA_WORK_PER_THREAD;
    return most < 1 ? 1 : most < n_threads ? (int)most : n_threads;
}
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t aligned(int64_t bytes) { return (bytes + 127) / 128 * 128; }
#endif
