"""Encoder-decoders with attention: text, data, models, training and search."""

from fastattn.seq2seq import checkpoint, metrics
from fastattn.seq2seq.batches import Batch, Batches
from fastattn.seq2seq.config import Config, load_config
from fastattn.seq2seq.text import encode, encode_pairs, read_lines, read_pairs
from fastattn.seq2seq.vocabulary import BOS, EOS, PAD, UNK, Vocabulary

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "Batch",
    "Batches",
    "Config",
    "Vocabulary",
    "checkpoint",
    "encode",
    "encode_pairs",
    "load_config",
    "metrics",
    "read_lines",
    "read_pairs",
]
