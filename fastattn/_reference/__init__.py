"""Readable float64 twin of every kernel: the oracle of all tests. Slow on purpose, imports NumPy only.

Everything is computed in float64, whatever the dtype of the inputs, and every gradient is an explicit formula, derived
on its own and not taken from the kernels. What is masked is selected away before it meets arithmetic, so a NaN there
cannot reach a result.
"""

from .attention import Gradients, attention, attention_vjp
from .dropout import dropout_mask, element_mask, mix64, sample_seeds
from .elementwise import exp, sigmoid, tanh
from .entmax import entmax, entmax_vjp
from .gemm import matmul, matmul_transposed, weight_gradient
from .masking import allowed_keys
from .narrow import bfloat16, int8, matmul_bfloat16, matmul_int8
from .scores import raw_scores, raw_scores_vjp
from .softmax import softmax, softmax_vjp
from .training.adam import adam_step
from .training.embedding import embedding_vjp
from .training.loss import cross_entropy_vjp, log_softmax, token_losses
from .training.normalization import layer_norm, layer_norm_vjp
from .training.recurrent import gru, gru_vjp, lstm, lstm_vjp

__all__ = [
    "Gradients",
    "adam_step",
    "allowed_keys",
    "attention",
    "attention_vjp",
    "bfloat16",
    "cross_entropy_vjp",
    "dropout_mask",
    "element_mask",
    "embedding_vjp",
    "entmax",
    "entmax_vjp",
    "exp",
    "gru",
    "gru_vjp",
    "int8",
    "layer_norm",
    "layer_norm_vjp",
    "log_softmax",
    "lstm",
    "lstm_vjp",
    "matmul",
    "matmul_bfloat16",
    "matmul_int8",
    "matmul_transposed",
    "mix64",
    "raw_scores",
    "raw_scores_vjp",
    "sample_seeds",
    "sigmoid",
    "softmax",
    "softmax_vjp",
    "tanh",
    "token_losses",
    "weight_gradient",
]
