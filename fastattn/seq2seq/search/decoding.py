"""Finding target sentences: greedy, by beam, by sampling; and scoring given ones.

Every function takes a batch of padded sources of any mix of lengths and treats each sentence as if it were alone: the
same bits, whatever else is in the batch. Sentences that are finished leave the batch; the beams of a sentence share
its memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array, as_array
from fastattn._numbers import check_flag, check_number
from fastattn._optional import need
from fastattn._strings import strings
from fastattn.errors import ArgumentError, ShapeError, UnsupportedError, describe
from fastattn.functional import exp
from fastattn.seq2seq.models.model import BatchLike, Model, check_sentences
from fastattn.seq2seq.models.randomness import uniform
from fastattn.seq2seq.models.sentences import check_batch
from fastattn.seq2seq.schema import argument
from fastattn.seq2seq.search.constraints import Constraints, check_numbers
from fastattn.seq2seq.sections import MOST_TOKENS, Cache, InferenceConfig
from fastattn.seq2seq.text.vocabulary import BOS, EOS, UNK
from fastattn.variants.protocol.checks import check_kind, check_seeds, check_size

__all__ = [
    "Hypothesis",
    "begun",
    "check_cache",
    "check_limits",
    "greedy",
    "replace_unknown",
    "sample",
    "score_pairs",
]


@dataclass(frozen=True)
class Hypothesis:
    """A target sentence for a source.

    Attributes
    ----------
    tokens : int array, shape (n,)
        Without `EOS`.
    log_probability : float
        Of the tokens, and of `EOS` if it was reached.
    score : float
        What the search ranked by; the log-probability where nothing else was asked for.
    finished : bool
        Whether `EOS` was reached before the limit of length.
    weights : array, shape (m, S), (m, H, S) or (m, L, H, S), or None
        What was attended to for each token, for `EOS` too (m = n + 1) if it was reached; S is the source's own length.
    """

    tokens: Array
    log_probability: float
    score: float
    finished: bool
    weights: Array | None = None

    __repr__ = _reprs.fields


def greedy(
    model: Model,
    source: Array,
    source_lengths: Array,
    *,
    limit: int | Array | None = None,
    forbid: Sequence[int] = (),
    allow: Sequence[int] | None = None,
    prefix: Sequence[Sequence[int] | Array] | None = None,
    weights: bool = False,
    cache: Cache = "float32",
) -> list[Hypothesis]:
    """Return for each source the sentence of which every token is the most probable one after those before it.

    Parameters
    ----------
    model : Model
    source : int array, shape (B, S)
    source_lengths : int array, shape (B,)
    limit : int or int array of shape (B,), optional
        Most tokens of a target; by default twice the source's and 10 more. A model that has positions for fewer gives
        fewer.
    forbid : sequence of int
        Ids that are not to be chosen, `UNK` for one; `PAD` and `BOS` never are.
    allow : sequence of int, optional
        The only ids to be chosen, besides `EOS`; by default all.
    prefix : sequence of sequences of int, optional
        For each source the ids that its target begins with, allowed or not; they count for the limit, and for the
        log-probability.
    weights : bool
        Whether to keep the attention weights.
    cache : {"float32", "bfloat16", "int8"}
        Element type in which the keys and values of a Transformer are kept, those of the source and of the tokens so
        far: see `InferenceConfig`.

    Returns
    -------
    list of Hypothesis
        One for each source; of equally probable tokens the one of the smaller id is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import BahdanauConfig, build, greedy
    >>> config = BahdanauConfig(embedding=8, hidden=16, attention=16, readout_width=8)
    >>> model = build(config, 10, 12, seed=0)
    >>> [hypothesis] = greedy(model, np.array([[4, 5, 2]]), np.array([3]), limit=4, weights=True)
    >>> hypothesis.finished, hypothesis.tokens.shape, hypothesis.weights.shape
    (False, (4,), (4, 3))
    """

    def choose(log_probabilities: Array, rows: Array, t: int) -> Array:
        return log_probabilities.argmax(axis=-1)

    return _decode(model, source, source_lengths, limit, (forbid, allow, prefix), weights, cache, choose)


def sample(
    model: Model,
    source: Array,
    source_lengths: Array,
    *,
    seeds: Array,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    limit: int | Array | None = None,
    forbid: Sequence[int] = (),
    allow: Sequence[int] | None = None,
    prefix: Sequence[Sequence[int] | Array] | None = None,
    weights: bool = False,
    cache: Cache = "float32",
) -> list[Hypothesis]:
    """Return for each source a sentence whose tokens are drawn at random.

    Parameters
    ----------
    model, source, source_lengths, limit, forbid, allow, prefix, weights, cache
        As for `greedy`.
    seeds : int array, shape (B,)
        A sentence is a function of its source and its seed.
    temperature : float
        Log-probabilities are divided by it; below 1 probable tokens become more so.
    top_k : int, optional
        Draw from this many most probable tokens only.
    top_p : float
        Draw from the fewest most probable tokens whose probabilities sum to at least this share ("nucleus" sampling,
        Holtzman et al. 2020), of those that `top_k` left.

    Returns
    -------
    list of Hypothesis
        `log_probability` is the model's own, at temperature 1.
    """
    source = as_array("source", source)
    check_sentences("source", source, source_lengths)
    seeds = check_seeds(seeds, len(source))
    temperature = check_number("temperature", temperature, "1 is the model's own.")
    top_p = check_number("top_p", top_p, "1 draws from all tokens.")
    top_k = None if top_k is None else check_size("top_k", top_k, least=0)
    if not 0 < temperature < np.inf:
        raise ArgumentError(describe("temperature", "a positive number", temperature, "use greedy for the limit 0."))
    if top_k is not None and top_k < 1:
        raise ArgumentError(describe("top_k", "at least 1, or None", top_k, "leave it out to draw from all tokens."))
    if not 0 < top_p <= 1:
        raise ArgumentError(describe("top_p", "a share in (0, 1]", top_p, "1 draws from all tokens."))

    def choose(log_probabilities: Array, rows: Array, t: int) -> Array:
        order = np.argsort(-log_probabilities, axis=-1, kind="stable")[:, :top_k]
        x = np.take_along_axis(log_probabilities, order, axis=-1).astype(np.float64)
        with np.errstate(over="ignore"):  # at a temperature near 0 all but the most probable are infinitely far from it
            p = exp((x - x[:, :1]) / temperature)
        before = np.cumsum(p, axis=-1) - p
        p[before >= top_p * (before[:, -1:] + p[:, -1:])] = 0
        until = np.cumsum(p, axis=-1)
        drawn = (until <= uniform(seeds[rows], t)[:, None] * until[:, -1:]).sum(axis=-1)
        last = np.count_nonzero(p, axis=-1) - 1
        return order[np.arange(len(order)), np.minimum(drawn, last)]

    return _decode(model, source, source_lengths, limit, (forbid, allow, prefix), weights, cache, choose)


def score_pairs(model: Model, batch: BatchLike, *, weights: bool | str = False) -> list[Hypothesis]:
    """Return the given targets with their log-probabilities (forced decoding).

    Parameters
    ----------
    model : Model
    batch : Batch
    weights : bool or "layers"
        Whether to keep the attention weights; "layers" keeps those of all layers, as `Model.teacher_forcing`.

    Returns
    -------
    list of Hypothesis
        `finished` says whether the target ends with `EOS`.
    """
    batch = check_batch(batch)
    log_probabilities, attended = model.teacher_forcing(batch, weights=weights)
    check_numbers(log_probabilities)
    found = []
    for b, (s, t) in enumerate(zip(batch.source_lengths, batch.target_lengths)):
        tokens = np.asarray(batch.target[b, :t], np.int64)
        finished = bool(tokens[-1] == EOS)
        total = float(np.cumsum(log_probabilities[b, :t], dtype=np.float64)[-1])
        of_row = None if attended is None else attended[b, :t, ..., :s].copy()
        found.append(Hypothesis(tokens[:-1] if finished else tokens, total, total, finished, of_row))
    return found


def replace_unknown(
    tokens: Sequence[str],
    ids: Array,
    weights: Array,
    source: Sequence[str],
    dictionary: dict[str, str] | None = None,
) -> list[str]:
    """Return the tokens with each unknown one replaced through the alignment.

    An unknown target word is taken to translate the source word with the largest weight: it becomes that word's entry
    in the dictionary, or the word itself (Luong et al. 2015, "Addressing the rare word problem", section 3; Luong,
    Pham, Manning 2015, section 4.1).

    Parameters
    ----------
    tokens : sequence of str
        The target.
    ids : int array, shape (n,)
        Its ids; those equal to `UNK` are replaced.
    weights : array, shape (m, S) or (m, H, S), m >= n
        Of a `Hypothesis`; heads are averaged.
    source : sequence of str
        Source words, without an end token: the weights beyond them do not count.
    dictionary : dict, optional

    Returns
    -------
    list of str

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import replace_unknown
    >>> weights = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1]])
    >>> replace_unknown(["the", "<unk>"], np.array([7, 3]), weights, ["le", "Mali"])
    ['the', 'Mali']
    """
    hint = "pass a list of str; a text is to be split first."
    tokens, source = list(strings("tokens", tokens, hint)), list(strings("source", source, hint))
    ids, weights = as_array("ids", ids), as_array("weights", weights)
    fits = ids.shape == (len(tokens),) and weights.ndim in (2, 3) and len(weights) >= len(ids)
    if not fits or 0 in weights.shape[1:]:
        got = f"ids of shape {ids.shape} and weights of shape {weights.shape}"
        hint = "pass ids and weights of the same hypothesis."
        raise ShapeError(describe("tokens", "as many tokens as ids, and weights for each", got, hint))
    replaced = list(tokens)
    if not source:
        return replaced
    for i in np.flatnonzero(np.asarray(ids) == UNK).tolist():
        row = mean_of_heads(np.asarray(weights[i])[None])[0]
        word = source[int(row[: len(source)].argmax())]
        replaced[i] = word if dictionary is None else dictionary.get(word, word)
    return replaced


def mean_of_heads(weights: Array) -> Array:
    """Return weights (R, S) of (R, S) or (R, H, S), summed over heads in ascending order."""
    if weights.ndim == 2:
        return weights
    total = weights[:, 0].copy()
    for head in range(1, weights.shape[1]):
        total += weights[:, head]
    return total / weights.shape[1]


def check_limits(
    model: Model, source: object, source_lengths: object, limit: int | Array | None
) -> tuple[Array, Array, Array]:
    """Return sources and their lengths as arrays, and the most tokens of each target, int64 (B,), or raise.

    A model that has positions for fewer tokens than asked for gets no more.
    """
    check_kind("model", model, Model, "pass what build returned, or the model of a translator.")
    source, source_lengths = as_array("source", source), as_array("source_lengths", source_lengths)
    check_sentences("source", source, source_lengths)
    hint = "count target tokens."
    most = min(model.longest().target or MOST_TOKENS, MOST_TOKENS)
    if limit is None:
        return source, source_lengths, np.minimum(2 * source_lengths.astype(np.int64) + 10, most)
    limits = as_array("limit", limit)
    if limits.dtype.kind not in "iu" or limits.shape not in ((), (len(source),)):
        got = f"{limits.dtype} of shape {limits.shape}"
        raise ShapeError(describe("limit", f"an integer, or {len(source)} of them", got, hint))
    if limits.size and not 1 <= int(limits.min()) <= int(limits.max()) <= MOST_TOKENS:
        got = f"{limits.min()} to {limits.max()}" if limits.ndim else f"{limits}"
        raise ArgumentError(describe("limit", f"from 1 to {MOST_TOKENS}", got, hint))
    return source, source_lengths, np.broadcast_to(np.minimum(limits, most).astype(np.int64), (len(source),))


def check_cache(model: Model, cache: object) -> Any:
    """Return the element type that keys and values are kept in, None for what the model computes in, or raise."""
    name = argument(InferenceConfig, "cache", cache)
    if name == "float32":
        return None
    dtype = model.projection.w.value.dtype
    if not model.caches or dtype != np.float32:
        kind = f"of {dtype}" if model.caches else "that keeps no keys and values of the tokens before"
        hint = "leave it out; Transformers of float32 have such caches."
        raise UnsupportedError(describe("cache", f"'float32' for a model {kind}", repr(name), hint))
    return np.int8 if name == "int8" else need("ml_dtypes", "half", "caches of bfloat16").bfloat16


def begun(model: Model, source: Array, source_lengths: Array, storage: Any) -> Any:
    """Return the state before the first token, with keys and values kept as `check_cache` says."""
    state = model.encode(source, source_lengths)
    return state if storage is None else state.stored(storage)


def attended(weights: Array | None) -> Array:
    """Return the weights, or raise if the model has none."""
    if weights is None:
        hint = "ask for no weights, or train another kind of model: 'cho' and 'sutskever' have no attention."
        raise UnsupportedError(describe("weights", "a model with attention", "one without", hint))
    return weights


def _decode(
    model: Model,
    source: Array,
    source_lengths: Array,
    limit: int | Array | None,
    given: tuple[Any, Any, Any],
    keep_weights: bool,
    cache: Cache,
    choose: Callable[[Array, Array, int], Array],
) -> list[Hypothesis]:
    """Extend every sentence by one chosen token after the other."""
    source, source_lengths, limits = check_limits(model, source, source_lengths, limit)
    constraints, keep_weights = Constraints(model, limits, *given), check_flag("weights", keep_weights)
    storage = check_cache(model, cache)
    batch = len(source)
    tokens: list[list[int]] = [[] for _ in range(batch)]
    weights: list[list[Array]] = [[] for _ in range(batch)]
    totals, finished = np.zeros(batch), np.zeros(batch, bool)
    rows, fed = np.arange(batch), np.full(batch, BOS)
    state: Any = begun(model, source, source_lengths, storage) if batch else None
    t = 0
    while len(rows):
        log_probabilities, state, of_step = model.step(fed, state)
        constraints.apply(log_probabilities, rows, t)
        fed = choose(log_probabilities, rows, t)
        totals[rows] += log_probabilities[np.arange(len(rows)), fed]
        if keep_weights:
            for b, row in zip(rows.tolist(), attended(of_step)):
                weights[b].append(row[..., : source_lengths[b]])
        ended = fed == EOS
        finished[rows[ended]] = True
        for b, token in zip(rows[~ended].tolist(), fed[~ended].tolist()):
            tokens[b].append(token)
        t += 1
        going = np.flatnonzero(~ended & (t < limits[rows]))
        if len(going) < len(rows):
            rows, fed = rows[going], fed[going]
            state = state.select(going) if len(going) else None
    return [
        Hypothesis(
            np.array(tokens[b], np.int64), float(totals[b]), float(totals[b]), bool(finished[b]),
            np.stack(weights[b]) if keep_weights else None,
        )
        for b in range(batch)
    ]  # fmt: skip
