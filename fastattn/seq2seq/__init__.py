"""Encoder-decoders with attention: text, data, models, training and search."""

from fastattn.seq2seq.config import (
    Config,
    DataConfig,
    InferenceConfig,
    TrainingConfig,
    VocabularyConfig,
    read_config,
)
from fastattn.seq2seq.exchange.transformers import from_transformers, to_transformers
from fastattn.seq2seq.models.bahdanau import Bahdanau, BahdanauConfig
from fastattn.seq2seq.models.cho import Cho, ChoConfig
from fastattn.seq2seq.models.luong import Luong, LuongConfig
from fastattn.seq2seq.models.model import Model, State
from fastattn.seq2seq.models.registry import build, kinds
from fastattn.seq2seq.models.sutskever import Sutskever, SutskeverConfig
from fastattn.seq2seq.models.transformer import Transformer, TransformerConfig
from fastattn.seq2seq.models.wu import Wu, WuConfig
from fastattn.seq2seq.runs import checkpoint
from fastattn.seq2seq.runs.callbacks import Callback, Event, TensorBoard
from fastattn.seq2seq.runs.rates import RateCurve, find_rate
from fastattn.seq2seq.runs.running import load, quantize, train
from fastattn.seq2seq.runs.signals import Stopped
from fastattn.seq2seq.runs.training import Outcome
from fastattn.seq2seq.search.alignment import pharaoh
from fastattn.seq2seq.search.beam import beam_search
from fastattn.seq2seq.search.decoding import Hypothesis, greedy, replace_unknown, sample, score_pairs
from fastattn.seq2seq.search.ensemble import Ensemble
from fastattn.seq2seq.text import metrics
from fastattn.seq2seq.text.batches import Batch, Batches
from fastattn.seq2seq.text.encoding import encode, encode_pairs, read_lines, read_pairs
from fastattn.seq2seq.text.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from fastattn.seq2seq.text.vocabulary_files import read_vocabulary
from fastattn.seq2seq.translate import Translation, TranslationStep, Translator

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "Bahdanau",
    "BahdanauConfig",
    "Batch",
    "Batches",
    "Callback",
    "Cho",
    "ChoConfig",
    "Config",
    "DataConfig",
    "Ensemble",
    "Event",
    "Hypothesis",
    "InferenceConfig",
    "Luong",
    "LuongConfig",
    "Model",
    "Outcome",
    "RateCurve",
    "State",
    "Stopped",
    "Sutskever",
    "SutskeverConfig",
    "TensorBoard",
    "TrainingConfig",
    "Transformer",
    "TransformerConfig",
    "Translation",
    "TranslationStep",
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
    "find_rate",
    "from_transformers",
    "greedy",
    "kinds",
    "load",
    "metrics",
    "pharaoh",
    "quantize",
    "read_config",
    "read_lines",
    "read_pairs",
    "read_vocabulary",
    "replace_unknown",
    "sample",
    "score_pairs",
    "to_transformers",
    "train",
]
