/* Pthread pool: started at first need, idle workers spin for 20 us, offer their processor to others until 300 us have
 * passed, and then sleep; a forked child starts its own. Workers block the signals of the process, so that these reach
 * the threads of the program, which may wait for them.
 *
 * One call is served at a time. The caller publishes (task, context, n_tasks), raises the generation counter and works
 * too. Tasks are cut into blocks of neighbours, about eight for each thread. A thread begins with the block of its own
 * number, so that in a loop of equal calls it meets the data that its cache holds, and then draws from one counter, so
 * that a slow thread takes fewer. Which thread runs a task never matters for its result. A worker that has seen the
 * generation announces itself in `active` before it draws, and the caller retires the call by closing it, then
 * waits until nobody is active: a late worker finds the call closed and goes back to wait.
 */
#define _GNU_SOURCE
#include "pool.h"

#include "../sizes.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

atomic_int fa_threads = 1;

static struct {
    atomic_flag busy; /* a call is being served */
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    pthread_t thread[FA_MAX_THREADS];
    int workers;  /* started; read and written by the holder of busy */
    int sleeping; /* under lock */
    atomic_int waiting;
    atomic_uint generation;
    atomic_int open;      /* workers that may still join the call; 0: closed */
    atomic_int active;    /* workers inside the call */
    atomic_int joined;    /* worker numbers given out */
    _Atomic int64_t next; /* block; the first n_threads are claimed one by one instead */
    atomic_flag claimed[FA_MAX_THREADS];
    int64_t n_tasks, block, own_blocks;
    fa_task task;
    void *context;
} pool = {.busy = ATOMIC_FLAG_INIT,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .idle = PTHREAD_COND_INITIALIZER};

static _Atomic(fa_team) team;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t workspace_keys[2];

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* 300 us: a decoder's step has calls that are worth several threads with up to as much of other work between them.
 * With workers that slept after 20 us such a step took twice as long. */
static const int64_t spin_ns = 20000, awake_ns = 300000;

static void run_block(int64_t block, int worker) {
    int64_t first = block * pool.block, last = first + pool.block;
    for (int64_t i = first; i < last && i < pool.n_tasks; i++) pool.task(pool.context, i, worker);
}

static void draw_tasks(int worker) {
    if (worker < pool.own_blocks && !atomic_flag_test_and_set(&pool.claimed[worker])) run_block(worker, worker);
    for (;;) {
        int64_t block = atomic_fetch_add(&pool.next, 1);
        if (block * pool.block >= pool.n_tasks) break;
        run_block(block, worker);
    }
    for (int64_t block = 0; block < pool.own_blocks; block++) /* of threads that have not come yet */
        if (!atomic_flag_test_and_set(&pool.claimed[block])) run_block(block, worker);
}

static void *worker_main(void *argument) {
    unsigned seen = (unsigned)(uintptr_t)argument;
    for (;;) {
        int64_t start = now_ns();
        while (atomic_load(&pool.generation) == seen) {
            for (int i = 0; i < 64 && atomic_load(&pool.generation) == seen; i++) relax();
            const int64_t idle = now_ns() - start;
            if (idle < spin_ns) continue;
            if (idle < awake_ns) {
                sched_yield();
                continue;
            }
            pthread_mutex_lock(&pool.lock);
            pool.sleeping++;
            while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
            pool.sleeping--;
            pthread_mutex_unlock(&pool.lock);
        }
        seen = atomic_load(&pool.generation);
        atomic_fetch_add(&pool.active, 1);
        if (atomic_fetch_sub(&pool.open, 1) > 0) draw_tasks(atomic_fetch_add(&pool.joined, 1));
        if (atomic_fetch_sub(&pool.active, 1) == 1 && atomic_load(&pool.waiting)) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.idle);
            pthread_mutex_unlock(&pool.lock);
        }
    }
    return NULL;
}

/* The child of a fork has none of the workers, and perhaps a copy of a held lock. */
static void forget_workers(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.idle, NULL);
    pool.workers = 0;
    pool.sleeping = 0;
    atomic_store(&pool.waiting, 0);
    atomic_store(&pool.active, 0);
    atomic_store(&pool.open, 0);
    atomic_flag_clear(&pool.busy);
    atomic_store(&team, NULL); /* OpenMP's threads are gone, too, and a call would wait for them for ever */
}

static void initialise(void) {
    pthread_atfork(NULL, NULL, forget_workers);
    for (int i = 0; i < 2; i++) pthread_key_create(&workspace_keys[i], free);
}

/* All but those that a fault of the thread itself raises: blocked, they would end the process without their handler. */
static void block_signals(sigset_t *before) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

static void start_workers(int wanted) {
    pthread_attr_t attributes;
    sigset_t before;
    if (pthread_attr_init(&attributes)) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    block_signals(&before); /* a thread begins with the mask of the one that creates it */
    while (pool.workers < wanted) {
        pthread_t thread;
        void *seen = (void *)(uintptr_t)atomic_load(&pool.generation);
        if (pthread_create(&thread, &attributes, worker_main, seen)) break; /* fewer threads, same results */
#if defined(__linux__)
        pthread_setname_np(thread, "fastattn"); /* who it is, in the lists of profilers */
#endif
        pool.thread[pool.workers++] = thread;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Keeps workers that are about to wake off the caller's processor. A woken thread is often placed on the processor of
 * the thread that woke it, which goes on computing there: measured, it then got no time at all for 10 ms at a stretch,
 * and calls of half a millisecond took twice as long. */
static void leave_the_callers_processor(void) {
#if defined(__linux__)
    cpu_set_t allowed;
    int here = sched_getcpu();
    if (here < 0 || pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed)) return;
    CPU_CLR(here, &allowed);
    if (CPU_COUNT(&allowed) == 0) return;
    for (int i = 0; i < pool.workers; i++) pthread_setaffinity_np(pool.thread[i], sizeof allowed, &allowed);
#endif
}

void fa_use_team(fa_team threads) {
    pthread_once(&once, initialise);
    atomic_store(&team, threads);
}

/* One thread of a team; those beyond n_threads have nothing to do. */
static void team_main(void *n_threads) {
    const int worker = atomic_fetch_add(&pool.joined, 1);
    if (worker < *(int *)n_threads) draw_tasks(worker);
}

void fa_parallel(int64_t n_tasks, int n_threads, fa_task task, void *context) {
    if (n_threads > FA_MAX_THREADS) n_threads = FA_MAX_THREADS;
    if (n_threads > n_tasks) n_threads = (int)n_tasks;
    if (n_threads <= 1 || atomic_flag_test_and_set(&pool.busy)) {
        for (int64_t i = 0; i < n_tasks; i++) task(context, i, 0);
        return;
    }
    pthread_once(&once, initialise);
    const fa_team others = atomic_load(&team);
    if (!others && pool.workers < n_threads - 1) {
        start_workers(n_threads - 1);
        leave_the_callers_processor();
    }
    pool.task = task;
    pool.context = context;
    pool.n_tasks = n_tasks;
    pool.block = n_tasks / (8 * n_threads) > 0 ? n_tasks / (8 * n_threads) : 1;
    pool.own_blocks = n_threads;
    for (int i = 0; i < n_threads; i++) atomic_flag_clear(&pool.claimed[i]);
    atomic_store(&pool.next, n_threads);
    if (others) {
        /* As many as ever: a team of another size than the one before begins and ends threads. */
        const int size = fa_threads > n_threads ? fa_threads : n_threads;
        atomic_store(&pool.joined, 0);
        others(team_main, &n_threads, (unsigned)size, 0);
        atomic_flag_clear(&pool.busy);
        return;
    }
    atomic_store(&pool.joined, 1);
    atomic_store(&pool.open, n_threads - 1);
    atomic_fetch_add(&pool.generation, 1);
    pthread_mutex_lock(&pool.lock);
    if (pool.sleeping) {
        leave_the_callers_processor();
        pthread_cond_broadcast(&pool.wake);
    }
    pthread_mutex_unlock(&pool.lock);

    draw_tasks(0);
    atomic_store(&pool.open, 0);
    int64_t start = now_ns();
    while (atomic_load(&pool.active)) {
        for (int i = 0; i < 64 && atomic_load(&pool.active); i++) relax();
        if (now_ns() - start < spin_ns) continue;
        atomic_store(&pool.waiting, 1);
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.active)) pthread_cond_wait(&pool.idle, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
        atomic_store(&pool.waiting, 0);
    }
    atomic_flag_clear(&pool.busy);
}

static _Thread_local struct {
    void *memory;
    int64_t bytes;
} mine[2];
static _Atomic int64_t fail_after;

void fa_fail_workspace(int64_t n) { atomic_store(&fail_after, n); }

static void *workspace(int which, int64_t bytes) {
    if (atomic_load(&fail_after) > 0 && atomic_fetch_sub(&fail_after, 1) == 1) return NULL;
    if (bytes >= FA_MOST) return NULL;
    if (bytes <= mine[which].bytes) return mine[which].memory;
    pthread_once(&once, initialise);
    free(mine[which].memory);
    mine[which].bytes = 0;
    mine[which].memory = NULL;
    pthread_setspecific(workspace_keys[which], NULL);
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, (size_t)bytes)) return NULL;
    pthread_setspecific(workspace_keys[which], memory); /* freed when the thread ends */
    mine[which].memory = memory;
    mine[which].bytes = bytes;
    return memory;
}

void *fa_workspace(int64_t bytes) { return workspace(0, bytes); }
void *fa_product_workspace(int64_t bytes) { return workspace(1, bytes); }
