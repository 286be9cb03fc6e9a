/* The one parallel loop: bodies take ranges of items, on as many threads as the work is worth.
 *
 *     FA_BODY(halve, rows, k->halve(a->x, a->y, first, last))      what is done with items first..last-1 of a problem
 *     fa_for(k, halve, &all, .items = n, .block = 64, .threads = threads_for(work, n_threads));
 *
 * Which thread has which block changes no bit: no block adds to what another one writes, and sums over blocks are taken
 * in order afterwards.
 */
#ifndef FA_FOR_H
#define FA_FOR_H
#include "../kernels.h"
#include "pool.h"

/* Multiply-adds for each thread: waking a sleeping one costs about 20 us. */
#define FA_WORK_PER_THREAD 500000.0

typedef struct {
    int64_t items, block; /* of a task; 0: one */
    int threads;          /* at most; 0: one */
    char *workspace;      /* `each` bytes for each thread */
    int64_t each;
} fa_loop;

typedef void (*fa_body)(const fa_kernels *k, const void *problem, int64_t first, int64_t last, void *workspace);

#define FA_BODY(name, type, ...)                                                                                       \
    static void name(const fa_kernels *k, const void *problem, int64_t first, int64_t last, void *workspace) {         \
        const type *a = problem;                                                                                       \
        (void)k, (void)last, (void)workspace;                                                                          \
        __VA_ARGS__;                                                                                                   \
    }
#define fa_for(k, body, problem, ...) fa_run(k, body, problem, (fa_loop){__VA_ARGS__})

void fa_run(const fa_kernels *k, fa_body body, const void *problem, fa_loop loop);

/* The same, where each thread needs `each` bytes and nothing else needs any. Returns an fa_status. */
int fa_run_each(const fa_kernels *k, fa_body body, const void *problem, fa_loop loop);

static inline int threads_for(double work, int n_threads) {
    double most = work / FA_WORK_PER_THREAD;
    return most < 1 ? 1 : most < n_threads ? (int)most : n_threads;
}
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t aligned(int64_t bytes) { return (bytes + 127) / 128 * 128; }
#endif
