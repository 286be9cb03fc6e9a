"""Building blocks of encoder-decoders on NumPy arrays, each with its gradients."""

from typing import Any

from fastattn import _known_as
from fastattn.layers.affine import Linear
from fastattn.layers.dropout import dropout, dropout_vjp
from fastattn.layers.embedding import Embedding
from fastattn.layers.feedforward import FeedForward
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
    "dropout",
    "dropout_vjp",
]


def __getattr__(name: str) -> Any:
    raise _known_as.missing(__name__, name, _known_as.LAYERS)
