"""Encoder-decoders with attention: text, data, models, training and search."""

from fastattn.seq2seq.bahdanau import Bahdanau, BahdanauConfig
from fastattn.seq2seq.batches import Batch, Batches
from fastattn.seq2seq.model import Model, State, build, kinds
from fastattn.seq2seq.vocabulary import BOS, EOS, PAD, UNK, Vocabulary

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "Bahdanau",
    "BahdanauConfig",
    "Batch",
    "Batches",
    "Model",
    "State",
    "Vocabulary",
    "build",
    "kinds",
]
