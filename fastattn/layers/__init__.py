"""Building blocks of encoder-decoders on NumPy arrays, each with its gradients."""

from fastattn.layers.affine import Linear
from fastattn.layers.dropout import dropout, dropout_vjp
from fastattn.layers.embedding import Embedding
from fastattn.layers.feedforward import FeedForward
from fastattn.layers.loss import cross_entropy, cross_entropy_vjp, log_softmax, token_losses
from fastattn.layers.normalization import LayerNorm
from fastattn.layers.parameter import Layer, Parameter

__all__ = [
    "Embedding",
    "FeedForward",
    "Layer",
    "LayerNorm",
    "Linear",
    "Parameter",
    "cross_entropy",
    "cross_entropy_vjp",
    "dropout",
    "dropout_vjp",
    "log_softmax",
    "token_losses",
]
