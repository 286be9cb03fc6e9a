"""Sizes: ``V`` words, ``E`` of embeddings, ``H`` hidden, ``B`` samples, ``S`` source and ``T`` target positions."""

from ...case import FORWARD, TRAIN, maker

_case = maker("bahdanau", "V E H B S T", (23, 8, 12, 3, 5, 4))
_WORDS, _LETTERS = (10000, 128, 256), (45, 128, 256)

CASES = (
    _case("train_large", "Bahdanau training step, V8000 E256 H512 B64 T15", TRAIN, (8000, 256, 512, 64, 15, 15), 1.2),
    _case("train_words", "Bahdanau training step, V10000 E128 H256 B32 T15", TRAIN, (*_WORDS, 32, 15, 15), 1.25),
    _case("train_letters", "Bahdanau training step, V45 E128 H256 B64 T8", TRAIN, (*_LETTERS, 64, 8, 8), 1.3),
    _case("greedy_letters_b1", "Bahdanau greedy step, V45 B1", FORWARD, (*_LETTERS, 1, 8, 1), 2.5),
    _case("greedy_letters_b32", "Bahdanau greedy step, V45 B32", FORWARD, (*_LETTERS, 32, 8, 1), 1.5),
    _case("greedy_words_b1", "Bahdanau greedy step, V10000 B1", FORWARD, (*_WORDS, 1, 15, 1), 1.5),
    _case("greedy_words_b32", "Bahdanau greedy step, V10000 B32", FORWARD, (*_WORDS, 32, 15, 1), 1.3),
)
