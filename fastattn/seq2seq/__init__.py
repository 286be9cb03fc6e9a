"""Encoder-decoders with attention: text, data, models, training and search."""

from fastattn.seq2seq import checkpoint, metrics
from fastattn.seq2seq.bahdanau import Bahdanau, BahdanauConfig
from fastattn.seq2seq.batches import Batch, Batches
from fastattn.seq2seq.beam import beam_search
from fastattn.seq2seq.cho import Cho, ChoConfig
from fastattn.seq2seq.config import Config, DataConfig, InferenceConfig, TrainingConfig, VocabularyConfig
from fastattn.seq2seq.luong import Luong, LuongConfig
from fastattn.seq2seq.model import Model, State, build, kinds
from fastattn.seq2seq.runs import load, read_config, train
from fastattn.seq2seq.search import Hypothesis, greedy, replace_unknown, sample, score_pairs
from fastattn.seq2seq.signals import Stopped
from fastattn.seq2seq.sutskever import Sutskever, SutskeverConfig
from fastattn.seq2seq.text import encode, encode_pairs, read_lines, read_pairs
from fastattn.seq2seq.training import Outcome
from fastattn.seq2seq.transformer import Transformer, TransformerConfig
from fastattn.seq2seq.translate import Translation, Translator
from fastattn.seq2seq.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from fastattn.seq2seq.wu import Wu, WuConfig

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
    "DataConfig",
    "Hypothesis",
    "InferenceConfig",
    "Luong",
    "LuongConfig",
    "Model",
    "Outcome",
    "State",
    "Stopped",
    "Sutskever",
    "SutskeverConfig",
    "TrainingConfig",
    "Transformer",
    "TransformerConfig",
    "Translation",
    "Translator",
    "Vocabulary",
    "VocabularyConfig",
    "Wu",
    "WuConfig",
    "beam_search",
    "build",
    "checkpoint",
    "encode",
    "encode_pairs",
    "greedy",
    "kinds",
    "load",
    "metrics",
    "read_config",
    "read_lines",
    "read_pairs",
    "replace_unknown",
    "sample",
    "score_pairs",
    "train",
]
