"""Recurrent layers: gated recurrent units and long short-term memory, in two directions, on top of each other."""

from fastattn.layers.recurrent.composed import Bidirectional, Stacked
from fastattn.layers.recurrent.gru import GRU, GRUCell
from fastattn.layers.recurrent.lstm import LSTM, LSTMCell

__all__ = ["GRU", "LSTM", "Bidirectional", "GRUCell", "LSTMCell", "Stacked"]
