"""Alignments of words, read off attention weights."""

from collections.abc import Iterable, Sequence

import numpy as np

from fastattn._arrays import Array
from fastattn.seq2seq.search.decoding import mean_of_heads
from fastattn.seq2seq.text.vocabulary import Vocabulary

__all__ = ["links", "pharaoh", "word_numbers"]


def links(weights: Array, source_words: Sequence[int], target_words: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs (source word, target word) that attention links.

    Each target token is linked with the source token that it attends to most, of several the first; words are linked
    if some of their tokens are. Ends of sentences count for nothing.

    Parameters
    ----------
    weights : array, shape (m, S) or (m, H, S)
        Rows of target tokens, columns of source tokens, perhaps with their ends; heads are averaged.
    source_words, target_words : sequence of int
        The word that each token belongs to, as of `word_numbers`; -1: none.

    Returns
    -------
    list of pairs of int
        Ascending, each once.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq.search.alignment import links
    >>> links(np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.5, 0.4, 0.1]]), [0, 1], [0, 1, 1])
    [(0, 1), (1, 0)]
    """
    rows = mean_of_heads(np.asarray(weights))[: len(target_words), : len(source_words)]
    best = rows.argmax(axis=-1).tolist() if rows.size else []
    found = {(source_words[at], word) for at, word in zip(best, target_words)}
    return sorted(pair for pair in found if min(pair) >= 0)


def pharaoh(pairs: Iterable[tuple[int, int]]) -> str:
    """Return links as a line of the Pharaoh format.

    Examples
    --------
    >>> from fastattn.seq2seq.search.alignment import pharaoh
    >>> pharaoh([(0, 0), (1, 2)])
    '0-0 1-2'
    """
    return " ".join(f"{source}-{target}" for source, target in pairs)


def word_numbers(vocabulary: Vocabulary, tokens: Sequence[str]) -> list[int]:
    """Return for each token the number of its word, words being what white space parts in the text of the tokens.

    Parameters
    ----------
    vocabulary : Vocabulary
    tokens : sequence of str
        Without an end.

    Returns
    -------
    list of int
        From 0 on; -1 for a token that has nothing of a word, as a space among characters.

    Examples
    --------
    >>> from fastattn.seq2seq import Vocabulary
    >>> from fastattn.seq2seq.search.alignment import word_numbers
    >>> word_numbers(Vocabulary([], "char"), list("a bc"))
    [0, -1, 1, 1]
    """
    found, before = [], 0
    for count in range(1, len(tokens) + 1):
        words = vocabulary.join(tokens[:count]).split()
        length = sum(map(len, words))
        found.append(len(words) - 1 if length > before else -1)
        before = length
    return found
