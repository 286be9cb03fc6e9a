/* Spreads the tasks of one call of attention over the pool, each worker with its own piece of the caller's workspace.
 *
 * How rows are cut into tasks and how many threads take part never changes a result (attention/forward.inl), so both
 * follow speed alone: about four tasks a thread, but blocks of rows large enough that packing the keys again for
 * each costs little (1 / (2 rows) of the arithmetic, and about twice that in time).
 */
#include <math.h>

#include "for.h"
#include "run.h"

#define FA_ROWS_PER_TASK 384
#define FA_LEAST_ROWS_PER_TASK 48
#define FA_LEAST_SPARSE_ROWS 24         /* packing the keys again for a block costs about 1 / 12 of its arithmetic */
#define FA_MOST_SUMS ((int64_t)8 << 20) /* float64, of all tasks, for parameters of functions from outside */

typedef struct {
    const fa_attention *f;
    const fa_attention_grad *g;
    const fa_plan *plan;
} attention;

FA_BODY(forward, attention, k->attention_forward(a->f, a->plan, first, workspace))
FA_BODY(join, attention, k->attention_forward_join(a->f, a->plan, first, workspace))
FA_BODY(sparse_forward, attention, k->sparse_forward(a->f, a->plan, first, workspace))
FA_BODY(delta, attention, k->attention_backward_delta(a->g, a->plan, first, last))
FA_BODY(backward, attention, k->attention_backward(a->g, a->plan, first, workspace))
FA_BODY(sparse_backward, attention, k->sparse_backward(a->g, a->plan, first, workspace))
FA_BODY(row_function_forward, attention, k->row_function_forward(a->f, a->plan, first, workspace))
FA_BODY(row_function_backward, attention, k->row_function_backward(a->g, a->plan, first, workspace))

static int64_t tasks_of(const fa_attention *a, const fa_plan *plan) {
    return a->B * a->Hk / (plan->heads_per_task * plan->batches_per_task);
}

/* Sums for parameters first..last-1: those of the tasks, in ascending order. */
FA_BODY(parameters, attention, {
    const int64_t size = fa_sums(a->f), tasks = tasks_of(a->f, a->plan);
    double *sums = a->g->d_parameters;
    for (int64_t p = first; p < last; p++) sums[p] = 0;
    for (int64_t task = 0; task < tasks; task++)
        for (int64_t p = first; p < last; p++) sums[p] += a->plan->d_parameters[task * size + p];
    for (int64_t p = first; p < last; p++)
        if (!isfinite(sums[p])) __atomic_store_n(a->plan->unfit, 1, __ATOMIC_RELAXED);
})

static int64_t next_divisor(int64_t n, int64_t divisor) {
    do divisor++;
    while (n % divisor);
    return divisor;
}

/* Fewer tasks, of more heads and then of more batch entries, where the sums of each would take too much memory: a rule
 * of the call alone, as the order of the sums must be. */
static void share_sums(fa_plan *plan, const fa_attention *a) {
    while (fa_size_mul(tasks_of(a, plan), fa_sums(a)) > FA_MOST_SUMS)
        if (plan->heads_per_task < a->Hk)
            plan->heads_per_task = next_divisor(a->Hk, plan->heads_per_task);
        else if (plan->batches_per_task < a->B)
            plan->batches_per_task = next_divisor(a->B, plan->batches_per_task);
        else
            break;
}

/* In units of a multiply-add (scores.def). Few rows wait for keys and values as long as 8 of them compute. */
static double attention_work(const fa_attention *a) {
    const fa_score_facts *score = fa_facts(a->score);
    double keys = (double)a->B * (double)a->Hk * (double)a->Tk, rows = (double)(a->H / a->Hk) * (double)a->Tq;
    double pairs = keys * (rows < 8 ? 8 : rows);
    double each = (double)a->D * score->pair + (double)a->Dv + 16;
    double packing = a->key_panels ? 0 : score->packing * keys * (double)a->D;
    return pairs * each * (a->causal != FA_NOT_CAUSAL ? 0.5 : 1.0) + packing;
}

/* The same of sparse weights, with a fifth of the keys taken to have one. */
static double sparse_work(const fa_attention *a) {
    double pairs = (double)a->B * (double)a->H * (double)a->Tq * (double)a->Tk;
    double each = (double)a->D * fa_facts(a->score)->pair + (double)a->Dv * 0.2 + 16;
    return pairs * each * (a->causal != FA_NOT_CAUSAL ? 0.5 : 1.0);
}

static int is_sparse(const fa_attention *a) { return a->alpha || a->row_weights; }

/* Cuts the rows of a (batch, key head) into tasks of `most`, or of fewer, at least `fewest`, where threads would be
 * idle. */
static void cut(fa_plan *plan, int64_t heads, int64_t rows, int64_t most, int64_t fewest, int n_threads) {
    int64_t each = least(rows, most);
    while (heads * ceil_div(rows, each) < 4 * n_threads && n_threads > 1 && each > fewest)
        each = ceil_div(each / 2, 6) * 6;
    plan->rows_per_task = each;
    plan->pieces = ceil_div(rows, each);
}

int fa_attention_forward(const fa_kernels *k, const fa_attention *a, int n_threads) {
    const int64_t heads = a->B * a->Hk, rows = heads ? a->H / a->Hk * a->Tq : 0;
    fa_plan plan = {0};
    const attention call = {.f = a, .plan = &plan};
    if (rows == 0) return FA_OK;
    if (is_sparse(a)) {
        n_threads = threads_for(sparse_work(a), n_threads);
        cut(&plan, heads, rows, k->sparse_rows(a), FA_LEAST_SPARSE_ROWS, n_threads);
        return fa_run_each(k, sparse_forward, &call,
                           (fa_loop){.items = heads * plan.pieces,
                                     .threads = n_threads,
                                     .each = k->sparse_forward_workspace(a, &plan)});
    }
    n_threads = threads_for(attention_work(a), n_threads);
    if (a->row_function) {
        cut(&plan, heads, rows, k->row_function_rows(a), FA_LEAST_ROWS_PER_TASK, n_threads);
        return fa_run_each(k, row_function_forward, &call,
                           (fa_loop){.items = heads * plan.pieces,
                                     .threads = n_threads,
                                     .each = k->row_function_forward_workspace(a, &plan)});
    }
    cut(&plan, heads, rows, FA_ROWS_PER_TASK, FA_LEAST_ROWS_PER_TASK, n_threads);
    const int64_t chunks = k->attention_forward_chunks(a);
    const int by_chunk =
        n_threads > 1 && plan.pieces == 1 && rows <= FA_LEAST_ROWS_PER_TASK && heads < 2 * n_threads && chunks > 1;
    const int64_t partial = by_chunk ? fa_size_mul(k->attention_forward_partial(a), k->real_bytes) : 0;
    const int64_t partials = aligned(fa_size_mul(fa_size_mul(heads, chunks), partial));
    fa_loop loop = {.threads = n_threads, .each = aligned(k->attention_forward_workspace(a, &plan))};
    loop.workspace = fa_workspace(fa_size_mul(loop.each, n_threads) + partials);
    if (!loop.workspace) return FA_NO_MEMORY;
    if (by_chunk) {
        plan.partials = loop.workspace + loop.each * n_threads;
        plan.pieces = chunks;
    }
    loop.items = heads * plan.pieces;
    fa_run(k, forward, &call, loop);
    loop.items = heads;
    if (by_chunk) fa_run(k, join, &call, loop);
    return FA_OK;
}

int fa_attention_backward(const fa_kernels *k, const fa_attention_grad *g, int n_threads) {
    const fa_attention *a = &g->f;
    const int sparse = is_sparse(a), vector = fa_facts(a->score)->vector;
    const int64_t rows = a->B * a->H * a->Tq, heads = a->H ? a->B * a->Hk : 0, item = k->real_bytes;
    int32_t unfit = 0;
    if (heads == 0) return FA_OK;
    fa_plan plan = {.unfit = &unfit, .heads_per_task = 1, .batches_per_task = 1};
    if (g->d_bias && g->d_bias_strides.head == 0) plan.heads_per_task = a->Hk;
    if (g->d_bias && g->d_bias_strides.batch == 0) plan.batches_per_task = a->B;
    if (g->d_parameters) share_sums(&plan, a);
    n_threads = threads_for(sparse ? 1.5 * sparse_work(a) : 2.5 * attention_work(a), n_threads);
    fa_loop loop = {.threads = n_threads, .items = tasks_of(a, &plan)};
    loop.each = aligned(a->row_function ? k->row_function_backward_workspace(g)
                        : sparse        ? k->sparse_backward_workspace(g)
                                        : k->attention_backward_workspace(g));
    const int plain = !sparse && !a->row_function; /* softmax */
    const int64_t own = fa_size_mul(loop.each, n_threads), deltas = plain ? aligned(fa_size_mul(rows, item)) : 0;
    const int64_t vectors = vector ? aligned(fa_size_mul(fa_size_mul(heads, a->D), item)) : 0;
    const int64_t sums = g->d_parameters ? fa_size_mul(fa_size_mul(loop.items, fa_sums(a)), sizeof(double)) : 0;
    loop.workspace = fa_workspace(own + deltas + vectors + sums);
    if (!loop.workspace) return FA_NO_MEMORY;
    plan.delta = loop.workspace + own;
    plan.d_score_vectors = loop.workspace + own + deltas;
    if (sums) plan.d_parameters = (void *)(loop.workspace + own + deltas + vectors);
    const attention call = {.f = a, .g = g, .plan = &plan};
    if (plain) fa_for(k, delta, &call, .items = rows, .block = 256, .threads = n_threads);
    fa_run(k, a->row_function ? row_function_backward : sparse ? sparse_backward : backward, &call, loop);
    if (vector) k->attention_backward_vector(g, &plan);
    if (sums) fa_for(k, parameters, &call, .items = fa_sums(a), .block = 4096, .threads = n_threads);
    return unfit ? FA_UNFIT : FA_OK;
}

FA_BODY(pack_keys, fa_packing, {
    const int64_t b = first / a->Hk, h = first % a->Hk;
    const int64_t key = b * a->key_strides.batch + h * a->key_strides.head;
    k->pack_keys(a->score, a->activation, (const char *)a->key + key * k->element_bytes, a->key_strides.row,
                 a->score_vector, a->first, a->last, a->D,
                 (char *)a->panels + (b * a->panels_batch + h * a->panels_head) * k->real_bytes);
})

void fa_pack_keys(const fa_kernels *k, const fa_packing *a, int n_threads) {
    const double work = (double)a->B * (double)a->Hk * (double)(a->last - a->first) * (double)a->D * 4;
    fa_for(k, pack_keys, a, .items = a->B * a->Hk, .threads = threads_for(work, n_threads));
}
