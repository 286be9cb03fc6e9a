/* Attention with sparse weights, forward: for a block of rows of one (batch, key head)
 *   1. scores of all keys                              rows x Tk, kept (sparse.h)
 *   2. options on a row: softcap, bias, masks
 *   3. its weights (attention/normalizers/entmax.inl): a list of keys
 *   4. dropout, then context = sum of the values of these keys alone; what is masked or has no weight is not read
 *
 * A row depends on its own keys alone, so blocks, tasks and threads change no bit. A task is rows_per_task rows.
 * Bound for D = 64 on two 512-bit units: 64 multiply-adds for a vector of scores, about 12 other operations, and 2 Dv
 * for each key with a weight; nothing of the dense product of weights and values is left.
 */
#ifndef FA_ATTENTION_SPARSE_FORWARD_INL
#define FA_ATTENTION_SPARSE_FORWARD_INL
#include "../dropout.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "rows.inl"
#include "forward.inl"
#include "sparse.inl"

/* A mean of finite values is finite: rounding alone carries it beyond the largest number, where halves of it stay. */
FA_FUNC void sparse_bound(sparse_state *s, real *out) {
    const fa_attention *a = s->a;
    if (!has_nonfinite(out, a->Dv)) return;
    for (int64_t i = 0; i < s->row.n; i++) s->weights[i] *= (real)0.5;
    sparse_sum(&s->row, s->weights, s->value, a->value_strides.row, a->Dv, out);
    double_bounded(out, a->Dv);
}

FA_FUNC int64_t sparse_forward_workspace(const fa_attention *a, const fa_plan *plan) {
    sparse_state s;
    return sparse_layout(&s, a, plan->rows_per_task, (char *)64) - (char *)64;
}

FA_FUNC void sparse_forward(const fa_attention *a, const fa_plan *plan, int64_t task, void *workspace) {
    sparse_state s;
    const int64_t total = a->H / a->Hk * a->Tq, block = plan->rows_per_task;
    int64_t b, hk;
    sparse_layout(&s, a, block, workspace);
    forward_head(a, task / plan->pieces, &b, &hk);
    sparse_load(&s, b, hk);
    const int64_t row0 = task % plan->pieces * block, rows = total - row0 < block ? total - row0 : block;
    sparse_scores(&s, row0, rows);
    fa_row row = fa_task_row(a, row0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        const int64_t head = s.first_head + row.head;
        sparse_weights(&s, r, row, 0);
        for (int64_t i = 0; i < s.row.n; i++) s.weights[i] = (real)s.row.p[i];
        if (a->weights) {
            element *w = a->weights + ((b * a->H + head) * a->Tq + row.query) * a->Tk;
            memset(w, 0, (size_t)a->Tk * sizeof(element));
            for (int64_t i = 0; i < s.row.n; i++) w[s.row.key[i]] = to_element(s.weights[i]);
        }
        if (a->seeds) {
            const uint64_t row_key = fa_row_key(a->seeds[b], head, row.query);
            for (int64_t i = 0; i < s.row.n; i++)
                s.weights[i] = fa_key_hash(row_key, (uint32_t)s.row.key[i]) < a->drop_below
                                   ? (real)0
                                   : s.weights[i] * (real)a->keep_scale;
        }
        element *context = a->context + row_at(&a->context_strides, b, head, row.query);
        real *out = row_out(context, s.context);
        sparse_sum(&s.row, s.weights, s.value, a->value_strides.row, a->Dv, out);
        if (!a->seeds) sparse_bound(&s, out);
        row_done(context, out, a->Dv);
    }
}
#endif
