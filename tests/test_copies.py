"""Whatever holds state can be copied and pickled, before and after its use, and goes on with the same bits.

A public class that no case below makes, and that is not excused with a reason, fails
`test_every_public_class_has_a_case`.
"""

import copy
import ctypes
import importlib
import inspect
import multiprocessing
import os
import pickle
import pkgutil
import sys
import typing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import seq2seq_cases
import variant_cases
from seq2seq_cases import SOURCE_SIZE, TARGET_SIZE

import fastattn
from fastattn import errors, grid, layers, linear, normalizers, optim, plugin, positions, scale, scores, seq2seq
from fastattn.plugin import provider
from fastattn.seq2seq import metrics, quickstart
from fastattn.seq2seq.models import multihead as heads
from fastattn.seq2seq.models import recurrence, tied
from fastattn.seq2seq.runs import durable, report, signals, sizes, training, validation
from fastattn.variants import hard
from fastattn.verify import onnx as verified

PACKAGE = Path(fastattn.__file__).parent


def rng():
    return np.random.default_rng(0)


def ones(*shape, dtype=np.float32):
    return (np.arange(np.prod(shape, dtype=int)) % 7 / 7).reshape(shape).astype(dtype)


def pickled(made):
    return pickle.loads(pickle.dumps(made))


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickled}


def fields(made):
    """What is in an object: attributes, slots, elements."""
    if isinstance(made, dict):
        return [*made.values()]
    if isinstance(made, (list, tuple, set, frozenset)):
        return list(made)
    found = list(getattr(made, "__dict__", {}).values())
    for cls in type(made).__mro__:
        found += [getattr(made, name) for name in getattr(cls, "__slots__", ()) if hasattr(made, name)]
    return found


def parts(made, seen=None):
    """An object and all that it is made of."""
    seen = {} if seen is None else seen
    if id(made) not in seen and not isinstance(made, (str, bytes, int, float, type(None), type, np.ndarray)):
        seen[id(made)] = made
        for part in fields(made):
            parts(part, seen)
    return seen.values()


def facts(made):
    """Something to compare: arrays as their bytes, objects as their type and parts."""
    if isinstance(made, np.ndarray):
        return made.shape, made.dtype.str, made.tobytes()
    if isinstance(made, BaseException):
        return type(made), str(made), facts(made.args), facts(vars(made))
    if isinstance(made, dict):
        return {key: facts(value) for key, value in made.items()}
    if isinstance(made, (list, tuple)):
        return [type(made).__name__, *map(facts, made)]
    if isinstance(made, linear.PackedWeights):
        return facts(made.unpack())
    if isinstance(made, (str, bytes, int, float, complex, type(None), type, os.PathLike)):
        return made
    return type(made), [facts(part) for part in fields(made)]


# Uses: what an object makes of fixed arrays, as something that `facts` understands.
def trained(layer, *arguments, **options):
    """All outputs and gradients of a layer."""
    *outputs, backward = layer.vjp(*arguments, **options)
    gradients = backward(ones_like(outputs[0]))
    return outputs, gradients, [parameter.gradient.copy() for parameter in layer.parameters().values()]


def ones_like(output):
    if isinstance(output, tuple):
        return tuple(map(ones_like, output))
    return np.ones_like(output)


def attended(score):
    q, k = ones(2, 3, 4), ones(2, 5, 4)[::-1]
    context, backward = fastattn.attention_vjp(q, k, k, score=score)
    return context, backward(np.ones_like(context)), fastattn.prepare(k, k, score=score).attend(q)


def normalized(normalizer):
    q, k = 5 * ones(2, 2, 3, 4), ones(2, 2, 5, 4)[::-1]
    context, backward = fastattn.attention_vjp(q, k, k, normalizer=normalizer)
    return context, backward(np.ones_like(context))


def placed(mechanism):
    if isinstance(mechanism, (positions.Sinusoidal2D, positions.Learned2D)):
        return mechanism.add(ones(2, 3, 4, 4)), mechanism.add_vjp(ones(2, 3, 4, 4))
    x, found = ones(2, 3, 70, 4), []
    if mechanism.adds:
        found.append(mechanism.add(x[0]))
    bias = mechanism.bias(2, 3, 5)
    found += [mechanism.turn(x, 70), bias and bias.array(3, 5)]
    return [*found, mechanism.scores(x, 0, 70)] if mechanism.content else found


def remembered(memory):
    q = ones(*memory.shape[:-1], 2, 4)
    return memory.attend(q), memory.extended(ones(*memory.shape[:-1], 3, 4), ones(*memory.shape[:-1], 3, 4)).attend(q)


def stepped(optimizer):
    for name, parameter in optimizer.parameters.items():
        parameter.accumulate(np.full(parameter.value.shape, 0.1 + len(name), parameter.value.dtype))
    optimizer.step()
    return optimizer.state(), [parameter.value.copy() for parameter in optimizer.parameters.values()]


def averaged(average):
    average.update(3)
    return dict(average.values)


def scheduled(schedule):
    schedule.observe(2.0)
    return [schedule.rate(step) for step in (1, 5, 50)], schedule.state()


def searched(model):
    batch = seq2seq_cases.random_pairs()
    seeds = np.arange(len(batch.source), dtype=np.uint64)
    loss, count, backward = model.loss_vjp(batch, seeds=seeds)
    backward(1.0)
    found = seq2seq.beam_search(model, batch.source, batch.source_lengths, size=2, limit=4)
    state = model.encode(batch.source, batch.source_lengths)
    *_, after, _ = model.step(np.full(len(batch.source), 1), pickled(state))
    stepped = model.step(np.full(len(batch.source), 3), pickled(after))[0]
    gradients = [parameter.gradient.copy() for parameter in model.parameters().values()]
    for parameter in model.parameters().values():
        parameter.gradient = np.zeros(parameter.value.shape)
    return loss, count, gradients, [[hypothesis.tokens for hypothesis in each] for each in found], stepped


def searched_alone(model):
    batch = seq2seq_cases.random_pairs()
    found = seq2seq.beam_search(model, batch.source, batch.source_lengths, size=2, limit=4)
    return [[hypothesis.tokens for hypothesis in each] for each in found], model.teacher_forcing(batch)


def translated(translator):
    return [translator.search(["ab", "", "ccc"], beam=2, weights=True), translator.translate(["abc"])]


def unchanged(made):
    return made


LETTERS = seq2seq.Vocabulary(["a", "b", "c"], "char")


def build(config):
    return seq2seq.build(config, SOURCE_SIZE, TARGET_SIZE, seed=0)


def translator():
    config = seq2seq_cases.CASES["bahdanau"]
    return seq2seq.Translator(
        seq2seq.build(config, len(LETTERS), len(LETTERS), seed=0), LETTERS, LETTERS, seq2seq.Config(model=config)
    )


def parameters():
    return {"w": layers.Parameter(ones(3, 2)), "b": layers.Parameter(ones(2))}


def recurrent_step(step):
    if isinstance(step, recurrence.GRUStep):
        return step.forward(ones(2, 12), ones(2, 4))
    return step.forward(ones(2, 16), ones(2, 4), ones(2, 4))


def errors_of(module):
    return [error for error in vars(module).values() if inspect.isclass(error) and issubclass(error, Exception)]


MODELS = {type(build(config)): config for config in seq2seq_cases.CASES.values()}
X, H = ones(2, 5, 3), ones(2, 4)
# Something that makes an object, and what uses it.
CASES = {
    "parameter": (lambda: layers.Parameter(ones(3, 2)), lambda p: [p.value, p.gradient, p.packed().matmul(X)]),
    "packed weights": (
        lambda: linear.PackedWeights(ones(3, 70)),
        lambda w: [w.matmul(X), w.matmul_transposed(ones(2, 70)), w.shape, str(w.dtype)],
    ),
    "linear": (lambda: layers.Linear(3, 70, rng=rng()), lambda layer: trained(layer, X)),
    "embedding": (lambda: layers.Embedding(9, 3, rng=rng()), lambda layer: trained(layer, np.array([1, 8]))),
    **{
        f"vocabulary of kind {kind}": (
            lambda kind=kind: seq2seq.Vocabulary.build(["a b", "b a"] * 9, kind, max_size=300, lowercase=True),
            lambda vocabulary: [vocabulary.split("A b c"), vocabulary.join(["a", "b"]), vocabulary.to_json()],
        )
        for kind in ("bpe", "sentencepiece", "tokenizer")
    },
    "tied": (
        lambda: tied.TiedEmbedding(layers.Linear(3, 9, rng=rng()).w),
        lambda layer: trained(layer, np.array([1, 8])),
    ),
    "layer norm": (lambda: layers.LayerNorm(3), lambda layer: trained(layer, X)),
    "feed forward": (lambda: layers.FeedForward(3, 9, rng=rng()), lambda layer: trained(layer, X)),
    "gru": (lambda: layers.GRU(3, 4, rng=rng()), lambda layer: trained(layer, X, H)),
    "gru cell": (lambda: layers.GRUCell(3, 4, reset="before", rng=rng()), lambda layer: trained(layer, X[:, 0], H)),
    "lstm": (lambda: layers.LSTM(3, 4, rng=rng()), lambda layer: trained(layer, X, (H, H), np.array([2, 5]))),
    "lstm cell": (lambda: layers.LSTMCell(3, 4, rng=rng()), lambda layer: trained(layer, X[:, 0], (H, H))),
    "stacked": (
        lambda: layers.Stacked(
            [layers.Bidirectional(layers.GRU(3, 4, rng=rng()), layers.GRU(3, 4, reverse=True, rng=rng()))] * 1
        ),
        lambda layer: trained(layer, X),
    ),
    "gru step": (lambda: recurrence.GRUStep(4, reset="after", rng=rng(), dtype=np.float32), recurrent_step),
    "lstm step": (lambda: recurrence.LSTMStep(4, rng=rng(), dtype=np.float32), recurrent_step),
    "self attention": (
        lambda: heads.SelfAttention(4, 2, bias=True, rng=rng(), dtype=np.float32),
        lambda layer: trained(layer, ones(2, 5, 4)),
    ),
    "cross attention": (
        lambda: heads.CrossAttention(4, 2, bias=True, rng=rng(), dtype=np.float32),
        lambda layer: layer.step(H, layer.prepare(ones(2, 5, 4), np.array([5, 2]))),
    ),
    **{
        f"score {score.name}": (lambda score=score: score, attended)
        for score in (
            scores.Dot(),
            scores.ScaledDot(softcap=2.0),
            scores.Cosine(),
            scores.General(ones(4, 4)),
            scores.Additive(ones(6), ones(4, 6), ones(4, 6), activation="sigmoid"),
            scores.Concat(ones(8, 6), ones(6)),
            scores.Location(ones(4, 9)),
            scores.NormedAdditive(ones(4), ones(1)),
            scores.L2(),
            scores.LinearCombination(ones(8), ones(1)),
        )
    },
    **{
        f"normalizer {one.name}": (lambda one=one: one, normalized)
        for one in (
            normalizers.Softmax(),
            normalizers.Sparsemax(),
            normalizers.Entmax15(),
            normalizers.Entmax(np.array([1.3, 1.7])),
        )
    },
    **{
        f"positions {name}": (
            lambda options=options: positions.create(
                options, width=4, heads=3, head_width=4, rng=rng(), dtype=np.float32
            ),
            placed,
        )
        for name, options in {
            "none": None,
            "rotary": "rotary",
            "alibi": "alibi",
            "t5": {"name": "t5", "buckets": 8},
            "shaw": {"name": "shaw", "clip": 2},
            "learned": {"name": "learned", "longest": 70},
            "sinusoidal": "sinusoidal",
        }.items()
    },
    "positions of grids, sinusoidal": (lambda: positions.Sinusoidal2D(4), placed),
    "positions of grids, learned": (lambda: positions.Learned2D(4, rows=5, columns=5, rng=rng()), placed),
    "relative bias": (lambda: positions.RelativeBias(ones(7)), lambda bias: bias.array(3, 5)),
    "memory": (lambda: fastattn.prepare(ones(2, 5, 4), ones(2, 5, 4), score="cosine"), remembered),
    "memory of one sample": (
        lambda: fastattn.prepare(ones(5, 4), ones(5, 4), score=scores.Additive(ones(4))),
        remembered,
    ),
    "memory of broadcast keys": (
        lambda: fastattn.prepare(*(np.broadcast_to(ones(5, 4), (3, 2, 5, 4)) for _ in range(2))),
        remembered,
    ),
    "memory with space": (
        lambda: fastattn.prepare(ones(2, 5, 4), ones(2, 5, 4)).append(ones(2, 2, 4), ones(2, 2, 4)),
        remembered,
    ),
    "memory of beams": (
        lambda: fastattn.prepare(ones(2, 5, 4), ones(2, 5, 4)).select([1, 1, 0]).append(ones(3, 2, 4), ones(3, 2, 4)),
        remembered,
    ),
    "memory of rows": (
        lambda: fastattn.prepare(ones(2, 5, 4), ones(2, 5, 4)).select([1, 1, 0, 0]),
        remembered,
    ),
    "attention output": (lambda: fastattn.attention(H, H, H, return_weights=True), unchanged),
    "residuals": (lambda: fastattn.attention_forward(H, H, H, return_weights=True)[1], unchanged),
    "gradients": (lambda: fastattn.attention_vjp(H, H, H)[1](H), unchanged),
    "grid": (lambda: grid.Grid(np.array([[2, 3], [1, 2]])), lambda one: [one.flatten(ones(2, 2, 3, 1)), one.lengths]),
    "adam": (lambda: optim.Adam(parameters(), rate=0.1), stepped),
    "adamw": (lambda: optim.AdamW(parameters(), rate=0.1), stepped),
    "average": (lambda: optim.WeightAverage(parameters(), 0.9), averaged),
    "constant": (lambda: optim.Constant(0.1, warmup=9), scheduled),
    "ensemble": (lambda: seq2seq.Ensemble([build(seq2seq_cases.CASES["wu"])] * 2), searched_alone),
    "rate curve": (lambda: seq2seq.RateCurve((0.1, 0.2), (2.0, 1.0), 0.1), unchanged),
    "cosine": (lambda: optim.Cosine(0.1, steps=9), scheduled),
    "one cycle": (lambda: optim.OneCycle(0.1, steps=9), scheduled),
    "inverse square root": (lambda: optim.InverseSquareRoot(0.1, warmup=9), scheduled),
    "plateau": (lambda: optim.ReduceOnPlateau(0.1, patience=1), scheduled),
    **{f"model {cls.__name__}": (lambda config=config: build(config), searched) for cls, config in MODELS.items()},
    "translator": (translator, translated),
    "config": (lambda: seq2seq.Config(seq2seq.DataConfig(train="x"), seq2seq_cases.CASES["luong-dot"]), unchanged),
    "batches": (
        lambda: seq2seq.Batches([np.array([4, 2])] * 5, [np.array([5, 2])] * 5, tokens_per_batch=4),
        lambda batches: pickled(list(batches.epoch(1))),
    ),
    "dictionary": (lambda: seq2seq.text.pronunciation.Dictionary({"a": ["b"]}, {}, {}), unchanged),
    "scores of texts": (lambda: [metrics.Score("BLEU", 1.0, "x"), metrics.ErrorCounts(1, 2, 3, 4)], unchanged),
    "report": (lambda: report.Report("x", 2, 1, {"empty": (1,)}), unchanged),
    "case of ONNX": (
        lambda: [verified.Result("a", "passed", ""), verified.NotExpressible("no bfloat16")],
        lambda found: [repr(one) for one in found],
    ),
    "texts": (
        lambda: [
            seq2seq.text.encoding.Text(["a"], [1], None),
            seq2seq.text.encoding.ParallelText(["a"], ["b"], [1], None),
        ],
        unchanged,
    ),
    "quickstart": (
        lambda: [
            quickstart.Quickstart(Path("x"), {}, {}, False),
            quickstart.Row(1, 2, metrics.ErrorCounts(1, 2, 3, 4)),
        ],
        unchanged,
    ),
    "corpus": (lambda: seq2seq.text.corpus.Corpus(LETTERS, LETTERS, None, None, None, (), ""), unchanged),
    "job": (
        lambda: [scale.bulk.BulkOutcome(Path("x"), 1, 0, 1, 0), scale.rows.Block(0, 3, ["a"], {})],
        unchanged,
    ),
    "outcome": (lambda: training.Outcome(Path("x"), 1, 1, True, "loss", 1.0, 1), unchanged),
    "position": (lambda: training.Position(), unchanged),
    "best": (lambda: validation.Best(), unchanged),
    "checkpoint": (lambda: seq2seq.runs.checkpoint.Checkpoint(Path("x"), 1, {}, {}, {}, {}, {}), unchanged),
    "longest": (lambda: seq2seq.models.model.Longest(5, None, "longest"), unchanged),
    "stop": (signals.Stop, unchanged),
    "stopped": (lambda: signals.Stopped(15, "stopped"), unchanged),
    **{
        f"error {error.__name__}": (lambda error=error: error("a text"), unchanged)
        for error in (*errors_of(errors), durable.DamagedError, durable.NewerError, sizes.OversizeError)
    },
    "error with several arguments": (lambda: errors.MissingPackageError("text", name="x", path="y"), unchanged),
    "moving baseline": (
        hard.MovingBaseline,
        lambda baseline: [baseline.advantage(np.array([-4.0, -2.0])), baseline.value],
    ),
    "records": (
        lambda: [
            plugin.ScoreRecord("x", "a:b"),
            plugin.NormalizerRecord("x", "a:b"),
            plugin.VariantRecord("x", "a:b"),
            plugin.PositionsRecord("x", "a:b"),
            plugin.ModelRecord("x", "a:b", settings="a:c"),
        ],
        unchanged,
    ),
    "provider": (lambda: provider.Provider("a", "b"), unchanged),
}


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("name", CASES)
def test_a_copy_does_what_the_original_does(name, kind):
    make, use = CASES[name]
    expected = facts(use(make()))
    assert facts(use(COPIES[kind](make()))) == expected
    used, other = make(), make()
    use(used), use(other)
    assert facts(use(COPIES[kind](used))) == facts(use(other))


@pytest.mark.parametrize("kind", ["deepcopy", "pickle"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_done_to_a_copy_is_not_done_to_the_original(name, kind):
    make, use = CASES[name]
    made, other = make(), make()
    copied = COPIES[kind](made)
    use(copied)
    assert facts(use(made)) == facts(use(other))


@pytest.mark.parametrize("kind", ["deepcopy", "pickle"])
@pytest.mark.parametrize("case", variant_cases.CASES, ids=variant_cases.label)
def test_variants_memories_and_states_go_together_and_apart(case, kind):
    problem = variant_cases.make(case, np.float32)
    variant, prepared = problem.variant, problem.prepare()

    def run(variant, prepared, state):
        found = []
        for t in (1, 2):
            context, weights, state = variant.step(problem.queries[:, t], prepared, state)
            found += [context, weights]
        return facts(found)

    start = variant.start_search(prepared)
    _, _, state = variant.step(problem.queries[:, 0], prepared, start)
    expected = run(variant, prepared, state)
    duplicate = COPIES[kind]
    assert run(*duplicate((variant, prepared, state))) == expected
    assert run(variant, duplicate(prepared), duplicate(state)) == expected
    assert run(duplicate(variant), prepared, state) == expected
    rows = np.array([2, 0, 0])
    chosen = prepared.select(rows), state.select(rows)
    assert run(variant, *duplicate(chosen)) == run(variant, *chosen)
    backward = variant.vjp(problem.queries, prepared)[1]
    d = np.ones((*problem.queries.shape[:2], prepared.summed.shape[-1]), np.float32)
    if case.record.name.endswith("multihead"):
        d = np.ones_like(variant.forward(problem.queries, prepared))
    other = duplicate(variant)
    found = other.vjp(problem.queries, duplicate(prepared))[1](d)
    assert facts(found) == facts(backward(d))


@pytest.mark.parametrize("kind", ["deepcopy", "pickle"])
@pytest.mark.parametrize("place", ["rotary", "shaw", "alibi"])
def test_a_cache_of_keys_goes_on_from_where_it_was_copied(place, kind):
    options = {"query_width": 8, "memory_width": 8, "heads": 2, "positions": place, "rng": rng()}
    variant = fastattn.create("causal_self_attention", **options)
    prepared, inputs = variant.prepare(ones(3, 0, 8)), ones(3, 6, 8)
    state = variant.start(prepared)
    for t in range(3):
        _, _, state = variant.step(inputs[:, t], prepared, state)

    def run(variant, prepared, state):
        found = []
        for t in (3, 4):
            context, weights, state = variant.step(inputs[:, t], prepared, state)
            found += [context, weights]
        return facts(found)

    duplicate = COPIES[kind]((variant, prepared, state))
    again = COPIES[kind](state)
    expected = run(variant, prepared, state)
    assert run(*duplicate) == run(variant, prepared, again) == expected
    rows = np.array([2, 0, 0])
    assert run(variant, prepared.select(rows), COPIES[kind](state.select(rows))) == run(
        variant, prepared.select(rows), state.select(rows)
    )


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("name", ["additive", "local_m", "monotonic", "coverage", "neural_coverage", "hard"])
def test_copies_of_memories_of_any_strides(name, kind):
    """A copy of an array may have other strides than the array: those of `broadcast_to` become dense."""
    case = next(case for case in variant_cases.CASES if case.record.name == name)
    problem = variant_cases.make(case, np.float32)
    for layout in (np.broadcast_to(problem.memory[:1], problem.memory.shape), problem.memory[::-1, ::-1]):
        prepared = problem.variant.prepare(layout, problem.lengths, values=layout)
        expected = facts(problem.variant.forward(problem.queries, prepared))
        assert facts(problem.variant.forward(problem.queries, COPIES[kind](prepared))) == expected


def weights(scores, weights, n):
    """Weights in proportion to scores."""
    total = 0.0
    for j in range(n):
        total += scores[j]
    for j in range(n):
        weights[j] = scores[j] / total


def gradient(scores, weights, d_weights, d_scores, n):
    """Zeros."""
    for j in range(n):
        d_scores[j] = 0.0


class Compiled:
    """As `numba.cfunc` has it, the name of its Python function and an address."""

    def __init__(self, function, kind):
        self.__wrapped__, self._pointer = function, kind(function)
        self.address = ctypes.cast(self._pointer, ctypes.c_void_p).value


DOUBLES, COUNT = ctypes.POINTER(ctypes.c_double), ctypes.c_int64
weights = Compiled(weights, ctypes.CFUNCTYPE(None, DOUBLES, DOUBLES, COUNT))
gradient = Compiled(gradient, ctypes.CFUNCTYPE(None, *[DOUBLES] * 4, COUNT))


@pytest.mark.parametrize("kind", COPIES)
def test_functions_of_rows_go_by_their_names(kind):
    made = normalizers.RowFunctions(weights, gradient)
    found = COPIES[kind](made)
    assert found.weights is weights and found.gradient is gradient
    assert facts(normalized(found)) == facts(normalized(made))


def test_addresses_go_to_no_other_process():
    of_nobody = Compiled(lambda scores, weights, n: None, ctypes.CFUNCTYPE(None, DOUBLES, DOUBLES, COUNT))
    for first in (weights.address, weights._pointer, of_nobody):
        made = normalizers.RowFunctions(first, gradient)
        assert copy.deepcopy(made) is made and copy.copy(made) is made
        with pytest.raises(fastattn.UnsupportedError, match=r"weights: expected a function that another process can"):
            pickle.dumps(made)


def test_copies_of_an_optimizer_and_of_its_model_belong_together():
    layer = layers.Linear(3, 2, rng=rng())
    optimizer = optim.Adam(layer.parameters(), rate=0.1)
    for duplicate in (copy.deepcopy, pickled):
        other, its = duplicate((layer, optimizer))
        assert its.parameters["w"] is other.w and other.w is not layer.w


def test_shared_parameters_stay_shared():
    layer = pickled(layers.GRU(3, 4, rng=rng()))
    assert layer.w_hidden is layer.cell.w_hidden


EXEMPT = {
    "a base class, whose subclasses have cases": [
        "layers.parameter.Layer", "layers.recurrent.cell.RecurrentCell", "normalizers.base.Normalizer",
        "optim.schedules.Schedule", "plugin.records.Record", "scores.base.Score",
        "seq2seq.models.attending.Attending", "seq2seq.models.model.Model",
        "seq2seq.models.model.State", "seq2seq.models.recurrence.Step", "seq2seq.models.sentences.BatchLike",
        "seq2seq.runs.callbacks.Callback",
        "seq2seq.schema.Section", "variants.protocol.variant.Variant", "variants.protocol.prepared.Prepared",
        "variants.recall.Recall", "variants.soft.Soft", "variants.windowed.Local",
    ],
    "belongs to one call: a backward pass, or what is kept for it": [
        "jit.bound.Compiled", "jit.derivative.Derivative", "jit.emit.Writer", "jit.graph.Graph", "jit.graph.Node",
        "jit.intervals.Range", "jit.intervals.Ranges", "jit.intervals.Unsafe", "jit.operations.Operation",
        "jit.reductions.RowTracer", "jit.symbols.Symbol", "jit.symbols.Table", "jit.symbols.Tracer",
        "jit.trace.Signature", "jit.trace.Traced",
        "scores.base.Plain", "variants.recall.SummedStep", "variants.soft.SoftStep", "variants.windowed.LocalRun",
        "variants.windowed.LocalStep", "layers.backward.Form", "layers.backward.Once", "layers.recurrent.cell.Tape",
        "layers.sequences.Sequences", "scores.base.OperandGradients", "scores.base.Operands",
        "seq2seq.models.attending.AttentionLoop", "seq2seq.models.attending.Pass",
        "seq2seq.models.luong_decoder.AtOnce", "seq2seq.models.luong_decoder.StepByStep",
        "seq2seq.models.recurrence.Record", "seq2seq.models.recurrence.Walk",
        "seq2seq.search.beam.Beams", "seq2seq.search.constraints.Constraints", "seq2seq.translate.TranslationStep",
        "variants.protocol.backward.StepBackward",
    ],
    "holds a function of a user's, which is copied as `tests/jit` has it": [
        "normalizers.rowwise.Rowwise", "scores.modified.Modified", "scores.pairwise.Pairwise",
    ],
    "part of a variant, whose cases have it": [
        "scores.base.Held", "scores.base.Kept", "scores.bridged.Bridged", "scores.wrapped.Wrapped",
        "variants.of_score.SoftOf",
    ],
    "belongs to the reading of one model": [
        "seq2seq.exchange.tensors.Layout", "seq2seq.exchange.tensors.Theirs", "seq2seq.runs.sizes.Blank",
    ],
    "an enumeration": [
        "layers.recurrent.cell.Kind", "seq2seq.models.randomness.Place",
    ],
    "holds an open file, a terminal, or what belongs to a process": [
        "seq2seq.runs.processes.Processes", "seq2seq.runs.shards.ShardedGradients",
        "plugin.manager.Manager", "plugin.provider.Hooks", "plugin.registry.Registry", "seq2seq.runs.progress.Progress",
        "seq2seq.runs.callbacks.Event", "seq2seq.runs.callbacks.TensorBoard", "seq2seq.runs.runlog.RunLog",
        "seq2seq.runs.training.Run", "seq2seq.runs.report.Account",
    ],
    "needs a folder, and is pickled to other processes in tests of its own": [
        "scale.bulk.Plan", "scale.bulk.Work", "scale.predictor.Predictor",
    ],
    "a protocol": ["scale.engines.Engine"],
    "part of the command line": [
        "commands.parser.Parser",
    ],
    "part of a test suite": [
        "testing.certificate.Certificate", "testing.certificate.Result",
        "testing.attention_problem.AttentionProblem", "testing.attention_problem.AttentionSubject",
        "testing.function_checks.FunctionSubject",
        "testing.normalizer_checks.NormalizerSubject", "testing.score_checks.ScoreSubject",
        "testing.subject.Problem", "testing.subject.Subject", "testing.timing.Timed",
        "testing.variant_subject.VariantProblem", "testing.variant_subject.VariantSubject",
    ],
    "tests of its own": [
        "jit.bound.Bound", "jit.bound.MaskFunction", "jit.bound.Masks", "jit.bound.PairwiseFunction",
        "jit.bound.ScoreModifier",
        "jit.row_function.RowFunction",
        "jit.decorators.Function",
        "normalizers.rows.RowFunctions", "viz.shown.ShownAxes", "viz.shown.ShownFigure",
    ],
}  # fmt: skip


def public_classes():
    found = set()
    for module in pkgutil.walk_packages([str(PACKAGE)], "fastattn."):
        # Adapters need packages of others, and have tests of their own.
        if not any(part.startswith("_") or part == "interop" for part in module.name.split(".")[1:]):
            names = vars(importlib.import_module(module.name)).get("__all__", ())
            values = (getattr(sys.modules[module.name], name) for name in names)
            found |= {value for value in values if inspect.isclass(value) and value.__module__.startswith("fastattn")}
    return {value for value in found if not typing.is_typeddict(value)}  # of which there are no objects


def test_every_public_class_has_a_case():
    made = [make() for make, _ in CASES.values()]
    for case in variant_cases.CASES:
        problem = variant_cases.make(case)
        prepared = problem.prepare()
        state = problem.variant.start(prepared)
        made += [problem.variant, prepared, state, problem.variant.start_search(prepared)]
        made.append(problem.variant.step(problem.queries[:, 0], prepared, state)[2])
    model = build(seq2seq_cases.CASES["bahdanau"])
    batch = seq2seq_cases.random_pairs()
    causal = fastattn.create("causal_self_attention", query_width=8, memory_width=8, heads=2, rng=rng())
    made += [causal, causal.start(causal.prepare(ones(3, 0, 8)))]
    made += [*CASES["batches"][0]().epoch(0), *translator().search(["ab"])]
    made += [*seq2seq.greedy(model, batch.source, batch.source_lengths, limit=2)]
    covered = {type(part) for part in parts(made)}
    for config in seq2seq_cases.CASES.values():
        covered.add(type(config))
    excused = {name for names in EXEMPT.values() for name in names}
    names = {cls: f"{cls.__module__}.{cls.__qualname__}".removeprefix("fastattn.") for cls in public_classes()}
    assert excused <= set(names.values()), excused - set(names.values())
    missing = {name for cls, name in names.items() if cls not in covered} - excused
    assert not missing, f"no case in tests/test_copies.py for {sorted(missing)}"


def test_a_figure_can_be_pickled():
    pytest.importorskip("matplotlib")
    from fastattn import viz

    figure = viz.heatmap(np.eye(3), list("abc"), list("xyz")).figure
    for other in (copy.deepcopy(figure), pickled(figure)):
        assert type(other) is type(figure) and type(other.axes[0]) is type(figure.axes[0])
        assert [label.get_text() for label in other.axes[0].get_xticklabels()] == list("abc")


def test_a_process_pool_translates():
    one = translator()
    texts = [["ab", "c"], ["ccc"], ["abcabc", ""]]
    expected = [one.translate(each) for each in texts]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(one.translate, texts)) == expected


CHILD = """
import pickle
import numpy as np
with open("made", "rb") as file:
    made = pickle.load(file)
np.save("found.npy", np.concatenate([np.asarray(getattr(one, use[0])(*use[1:])).reshape(-1) for use, one in made]))
"""


def test_what_was_pickled_on_one_level_of_instructions_is_used_on_another(run_shared, tmp_path):
    """What is packed is not what is pickled, and bits differ a little from level to level."""
    x = ones(3, 5, 4)
    problem = variant_cases.make(variant_cases.subject("monotonic", {"width": 11, "offset": 0.0}), np.float32)
    prepared = problem.prepare()
    made = [
        (("matmul", ones(2, 33)), linear.PackedWeights(ones(33, 70))),
        (("attend", x[:, :1]), fastattn.prepare(x, x, score=scores.Additive(ones(4)))),
        (("forward", problem.queries, prepared), problem.variant),
    ]
    for use, one in made:
        getattr(one, use[0])(*use[1:])
    (tmp_path / "made").write_bytes(pickle.dumps(made))
    run_shared(CHILD, FASTATTN_ISA="generic")
    expected = np.concatenate([np.asarray(getattr(one, use[0])(*use[1:])).reshape(-1) for use, one in made])
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=1e-4, atol=1e-5)
