"""Right calls of everything public that takes or returns arrays, or texts, for the fuzzer of arguments.

An entry is a function of a `spoil.Draw`, and names what it calls, as "module.name"; `test_arguments.py` walks all
public names and misses what is not named here.
"""

import copy
import pickle
from dataclasses import fields, replace

import ml_dtypes
import numpy as np
from seq2seq_cases import CASES as MODELS
from variant_cases import CASES as VARIANTS
from variant_cases import SAME

import fastattn
from fastattn import functional, layers, linear, losses, normalizers, optim, positions, scores, seq2seq, variants
from fastattn.grid import Grid

ENTRIES = {}
COVERED = set()


def entry(*names, share=1):
    """Decorator: an entry, `share` times as frequent as others, that calls all of these."""

    def register(function):
        ENTRIES[function.__name__] = (function, share)
        COVERED.update(names)
        return function

    return register


def parameter_type(dtype):
    """Parameters are of no half type."""
    return np.float32 if np.dtype(dtype).itemsize == 2 else dtype


def dtype_of(z):
    return z.pick(np.float32, np.float32, np.float64)


def some_score(z, width, key_width, keys, dtype):
    other = z.size()
    dtype = parameter_type(dtype)

    def w(*shape):
        return z.floats(*shape, dtype=dtype)

    projected = z.chance()
    same = width == key_width
    made = z.pick(
        lambda: z.pick("dot", "scaled_dot", "cosine") if same else scores.General(w(width, key_width)),
        lambda: z.call(scores.General, w(width, key_width), softcap=z.pick(None, 2.0)),
        lambda: z.call(scores.Location, w(width, keys + z.size(2) - 1)),
        lambda: z.call(scores.Concat, w(width + key_width, other), w(other)),
        lambda: z.call(
            scores.Additive, w(other), w(width, other), w(key_width, other), w(other) if projected else None,
            z.pick("tanh", "sigmoid", "relu"), softcap=z.pick(None, 1.5),
        ),
        lambda: scores.Dot(softcap=1.0) if same else scores.General(w(width, key_width)),
    )()  # fmt: skip
    if isinstance(made, scores.Score) and made.parameters and z.chance(0.15):
        name = z.pick(*made.parameters)
        made.parameters[name] = z.array(made.parameters[name])
        z.spoilt.append(f"score.{name} assigned")
    return made


def problem(z):
    """Query, key, value and what goes with them."""
    batch, keys, queries, width, value_width = z.size(), z.size(9), z.size(), z.size(), z.size()
    dtype = z.pick(np.float32, np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
    key_heads = z.size(3)
    heads = key_heads * z.size(2)
    q, k = {
        2: ((), ()), 3: ((batch,), (batch,)), 4: ((batch, heads), (batch, key_heads)),
    }[z.pick(2, 3, 3, 4)]  # fmt: skip
    arrays = (
        z.floats(*q, queries, width, dtype=dtype),
        z.floats(*k, keys, width, dtype=dtype),
        z.floats(*k, keys, value_width, dtype=dtype),
    )
    return arrays, batch if q else 1


def options_of(z, query, keys, batch, memory=False):
    given = {}
    rows = (*query.shape[:-1], keys)
    if z.chance(0.3):
        given["mask"] = z.ids(2, *rows).astype(bool)
    if z.chance(0.2):
        given["bias"] = z.floats(*rows[-z.pick(1, 2, len(rows)) :], dtype=query.dtype)
    elif z.chance(0.15):
        values = z.floats(rows[-2] + keys - 1, dtype=parameter_type(query.dtype))
        given["bias"] = positions.RelativeBias(values, trained=z.chance())
    if z.chance(0.3) and not memory:
        given["key_lengths"] = z.lengths(batch, keys)
    if z.chance(0.2):
        given["causal"] = z.pick("top_left", "bottom_right", True if rows[-2] == keys else None)
    if z.chance(0.2):
        given["window"] = (z.pick(None, 0, 2), z.pick(None, 0, 3))
    if z.chance(0.2):
        given["scale"] = z.pick(0.5, 2.0)
    if z.chance(0.2):
        given |= {"dropout": 0.3, "seed": z.pick(3, z.ids(99, batch))}
    if z.chance(0.25):
        given["normalizer"] = z.pick("sparsemax", "entmax15", "entmax", lambda: normalizers.Entmax(1.3))
        if callable(given["normalizer"]):
            heads = query.shape[1] if query.ndim == 4 else 1
            given["normalizer"] = z.call(normalizers.Entmax, z.pick(1.3, np.full(heads, 1.2)))
    elif z.chance(0.3):
        given["return_lse"] = True
    if z.chance(0.3):
        given["return_weights"] = True
    return given


def all_of(module, *but):
    return [f"{module.__name__}.{name}" for name in module.__all__ if name not in but]


def gradients_of(z, output, dtype):
    """Gradients of what a call returned, which may be less than it was asked for: what it was asked may be spoilt."""
    if isinstance(output, np.ndarray):
        return {"d_context": z.floats(*output.shape, dtype=dtype)}
    there = {name: x for name, x in output._asdict().items() if x is not None}
    return {f"d_{name}": z.floats(*x.shape, dtype=dtype) for name, x in there.items()}


@entry("fastattn.attention", "fastattn.attention_vjp", "fastattn.AttentionOutput", "fastattn.Gradients",
       *all_of(scores), *all_of(normalizers), "fastattn.positions.RelativeBias", share=4)  # fmt: skip
def attention(z):
    (q, k, v), batch = problem(z)
    given = options_of(z, q, k.shape[-2], batch)
    score = some_score(z, q.shape[-1], k.shape[-1], k.shape[-2], q.dtype)
    if z.chance(0.2):
        given["out"] = z.floats(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    if z.chance(0.4):
        z.call(fastattn.attention, q, k, v, score=score, writes=("out",), **given)
        return
    output, backward = z.call(fastattn.attention_vjp, q, k, v, score=score, writes=("out",), **given)
    if isinstance(given.get("bias"), positions.RelativeBias) and z.chance(0.3):
        z.call(setattr, given["bias"], "values", given["bias"].values)
    d = gradients_of(z, output, q.dtype)
    for _ in range(z.size(2)):
        z.call(backward, **d)


@entry("fastattn.attention_forward", "fastattn.attention_backward", "fastattn.Residuals", share=2)
def halves(z):
    (q, k, v), batch = problem(z)
    given = options_of(z, q, k.shape[-2], batch)
    given["score"] = some_score(z, q.shape[-1], k.shape[-1], k.shape[-2], q.dtype)
    output, residuals = z.call(fastattn.attention_forward, q, k, v, **given)
    d = gradients_of(z, output, q.dtype)
    for name in ("return_weights", "return_lse"):
        given.pop(name, None)
    if z.chance(0.3):
        name = z.pick(*(field for field in residuals._fields if getattr(residuals, field) is not None))
        residuals = residuals._replace(**{name: z.array(getattr(residuals, name))})
        z.spoilt.append(f"residuals.{name}")
    z.call(fastattn.attention_backward, q, k, v, residuals, bias_gradient=z.chance(), **d, **given)


@entry(
    "fastattn.prepare",
    "fastattn.Memory",
    "fastattn.attention.memory.Memory",
    "fastattn.attention.memory.prepare",
    share=3,
)
def memory(z):
    (q, k, v), batch = problem(z)
    score = some_score(z, q.shape[-1], k.shape[-1], k.shape[-2], q.dtype)
    given = {}
    plain = z.chance()
    if not plain and z.chance():
        given["key_lengths"] = z.lengths(batch, k.shape[-2])
    if not plain and z.chance():
        given["mask"] = z.ids(2, 1, k.shape[-2]).astype(bool)
    one = z.call(fastattn.prepare, k, v, score=score, **given)
    for _ in range(z.size(5)):
        action = z.pick("attend", "attend", "select", "append", "extended", "copy", "pickle")
        if action == "attend":
            of = np.repeat(q, 1, axis=0)
            if of.ndim > 2:
                of = z.floats(one.shape[0], *q.shape[1:], dtype=q.dtype)
            z.call(one.attend, of, **options_of(z, of, one.shape[-1], len(of) if of.ndim > 2 else 1, True))
        elif action == "select":
            one = z.call(one.select, z.ids(one.shape[0], z.size()))
        elif action in ("append", "extended"):
            more = [z.floats(*one.shape[:-1], z.size(3), x.shape[-1], dtype=q.dtype) for x in (k, v)]
            one = z.call(getattr(one, action), *more)
        else:
            one = z.pick(copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)))(one)


@entry(*all_of(functional))
def elementwise(z):
    shape = [z.size() for _ in range(z.size(3))]
    dtype = dtype_of(z)
    x, y = z.floats(*shape, dtype=dtype), np.abs(z.floats(*shape, dtype=dtype))
    name = z.pick(*functional.__all__)
    function = getattr(functional, name)
    if name in ("exp", "tanh", "sigmoid"):
        out = z.pick({}, {"out": x}, {"out": y})
        z.call(function, x, writes=("out",), **out)
    elif name.endswith("_vjp"):
        z.call(function, y, x, **({"alpha": 1.4} if name == "entmax_vjp" else {}))
    else:
        mask = {"mask": z.ids(2, *shape).astype(bool)} if z.chance() else {}
        z.call(function, x, **mask, **({"alpha": 1.4} if name == "entmax" else {}))


@entry(*all_of(linear))
def products(z):
    dtype, m, k, n = dtype_of(z), z.size(), z.size(), z.size(20)
    x, w, dy = z.floats(m, k, dtype=dtype), z.floats(k, n, dtype=dtype), z.floats(m, n, dtype=dtype)
    what = z.pick("packed", "matmul", "gradient", "sum")
    if what == "matmul":
        z.call(linear.matmul, x, w)
    elif what == "gradient":
        given = {"out": z.floats(k, n, dtype=dtype), "sums": z.floats(n, dtype=dtype)} if z.chance() else {}
        z.call(linear.weight_gradient, x, dy, writes=("out", "sums"), **given)
    elif what == "sum":
        given = {"out": z.floats(n, dtype=dtype)} if z.chance() else {}
        z.call(linear.row_sum, dy, writes=("out", "sums"), **given)
    else:
        packed = z.call(linear.PackedWeights, w)
        out = {"out": z.floats(m, n, dtype=dtype)} if z.chance() else {}
        z.call(packed.matmul, x, writes=("out",), bias=z.floats(n, dtype=dtype), **out)
        z.call(packed.matmul_transposed, dy)
        packed.unpack()


def of_parameter(z, layer):
    """Assign to a parameter of the layer, or to its gradient, as users may."""
    parameters = layer.parameters() if hasattr(layer, "parameters") else layer
    if not parameters:
        return
    parameter = parameters[z.pick(*parameters)]
    way = z.pick("assign", "gradient", "accumulate", "edit")
    if way == "assign":
        z.call(parameter.assign, np.array(parameter.value))
    elif way == "gradient":
        z.call(setattr, parameter, "gradient", np.array(parameter.gradient))
    elif way == "accumulate":
        z.call(parameter.accumulate, np.array(parameter.value))
    else:
        with parameter.edit() as w:
            w[...] = z.pick(0, np.nan, 1)


@entry("fastattn.layers.Linear", "fastattn.layers.LayerNorm", "fastattn.layers.FeedForward", "fastattn.layers.Layer",
       "fastattn.layers.Parameter", share=2)  # fmt: skip
def dense(z):
    dtype, width, other = dtype_of(z), z.size(), z.size()
    layer = z.pick(
        lambda: layers.Linear(width, other, bias=z.chance(), rng=z.rng, dtype=dtype),
        lambda: layers.LayerNorm(width, dtype=dtype),
        lambda: layers.FeedForward(width, other, rng=z.rng, dtype=dtype),
    )()
    if z.chance(0.3):
        of_parameter(z, layer)
    x = z.floats(*[z.size() for _ in range(z.size(2))], width, dtype=dtype)
    z.call(layer.forward, x)
    given = {"rate": 0.3, "seed": z.pick(1, z.ids(9, len(x)))} if isinstance(layer, layers.FeedForward) else {}
    y, backward = z.call(layer.vjp, x, **given)
    if z.chance(0.2):
        of_parameter(z, layer)
    z.call(backward, z.floats(*y.shape, dtype=dtype))


@entry("fastattn.layers.Embedding", "fastattn.layers.dropout", "fastattn.layers.dropout_vjp")
def tables(z):
    dtype = dtype_of(z)
    shape = [z.size() for _ in range(z.size(2))]
    if z.chance():
        table = layers.Embedding(7, z.size(), padding=z.pick(None, 2), rng=z.rng, dtype=dtype)
        y, backward = z.call(table.vjp, z.ids(7, *shape))
        if z.chance(0.3):
            of_parameter(z, table)
        z.call(backward, z.floats(*y.shape, dtype=dtype))
        z.call(table.forward, z.ids(7, *shape))
    else:
        x, seed = z.floats(*shape, dtype=dtype), z.pick(5, z.ids(9, shape[0]))
        z.call(layers.dropout, x, 0.4, seed)
        y, backward = z.call(layers.dropout_vjp, x, 0.4, seed)
        z.call(backward, z.floats(*y.shape, dtype=dtype))


@entry("fastattn.losses.cross_entropy", "fastattn.losses.cross_entropy_vjp", "fastattn.losses.token_losses",
       "fastattn.losses.log_softmax")  # fmt: skip
def loss_functions(z):
    dtype, width, m = dtype_of(z), z.size(), z.size(8)
    projection = layers.Linear(width, 6, bias=z.chance(), rng=z.rng, dtype=dtype)
    x, targets = z.floats(m, width, dtype=dtype), z.ids(6, m)
    given = {"smoothing": 0.1, "ignore": z.pick(-1, 2)}
    what = z.pick("log", "loss", "vjp", "tokens")
    if what == "log":
        z.call(losses.log_softmax, x)
    elif what == "vjp":
        *_, backward = z.call(losses.cross_entropy_vjp, x, projection, targets, **given)
        if z.chance(0.3):
            of_parameter(z, projection)
        z.call(backward, 0.5)
    else:
        z.call(losses.cross_entropy if what == "loss" else losses.token_losses, x, projection, targets, **given)


@entry("fastattn.losses.coverage_loss", "fastattn.losses.coverage_loss_vjp", "fastattn.losses.doubly_stochastic_loss",
       "fastattn.losses.doubly_stochastic_loss_vjp", "fastattn.losses.marginal_likelihood",
       "fastattn.losses.marginal_likelihood_vjp")  # fmt: skip
def losses_of_weights(z):
    dtype, shape = dtype_of(z), (z.size(), z.size(), z.size())
    weights = z.floats(*shape, dtype=dtype)
    name = z.pick("coverage_loss", "doubly_stochastic_loss", "marginal_likelihood")
    arguments = {
        "coverage_loss": (weights,),
        "doubly_stochastic_loss": (weights, z.ids(shape[1] + 1, shape[0]), z.ids(2, shape[0], shape[2], dtype=bool)),
        "marginal_likelihood": (weights, z.floats(*shape, dtype=dtype)),
    }[name]
    z.call(getattr(losses, name), *arguments)
    found, backward = z.call(getattr(losses, f"{name}_vjp"), *arguments)
    z.call(backward, z.floats(*np.shape(found), dtype=dtype))


@entry("fastattn.layers.GRU", "fastattn.layers.LSTM", "fastattn.layers.Bidirectional", "fastattn.layers.Stacked",
       "fastattn.layers.GRUCell", "fastattn.layers.LSTMCell", share=2)  # fmt: skip
def recurrent(z):
    dtype, inputs, hidden, batch, steps = dtype_of(z), z.size(), z.size(20), z.size(), z.size()
    kind = z.pick("GRU", "LSTM")
    more = {"reset": z.pick("after", "before")} if kind == "GRU" else {}

    def state():
        h = z.floats(batch, hidden, dtype=dtype)
        return h if kind == "GRU" else (h, z.floats(batch, hidden, dtype=dtype))

    if z.chance(0.3):
        cell = getattr(layers, f"{kind}Cell")(inputs, hidden, rng=z.rng, dtype=dtype, **more)
        x = z.floats(batch, inputs, dtype=dtype)
        z.call(cell.forward, x, state())
        if z.chance(0.3):
            of_parameter(z, cell)
        *_, backward = z.call(cell.vjp, x, state())
        z.call(backward, state())
        return
    made = [getattr(layers, kind)(inputs, hidden, rng=z.rng, dtype=dtype, **more) for _ in range(2)]
    form = z.pick("one", "both", "stack")
    layer, given, d_state = made[0], {}, state
    if form == "both":
        layer = layers.Bidirectional(made[0], getattr(layers, kind)(
            inputs, hidden, reverse=True, rng=z.rng, dtype=dtype, **more))  # fmt: skip
        d_state = lambda: (state(), state())  # noqa: E731
    elif form == "stack":
        layer = layers.Stacked([made[0], getattr(layers, kind)(hidden, hidden, rng=z.rng, dtype=dtype, **more)])
        d_state = lambda: (state(), state())  # noqa: E731
    if z.chance():
        given["lengths"] = z.lengths(batch, steps)
    if z.chance(0.2):
        of_parameter(z, layer)
    x = z.floats(batch, steps, inputs, dtype=dtype)
    first = d_state() if z.chance() else None
    z.call(layer.forward, x, first, **given)
    y, _, backward = z.call(layer.vjp, x, first, **given)
    z.call(backward, z.floats(*y.shape, dtype=dtype), d_state() if z.chance() else None)


@entry(*all_of(optim))
def optimizers(z):
    dtype = dtype_of(z)
    parameters = {name: layers.Parameter(z.floats(z.size(), z.size(), dtype=dtype)) for name in ("a", "b")}
    kind = z.pick(optim.Adam, optim.AdamW)
    optimizer = z.call(kind, parameters, rate=0.1)
    average = optim.WeightAverage(parameters, 0.9)
    for _ in range(z.size(4)):
        what = z.pick("step", "assign", "state", "norm", "average", "attribute")
        if what == "step":
            z.call(optimizer.step, 0.5)
        elif what == "assign":
            of_parameter(z, parameters)
        elif what == "state":
            z.call(optimizer.load_state, optimizer.state())
        elif what == "norm":
            z.call(optim.clip_scale, z.call(optim.global_norm, parameters), 1.0)
        elif what == "average":
            z.call(average.update, 1)
            average.exchange()
            average.exchange()
        else:
            z.call(setattr, optimizer, z.pick("rate", "epsilon", "decay"), 0.1)
    schedule = z.pick(optim.Constant(0.1, warmup=2), optim.InverseSquareRoot(0.1), optim.ReduceOnPlateau(0.1),
                      optim.Cosine(0.1, steps=9), optim.OneCycle(0.1, steps=9))  # fmt: skip
    z.call(schedule.rate, 3)
    z.call(schedule.observe, 1.0)


@entry(*all_of(positions, "Learned2D", "Sinusoidal2D"), share=2)
def places(z):
    dtype, heads, head_width, count, keys = dtype_of(z), z.size(3), 2 * z.size(3), z.size(), z.size()
    width = heads * head_width
    name = z.pick(*positions.names())
    made = z.call(positions.create, name, width=width, heads=heads, head_width=head_width, rng=z.rng, dtype=dtype)
    first = z.size(3)
    what = z.pick("add", "turn", "bias", "attend", "vjp", "functions", "scores")
    query = z.floats(2, heads, count, head_width, dtype=dtype)
    memory = [z.floats(2, heads, keys, head_width, dtype=dtype) for _ in range(2)]
    if z.chance(0.2):
        of_parameter(z, made)
    if what == "add":
        x = z.floats(2, count, width, dtype=dtype)
        z.call(made.add, x, first)
        z.call(made.add_vjp, x, first)
    elif what == "turn":
        z.call(made.turn, query, first)
        z.call(made.turn_vjp, query, first)
    elif what == "bias":
        made.bias(first, count, keys)
        if made.bias(first, count, keys) is not None:
            z.call(made.bias_vjp, z.floats(heads, count + keys - 1, dtype=dtype), first, count, keys)
    elif what == "scores" and isinstance(made, positions.RelativeVectors):
        weights = z.floats(2, heads, count, keys, dtype=dtype)
        z.call(made.scores, query, first, keys)
        z.call(made.scores_vjp, weights, first, z.pick(None, query))
        z.call(made.sums, weights, first)
        z.call(made.sums_vjp, query, first, keys, z.pick(None, weights))
    elif what == "attend":
        z.call(positions.attend, fastattn.prepare(*memory), query, made, first)
    elif what == "vjp":
        context, _, backward = z.call(positions.attend_vjp, query, *memory, made, first)
        z.call(backward, z.floats(*context.shape, dtype=dtype))
    else:
        z.call(positions.visible, first, count, keys, (1, 2), 1)
        z.call(positions.sinusoids, first, count, width)
        z.call(positions.relative_buckets, z.ids(99, count) - 50, 8, 20)
        z.call(positions.alibi_slopes, heads)
        z.call(positions.check_window, (1, None), 1)
        bias = z.call(positions.RelativeBias, z.floats(count + keys - 1, dtype=dtype))
        z.call(bias.array, count, keys)
        z.call(bias.gradient, z.floats(count, keys, dtype=dtype))


@entry("fastattn.grid.Grid", "fastattn.positions.Learned2D", "fastattn.positions.Sinusoidal2D")
def grids(z):
    dtype, batch, rows, columns = dtype_of(z), z.size(), z.size(), z.size()
    extents = np.stack([z.ids(rows, batch) + 1, z.ids(columns, batch) + 1], axis=1)
    grid = z.call(Grid, extents, (rows, columns))
    features = z.floats(batch, rows, columns, 4, dtype=dtype)
    flat = z.call(grid.flatten, features)
    z.call(grid.unflatten, flat)
    z.call(grid.maps, z.floats(batch, 2, rows * columns, dtype=dtype))
    places = z.pick(positions.Sinusoidal2D(4, dtype=dtype), positions.Learned2D(4, rng=z.rng, dtype=dtype))
    z.call(places.add, features)
    z.call(places.add_vjp, features)


def changed(z, state):
    """The state with a field that is spoilt, as a user may make one."""
    names = [f.name for f in fields(state) if getattr(state, f.name) is not None]
    if not names or not z.chance(0.3):
        return state
    name = z.pick(*names)
    value = getattr(state, name)
    wrong = z.array(value) if isinstance(value, np.ndarray) else z.number(value) if isinstance(value, int) else value
    z.spoilt.append(f"state.{name} {getattr(value, 'shape', value)} -> {getattr(wrong, 'shape', wrong)}")
    return z.call(replace, state, **{name: wrong})


@entry("fastattn.create", *all_of(variants, "check_normalized"), share=8)
def mechanisms(z):
    case = z.pick(*VARIANTS)
    dtype, batch, keys, width = dtype_of(z), z.size(4), z.size(9), 2 * z.size(4)
    memory_width = width if case.options.get("query_width") == SAME["query_width"] else z.size(8)
    try:
        sizes = {"query_width": width, "memory_width": memory_width, "dtype": dtype}
        own = {name: value for name, value in case.options.items() if (name, value) not in SAME.items()}
        variant = fastattn.create(case.record.name, rng=z.rng, **{**sizes, **own})
        width = variant.query_width
    except fastattn.FastattnError:
        variant = fastattn.create("additive", **sizes, width=5, rng=z.rng)
    if z.chance(0.15):
        of_parameter(z, variant)
    memory = z.floats(batch, keys, memory_width, dtype=dtype)
    given = {}
    if z.chance():
        given["lengths"] = z.lengths(batch, keys)
    if z.chance(0.3):
        given["mask"] = z.ids(2, batch, keys).astype(bool)
    prepared = z.call(variant.prepare, memory, **given)
    count = z.size(3)
    queries = z.floats(batch, count, width, dtype=dtype)
    if z.chance(0.3):
        weights = {"return_weights": True} if z.chance() and variant.name != "pooling" else {}
        z.call(variant.forward, queries, prepared, **weights)
        output, backward = z.call(variant.vjp, queries, prepared, **weights)
        context = output if isinstance(output, np.ndarray) else output.context
        d = [z.floats(*context.shape, dtype=dtype)]
        if not isinstance(output, np.ndarray):
            d.append(z.floats(*output.weights.shape, dtype=dtype))
        z.call(backward, *d)
        return
    started = {"seeds": z.ids(99, batch)} if getattr(variant, "takes_seeds", False) and z.chance() else {}
    state = z.call(variant.start, prepared, **started)
    backs = []
    for t in range(count):
        state = changed(z, state)
        other = prepared
        if z.chance(0.1):
            shape = (z.pick(batch, batch + 1), z.pick(keys, keys + 20, 1))
            other = variant.prepare(z.floats(*shape, memory_width, dtype=dtype))
            z.spoilt.append(f"memory of {shape} instead of {(batch, keys)}")
        if z.chance(0.6):
            context, weights, state, backward = z.call(variant.step_vjp, queries[:, t], other, state)
            backs.append((backward, context, weights, state))
        else:
            *_, state = z.call(variant.step, queries[:, t], other, state)
        if z.chance(0.15) and not backs:
            rows = z.ids(batch, batch)
            prepared, state = z.call(prepared.select, rows), z.call(state.select, rows)
    for backward, context, weights, after in reversed(backs):
        d = [z.floats(*context.shape, dtype=dtype)]
        if weights is not None and z.chance(0.6):
            d.append(z.floats(*weights.shape, dtype=dtype))
            if z.chance(0.5) and all(
                isinstance(getattr(after, f.name), (np.ndarray, type(None), tuple)) for f in fields(after)
            ):
                d.append(changed(z, after))
        z.call(backward, *d)
    z.call(variant.finish, prepared)


@entry("fastattn.seq2seq.build", "fastattn.seq2seq.greedy", "fastattn.seq2seq.sample", "fastattn.seq2seq.beam_search",
       "fastattn.seq2seq.score_pairs", "fastattn.seq2seq.State", "fastattn.seq2seq.Hypothesis",
       "fastattn.seq2seq.Batch", "fastattn.seq2seq.Ensemble",
       *(f"fastattn.seq2seq.{n}" for n in ("Model", "Bahdanau", "Cho", "Luong", "Sutskever", "Transformer", "Wu")),
       share=3)  # fmt: skip
def models(z):
    config = MODELS[z.pick(*MODELS)]
    batch, source_steps, target_steps, vocabulary = z.size(3), z.size(4), z.size(4), 9
    model = seq2seq.build(config, vocabulary, vocabulary, 3, z.pick(np.float32, np.float64))
    if z.chance(0.15):
        of_parameter(z, model)
    lengths = z.rng.integers(1, source_steps + 1, batch)
    lengths[0] = source_steps
    source = z.ids(vocabulary - 4, batch, source_steps, dtype=np.int32) + 4
    source[np.arange(source_steps) >= lengths[:, None]] = 0
    target_lengths = z.rng.integers(1, target_steps + 1, batch)
    target_lengths[0] = target_steps
    target = z.ids(vocabulary - 4, batch, target_steps, dtype=np.int32) + 4
    target[np.arange(target_steps) >= target_lengths[:, None]] = 0
    what = z.pick("greedy", "sample", "beam", "score", "loss", "vjp", "steps")
    if what != "vjp" and z.chance(0.2):
        model = z.call(seq2seq.Ensemble, [model, model])
    more = {}
    if z.chance(0.3):
        more = {"prefix": [z.ids(vocabulary - 4, 1) + 4 for _ in range(batch)], "forbid": z.ids(3, 2) + 4}
    if what == "greedy":
        z.call(seq2seq.greedy, model, source, lengths, limit=3, weights=z.chance(0.3), **more)
    elif what == "sample":
        z.call(seq2seq.sample, model, source, lengths, seeds=z.ids(99, batch), limit=3, temperature=0.7, **more)
    elif what == "beam":
        z.call(seq2seq.beam_search, model, source, lengths, size=2, limit=3, length_penalty=0.5, **more)
    elif what == "steps":
        state = z.call(model.encode, source, lengths)
        for _ in range(2):
            _, state, _ = z.call(model.step, z.ids(vocabulary, batch), state)
            if z.chance(0.3):
                state = z.call(state.select, z.ids(batch, batch))
    else:
        pairs = z.call(seq2seq.Batch, source, lengths, target, target_lengths, np.arange(batch))
        if what == "score":
            z.call(seq2seq.score_pairs, model, pairs)
        elif what == "loss":
            z.call(model.loss, pairs)
        else:
            *_, backward = z.call(model.loss_vjp, pairs, seeds=z.ids(99, batch).astype(np.uint64))
            z.call(backward, 0.5)


@entry("fastattn.seq2seq.Batches", "fastattn.seq2seq.replace_unknown")
def batches(z):
    source, target = ([z.ids(9, z.size(), dtype=np.int32) for _ in range(4)] for _ in range(2))
    made = z.call(seq2seq.Batches, source, target, tokens_per_batch=12, seed=1)
    z.call(lambda epoch: list(made.epoch(epoch)), 1)
    tokens, ids = ["a", "b"], np.array([0, seq2seq.UNK])
    z.call(seq2seq.replace_unknown, tokens, ids, np.abs(z.floats(2, 2)), ["x", "y"])


def translator(z):
    config = MODELS[z.pick(*MODELS)]
    words = seq2seq.Vocabulary(["a", "b", "c"])
    model = seq2seq.build(config, len(words), len(words), 3)
    return z.call(seq2seq.Translator, model, words, words, seq2seq.Config(model=model.config))


@entry("fastattn.seq2seq.Translator", "fastattn.seq2seq.Translation", "fastattn.seq2seq.Vocabulary",
       "fastattn.seq2seq.encode", "fastattn.seq2seq.encode_pairs", share=2)  # fmt: skip
def translators(z):
    made, texts = translator(z), ["a b", "", "c", "x y"][: z.size(4)]
    what = z.pick("translate", "search", "sample", "score", "align", "vocabulary")
    limits = {"max_length": 3}
    if what == "translate":
        z.call(made.translate, texts, beam=z.pick(None, 1, 2), replace=False, **limits)
    elif what == "search":
        z.call(made.search, texts, beam=2, best=1, length_penalty=0.5, coverage_penalty=0.0, weights=False, **limits)
    elif what == "sample":
        z.call(made.sample, texts, seed=1, temperature=0.7, top_k=2, top_p=0.9, first=0, **limits)
    elif what == "score":
        z.call(made.score, texts, texts, weights=False, layers=False)
    elif what == "align":
        z.call(made.align, "a b", z.pick(None, "b"), layers=False)
    else:
        words = z.call(seq2seq.Vocabulary, ["a", "b"], kind=z.pick("word", "char"))
        z.call(seq2seq.encode, words, "a b")
        z.call(seq2seq.encode_pairs, [("a", "b")], words, words, max_length=4, strict=False)
