/* The pool and kernels on it from several threads, for ThreadSanitizer: see tests/sanitize/run. No Python, so that
 * every access is instrumented. Two threads call kernels at once, a third sets the number of threads meanwhile, tasks
 * start calls of their own, and children are forked in the middle of it. The exit status is 1 if a result differs from
 * that of one thread.
 */
#define _GNU_SOURCE
#include "run/run.h"
#include "run/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { B = 4, T = 60, S = 70, D = 16, ROWS = 300, ROUNDS = 6, FORKS = 4 };

static atomic_int failures, done;
static const fa_kernels *kernels;

static float *filled(int64_t n, uint32_t seed) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1;
    }
    return x;
}

/* Everything that one caller computes, laid out one after the other. */
enum { CONTEXT = B * T * D, KEYS = B * S * D, WEIGHT = D * D, RESULTS = 2 * CONTEXT + 2 * KEYS + WEIGHT + D };

typedef struct {
    float *query, *key, *value, *d_context;
} caller;

static void compute(const caller *c, float *results, int n_threads) {
    float rows[2][B * T];
    const fa_strides3 of_query = {T * D, T * D, D}, of_key = {S * D, S * D, D};
    fa_attention_grad g = {.d_context = c->d_context};
    fa_attention *a = &g.f;
    a->B = B, a->H = a->Hk = 1, a->Tq = T, a->Tk = S, a->D = a->Dv = D;
    a->query = c->query, a->key = c->key, a->value = c->value;
    a->query_strides = a->context_strides = g.d_context_strides = of_query;
    a->key_strides = a->value_strides = of_key;
    a->scale = 0.25, a->left = a->right = -1;
    a->context = results, a->row_max = rows[0], a->row_sum = rows[1];
    g.d_query = results + CONTEXT, g.d_key = results + 2 * CONTEXT, g.d_value = results + 2 * CONTEXT + KEYS;
    float *weight = results + 2 * CONTEXT + 2 * KEYS;
    int status = fa_attention_forward(kernels, a, n_threads);
    status |= fa_attention_backward(kernels, &g, n_threads);
    status |= fa_gemm_tn(kernels, c->query, D, c->d_context, D, weight, weight + WEIGHT, 0, 0, B * T, D, D, n_threads);
    if (status) failures++;
}

static void *call(void *argument) {
    const caller *c = argument;
    float *expected = malloc(RESULTS * sizeof(float)), *results = malloc(RESULTS * sizeof(float));
    memset(expected, 0, RESULTS * sizeof(float));
    memset(results, 0, RESULTS * sizeof(float));
    compute(c, expected, 1);
    for (int round = 0; round < ROUNDS; round++) {
        compute(c, results, fa_threads);
        if (memcmp(expected, results, RESULTS * sizeof(float))) failures++;
    }
    free(expected);
    free(results);
    return NULL;
}

static void *change(void *unused) {
    for (int n = 2; !done; n = n % 4 + 1) {
        fa_threads = n;
        usleep(100);
    }
    return unused;
}

typedef struct {
    int64_t inner[8][16];
} counts;

static void count_inner(void *context, int64_t task, int worker) {
    (void)worker;
    ((int64_t *)context)[task]++;
}

static void count_outer(void *context, int64_t task, int worker) {
    (void)worker;
    fa_parallel(16, 3, count_inner, ((counts *)context)->inner[task]);
}

static void nested(void) {
    counts all;
    memset(&all, 0, sizeof all);
    fa_parallel(8, 3, count_outer, &all);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 16; j++)
            if (all.inner[i][j] != 1) failures++;
}

int main(void) {
    caller callers[2];
    pthread_t threads[2], changer;
    kernels = fa_level_at(0)->f32;
    fa_threads = 3;
    for (uint32_t i = 0; i < 2; i++)
        callers[i] = (caller){filled(CONTEXT, i), filled(KEYS, i + 10), filled(KEYS, i + 20), filled(CONTEXT, i + 30)};
    nested();
    pthread_create(&changer, NULL, change, NULL);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, call, &callers[i]);
    for (int i = 0; i < FORKS; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            nested();
            _exit(failures != 0);
        }
        int status = 1;
        if (waitpid(child, &status, 0) != child || status) failures++;
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    done = 1;
    pthread_join(changer, NULL);
    nested();
    printf("%d failures\n", failures);
    return failures != 0;
}
