"""Laplace attention of one query for each sample, and its backward pass.

Every row is one chain of operations, in the order of its keys, so that its bits depend on nothing beside it.
"""

import numba
import numpy as np

__all__ = ["backward", "forward"]

compiled = numba.njit(cache=True, error_model="numpy", nogil=True)


@compiled
def forward(query, memory, values, rows, allowed, w, weights, context):
    """weights_j = softmax_j(-sum_c |w_c (query_c - memory_jc)|), context = sum_j weights_j values_j.

    Shapes: query (B, D), memory (M, S, D), values (M, S, Dv), rows (B,) of memory and values, allowed (B, S), w (D,),
    weights (B, S), context (B, Dv).
    """
    for b in range(query.shape[0]):
        m = rows[b]
        most = -np.inf
        for j in range(memory.shape[1]):
            if allowed[b, j]:
                score = query.dtype.type(0)
                for c in range(query.shape[1]):
                    score -= abs(w[c] * (query[b, c] - memory[m, j, c]))
                weights[b, j] = score
                if not score <= most:  # NaN too
                    most = score
        total = query.dtype.type(0)
        for j in range(memory.shape[1]):
            weights[b, j] = np.exp(weights[b, j] - query.dtype.type(most)) if allowed[b, j] else query.dtype.type(0)
            total += weights[b, j]
        context[b] = 0
        for j in range(memory.shape[1]):
            if allowed[b, j]:
                weights[b, j] /= total
                for d in range(values.shape[2]):
                    context[b, d] += weights[b, j] * values[m, j, d]


@compiled
def backward(query, memory, values, allowed, w, weights, d_context, d_weights, d_query, d_memory, d_values, d_w):
    """Set d_query (B, D); add to d_memory, d_values and d_w (B, D), one row for each sample."""
    d_score = np.empty(memory.shape[1], query.dtype)
    for b in range(query.shape[0]):
        d_query[b] = 0
        along = query.dtype.type(0)
        for j in range(memory.shape[1]):
            if allowed[b, j]:
                d_score[j] = d_weights[b, j]
                for d in range(values.shape[2]):
                    d_score[j] += d_context[b, d] * values[b, j, d]
                    d_values[b, j, d] += weights[b, j] * d_context[b, d]
                along += weights[b, j] * d_score[j]
        for j in range(memory.shape[1]):
            if allowed[b, j]:
                g = weights[b, j] * (d_score[j] - along)
                for c in range(query.shape[1]):
                    apart = query[b, c] - memory[b, j, c]
                    sign = np.sign(w[c] * apart)
                    d_query[b, c] -= g * sign * w[c]
                    d_memory[b, j, c] += g * sign * w[c]
                    d_w[b, c] -= g * sign * apart
