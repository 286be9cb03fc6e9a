"""Monotonic attention: expected alignments to train with, and hard ones, found in linear time, to decode with."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from fastattn import linear
from fastattn._kernels import core
from fastattn._numbers import finite_number
from fastattn.attention.memory import packed_keys
from fastattn.errors import ArgumentError, UnsupportedError, describe
from fastattn.layers import Parameter
from fastattn.scores import Additive
from fastattn.scores.base import Plain, kernel_score
from fastattn.scores.normed_additive import NormedAdditive
from fastattn.variants.protocol.checks import check_choice, check_seeds, check_whole
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.state import per_sample
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant
from fastattn.variants.recall import SummedStep, gathered_values
from fastattn.variants.soft import Soft

__all__ = ["HardState", "Monotonic", "MonotonicState"]

Search = Literal["soft", "hard"]


@dataclass(frozen=True)
class MonotonicState(AttentionState):
    """Where attention is expected to be.

    Attributes
    ----------
    alignment : array, shape (B, S)
        alpha of the step before; at the beginning all of it is at the first position.
    seeds : uint64 array, shape (B,), or None
        Of the noise; None: no noise.
    steps : int
        How many steps there were.
    """

    alignment: Array = field(metadata=per_sample("S"))
    seeds: Array | None = field(default=None, metadata=per_sample(dtype=np.uint64))
    steps: int = 0


@dataclass(frozen=True)
class HardState(AttentionState):
    """Where attention is.

    Attributes
    ----------
    position : int64 array, shape (B,)
        Of the step before; a sample's length once its end was passed.
    """

    position: Array = field(metadata=per_sample(dtype=np.int64))


@dataclass(slots=True)
class MonotonicStep(SummedStep):
    """What a backward step leaves for `finish`: the query, and gradients of what the energies make of it."""

    query: Array
    d_projected: Array
    d_chunk: Array | None


class MonotonicPrepared(Prepared):
    """A memory with its keys.

    Attributes
    ----------
    key, chunk_key : array, shape (B, S, Da)
        Of the energy that moves, and of that of chunks, or None.
    panels, chunk_panels : array, shape (B, 1, elements)
        The same, packed for soft steps.
    scores : pair of scores
        What compares them with a query; None where there are no chunks.
    """

    key: Array
    chunk_key: Array | None
    panels: Array
    chunk_panels: Array | None
    scores: tuple[Plain, Plain | None]
    tape: Tape[MonotonicStep]

    def pack(self) -> None:
        """Pack the keys."""
        score, chunk_score = self.scores
        self.panels, self.chunk_panels = packed_keys(score, self.key[:, None], 0, self.keys), None
        if self.chunk_key is not None and chunk_score is not None:
            self.chunk_panels = packed_keys(chunk_score, self.chunk_key[:, None], 0, self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("panels", "chunk_panels")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        maker = state.pop("_maker", None)
        super().__setstate__(state)
        self.pack()  # anew, in the form of the kernels here
        if maker is not None:
            self.close(maker)


class Monotonic(Variant[MonotonicPrepared]):
    """Monotonic attention of Raffel, Luong, Liu, Weiss, Eck 2017 (arXiv:1704.00784), equations 11 to 14 and 16.

    ::

        e_ij = g v / |v| . tanh(W s_{i-1} + V h_j + b) + r                      (16)
        p_ij = sigmoid(e_ij)                                                    (12)
        q_ij = (1 - p_{i,j-1}) q_{i,j-1} + alpha_{i-1,j}                        (13)
        alpha_ij = p_ij q_ij,     c_i = sum_j alpha_ij h_j                      (14)

    That is what the process of section 2.2 does in expectation: at step i walk on from where step i - 1 stopped, stop
    at each position with probability p_ij, and take its row. ``start(prepared, mode="hard")`` begins that process
    itself, which stops where p_ij > 1/2; it has no gradient.

    Parameters
    ----------
    query_width, memory_width : int
    width : int
        Da, of the layer between.
    offset : float
        What r starts at; -4 for translation and summaries in the paper, -1 for speech.
    noise : float
        Deviation of the normal noise that is added to e_ij where ``start`` was given seeds, as in training, so that the
        model learns decisions; 1 in the paper.
    search : {"hard", "soft"}
        What decoders of `fastattn.seq2seq` search with.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    align : Soft
        W, V and b (w_query, w_key, b), v and g, of a `NormedAdditive` score.
    r : Parameter, shape (1,)

    Notes
    -----
    Weights add up to less than 1 by the probability of having passed the end, as in the paper: that share, or in hard
    mode a step that stops nowhere, contributes a context of zeros, and so do all later steps. What is masked is passed.

    The scan runs equation 13 as it stands. All its terms are positive, so that nothing cancels, and nothing is divided.
    The authors' and TensorFlow Addons' "parallel" mode divides a cumulative sum by a cumulative product, clipped from
    below, and is wrong where many p are near 1; fairseq does the same, and its kernel for CPUs cuts a gradient. Their
    hard modes compute all energies of a step; this one reads a key at each position that it passes, T + S at most for T
    steps over S positions. The noise here depends on a sample's seed, the step and the position alone.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("monotonic", query_width=3, memory_width=5, width=8, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 4, 5), np.float32))
    >>> query = np.ones((2, 3), np.float32)
    >>> context, weights, state = variant.step(query, prepared, variant.start(prepared, seeds=[7, 8]))
    >>> bool((weights.sum(axis=-1) < 1).all()), state.steps
    (True, 1)
    >>> context, weights, state = variant.step(query, prepared, variant.start(prepared, mode="hard"))
    >>> state.position
    array([4, 4])
    """

    name = "monotonic"
    states = (MonotonicState, HardState)
    chunk: int = 0
    chunk_align: Soft | None = None
    takes_seeds = True

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        offset: float = -4.0,
        noise: float = 1.0,
        search: Search = "hard",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype)
        for name, value, least in (("offset", offset, -np.inf), ("noise", noise, 0)):
            if finite_number(name, value, self.dtype, "see the docstring for the paper's.") < least:
                hint = "see the docstring for the paper's."
                raise ArgumentError(describe(name, "a number from 0 up", value, hint))
        self.noise = float(noise)
        self.search: Search = check_choice("search", search, get_args(Search))
        self.align = energy_of(NormedAdditive, self, width, rng)
        self.r = Parameter(np.full(1, offset, dtype))

    def extend(self, prepared: Prepared) -> MonotonicPrepared:
        made = MonotonicPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        score, chunk = self.align.score, None if self.chunk_align is None else self.chunk_align.score
        made.key = score.project_key(made.memory)
        made.chunk_key = None if chunk is None else chunk.project_key(made.memory)
        made.scores = Plain(score), None if chunk is None else Plain(chunk)
        made.pack()
        return made

    def start(self, prepared: Prepared, *, mode: Search = "soft", seeds: Any = None) -> AttentionState:
        """Return the state before the first step, which says what steps are.

        Parameters
        ----------
        prepared : Prepared
        mode : {"soft", "hard"}
            Expected alignments, or decisions.
        seeds : int array, shape (B,), optional
            Of noise, one a sample; soft mode only.

        Returns
        -------
        MonotonicState or HardState
        """
        check_prepared(prepared, self)
        if check_choice("mode", mode, get_args(Search)) == "hard":
            if seeds is not None:
                raise ArgumentError(describe("seeds", "None in hard mode", "seeds", "noise is for training."))
            return HardState(np.zeros(prepared.batch, np.int64), shape=prepared.shape)
        alignment = np.zeros(prepared.shape, self.dtype)
        alignment[:, :1] = 1
        seeds = None if seeds is None else check_seeds(seeds, prepared.batch)
        return MonotonicState(alignment, seeds, shape=prepared.shape)

    def start_search(self, prepared: Prepared) -> AttentionState:
        return self.start(prepared, mode=self.search)

    def step(self, query: Array, prepared: MonotonicPrepared, state: Any) -> tuple[Array, Array | None, AttentionState]:
        context, weights, after, _ = self._run(self.check_query(query, prepared, state), prepared, state)
        return context, weights, after

    def _run(
        self, query: Array, prepared: MonotonicPrepared, state: Any
    ) -> tuple[Array, Array, AttentionState, core.Monotonic]:
        hard = isinstance(state, HardState)
        score, chunk = self.align.score, None if self.chunk_align is None else self.chunk_align.score
        # With the vectors that came with the keys: those of a normed score take a while to make.
        of_energy, of_chunk = prepared.scores
        values, chunks = core.unit(prepared.summed), None
        if chunk is not None and of_chunk is not None and prepared.chunk_key is not None:
            chunk_keys = core.Keys(prepared.chunk_key, values, prepared.chunk_panels, prepared.rows)
            chunks = core.Chunks(self.chunk, chunk.project_query(query), chunk_keys, kernel_score(of_chunk, self.dtype))
        walk = (
            {"start": np.ascontiguousarray(state.position)}
            if hard
            else {"previous": np.ascontiguousarray(state.alignment), "seeds": state.seeds, "step": state.steps}
        )
        call = core.Monotonic(
            score.project_query(query), core.Keys(prepared.key, values, prepared.panels, prepared.rows),
            kernel_score(of_energy, self.dtype), self.r.value, prepared.lengths, prepared.mask, chunks,
            noise=self.noise, **walk,
        )  # fmt: skip
        shape = (prepared.batch, prepared.keys)
        context = np.empty((prepared.batch, prepared.summed.shape[-1]), self.dtype)
        weights = np.empty(shape, self.dtype)
        if hard:
            found = np.empty(prepared.batch, np.int64)
            call.forward(context, weights, None, None, None, found)
            return context, weights, HardState(found, shape=prepared.shape), call
        energy, chunk_energy, alignment = np.empty(shape, self.dtype), None, weights
        if chunk is not None:
            alignment, chunk_energy = np.empty(shape, self.dtype), np.empty(shape, self.dtype)
        call.forward(context, weights, None if chunk is None else alignment, energy, chunk_energy, None)
        after = MonotonicState(alignment, state.seeds, state.steps + 1, shape=prepared.shape)
        return context, weights, after, call

    def step_vjp(
        self, query: Array, prepared: MonotonicPrepared, state: Any
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        query = self.check_query(query, prepared, state)
        check_whole(prepared)
        if isinstance(state, HardState):
            hint = "train with start(prepared), whose alignments are expected ones."
            raise UnsupportedError(describe("state", "one of soft mode in the backward pass", "one of hard mode", hint))
        context, weights, after, call = self._run(query, prepared, state)
        step = prepared.count()

        def backward(d_context: Array, d_weights: Array | None, d_state: Any) -> tuple[Array, MonotonicState]:
            sums, chunk = prepared.sums.at(step, lambda: self._zeros(prepared)), self.chunk_align
            d_projected = np.empty((prepared.batch, prepared.key.shape[-1]), self.dtype)
            d_chunk = None if chunk is None else np.empty_like(d_projected)
            d_previous = np.empty(weights.shape, self.dtype)
            call.backward(
                d_context, d_weights, None if d_state is None else d_state.alignment, d_projected, d_chunk, d_previous,
                sums["key"], sums["v"], sums["r"], sums.get("chunk_key"), sums.get("chunk_v"),
            )  # fmt: skip
            prepared.tape.append(MonotonicStep(weights, d_context, query, d_projected, d_chunk))
            d_query = self.align.score.query_vjp(query, d_projected)
            if chunk is not None and d_chunk is not None:
                d_query = d_query + chunk.score.query_vjp(query, d_chunk)
            return d_query, MonotonicState(d_previous)

        return context, weights, after, StepBackward(backward, context, weights, after)

    def _zeros(self, prepared: MonotonicPrepared) -> dict[str, Array]:
        sums = {"r": np.zeros((prepared.batch, 1), self.dtype)}
        for kind in ("", "chunk_") if self.chunk else ("",):
            sums[f"{kind}key"] = np.zeros(prepared.key.shape, self.dtype)
            sums[f"{kind}v"] = np.zeros((prepared.batch, prepared.key.shape[-1]), self.dtype)
        return sums

    def finish(self, prepared: MonotonicPrepared) -> MemoryGradient:
        tape, sums = self.take(prepared)
        sums = sums or self._zeros(prepared)
        self.r.accumulate(linear.row_sum(sums["r"]))
        d_memory = np.zeros_like(prepared.memory)
        queries = np.stack([step.query for step in tape]) if tape else None
        for align, kind, projected in ((self.align, "", "d_projected"), (self.chunk_align, "chunk_", "d_chunk")):
            if align is None:
                continue
            d_key, score = sums[f"{kind}key"], align.score
            align.accumulate(score.key_gradients(prepared.memory, d_key))
            d_memory = d_memory + score.key_vjp(prepared.memory, d_key)
            align.accumulate(score.vector_gradients(linear.row_sum(sums[f"{kind}v"])))
            if queries is not None:
                d_queries = np.stack([getattr(step, projected) for step in tape])
                align.accumulate(score.query_gradients(queries, d_queries))
        return prepared.gradient(d_memory, gathered_values(tape, prepared))


def energy_of(kind: type[Additive], variant: Variant[Any], width: int, rng: np.random.Generator, **more: Any) -> Soft:
    """Return an energy of a variant, an additive score of its widths that is trained."""
    widths = variant.query_width, variant.memory_width
    score = kind.drawn(*widths, width=width, rng=rng, dtype=variant.dtype, **more)
    return Soft(score, query_width=widths[0], memory_width=widths[1], dtype=variant.dtype)
