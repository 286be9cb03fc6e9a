"""Building blocks of encoder-decoders on NumPy arrays, each with its gradients."""

from fastattn.layers.affine import Linear
from fastattn.layers.parameter import Layer, Parameter

__all__ = ["Layer", "Linear", "Parameter"]
