"""Building blocks of encoder-decoders on NumPy arrays, each with its gradients."""

from fastattn.layers.affine import Linear
from fastattn.layers.dropout import dropout, dropout_vjp
from fastattn.layers.embedding import Embedding
from fastattn.layers.feedforward import FeedForward
from fastattn.layers.loss import cross_entropy, cross_entropy_vjp, log_softmax, token_losses
from fastattn.layers.normalization import LayerNorm
from fastattn.layers.parameter import Layer, Parameter
from fastattn.layers.recurrent import GRU, LSTM, Bidirectional, GRUCell, LSTMCell, Stacked

__all__ = [
    "GRU",
    "LSTM",
    "Bidirectional",
    "Embedding",
    "FeedForward",
    "GRUCell",
    "LSTMCell",
    "Layer",
    "LayerNorm",
    "Linear",
    "Parameter",
    "Stacked",
    "cross_entropy",
    "cross_entropy_vjp",
    "dropout",
    "dropout_vjp",
    "log_softmax",
    "token_losses",
]
