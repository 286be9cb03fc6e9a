"""Coverage kept by a recurrent network: a vector at each position, which remembers what attention has been there."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastattn import functional, linear
from fastattn._kernels import core
from fastattn.layers import Linear, Parameter
from fastattn.scores.base import KERNEL_ADDITIVE
from fastattn.variants.protocol.checks import check_size, check_whole
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.state import per_sample
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant
from fastattn.variants.recall import RecallStep, gathered_values

__all__ = ["NeuralCoverage", "NeuralCoverageState"]


@dataclass(frozen=True)
class NeuralCoverageState(AttentionState):
    """What was attended to so far.

    Attributes
    ----------
    coverage : array, shape (B, S, d)
        C of the step before.
    """

    coverage: Array = field(metadata=per_sample("S", "coverage_width"))


@dataclass(slots=True)
class NeuralCoverageStep(RecallStep):
    """What a backward step leaves for `finish`: besides, the gradient of the query's part of the gates."""

    d_gates: Array | None


class NeuralCoveragePrepared(Prepared):
    """A memory with its keys and its part of the gates.

    Attributes
    ----------
    key : array, shape (B, S, Da)
    gates : array, shape (B, S, 3 d)
        Of zeros, where nothing may be read.
    """

    key: Array
    gates: Array
    tape: Tape[NeuralCoverageStep]


class NeuralCoverage(Variant[NeuralCoveragePrepared]):
    """Attention of Tu, Lu, Liu, Liu, Li 2016 (arXiv:1601.04811), section 3.1.2, with gated coverage.

    ::

        e_tj = v . tanh(q_t W_q + m_j W_m + C_{t-1,j} U),     a_t = softmax(e_t),     C_0 = 0
        r, z = sigmoid(x_tj + C_{t-1,j} U_r),  ...,           x_tj = a_tj w_a + m_j W_x + q_t W_s + b
        n = tanh(x_tj + (r C_{t-1,j}) U_n),                   C_tj = (1 - z) n + z C_{t-1,j}

    with columns of x of their own for r, z and n: a GRU (Cho et al. 2014) at each position, the same at all, whose
    inputs are the weight, the row of the memory and the query.

    Parameters
    ----------
    query_width, memory_width : int
    width : int
        Da, of the layer between.
    coverage_width : int
        d; 10 in the paper.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    query, key : Linear
        W_q and W_m.
    v : Parameter, shape (Da,)
    u : Parameter, shape (d, Da)
        U; V_a in the paper.
    weight_gates : Parameter, shape (1, 3 d)
        w_a, columns of r, z and n in this order.
    memory_gates : Linear
        W_x (Dm, 3 d), with b.
    query_gates : Linear
        W_s (Dq, 3 d).
    gates, candidate : Parameter, shapes (d, 2 d) and (d, d)
        U_r with U_z, and U_n.

    Notes
    -----
    A step costs B S (3 d d + d Da) multiply-adds more than one of "coverage", and writes keys (B, S, Da), which the
    backward pass makes anew; of each step coverage and gates are kept, 5 B S d numbers. After `Prepared.select` a step
    copies the rows of keys and values. In the paper z and 1 - z change places. Linguistic coverage, section 3.1.1, is
    ``create("coverage", fertility=2.0)``.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> sizes = {"query_width": 3, "memory_width": 5, "width": 8, "coverage_width": 4}
    >>> variant = fastattn.create("neural_coverage", **sizes, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 6, 5), np.float32))
    >>> context, weights, state = variant.step(np.ones((2, 3), np.float32), prepared, variant.start(prepared))
    >>> weights.shape, state.coverage.shape
    ((2, 6), (2, 6, 4))
    """

    name = "neural_coverage"
    states = (NeuralCoverageState,)

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        coverage_width: int = 10,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype)
        self.width, d = check_size("width", width), check_size("coverage_width", coverage_width)
        self.coverage_width = d
        self.query = Linear(query_width, width, bias=False, rng=rng, dtype=dtype)
        self.key = Linear(memory_width, width, bias=False, rng=rng, dtype=dtype)
        self.v = Parameter((rng.uniform(-1, 1, width) * math.sqrt(3 / width)).astype(dtype))
        bound = 1 / math.sqrt(d)

        def draw(rows: int, columns: int) -> Parameter:
            return Parameter(rng.uniform(-bound, bound, (rows, columns)).astype(dtype))

        self.u = draw(d, width)
        self.weight_gates = draw(1, 3 * d)
        self.memory_gates = Linear(memory_width, 3 * d, rng=rng, dtype=dtype)
        self.query_gates = Linear(query_width, 3 * d, bias=False, rng=rng, dtype=dtype)
        self.gates, self.candidate = draw(d, 2 * d), draw(d, d)

    def extend(self, prepared: Prepared) -> NeuralCoveragePrepared:
        made = NeuralCoveragePrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.key = self.key.forward(made.memory)
        # Where nothing may be read, any coverage does that is not NaN.
        made.gates = np.where(made.allowed()[..., None], self.memory_gates.forward(made.memory), self.dtype.type(0))
        return made

    def start(self, prepared: Prepared) -> NeuralCoverageState:
        check_prepared(prepared, self)
        coverage = np.zeros((*prepared.shape, self.coverage_width), self.dtype)
        return NeuralCoverageState(coverage, shape=prepared.shape)

    def step(
        self, query: Array, prepared: NeuralCoveragePrepared, state: Any
    ) -> tuple[Array, Array | None, NeuralCoverageState]:
        query = self.check_query(query, prepared, state)
        context, weights, _ = self._attend(query, prepared, state.coverage)
        after = self._cover(query, prepared, state.coverage, weights)["after"]
        return context, weights, NeuralCoverageState(after, shape=state.shape)

    def _attend(
        self, query: Array, prepared: NeuralCoveragePrepared, coverage: Array
    ) -> tuple[Array, Array, core.Steps]:
        """Return contexts and weights, and the kernel's call that can go back."""
        batch, keys = prepared.batch, prepared.keys
        key, summed = prepared.key, prepared.summed
        if prepared.rows is not None:
            key, summed = key[prepared.rows], summed[prepared.rows]
        covered = self.u.packed().matmul(coverage)
        covered += key
        call = core.Steps(
            self.query.forward(query)[:, None], core.Keys(covered, core.unit(summed)),
            core.KernelScore(KERNEL_ADDITIVE, vector=self.v.value), 1.0, np.zeros_like(prepared.lengths),
            prepared.lengths, prepared.mask,
        )  # fmt: skip
        context = np.empty((batch, summed.shape[-1]), self.dtype)
        weights = np.empty((batch, keys), self.dtype)
        call.forward(context, weights, weights, np.empty(batch, self.dtype))
        return context, weights, call

    def _cover(self, query: Array, prepared: NeuralCoveragePrepared, before: Array, weights: Array) -> dict[str, Array]:
        """Return the coverage after a step, and what the backward pass needs."""
        d = self.coverage_width
        gates = prepared.gates if prepared.rows is None else prepared.gates[prepared.rows]
        x = gates + self.query_gates.forward(query)[:, None]
        x += weights[..., None] * self.weight_gates.value
        rz = functional.sigmoid(x[..., : 2 * d] + self.gates.packed().matmul(before))
        r, z = rz[..., :d], rz[..., d:]
        n = functional.tanh(x[..., 2 * d :] + self.candidate.packed().matmul(r * before))
        return {"before": before, "rz": rz, "n": n, "after": (1 - z) * n + z * before}

    def _cover_vjp(self, run: dict[str, Array], d_after: Array, sums: dict[str, Array]) -> tuple[Array, Array]:
        """Return the gradients of x (B, S, 3 d) and of the coverage before; add to sums of what acts on coverage."""
        d, before, n = self.coverage_width, run["before"], run["n"]
        r, z = run["rz"][..., :d], run["rz"][..., d:]
        d_x = np.empty((*before.shape[:2], 3 * d), self.dtype)
        d_n = d_x[..., 2 * d :] = d_after * (1 - z) * (1 - n * n)
        d_reset = self.candidate.packed().matmul_transposed(d_n)
        d_x[..., :d] = d_reset * before * r * (1 - r)
        d_x[..., d : 2 * d] = d_after * (before - n) * z * (1 - z)
        d_before = d_after * z + d_reset * r + self.gates.packed().matmul_transposed(d_x[..., : 2 * d])
        linear.weight_gradient(r * before, d_n, sums["candidate"])
        linear.weight_gradient(before, d_x[..., : 2 * d], sums["recurrent_gates"])
        return d_x, d_before

    def step_vjp(
        self, query: Array, prepared: NeuralCoveragePrepared, state: Any
    ) -> tuple[Array, Array, NeuralCoverageState, StepBackward]:
        query = self.check_query(query, prepared, state)
        check_whole(prepared)
        context, weights, _ = self._attend(query, prepared, state.coverage)
        run = self._cover(query, prepared, state.coverage, weights)
        after = NeuralCoverageState(run["after"], shape=state.shape)
        number = prepared.count()

        def backward(d_context: Array, d_weights: Array | None, d_state: Any) -> tuple[Array, NeuralCoverageState]:
            sums, before = prepared.sums.at(number, lambda: self._zeros(prepared)), run["before"]
            d_query = d_before = d_gates = None
            if d_state is not None:
                d_x, d_before = self._cover_vjp(run, d_state.coverage, sums)
                sums["gates"] += d_x
                linear.weight_gradient(weights[..., None], d_x, sums["weight_gates"])
                # A running sum has one order whatever the padding, where zeros are added.
                shape = prepared.batch, d_x.shape[-1]
                d_gates = linear.row_sum(d_x.transpose(1, 0, 2).reshape(prepared.keys, math.prod(shape))).reshape(shape)
                d_query = self.query_gates.w.packed().matmul_transposed(d_gates)
                through = self.weight_gates.packed().matmul_transposed(d_x)[..., 0]
                d_weights = through if d_weights is None else d_weights + through
            call = self._attend(query, prepared, before)[2]
            d_key = np.zeros((*weights.shape, self.width), self.dtype)
            d_projected = np.empty((prepared.batch, self.width), self.dtype)
            call.backward(
                d_context, None if d_weights is None else np.ascontiguousarray(d_weights), d_projected, None, None,
                d_key, sums["v"], None, None,
            )  # fmt: skip
            sums["key"] += d_key
            linear.weight_gradient(before, d_key, sums["u"])
            d_coverage = self.u.packed().matmul_transposed(d_key)
            prepared.tape.append(NeuralCoverageStep(weights, d_context, query, d_projected, d_gates))
            through_score = self.query.w.packed().matmul_transposed(d_projected)
            return (
                through_score if d_query is None else through_score + d_query,
                NeuralCoverageState(d_coverage if d_before is None else d_coverage + d_before),
            )

        return context, weights, after, StepBackward(backward, context, weights, after)

    def _of_steps(self) -> dict[str, Parameter]:
        """The parameters that each step sums over the batch."""
        return {"u": self.u, "weight_gates": self.weight_gates, "recurrent_gates": self.gates,
                "candidate": self.candidate}  # fmt: skip

    def _zeros(self, prepared: Prepared) -> dict[str, Array]:
        shapes = {"key": self.width, "gates": 3 * self.coverage_width}
        sums = {name: np.zeros((*prepared.shape, width), self.dtype) for name, width in shapes.items()}
        sums["v"] = np.zeros((prepared.batch, self.width), self.dtype)
        return sums | {name: np.zeros_like(parameter.value) for name, parameter in self._of_steps().items()}

    def finish(self, prepared: NeuralCoveragePrepared) -> MemoryGradient:
        tape, sums = self.take(prepared)
        sums = sums or self._zeros(prepared)
        memory, bias = prepared.memory, self.memory_gates.b
        assert bias is not None
        self.v.accumulate(linear.row_sum(sums["v"]))
        for name, parameter in self._of_steps().items():
            parameter.accumulate(sums[name])
        linear.weight_gradient(memory, sums["key"], self.key.w.gradient)
        linear.weight_gradient(memory, sums["gates"], self.memory_gates.w.gradient, sums=bias.gradient)
        d_memory = self.key.w.packed().matmul_transposed(sums["key"])
        d_memory += self.memory_gates.w.packed().matmul_transposed(sums["gates"])
        for layer, name in ((self.query, "d_projected"), (self.query_gates, "d_gates")):
            steps = [step for step in tape if getattr(step, name) is not None]
            if steps:
                queries, found = (np.stack([getattr(step, part) for step in steps]) for part in ("query", name))
                linear.weight_gradient(queries, found, layer.w.gradient)
        return prepared.gradient(d_memory, gathered_values(tape, prepared))
