"""Encoder-decoders with attention: text, data, models, training and search."""

from fastattn.seq2seq.bahdanau import Bahdanau, BahdanauConfig
from fastattn.seq2seq.batches import Batch, Batches
from fastattn.seq2seq.beam import beam_search
from fastattn.seq2seq.config import Config, load_config
from fastattn.seq2seq.fixed import Cho, ChoConfig, Sutskever, SutskeverConfig
from fastattn.seq2seq.luong import Luong, LuongConfig
from fastattn.seq2seq.model import Model, State, build, kinds
from fastattn.seq2seq.search import Hypothesis, greedy, replace_unknown, sample, score_pairs
from fastattn.seq2seq.transformer import Transformer, TransformerConfig
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
    "Cho",
    "ChoConfig",
    "Config",
    "Hypothesis",
    "Luong",
    "LuongConfig",
    "Model",
    "State",
    "Sutskever",
    "SutskeverConfig",
    "Transformer",
    "TransformerConfig",
    "Vocabulary",
    "beam_search",
    "build",
    "greedy",
    "kinds",
    "load_config",
    "replace_unknown",
    "sample",
    "score_pairs",
]
