/* One pool of worker threads for the whole process, and a workspace for each calling thread. */
#ifndef FA_POOL_H
#define FA_POOL_H
#include <stdatomic.h>
#include <stdint.h>

/* The most threads that one call should use. Read by calls while another thread may set it. */
extern atomic_int fa_threads;

typedef void (*fa_task)(void *context, int64_t task, int worker);

/* Calls task(context, i, worker) for i in 0..n_tasks-1, each once, on at most n_threads threads, and returns when
 * all are done. worker is 0..n_threads-1 and no two tasks run at once with the same one. A call made while another
 * is being served (from a second Python thread, or from inside a task) runs all its tasks on the calling thread. */
void fa_parallel(int64_t n_tasks, int n_threads, fa_task task, void *context);

/* Threads of somebody else's, by the function that OpenMP's compilers call: entry(context) on n_threads of them, the
 * caller's among them, or on fewer. From now on calls are served by these, NULL: by workers of our own again, as in a
 * child of a fork. Two libraries that each keep their own awake take processors from each other. */
typedef void (*fa_team)(void (*entry)(void *), void *context, unsigned n_threads, unsigned flags);
void fa_use_team(fa_team team);

/* At least `bytes` bytes on a 64-byte boundary, kept by the calling thread until its next call; NULL: out of memory.
 * Sizes are made by fa_size_mul. */
void *fa_workspace(int64_t bytes);

/* The same for products of matrices, which a compiled plugin may ask for from inside a task of another call. */
void *fa_product_workspace(int64_t bytes);

/* Makes the n-th call of fa_workspace from now fail; 0: none. For tests. */
void fa_fail_workspace(int64_t n);

#define FA_MAX_THREADS 256
#endif
