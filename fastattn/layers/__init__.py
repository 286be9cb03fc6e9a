"""Building blocks of encoder-decoders on NumPy arrays, each with its gradients."""

from fastattn.layers.affine import Linear
from fastattn.layers.parameter import Layer, Parameter
from fastattn.layers.recurrent import GRU, LSTM, Bidirectional, GRUCell, LSTMCell, Stacked

__all__ = ["GRU", "LSTM", "Bidirectional", "GRUCell", "LSTMCell", "Layer", "Linear", "Parameter", "Stacked"]
