"""Recurrent layers: gated recurrent units and long short-term memory, in two directions, on top of each other."""

from fastattn.layers.composed import Bidirectional, Stacked
from fastattn.layers.gru import GRU, GRUCell
from fastattn.layers.lstm import LSTM, LSTMCell

__all__ = ["GRU", "LSTM", "Bidirectional", "GRUCell", "LSTMCell", "Stacked"]
