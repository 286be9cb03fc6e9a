"""Hard attention: one row of the memory a step, sampled in training and the likeliest at inference."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fastattn import _reprs, functional, linear
from fastattn._arrays import float_array, gradient_array
from fastattn._kernels import core
from fastattn._numbers import check_number, finite_number
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.variants.protocol.checks import check_choice, check_seeds, check_whole
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.state import per_sample
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant
from fastattn.variants.published import luong
from fastattn.variants.recall import SummedStep, gathered_values
from fastattn.variants.soft import Soft, SoftPrepared

__all__ = ["Hard", "MovingBaseline", "SampledState", "reinforce"]


@dataclass(frozen=True)
class SampledState(AttentionState):
    """What was drawn so far.

    Attributes
    ----------
    seeds : uint64 array, shape (B,), or None
        Of what is drawn; None: the likeliest position is taken.
    steps : int
        How many steps there were.
    log_probability, entropy : array, shape (B,), or None
        With training by REINFORCE: sums over the steps of log p(s_t) and of H(p_t). Their gradients come back in the
        `d_state` of the last step.
    """

    seeds: Array | None = field(default=None, metadata=per_sample(dtype=np.uint64))
    steps: int = 0
    log_probability: Array | None = field(default=None, metadata=per_sample())
    entropy: Array | None = field(default=None, metadata=per_sample())


class HardPrepared(Prepared):
    """A memory, prepared for the variant that gives the probabilities.

    Attributes
    ----------
    inner : Prepared
    """

    inner: SoftPrepared
    tape: Tape[SummedStep]


class Hard(Variant[HardPrepared]):
    """Hard attention of Xu et al. 2015 (arXiv:1502.03044), section 4.1, or by a straight-through Gumbel softmax.

    ::

        p_t = softmax_j(score(query_t, m_j)),     s_t ~ p_t,     c_t = m_{s_t}

    ``start(prepared, seeds=...)`` begins training, in which s_t is drawn; without seeds s_t is the likeliest position,
    and the score has no gradient.

    ``training="reinforce"``, with R = log p(y | s, x) of a sentence and a moving average b of it::

        dL/dW ~ dR/dW + lambda_r (R - b) d log p(s)/dW + lambda_e dH(p)/dW,     b_k = 0.9 b_{k-1} + 0.1 R_k

    The first term comes back as from any variant. What the others need is in the state, log p(s) and H summed over
    steps, and `reinforce` makes the d_state for the last step. With probability `soft_share` a sample is attended to
    softly in all its steps, as in the paper.

    ``training="gumbel"`` (Jang, Gu, Poole 2017, arXiv:1611.01144, section 2.2), with standard Gumbel noise g::

        y = softmax((log p_t + g) / tau),     s_t = argmax y,     d one-hot(s_t) taken as dy

    It needs no reward and thus works in any loop, with a biased gradient.

    Parameters
    ----------
    query_width, memory_width : int
    score : {"additive", "dot", "general", "concat"}
        A small network ("additive") in the paper.
    width : int, optional
        Of the layer between of an additive score; the memory's if left out.
    training : {"gumbel", "reinforce"}
        What steps do that have seeds.
    soft_share : float
        Of REINFORCE; 0.5 in the paper, for each image.
    temperature : float
        tau, of gumbel.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    align : Soft
        Gives p.

    Notes
    -----
    The exact likelihood of Wu, Shapiro, Cotterell 2018 needs no sampling: `fastattn.seq2seq.Wu`, or any soft variant
    with `fastattn.losses.marginal_likelihood`. The memory never needs to be summed here, but the kernel of the soft
    variant does so on its way; a step costs what one of `align` does.

    Xu's code draws one bit for the whole batch where this draws one for each sample. Straight-through attention of
    x-transformers adds no noise. What is drawn depends on a sample's seed, the step and the position alone.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("hard", query_width=3, memory_width=5, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 4, 5), np.float32))
    >>> query = np.ones((2, 3), np.float32)
    >>> context, weights, state = variant.step(query, prepared, variant.start(prepared, seeds=[7, 8]))
    >>> weights.sum(axis=-1), context[0]
    (array([1., 1.], dtype=float32), array([1., 1., 1., 1., 1.], dtype=float32))
    """

    name = "hard"
    states = (SampledState,)
    takes_seeds = True

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        score: str = "additive",
        width: int | None = None,
        training: Literal["gumbel", "reinforce"] = "gumbel",
        soft_share: float = 0.5,
        temperature: float = 1.0,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype)
        check_choice("score", score, ("additive", "dot", "general", "concat"))
        if not 0 <= check_number("soft_share", soft_share, "0.5 is the paper's.") <= 1:
            raise ArgumentError(describe("soft_share", "a number from 0 to 1", soft_share, "0.5 is the paper's."))
        temperature = finite_number("temperature", temperature, self.dtype, "1.0 is a start.", positive=True)
        self.training = check_choice("training", training, ("gumbel", "reinforce"))
        self.soft_share, self.temperature = float(soft_share), temperature
        # The scores of Luong et al. have that of Bahdanau et al. among them, as "concat".
        self.align: Soft = luong(
            query_width=query_width, memory_width=memory_width, score="concat" if score == "additive" else score,
            width=width, rng=rng, dtype=dtype,
        )  # fmt: skip

    def extend(self, prepared: Prepared) -> HardPrepared:
        made = HardPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.inner = self.align.prepare(made.memory, made.lengths, made.mask, values=made.values)
        return made

    def start(self, prepared: Prepared, *, seeds: Any = None) -> SampledState:
        """Return the state before the first step; with seeds (B,), integers, positions are drawn."""
        check_prepared(prepared, self)
        shape, begin = prepared.shape, None
        if seeds is not None:
            seeds = check_seeds(seeds, prepared.batch)
            begin = None if self.training == "gumbel" else np.zeros(prepared.batch, self.dtype)
        return SampledState(seeds, 0, begin, begin, shape=shape)

    def step(self, query: Array, prepared: HardPrepared, state: Any) -> tuple[Array, Array | None, SampledState]:
        query = self.check_query(query, prepared, state)
        run = self._run(query, prepared, state, self.align.step(query, prepared.inner, AttentionState()))
        return run["context"], run["weights"], run["after"]

    def _run(self, query: Array, prepared: HardPrepared, state: Any, inner: tuple[Any, ...]) -> dict[str, Any]:
        """Choose positions by the probabilities of the inner variant, and keep what the backward pass needs."""
        expected, p = inner[:2]
        batch, keys = p.shape
        run: dict[str, Any] = {"p": p, "soft": np.zeros(batch, bool), "after": state}
        if not keys:
            return {**run, "context": expected, "weights": p, "at": np.zeros(batch, np.int64), "found": run["soft"]}
        rows = np.arange(batch)
        if state.seeds is None:
            at = p.argmax(axis=-1)
        elif self.training == "gumbel":
            run["y"] = self._perturbed(p, state)
            at = run["y"].argmax(axis=-1)
        else:
            u, v = np.empty(batch), np.empty(batch)
            core.uniform(state.seeds, state.steps, 0, u)
            core.uniform(state.seeds, 0, 1, v)
            # Running sums, unlike NumPy's sum, have one order whatever the padding.
            sums = np.cumsum(p, axis=-1)
            at = np.minimum((sums < u[:, None] * sums[:, -1:]).sum(axis=-1), keys - 1)
            run["soft"] = v < self.soft_share
        share = p[rows, at]
        found, unknown = share != 0, share != share
        weights = np.zeros_like(p)
        weights[rows, at] = np.where(unknown, share, found)
        entries = rows if prepared.rows is None else prepared.rows
        context = np.where(found[:, None], prepared.summed[entries, at], self.dtype.type(0))
        context[unknown] = np.nan
        soft = run["soft"][:, None]
        run |= {"at": at, "found": found, "one_hot": np.where(soft, self.dtype.type(0), weights)}
        run |= {"context": np.where(soft, expected, context), "weights": np.where(soft, p, weights)}
        if state.seeds is not None:
            run["after"] = self._after(state, run)
        return run

    def _perturbed(self, p: Array, state: SampledState) -> Array:
        logs = np.empty_like(p)
        core.logarithm(np.ascontiguousarray(p), state.seeds, state.steps, logs)
        return functional.softmax(logs / self.dtype.type(self.temperature), mask=p != 0)

    def _after(self, state: SampledState, run: dict[str, Any]) -> SampledState:
        if state.log_probability is None or state.entropy is None:
            return SampledState(state.seeds, state.steps + 1, shape=state.shape)
        p, rows = run["p"], np.arange(len(run["p"]))
        run["logs"] = np.empty_like(p)
        core.logarithm(np.ascontiguousarray(p), None, 0, run["logs"])
        drawn = np.where(run["found"] & ~run["soft"], run["logs"][rows, run["at"]], self.dtype.type(0))
        with np.errstate(invalid="ignore"):
            entropy = np.cumsum(np.where(p == 0, self.dtype.type(0), -p * run["logs"]), axis=-1)[:, -1]
        sums = state.log_probability + drawn, state.entropy + entropy
        return SampledState(state.seeds, state.steps + 1, *sums, shape=state.shape)

    def step_vjp(
        self, query: Array, prepared: HardPrepared, state: Any
    ) -> tuple[Array, Array, SampledState, StepBackward]:
        query = self.check_query(query, prepared, state)
        check_whole(prepared)
        prepared.count()
        inner = self.align.step_vjp(query, prepared.inner, AttentionState())
        run = self._run(query, prepared, state, inner)

        def backward(d_context: Array, d_weights: Array | None, d_state: Any) -> tuple[Array, AttentionState | None]:
            if "one_hot" in run:
                prepared.tape.append(SummedStep(run["one_hot"], d_context))
            if state.seeds is None or "one_hot" not in run:
                return np.zeros((prepared.batch, self.query_width), self.dtype), d_state
            if "y" in run:
                d_p = self._gumbel_vjp(prepared, run, d_context, d_weights)
            else:
                d_p = self._reinforce_vjp(run, d_weights, d_state)
            d_soft = np.where(run["soft"][:, None], d_context, self.dtype.type(0))
            return inner[3](d_soft, d_p, None)[0], d_state

        context, weights, after = run["context"], run["weights"], run["after"]
        return context, weights, after, StepBackward(backward, context, weights, after)

    def _reinforce_vjp(self, run: dict[str, Any], d_weights: Array | None, d_state: Any) -> Array:
        """Return the gradient of p: through log p(s) and the entropy, and for soft samples that of the weights."""
        p, soft, at = run["p"], run["soft"], run["at"]
        d_p = np.zeros_like(p)
        if d_weights is not None:
            d_p += np.where(soft[:, None], d_weights, self.dtype.type(0))
        if d_state is not None and d_state.log_probability is not None:
            rows = np.flatnonzero(run["found"] & ~soft)
            d_p[rows, at[rows]] += d_state.log_probability[rows] / p[rows, at[rows]]
        if d_state is not None and d_state.entropy is not None:
            d_p -= np.where(p == 0, self.dtype.type(0), run["logs"] + 1) * d_state.entropy[:, None]
        return d_p

    def _gumbel_vjp(
        self, prepared: HardPrepared, run: dict[str, Any], d_context: Array, d_weights: Array | None
    ) -> Array:
        """Return the gradient of p through y, taken for the one-hot weights."""
        p, y = run["p"], run["y"]
        d_y = np.zeros_like(p) if d_weights is None else d_weights.copy()
        for b, n in enumerate(prepared.lengths):
            d_y[b, :n] += linear.matmul(prepared.summed[b, :n], np.ascontiguousarray(d_context[b, :, None]))[:, 0]
        d_y = np.where(p == 0, self.dtype.type(0), d_y)
        d_logs = functional.softmax_vjp(y, d_y) / self.dtype.type(self.temperature)
        safe = np.where(p == 0, self.dtype.type(1), p)
        return np.where(p == 0, self.dtype.type(0), d_logs / safe)

    def finish(self, prepared: HardPrepared) -> MemoryGradient:
        tape, _ = self.take(prepared)
        gradient = self.align.finish(prepared.inner)
        d_values = gathered_values(tape, prepared)
        return (gradient[0], gradient[1] + d_values) if isinstance(gradient, tuple) else gradient + d_values


class MovingBaseline:
    """The moving average ``b_k = decay b_{k-1} + (1 - decay) mean R_k`` of Xu et al. 2015, section 4.1.

    Parameters
    ----------
    decay : float
        0.9 in the paper.

    Attributes
    ----------
    value : float
        b; 0 at the beginning.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.variants.hard import MovingBaseline
    >>> baseline = MovingBaseline()
    >>> baseline.advantage(np.array([-4.0, -2.0])), round(baseline.value, 3)
    (array([-3.7, -1.7]), -0.3)
    """

    def __init__(self, decay: float = 0.9) -> None:
        if not 0 <= check_number("decay", decay, "0.9 is the paper's.") < 1:
            raise ArgumentError(describe("decay", "a number from 0 to 1, without 1", decay, "0.9 is the paper's."))
        self.decay, self.value = decay, 0.0

    def advantage(self, rewards: Array) -> Array:
        """Take in the rewards (B,) of a batch, and return what they are above the average."""
        rewards = float_array("rewards", rewards)
        if rewards.ndim != 1:
            hint = "pass one reward a sample."
            raise ShapeError(describe("rewards", "shape (B,)", f"shape {rewards.shape}", hint))
        if len(rewards):
            mean = float(np.cumsum(rewards, dtype=np.float64)[-1]) / len(rewards)
            self.value = self.decay * self.value + (1 - self.decay) * mean
        advantage: Array = rewards - rewards.dtype.type(self.value)
        return advantage

    __repr__ = _reprs.attributes


def reinforce(state: Any, advantage: Array, *, reward: float = 1.0, entropy: float = 0.0) -> SampledState:
    """Return the d_state of the last step for a loss ``-(R + reward (R - b) log p(s) + entropy H(p))``.

    Parameters
    ----------
    state : SampledState
        After the last step.
    advantage : array, shape (B,)
        R - b; see `MovingBaseline`. Scale it as the loss is, by 1 / B for a mean.
    reward, entropy : float
        lambda_r and lambda_e of the paper, which leaves them to cross-validation.
    """
    if not isinstance(state, SampledState):
        hint = "pass what the last step returned."
        raise DTypeError(describe("state", "a SampledState", type(state).__name__, hint))
    if state.log_probability is None:
        hint = "make the variant with training='reinforce', and start with seeds."
        raise ArgumentError(describe("state", "one with log_probability", "one without", hint))
    kind = state.log_probability.dtype.type
    advantage = gradient_array("advantage", advantage, state.log_probability.shape, state.log_probability.dtype)
    return SampledState(
        log_probability=-kind(reward) * advantage, entropy=np.full(len(advantage), -kind(entropy), kind)
    )
