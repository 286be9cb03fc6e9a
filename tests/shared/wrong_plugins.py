"""Plugins with one fault each, and the check that must find it."""

import ctypes
import os
import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from fastattn import linear
from fastattn.attention import AttentionOutput
from fastattn.errors import ShapeError
from fastattn.normalizers import Entmax, RowFunctions
from fastattn.plugin import ScoreRecord, VariantRecord
from fastattn.scores import Dot as DotScore
from fastattn.scores import General as GeneralScore
from fastattn.scores import ScaledDot as ScaledDotScore
from fastattn.variants import AttentionState
from fastattn.variants.soft import Soft, SoftPrepared


def reference(parameters, queries, memory, values, allowed):
    scores = np.where(allowed[:, None], np.einsum("btd,bsd->bts", queries, memory) / np.sqrt(memory.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bts,bsd->btd", weights, values), weights


class Plain(Soft):
    """A variant of a score, of one width where the score has no parameters."""

    score_class = ScaledDotScore

    def __init__(self, *, query_width, memory_width, rng=None, dtype=np.float32):
        kind = self.score_class
        if kind.one_width and query_width != memory_width:
            raise ShapeError("of one width, as their formulas here are")
        score = kind.drawn(query_width, memory_width, rng=rng, dtype=dtype) if hasattr(kind, "drawn") else kind()
        super().__init__(score, query_width=query_width, memory_width=memory_width, rng=rng, dtype=dtype)


class Dot(Plain):
    """No fault."""

    score_class = DotScore


class Right(Plain):
    """No fault."""


class WrongScale(Right):
    class score_class(ScaledDotScore):
        def default_scale(self, width):
            return 1 / width


class WrongInFloat32(Right):
    class score_class(ScaledDotScore):
        def project_query(self, query):
            return super().project_query(query if query.dtype == np.float64 else query * np.float32(1.001))


class Polarity(Right):
    def prepare(self, memory, lengths=None, mask=None, **more):
        return super().prepare(memory, lengths, None if mask is None else ~mask, **more)


class IgnoresMask(Right):
    def prepare(self, memory, lengths=None, mask=None, **more):
        return super().prepare(memory, lengths, None, **more)


class LeaksPadding(Right):
    class score_class(ScaledDotScore):
        def project_key(self, memory):
            return memory + memory.mean(axis=1, keepdims=True)


class ReadsPadding(Right):
    def forward(self, queries, prepared, **more):
        output = super().forward(queries, prepared, **more)
        nothing = prepared.memory.sum() * 0
        return (
            output + nothing if isinstance(output, np.ndarray) else AttentionOutput(*(x + nothing for x in output[:2]))
        )


class WritesInput(Right):
    class score_class(ScaledDotScore):
        def project_query(self, query):
            if query.flags.writeable:
                query += 0
                query[..., 0] = np.nextafter(query[..., 0], 1)
            return query


class WritesState(Right):
    """Its step counts how often each position was attended to, in the mask that it was given."""

    def step(self, query, prepared, state):
        found = super().step(query, prepared, state)
        prepared.memory[...] = prepared.memory * 1.0000001
        return found


class WrongGradient(Plain):
    class score_class(GeneralScore):
        def key_vjp(self, key, d_projected):
            return d_projected * key.dtype.type(0.5)


class NoParameterGradient(Plain):
    class score_class(GeneralScore):
        def query_gradients(self, query, d_projected):
            return {}


class SetsGradient(Plain):
    score_class = GeneralScore

    def accumulate(self, gradients):
        for parameter in self.trained.values():
            parameter.gradient[...] = 0
        super().accumulate(gradients)


class EmptyRows(Right):
    def forward(self, queries, prepared, **more):
        output = super().forward(queries, prepared, **more)
        empty = ~prepared.allowed().any(-1)
        (output if isinstance(output, np.ndarray) else output.context)[empty] = np.nan
        return output


class WrongWeights(Right):
    def forward(self, queries, prepared, **more):
        output = super().forward(queries, prepared, **more)
        if isinstance(output, np.ndarray):
            return output
        return AttentionOutput(output.context, output.weights * output.weights.dtype.type(0.5))


class StepsApart(Right):
    def step(self, query, prepared, state):
        context, weights, state = super().step(query, prepared, state)
        return context * context.dtype.type(1 + 1e-7), weights, state


class StepGradients(Right):
    class score_class(ScaledDotScore):
        def query_vjp(self, query, d_projected):
            return d_projected * (2 if query.ndim == 2 else 1)


class DependsOnBatch(Right):
    class score_class(ScaledDotScore):
        def project_query(self, query):
            return query * query.dtype.type(1 + 1e-6 * len(query))


class DependsOnPadding(Right):
    class score_class(ScaledDotScore):
        def project_key(self, memory):
            return memory * memory.dtype.type(1 + 1e-6 * memory.shape[1])


class DependsOnStrides(Right):
    class score_class(ScaledDotScore):
        def project_key(self, memory):
            return memory if memory.flags.c_contiguous else memory * memory.dtype.type(1 + 1e-6)


class DependsOnThreads(Right):
    class score_class(ScaledDotScore):
        def project_query(self, query):
            import fastattn

            return query * query.dtype.type(1 + 1e-6 * fastattn.get_num_threads())


class DependsOnProcess(Right):
    class score_class(ScaledDotScore):
        HERE = os.getpid()

        def project_query(self, query):
            return query * query.dtype.type(1 if os.getpid() == self.HERE else 1 + 1e-6)


class Counts(Right):
    class score_class(ScaledDotScore):
        calls = 0

        def project_query(self, query):
            type(self).calls += 1
            return query * query.dtype.type(1 + 1e-6 * self.calls)


class KeepsPacked(Plain):
    """Packs its matrix once and for all, and never hears of a new value."""

    class score_class(GeneralScore):
        def project_query(self, query):
            self.kept = getattr(self, "kept", None) or linear.PackedWeights(self.parameters["w"])
            return self.kept.matmul(query)


class WrongShape(Right):
    def forward(self, queries, prepared, **more):
        output = super().forward(queries, prepared, **more)
        if isinstance(output, np.ndarray):
            return output
        return AttentionOutput(output.context, output.weights.transpose(0, 2, 1))


class WrongDtype(Right):
    def forward(self, queries, prepared, **more):
        output = super().forward(queries, prepared, **more)
        if isinstance(output, np.ndarray):
            return output.astype(np.float64)
        return AttentionOutput(*(x.astype(np.float64) for x in output[:2]))


class ForgetsRows(Right):
    def step(self, query, prepared, state):
        if prepared.rows is not None:
            prepared, state = (x.select(np.zeros(prepared.batch, int)) for x in (prepared, state))
        return super().step(query, prepared, state)


class Overflows(Plain):
    """A softmax without the largest score taken off."""

    class score_class(DotScore):
        def project_key(self, key):
            return key * np.exp(key)


class TakesAnything(Right):
    def _float(self, name, value, shape):
        return np.asarray(value)


class ScoreSumsOfNumpy(DotScore):
    """Its weights of channels have a gradient that NumPy sums over samples and keys, in an order of its own."""

    def __init__(self, w):
        super().__init__()
        self.parameters = {"w": w}

    @classmethod
    def drawn(cls, query_width, key_width, *, rng, dtype):
        return cls(rng.uniform(0.5, 1.5, key_width).astype(dtype))

    def project_key(self, key):
        return key * self.parameters["w"]

    def key_vjp(self, key, d_projected):
        return d_projected * self.parameters["w"]

    def key_gradients(self, key, d_projected):
        read = np.where(d_projected == 0, 0, key)
        return {"w": (d_projected * read).sum(tuple(range(key.ndim - 1)))}


class SumsOfNumpy(Plain):
    """Sums over samples and positions as NumPy does, in an order that depends on their number where a row is narrow."""

    score_class = ScoreSumsOfNumpy


class SumsOfBlas(Plain):
    """The same by a product of matrices, whose order depends on their sizes."""

    class score_class(ScoreSumsOfNumpy):
        def key_gradients(self, key, d_projected):
            rows = (d_projected * np.where(d_projected == 0, 0, key)).reshape(-1, key.shape[-1])
            return {"w": np.ones(len(rows), key.dtype) @ rows}


class UncheckedSteps(Right):
    """The backward pass of a step takes any gradient, cut and repeated to what it needs."""

    def step_vjp(self, query, prepared, state):
        context, weights, state, right = super().step_vjp(query, prepared, state)

        def backward(d_context, d_weights=None, d_state=None):
            return right(np.resize(np.asarray(d_context, context.dtype), context.shape))

        return context, weights, state, backward


class StepsBackTwice(Right):
    """The backward pass of a step may be called again, and leaves its part for `finish` twice."""

    def step_vjp(self, query, prepared, state):
        context, weights, state, right = super().step_vjp(query, prepared, state)

        def backward(*gradients):
            function = right._function
            found = right(*gradients)
            right._function = function
            return found

        return context, weights, state, backward


class KeepsGradients(Right):
    """Reads the gradients of its steps in `finish`, where the caller has them."""

    def step_vjp(self, query, prepared, state):
        context, weights, state, right = super().step_vjp(query, prepared, state)

        def backward(d_context=None, *more):
            found = right(d_context, *more)
            self.kept = [*getattr(self, "kept", ()), (d_context, np.copy(d_context))]
            return found

        return context, weights, state, backward

    def finish(self, prepared):
        kept, self.kept = getattr(self, "kept", ()), ()
        changes = sum((now - then).sum() for now, then in kept)
        return super().finish(prepared) + prepared.memory.dtype.type(changes)


class _RowsFromTheEnd(SoftPrepared):
    def select(self, rows):
        return super().select(np.asarray(rows) % self.batch)


class RowsFromTheEnd(Right):
    def extend(self, prepared):
        made = super().extend(prepared)
        made.__class__ = _RowsFromTheEnd
        return made


class _KeepsRows(SoftPrepared):
    def select(self, rows):
        other = super().select(rows)
        vars(other)["rows"] = rows
        return other


class KeepsRows(Right):
    """Keeps the caller's array of rows, and reads it at every step."""

    def extend(self, prepared):
        made = super().extend(prepared)
        made.__class__ = _KeepsRows
        return made

    def step(self, query, prepared, state):
        context, weights, state = super().step(query, prepared, state)
        if prepared.rows is not None:
            weights = weights * (prepared.rows >= 0)[:, None] + (prepared.rows == 1)[:, None]
        return context, weights.astype(context.dtype), state


@dataclass(frozen=True)
class Total(AttentionState):
    total: np.ndarray


class UndeclaredState(Right):
    """Carries the weights so far, and does not say of what memory they are."""

    states = (Total,)

    def start(self, prepared):
        return Total(np.zeros((prepared.batch, prepared.keys), self.dtype))

    def step(self, query, prepared, state):
        context, weights, _ = super().step(query, prepared, state)
        return context, weights, Total(np.resize(state.total, weights.shape) + weights)


class AnyMemory(Right):
    """Takes what another variant prepared."""

    def check_query(self, query, prepared, state):
        return self._float("query", query, (prepared.batch, self.query_width))

    def check_queries(self, queries, prepared, state):
        return self._float("queries", queries, (prepared.batch, "Tq", self.query_width))


class MadeByTheClock(Plain):
    score_class = GeneralScore

    def __init__(self, **options):
        super().__init__(**{**options, "rng": np.random.default_rng()})


class ScoreWrongGradient(GeneralScore):
    def query_gradients(self, query, d_projected):
        return {name: 2 * gradient for name, gradient in super().query_gradients(query, d_projected).items()}


class ScoreForgetsParameter(GeneralScore):
    def query_gradients(self, query, d_projected):
        return {}


class ScoreLeaks(DotScore):
    def project_key(self, key):
        return key - key.mean(axis=-2, keepdims=True)


class ScoreWrites(DotScore):
    def project_query(self, query):
        query *= 1
        return query


class ScoreWrongFormula(DotScore):
    def default_scale(self, width):
        return 1.0 / width


def softmax_of_rows(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def dots(parameters, query, key, scale):
    return np.einsum("bqd,bkd->bqk", query, key)


MATRIX = {"w": lambda rng, query, key, dtype: rng.normal(size=(query, key)).astype(dtype)}

ROW = ctypes.CFUNCTYPE(None, *[ctypes.POINTER(ctypes.c_double)] * 2, ctypes.c_int64)
WAY_BACK = ctypes.CFUNCTYPE(None, *[ctypes.POINTER(ctypes.c_double)] * 4, ctypes.c_int64)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def softmax_back(z, p, d):
    return p * (d - (p * d).sum())


def no_total(z):
    return 0.9 * softmax(z)


def no_maximum(z):
    with np.errstate(all="ignore"):
        e = np.exp(z)
        return e / e.sum()


def upside_down(z):
    return softmax(-z)


def halved_back(z, p, d):
    return softmax_back(z, p, d) / 2


def by_position(z):
    return softmax(z + 1e-3 * np.arange(len(z)))


def normalizer(weights, gradient=softmax_back):
    """A normalizer of NumPy functions: slow, but with any fault one likes."""

    def forward(scores, out, n):
        np.ctypeslib.as_array(out, (n,))[:] = weights(np.ctypeslib.as_array(scores, (n,)))

    def backward(scores, p, d, out, n):
        arrays = [np.ctypeslib.as_array(x, (n,)) for x in (scores, p, d)]
        np.ctypeslib.as_array(out, (n,))[:] = gradient(*arrays)

    return lambda: RowFunctions(ROW(forward), WAY_BACK(backward))


class SumsOfRows(Entmax):
    """Its gradient of alpha is summed as NumPy does."""

    def reduce(self, d_alpha):
        return {"alpha": np.asarray(d_alpha.sum(), np.asarray(self.alpha).dtype)}


NORMALIZERS = {
    "no_total": (normalizer(no_total, lambda z, p, d: 0.9 * softmax_back(z, p / 0.9, d)), "rows_are_distributions"),
    "no_maximum": (normalizer(no_maximum), "large_scores"),
    "upside_down": (normalizer(upside_down, lambda z, p, d: -softmax_back(z, p, d)), "larger_scores_weigh_more"),
    "halved_gradient": (normalizer(softmax, halved_back), "gradients"),
    "by_position": (normalizer(by_position), "formula"),
    "sums_of_rows": (lambda: SumsOfRows(alpha=np.array(1.3)), "order_of_sums"),
}

# What is wrong, and the check that must fail; others may fail too.
VARIANTS = {
    WrongScale: "formula",
    WrongInFloat32: "formula",
    Polarity: "masks",
    IgnoresMask: "masks",
    LeaksPadding: "poison_in_padding",
    ReadsPadding: "poison_in_padding",
    WritesInput: "inputs_untouched",
    WritesState: "inputs_untouched",
    WrongGradient: "gradients",
    NoParameterGradient: "gradients",
    SetsGradient: "gradients_add_up",
    EmptyRows: "empty_rows",
    WrongWeights: "weights_agree_with_context",
    StepsApart: "steps_against_all_at_once",
    StepGradients: "step_gradients",
    DependsOnBatch: "any_batch_and_position",
    DependsOnPadding: "any_padding",
    DependsOnStrides: "any_strides",
    DependsOnThreads: "any_number_of_threads",
    DependsOnProcess: "forked_child",
    Counts: "repeated_runs",
    KeepsPacked: "saved_and_loaded",
    WrongShape: "shapes_and_dtypes",
    WrongDtype: "shapes_and_dtypes",
    ForgetsRows: "selected_rows",
    Overflows: "large_scores",
    TakesAnything: "wrong_calls",
    MadeByTheClock: "can_be_made",
    SumsOfNumpy: "order_of_sums",
    SumsOfBlas: "order_of_sums",
    UncheckedSteps: "step_gradients_are_checked",
    StepsBackTwice: "step_gradients_are_checked",
    KeepsGradients: "step_gradients_are_checked",
    RowsFromTheEnd: "rows_are_checked",
    KeepsRows: "rows_are_checked",
    UndeclaredState: "states_are_checked",
    AnyMemory: "memories_are_checked",
}
SCORES = {
    ScoreWrongGradient: (MATRIX, None, "gradients"),
    ScoreForgetsParameter: (MATRIX, None, "gradients"),
    ScoreSumsOfNumpy: ({"w": lambda rng, query, key, dtype: rng.normal(size=key).astype(dtype)}, None, "order_of_sums"),
    ScoreLeaks: ({}, None, "poison_in_padding"),
    ScoreWrites: ({}, None, "inputs_untouched"),
    ScoreWrongFormula: ({}, dots, "formula"),
}


def module(**names):
    made = ModuleType("wrong")
    vars(made).update(names)
    sys.modules.pop("wrong", None)
    return made


def raises_on_import():
    raise ImportError("libwrong.so: cannot open shared object file")


def bad_hook():
    raise RuntimeError("no connection")


def nothing():
    return []


PLUGINS = {
    "raises on import": (raises_on_import, "loads"),
    "raises in a hook": (module(fastattn_variants=bad_hook), "loads"),
    "wrong record": (module(fastattn_scores=lambda: [VariantRecord("right", Right)]), "loads"),
    "misspelt hook": (
        module(fastattn_variants=lambda: [VariantRecord("right", Right)], fastattn_score=nothing), "hooks",
    ),
    "missing module": (module(fastattn_scores=lambda: [ScoreRecord("gone", "no.such.module:Gone")]), "factories"),
}  # fmt: skip
