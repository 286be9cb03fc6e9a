"""Readable float64 twin of every kernel: the oracle of all tests. Slow on purpose, imports NumPy only.

Everything is computed in float64, whatever the dtype of the inputs, and every gradient is an explicit formula, derived
on its own and not taken from the kernels. What is masked is selected away before it meets arithmetic, so a NaN there
cannot reach a result.
"""

from .attention import Gradients, attention, attention_vjp
from .dropout import dropout_mask, mix64, sample_seeds
from .elementwise import exp, sigmoid, tanh
from .gemm import matmul, matmul_transposed, weight_gradient
from .masking import allowed_keys
from .recurrent import gru, gru_vjp, lstm, lstm_vjp
from .scores import raw_scores, raw_scores_vjp
from .softmax import softmax, softmax_vjp

__all__ = [
    "Gradients",
    "allowed_keys",
    "attention",
    "attention_vjp",
    "dropout_mask",
    "exp",
    "gru",
    "gru_vjp",
    "lstm",
    "lstm_vjp",
    "matmul",
    "matmul_transposed",
    "mix64",
    "raw_scores",
    "raw_scores_vjp",
    "sample_seeds",
    "sigmoid",
    "softmax",
    "softmax_vjp",
    "tanh",
    "weight_gradient",
]
