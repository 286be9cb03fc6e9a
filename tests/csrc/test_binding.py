"""The binding alone: every array of every function of `core`, wrong in every way that a kernel would not survive."""

import ctypes
import inspect
from functools import partial

import numpy as np
import pytest

from fastattn._kernels import core
from fastattn.errors import ArgumentError, DTypeError, ShapeError

B, H, HK, TQ, TK, D, DV = 3, 4, 2, 3, 5, 6, 7
LENGTHS = np.array([5, 3, 3])


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def panels(key, score=1):
    return ones(*key.shape[:2], core.panel_elements(key, score, key.shape[2]))


def packed(rows, columns):
    return ones(core.gemm_packed_elements(ones(1), rows, columns))


def parts(rows, columns):
    return ones(core.gemm_parts_bytes(ones(1), rows, columns), dtype=np.uint8)


ON_TILES = core.gemm_parts_bytes(ones(1), D, DV) > 0  # at the levels amx and amx_model


def keys(given):
    """What `core.Keys` takes, out of the arguments of a call."""
    names = ("key", "value", "panels", "rows", "table", "positions", "kept")
    return core.Keys(**{name: given.pop(name) for name in names if name in given})


def score(given):
    names = {"kernel": "score", "activation": "activation", "vector": "vector", "softcap": "softcap"}
    return core.KernelScore(**{name: given.pop(ours) for name, ours in names.items() if ours in given})


def made(kind, given):
    """An object of `core` whose records are made of arguments by name, so that each can be wrong by itself."""
    record = {"keys": keys(given), "score": score(given)}
    if kind == "Call":
        of_call = {name: given.pop(name) for name in ("query", "scale") if name in given}
        if (alpha := given.pop("alpha", None)) is not None:
            record["normalizer"] = core.KernelNormalizer(alpha)
        return core.Call(**of_call, **record, options=core.Options(**given))
    if kind == "Steps":
        history, weights, filters = (given.pop(name) for name in ("history", "feature_weights", "filters"))
        return core.Steps(**record, features=core.Features(history, weights, filters), **given)
    parts = ("chunk", "chunk_query", "chunk_key", "chunk_vector", "chunk_panels")
    width, query, key, vector, panels = (given.pop(name) for name in parts)
    value = ones(*np.shape(key)[:2], 1) if np.ndim(key) == 3 else ones(1)
    second = core.Keys(key, value, panels)
    return core.Monotonic(**record, chunks=core.Chunks(width, query, second, core.KernelScore(1, 0, vector)), **given)


def attention(**changes):
    """Arguments of `core.Call` and its records: all options, of 4-D arrays with packed keys."""
    key = ones(B, HK, TK, D)
    given = {
        "query": ones(B, H, TQ, D), "key": key, "value": ones(B, HK, TK, DV), "score": 1, "activation": 0,
        "vector": ones(D), "scale": 1.0, "softcap": 0.0, "mask": ones(B, H, TQ, TK, dtype=bool),
        "bias": ones(H, TQ, TK), "key_lengths": LENGTHS.copy(), "causal": 0, "left": -1, "right": -1,
        "seeds": ones(B, dtype=np.uint64), "drop_below": 5, "keep_scale": 1.1, "panels": panels(key),
        "rows": np.arange(B), "positions": TK,
    }  # fmt: skip
    return {**given, **changes}


@ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 9)
def untouched(*arguments):
    """A function of scores that leaves them as they are."""


ADDRESS = ctypes.cast(untouched, ctypes.c_void_p).value
MODIFIER = core.KernelFunctions(np.float32, ADDRESS, ADDRESS, 0, (3, 0, 1), untouched)


def plain_call(**changes):
    return made("Call", attention(panels=None, rows=None, modifier=MODIFIER, **changes))


def forward_outputs():
    rows = (B, H, TQ)
    return {
        "context": ones(*rows, DV), "weights": ones(*rows, TK), "lse": ones(*rows), "row_max": ones(*rows),
        "row_sum": ones(*rows),
    }  # fmt: skip


def gradients():
    return {
        "d_context": ones(B, H, TQ, DV), "d_weights": ones(B, H, TQ, TK), "d_query": ones(B, H, TQ, D),
        "d_key": ones(B, HK, TK, D), "d_value": ones(B, HK, TK, DV), "d_bias": ones(H, TQ, TK),
        "d_vector": ones(D), "d_parameters": ones(4, dtype=np.float64),
    }  # fmt: skip


def steps(**changes):
    given = {
        "scale": 1.0, "sigmoid": False, "query": ones(B, TQ, D), "key": ones(B, TK, D), "value": ones(B, TK, DV),
        "rows": np.arange(B), "first": np.zeros((B, TQ), np.int64), "last": np.full((B, TQ), TK),
        "mask": ones(B, TK, dtype=bool), "vector": ones(D), "history": ones(B, TQ, TK), "filters": ones(4, 3),
        "feature_weights": ones(4, D), "factor": ones(B, TQ, TK), "score": 1,
    }  # fmt: skip
    return {**given, **changes}


def steps_outputs():
    return {
        "context": ones(B, TQ, DV), "weights": ones(B, TQ, TK), "normalized": ones(B, TQ, TK), "total": ones(B, TQ)
    }  # fmt: skip


def steps_run():
    call = made("Steps", steps(rows=None))
    call.forward(**steps_outputs())
    return call


def monotonic(**changes):
    key = ones(B, TK, D)
    packed_keys = panels(key[:, None])
    given = {
        "query": ones(B, D), "key": key, "vector": ones(D), "offset": ones(1), "chunk": 2, "chunk_query": ones(B, D),
        "chunk_key": ones(B, TK, D), "chunk_vector": ones(D), "panels": packed_keys, "chunk_panels": packed_keys.copy(),
        "value": ones(B, TK, DV), "rows": np.arange(B), "lengths": LENGTHS.copy(), "mask": ones(B, TK, dtype=bool),
        "seeds": ones(B, dtype=np.uint64), "step": 0, "noise": 1.0, "previous": ones(B, TK), "start": None, "score": 1,
    }  # fmt: skip
    return {**given, **changes}


SOFT = dict.fromkeys(("seeds", "previous", "panels", "chunk_panels"))  # what hard steps do not look at


def monotonic_outputs():
    names = ("weights", "alignment", "energy", "chunk_energy")
    return {"context": ones(B, DV), **{name: ones(B, TK) for name in names}, "found": None}


def hard_outputs():
    unused = dict.fromkeys(("alignment", "energy", "chunk_energy"))
    return {**monotonic_outputs(), **unused, "found": ones(B, dtype=np.int64)}


def monotonic_run():
    call = made("Monotonic", monotonic(rows=None))
    call.forward(**monotonic_outputs())
    return call


def recurrent(cell, **changes):
    gates = (4 if cell == 2 else 3) * D
    given = {
        "cell": cell, "hidden": D, "w_input": packed(DV, gates), "w_hidden": packed(D, D).repeat(gates // D),
        "b_input": ones(gates), "b_hidden": None if cell == 2 else ones(gates),
    }  # fmt: skip
    return {**given, **changes}


def run(kind, outputs):
    """A function that makes an object of `core` and lets it run forward, which is when numbers are compared."""

    def made_and_run(**given):
        call = core.Recurrent(**given) if kind == "Recurrent" else made(kind, given)
        outputs_of = outputs()
        call.forward(**(recurrent_arguments(outputs_of) if kind == "Recurrent" else outputs_of))

    return made_and_run


ROWS = int(LENGTHS.sum())
SEQUENCES = LENGTHS.copy(), np.array([0, 5, 8]), np.arange(B)


def recurrent_arguments(given):
    """Arguments of `core.Recurrent`'s methods, of arrays by name."""
    given, parts = dict(given), given["sequences"] or ()
    pairs = {"first": ("h_first", "c_first"), "last": ("h_last", "c_last"), "kept": ("aux", "before"),
             "d_last": ("dh_last", "dc_last"), "d_first": ("dh_first", "dc_first")}  # fmt: skip
    for pair, names in pairs.items():
        if names[0] in given and (pair, "dy" in given) != ("first", True):
            given[pair] = tuple(given.pop(name) for name in names)
    given["sequences"] = core.Sequences(given.pop("batch"), given.pop("steps"), *parts)
    products = given.pop("products", 0)
    if products:
        given["parts"] = (given["parts"],) * products
    return given


def of_cell(cell, method):
    return lambda **given: getattr(core.Recurrent(**recurrent(cell)), method)(**recurrent_arguments(given))


def recurrent_forward(cell):
    return {
        "x": ones(ROWS, DV), "batch": B, "steps": TK, "reverse": False, "sequences": SEQUENCES, "h_first": ones(B, D),
        "c_first": ones(B, D), "h_last": ones(B, D), "c_last": ones(B, D),
        "gates": ones(ROWS, (4 if cell == 2 else 3) * D), "aux": ones(ROWS, D), "before": ones(ROWS, D),
        "y": ones(B, TK, D), "inside": ones(B, D),
        **({"parts": parts(D, D), "products": 4 if cell == 2 else 3} if ON_TILES else {}),
    }  # fmt: skip


def recurrent_backward(cell):
    gates = (4 if cell == 2 else 3) * D
    return {
        "w_hidden_transposed": packed(gates, D), "batch": B, "steps": TK, "reverse": False, "sequences": SEQUENCES,
        "dy": ones(B, TK, D), "dh_last": ones(B, D), "dc_last": ones(B, D), "dh_first": ones(B, D),
        "dc_first": ones(B, D), "gates": ones(ROWS, gates), "aux": ones(ROWS, D), "before": ones(ROWS, D),
        "c_first": ones(B, D),
        **({"parts": parts(gates, D), "products": 1} if ON_TILES and cell != 1 else {}),
    }  # fmt: skip


def rows_of(*names):
    return {**{name: ones(4, 5) for name in names}, "rows": 4, "columns": 5}


def narrow(name, **changes):
    """Arguments of a call whose keys and values are rows of a narrower type."""
    dtype, more = (np.int8, 4) if name == "int8" else (np.uint16, 0)
    rows = {"key": ones(B, HK, TK, D + more, dtype=dtype), "value": ones(B, HK, TK, DV + more, dtype=dtype)}
    return attention(**{**rows, "panels": None, "kept": core.KEPT[name], **changes})


SPARSE = {"vector": None, "score": 0, "alpha": ones(H, dtype=np.float64)}

# Every function and method that reads or writes arrays: how to call it, and which arrays it writes.
CALLS = {
    "Call": (lambda: run("Call", forward_outputs), attention, ""),
    "Call.table": (
        lambda: run("Call", forward_outputs),
        lambda: attention(panels=None, rows=None, table=np.full((TK, B), B - 1)),
        "",
    ),
    "Call.int8": (lambda: run("Call", forward_outputs), lambda: narrow("int8"), ""),
    "Call.float16": (lambda: run("Call", forward_outputs), lambda: narrow("float16"), ""),
    "Call.sparse": (lambda: run("Call", forward_outputs), lambda: attention(panels=None, **SPARSE), ""),
    "Call.forward": (lambda: made("Call", attention()).forward, forward_outputs, "context weights lse row_max row_sum"),
    "Call.backward": (
        lambda: plain_call().backward,
        lambda: {**forward_outputs(), "d_lse": ones(B, H, TQ), **gradients(), "lse": ...},
        "d_query d_key d_value d_bias d_vector d_parameters",
    ),
    "Call.sparse_backward": (
        lambda: plain_call(**SPARSE).sparse_backward,
        lambda: {**gradients(), "d_alpha": ones(B, H, TQ, dtype=np.float64)},
        "d_query d_key d_value d_bias d_vector d_parameters d_alpha",
    ),
    "pack_keys": (
        lambda: lambda **given: core.pack_keys(score=score(given), **given),
        lambda: {
            "key": ones(B, HK, TK, D), "score": 1, "activation": 0, "vector": ones(D), "first": 0, "last": TK,
            "panels": panels(ones(B, HK, TK, D)),
        },
        "panels",
    ),
    "query_backward": (
        lambda: lambda **given: core.query_backward(keys=keys(given), score=score(given), **given),
        lambda: {
            "score": 1, "activation": 0, "scale": 1.0, "query": ones(B, D), "key": ones(B, TK, D),
            "value": ones(B, TK, DV), "vector": ones(D), "weights": ones(B, TK), "d_context": ones(B, DV),
            "d_query": ones(B, D), "d_score": ones(B, TK), "d_weights": ones(B, TK),
        },
        "d_query d_score",
    ),
    "gemm_pack": (lambda: core.gemm_pack, lambda: {"w": ones(D, DV), "transposed": False, "packed": packed(D, DV)},
                  "packed"),
    "gemm": (
        lambda: core.gemm,
        lambda: {"x": ones(TK, D), "packed": packed(D, 35), "y": ones(TK, 35), "bias": ones(35),
                 "parts": parts(D, 35) if ON_TILES else None},
        "y",
    ),
    **({"gemm_split": (
        lambda: core.gemm_split,
        lambda: {"w": ones(D, 35), "transposed": False, "parts": parts(D, 35)},
        "parts",
    )} if ON_TILES else {}),
    "gemm_narrow": (
        lambda: core.gemm_narrow,
        lambda: {"x": ones(TK, 33), "packed": ones(2 * 2 * 4096, dtype=np.uint8), "y": ones(TK, 65),
                 "plain": ones(128, dtype=np.uint8), "bias": ones(65)},
        "y",
    ),
    "gemm_narrow.halves": (
        lambda: core.gemm_narrow,
        lambda: {"x": ones(TK, 33, dtype=np.uint16), "packed": ones(2 * 2 * 4096, dtype=np.uint8),
                 "y": ones(TK, 65, dtype=np.uint16), "plain": ones(128, dtype=np.uint8), "bias": ones(65)},
        "y",
    ),
    "gemm_narrow.int8": (
        lambda: core.gemm_narrow,
        lambda: {"x": ones(TK, 65), "packed": ones(2 * 2 * 4096, dtype=np.uint8), "y": ones(TK, 65),
                 "scales": ones(128), "bias": ones(65)},
        "y",
    ),
    "narrow_product": (
        lambda: partial(core.narrow_product, x=ones(TK, 33), shape=(33, 65), scales=None, bias=ones(65), relu=True),
        lambda: {"packed": ones(2 * 2 * 4096, dtype=np.uint8), "plain": ones(128, dtype=np.uint8)},
        "",
    ),
    "narrow_product.int8": (
        lambda: partial(core.narrow_product, x=ones(TK, 65), shape=(65, 65), plain=None, bias=None, relu=False),
        lambda: {"packed": ones(2 * 2 * 4096, dtype=np.uint8), "scales": ones(128)},
        "",
    ),
    "gemm_tn": (
        lambda: core.gemm_tn,
        lambda: {"x": ones(TK, D), "dy": ones(TK, DV), "dw": ones(D, DV), "db": ones(DV)},
        "dw db",
    ),
    "map_array": (lambda: core.map_array, lambda: {"function": 0, "x": ones(9), "y": ones(9)}, "y"),
    "softmax": (lambda: core.softmax, lambda: {**rows_of("x", "y"), "mask": ones(4, 5, dtype=bool)}, "y"),
    "softmax_backward": (lambda: core.softmax_backward, lambda: rows_of("y", "dy", "dx"), "dx"),
    "normalize": (lambda: core.normalize, lambda: {**rows_of("x", "y"), "inverse_norm": ones(4, 2)}, "y inverse_norm"),
    "normalize_backward": (
        lambda: core.normalize_backward,
        lambda: {**rows_of("y", "dy", "dx"), "inverse_norm": ones(4, 2)},
        "dx",
    ),
    "relu_backward": (lambda: core.relu_backward, lambda: {"y": ones(9), "d": ones(9)}, "d"),
    "largest": (
        lambda: core.largest,
        lambda: {"x": ones(4, 5), "values": ones(4, 3), "ids": ones(4, 3, dtype=np.int64)},
        "values ids",
    ),
    "rotary": (
        lambda: core.rotary,
        lambda: {
            "x": ones(B, H, TK, D), "cosines": ones(TK, 3), "sines": ones(TK, 3), "interleaved": True,
            "inverse": False, "y": ones(B, TK, H, D),
        },
        "y",
    ),
    "entmax": (
        lambda: core.entmax, lambda: {**rows_of("x", "y"), "mask": ones(4, 5, dtype=bool), "alpha": 1.3}, "y",
    ),
    "entmax_backward": (
        lambda: core.entmax_backward,
        lambda: {**rows_of("y", "dy", "dx"), "alpha": 1.3, "d_alpha": ones(4, dtype=np.float64)},
        "dx d_alpha",
    ),
    "cross_entropy": (
        lambda: core.cross_entropy,
        lambda: {
            "logits": ones(4, 5), "bias": ones(5), "targets": np.arange(4), "smoothing": 0.0, "gradient": True,
            "losses": ones(4, dtype=np.float64),
        },
        "logits losses",
    ),
    "log_softmax": (lambda: core.log_softmax, lambda: {**rows_of("x", "y"), "bias": ones(5)}, "y"),
    "adam": (
        lambda: core.adam,
        lambda: {
            **{name: ones(*((D, 35) if ON_TILES else (9,))) for name in ("value", "gradient", "m", "v")},
            **dict.fromkeys(("scale", "beta1", "beta2", "size", "spread", "epsilon", "keep"), 1.0),
            **({"parts": parts(D, 35), "turned": parts(35, D)} if ON_TILES else {}),
        },
        "value gradient m v parts turned" if ON_TILES else "value gradient m v",
    ),
    "add_scaled": (lambda: core.add_scaled, lambda: {"x": ones(9), "scale": 2.0, "y": ones(9)}, "y"),
    "square_sum": (lambda: core.square_sum, lambda: {"x": ones(9), "start": 0.0}, ""),
    "gather": (
        lambda: core.gather, lambda: {"table": ones(5, 4), "ids": np.arange(3), "y": ones(3, 4)}, "y",
    ),
    "scatter": (
        lambda: core.scatter,
        lambda: {"dy": ones(3, 4), "ids": np.array([4, 0, -1]), "skip": -1, "table": ones(5, 4)},
        "table",
    ),
    "layer_normalized": (
        lambda: partial(core.layer_normalized, ones(4, 5), ones(5), added=ones(4, 5)),
        lambda: {"offset": ones(5), "epsilon": 1e-5},
        "",
    ),
    "layer_norm": (
        lambda: core.layer_norm,
        lambda: {
            "x": ones(4, 5), "gain": ones(5), "offset": ones(5), "epsilon": 1e-5, "y": ones(4, 5), "mean": ones(4),
            "inverse": ones(4),
        },
        "y mean inverse",
    ),
    "layer_norm_backward": (
        lambda: core.layer_norm_backward,
        lambda: {
            "x": ones(4, 5), "gain": ones(5), "mean": ones(4), "inverse": ones(4), "dy": ones(4, 5), "dx": ones(4, 5),
            "d_gain": ones(5), "d_offset": ones(5),
        },
        "dx d_gain d_offset",
    ),
    "dropout": (
        lambda: core.dropout,
        lambda: {
            "x": ones(3, 5), "seeds": ones(3, dtype=np.uint64), "drop_below": 9, "keep_scale": 1.0, "y": ones(3, 5)
        },
        "y",
    ),
    "Recurrent": (lambda: run("Recurrent", lambda: recurrent_forward(0)), lambda: recurrent(0), ""),
    "Recurrent.lstm": (lambda: run("Recurrent", lambda: recurrent_forward(2)), lambda: recurrent(2), ""),
    **{
        f"Recurrent.forward.{cell}": (
            lambda cell=cell: of_cell(cell, "forward"),
            lambda cell=cell: recurrent_forward(cell),
            "h_last c_last gates aux before y",
        )
        for cell in range(3)
    },
    **{
        f"Recurrent.backward.{cell}": (
            lambda cell=cell: of_cell(cell, "backward"),
            lambda cell=cell: recurrent_backward(cell),
            "dh_first dc_first gates aux",
        )
        for cell in range(3)
    },
    "Steps": (lambda: run("Steps", steps_outputs), steps, ""),
    "Steps.forward": (lambda: made("Steps", steps()).forward, steps_outputs, "context weights normalized total"),
    "Steps.backward": (
        lambda: steps_run().backward,
        lambda: {
            "d_context": ones(B, TQ, DV), "d_weights": ones(B, TQ, TK), "d_query": ones(B, TQ, D),
            "d_history": ones(B, TQ, TK), "d_factor": ones(B, TQ, TK), "d_key": ones(B, TK, D),
            "d_vector": ones(B, D), "d_feature_weights": ones(B, 4, D), "d_filters": ones(B, 4, 3),
        },
        "d_query d_history d_factor d_key d_vector d_feature_weights d_filters",
    ),
    "Monotonic": (lambda: run("Monotonic", monotonic_outputs), monotonic, ""),
    "Monotonic.hard": (
        lambda: run("Monotonic", hard_outputs),
        lambda: monotonic(start=np.zeros(B, np.int64), **SOFT),
        "",
    ),
    "Monotonic.forward": (
        lambda: made("Monotonic", monotonic()).forward, monotonic_outputs,
        "context weights alignment energy chunk_energy",
    ),
    "Monotonic.forward.hard": (
        lambda: made("Monotonic", monotonic(start=np.zeros(B, np.int64))).forward,
        hard_outputs,
        "context weights found",
    ),
    "Monotonic.backward": (
        lambda: monotonic_run().backward,
        lambda: {
            "d_context": ones(B, DV), "d_weights": ones(B, TK), "d_alignment": ones(B, TK), "d_query": ones(B, D),
            "d_chunk_query": ones(B, D), "d_previous": ones(B, TK), "d_key": ones(B, TK, D), "d_vector": ones(B, D),
            "d_offset": ones(B, 1), "d_chunk_key": ones(B, TK, D), "d_chunk_vector": ones(B, D),
        },
        "d_query d_chunk_query d_previous d_key d_vector d_offset d_chunk_key d_chunk_vector",
    ),
    "logarithm": (
        lambda: core.logarithm,
        lambda: {"x": ones(3, 5), "seeds": ones(3, dtype=np.uint64), "step": 1, "y": ones(3, 5)},
        "y",
    ),
    "uniform": (
        lambda: core.uniform,
        lambda: {"seeds": ones(3, dtype=np.uint64), "step": 1, "draw": 0, "u": ones(3, dtype=np.float64)},
        "u",
    ),
}  # fmt: skip

# What has no arrays that a kernel reads or writes.
OTHERS = {
    "KeptMemory", "aligned_empty", "build_info", "empty", "gemm_packed_elements", "gemm_parts_bytes", "get_num_threads",
    "lasting", "memory_kept", "memory_limit", "mix64", "panel_elements", "panel_width", "parts", "plain",
    "set_num_threads", "set_parts", "tiles", "unit", "use_team", "xla_handlers",
} | ({"gemm_split"} - set(CALLS))  # fmt: skip
# What calls are made of; the calls check it.
RECORDS = {
    "Chunks",
    "Features",
    "KernelFunctions",
    "KernelMask",
    "KernelNormalizer",
    "KernelScore",
    "Keys",
    "Options",
    "Sequences",
}
# Arrays of any strides, and arrays that may be larger than what is read of them.
STRIDED = {("Call", "mask"), ("Call", "bias"), ("Call.backward", "d_bias"), ("Call.sparse_backward", "d_bias"),
           ("gemm_pack", "w"), ("gemm_split", "w")}  # fmt: skip


def arguments(name):
    return {key: value for key, value in CALLS[name][1]().items() if value is not ...}


def swapped(array):
    return array.astype(array.dtype.newbyteorder())


def spoilt(array):
    """Yield what is wrong, and an array of the same shape, or nearly so, that is wrong in this way."""
    kind = array.dtype.char
    other = {"f": "d", "d": "f", "l": "i", "q": "i", "L": "l", "Q": "l", "?": "b", "B": "b", "b": "B", "H": "h"}[kind]
    yield "another dtype", array.astype(other)
    if kind not in "?Bb":
        yield "swapped bytes", swapped(array)
        space = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        space[...] = array
        yield "unaligned", space
    for axis in range(array.ndim):
        yield f"axis {axis} shorter", np.ascontiguousarray(array.take(range(array.shape[axis] - 1), axis))
    yield "none of it", array[:0].copy()
    yield "no axes", array.reshape(-1)[:1].reshape(())
    yield "a list", array.tolist()


def test_every_function_is_here():
    """A function or method that is new to the binding needs a line in CALLS."""
    here = {name.split(".")[0] for name in CALLS}
    methods = {tuple(name.split(".")[:2]) for name in CALLS}
    there = {name for name, value in vars(core).items() if callable(value) and value.__module__ == core.__name__}
    assert there - {name for name in there if name.startswith("_")} == here | OTHERS | RECORDS
    for name in here:
        if inspect.isclass(getattr(core, name)):
            for method in vars(getattr(core, name)):
                assert method.startswith("_") or (name, method) in methods, (name, method)


@pytest.mark.parametrize("name", CALLS)
def test_right_calls_work(name):
    CALLS[name][0]()(**arguments(name))


def narrow_product(x, bias, relu=False):
    packed, plain = ones(2 * 2 * 4096, dtype=np.uint8), ones(128, dtype=np.uint8)
    return core.narrow_product(x, (33, 65), packed, None, plain, bias, relu)


def layer_normalized(x, added, gain=None):
    return core.layer_normalized(x, ones(5) if gain is None else gain, ones(5), 1e-5, added)


@pytest.mark.parametrize(
    ("call", "shapes"), [(narrow_product, ((2, TK, 33), (65,))), (layer_normalized, ((2, 4, 5), (2, 4, 5)))]
)
def test_what_is_not_as_nearly_all_is_left_to_others(call, shapes):
    right = [ones(*shape) for shape in shapes]
    assert call(*right).shape[:2] == shapes[0][:2]
    for place, array in enumerate(right):
        wide = np.repeat(array, 2, axis=-1)[..., ::2]
        other = array.view(type("Other", (np.ndarray,), {}))
        for what, wrong in [*spoilt(array), ("gaps", wide), ("another class", other)]:
            if what not in ("none of it", "axis 0 shorter", "axis 1 shorter") or place == 1:
                given = right.copy()
                given[place] = wrong
                assert call(*given) is None, (place, what)


def test_what_else_is_left_to_others():
    assert narrow_product(ones(TK, 33), ones(65), 1) is None
    for gain in (ones(4), ones(5, dtype=np.float64)):
        assert layer_normalized(ones(4, 5), None, gain) is None


# Calls that are right with less than what they have, and where any shape is.
SHORTER = {
    ("pack_keys", "key"): ("axis 0 shorter", "axis 1 shorter", "axis 3 shorter", "none of it"),
    ("gemm_pack", "w"): ("axis 1 shorter",),
    ("gemm_split", "w"): ("axis 0 shorter", "axis 1 shorter"),
    ("largest", "x"): ("axis 1 shorter",),
    ("gather", "table"): ("axis 0 shorter",),
    ("Steps", "filters"): ("axis 1 shorter",),
    ("Monotonic", "offset"): ("no axes",),
    ("Monotonic.hard", "offset"): ("no axes",),
    ("Call.backward", "d_bias"): ("another dtype",),  # sums may be of float64
    ("Call.sparse_backward", "d_bias"): ("another dtype",),
    ("square_sum", "x"): ("another dtype", "axis 0 shorter", "none of it", "no axes"),
}


def fits(name, argument, what):
    if name.startswith("Call") and argument in ("mask", "bias", "d_bias", "alpha") and what == "no axes":
        return True
    return what in SHORTER.get((name, argument), ())


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arrays_are_refused(name):
    """Each array of each function, spoilt in each way, in words with a hint."""
    accepted = []
    for argument, value in arguments(name).items():
        for what, wrong in spoilt(value) if isinstance(value, np.ndarray) else ():
            call = CALLS[name][0]()
            try:
                call(**{**arguments(name), argument: wrong})
            except (ArgumentError, DTypeError, ShapeError) as error:
                assert "Hint: " in str(error)
            except TypeError:
                assert what == "a list", (argument, what)
            else:
                if not fits(name, argument, what):
                    accepted.append((argument, what))
    assert accepted == []


@pytest.mark.parametrize("name", CALLS)
def test_gaps_between_elements_are_refused(name):
    for argument, value in arguments(name).items():
        if not isinstance(value, np.ndarray) or value.ndim == 0 or value.shape[-1] < 2:
            continue
        wide = np.repeat(value, 2, axis=-1)[..., ::2]
        if (name.split(".")[0] if argument in ("mask", "bias") else name, argument) in STRIDED:
            continue
        given = {**arguments(name), argument: wide}
        named = argument.removeprefix("chunk_")  # by its place in a record
        with pytest.raises(ArgumentError, match=rf"^(chunk_)?{named}: expected an aligned array"):
            CALLS[name][0]()(**given)


@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name][2]])
def test_what_is_written_must_be_writable(name):
    written = CALLS[name][2].split()
    for argument in written:
        given = arguments(name)
        given[argument].flags.writeable = False
        with pytest.raises(ArgumentError, match=rf"^{argument}: expected an aligned array.* read-only"):
            CALLS[name][0]()(**given)
    given = arguments(name)  # and nothing else needs to be
    for argument, value in given.items():
        if isinstance(value, np.ndarray) and argument not in written:
            value.flags.writeable = False
    CALLS[name][0]()(**given)


INDICES = {
    "key_lengths": ("Call.forward", lambda bad: made("Call", attention(key_lengths=bad(LENGTHS))), TK),
    "rows of a call": ("Call.forward", lambda bad: made("Call", attention(rows=bad(np.arange(B)))), B - 1),
    "table": (
        "Call.forward",
        lambda bad: plain_call(table=bad(np.zeros((TK, B), np.int64))),
        B - 1,
    ),
    "rows": ("Steps.forward", lambda bad: made("Steps", steps(rows=bad(np.arange(B)))), B - 1),
    "first": ("Steps.forward", lambda bad: made("Steps", steps(first=bad(np.zeros((B, TQ), np.int64)))), TK),
    "last": ("Steps.forward", lambda bad: made("Steps", steps(last=bad(np.zeros((B, TQ), np.int64)))), TK),
    "lengths": ("Monotonic.forward", lambda bad: made("Monotonic", monotonic(lengths=bad(LENGTHS))), TK),
    "start": (
        "Monotonic.forward.hard",
        lambda bad: made("Monotonic", monotonic(start=bad(np.zeros(B, np.int64)))),
        TK,
    ),
}


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("beyond", [-1, 1, 2**40, -(2**63)])
def test_numbers_that_are_indices_are_compared(name, beyond):
    """Also those that were right when the call was made."""
    of, make, largest = INDICES[name]
    held = []

    def bad(array):
        held.append(array.copy())
        return held[0]

    call = make(bad)
    call.forward(**arguments(of))
    held[0].reshape(-1)[-1] = beyond if beyond < 1 else largest + beyond
    with pytest.raises(ArgumentError, match=f"^{name.split()[0]}: expected numbers from 0 to {largest}"):
        call.forward(**arguments(of))


@pytest.mark.parametrize("beyond", [-1, 5, 2**40, -(2**63)])
def test_ids_and_targets_are_compared(beyond):
    for name, argument, wrong in (
        ("gather", "ids", np.array([0, beyond, 1])),
        ("cross_entropy", "targets", np.array([0, 1, 4, beyond])),
    ):
        with pytest.raises(ArgumentError, match=f"^{argument}: expected numbers from 0 to 4, got {beyond}"):
            getattr(core, name)(**{**arguments(name), argument: wrong})
    with pytest.raises(ArgumentError, match=r"^ids: expected numbers from 0 to 4"):
        core.scatter(**{**arguments("scatter"), "ids": np.array([0, 4, beyond]), "skip": -7})
    columns = {"table": ones(4, 5), "columns": True}
    with pytest.raises(ArgumentError, match=rf"^ids: expected numbers from 0 to 4, got {beyond}"):
        core.gather(**{**arguments("gather"), **columns, "ids": np.array([0, beyond, 1])})
    with pytest.raises(ArgumentError, match=r"^ids: expected numbers from 0 to 4"):
        core.scatter(**{**arguments("scatter"), **columns, "ids": np.array([0, 4, beyond]), "skip": -7})


@pytest.mark.parametrize("cell", range(3))
@pytest.mark.parametrize(
    "part, wrong",
    [
        *((0, x) for x in ([6, 3, 3], [5, 3, -1], [3, 5, 3])),
        *((1, x) for x in ([0, 5, 9], [0, -1, 8], [7, 5, 8], [0, 2**62, 8])),
        *((2, x) for x in ([0, 1, 3], [0, 1, -1])),
    ],
)
def test_sequences_stay_within_their_rows(cell, part, wrong):
    sequences = [*SEQUENCES]
    sequences[part] = np.array(wrong)
    for method, given in (("forward", recurrent_forward(cell)), ("backward", recurrent_backward(cell))):
        given["sequences"] = tuple(sequences)
        with pytest.raises(ArgumentError, match=r"^(lengths|starts|order): expected numbers"):
            of_cell(cell, method)(**given)


@pytest.mark.parametrize("name, changes", [
    ("Call", {"positions": TK + 1}), ("Call", {"positions": -1}), ("Call", {"score": 99}), ("Call", {"activation": 3}),
    ("Call", {"causal": 3}), ("Call", {"left": 2**61 + 1}), ("Call", {"right": -2}), ("Call", {"vector": None}),
    ("Call", {"query": ones(B, 3, TQ, D)}), ("Call", {"table": np.zeros((TK, B), np.int64)}),
    ("pack_keys", {"first": 1}), ("pack_keys", {"last": TK + 1}), ("pack_keys", {"last": -1}),
    ("pack_keys", {"vector": None}), ("query_backward", {"score": -1}), ("map_array", {"function": 3}),
    ("softmax", {"rows": 5}), ("softmax", {"rows": -4, "columns": -5}),
    ("softmax", {"rows": 2**62, "columns": 2**62}),
    ("entmax", {"columns": 6}), ("largest", {"values": ones(4, 6), "ids": ones(4, 6, dtype=np.int64)}),
    ("rotary", {"cosines": ones(TK, 4), "sines": ones(TK, 4)}), ("Recurrent", {"cell": 3}),
    ("Recurrent", {"hidden": -1}),
    ("Recurrent", {"hidden": 2**40, "b_hidden": ones(0)}), ("Recurrent", {"b_hidden": None}),
    ("Recurrent.forward.0", {"steps": 4}), ("Recurrent.forward.0", {"batch": 4}),
    ("Recurrent.forward.0", {"aux": None}),
    ("Recurrent.forward.0", {"parts": parts(D, D), "products": 4}),
    ("Recurrent.forward.2", {"parts": parts(D, D), "products": 3}),
    ("Recurrent.backward.1", {"parts": parts(3 * D, D), "products": 1}),
    ("Recurrent.backward.2", {"parts": parts(9 * D, D), "products": 1}),
    ("Recurrent.forward.0", {"steps": 2**62, "sequences": None}), ("Recurrent.backward.2", {"c_first": None}),
    ("Steps", {"history": None}), ("Steps.backward", {"d_history": None}), ("Steps.backward", {"d_filters": None}),
    ("Monotonic", {"previous": None}), ("Monotonic", {"panels": None}), ("Monotonic", {"chunk": -1}),
    ("Monotonic", {"chunk_key": None}), ("Monotonic.forward", {"energy": None}),
    ("Monotonic.forward.hard", {"found": None}), ("Monotonic.backward", {"d_chunk_key": None}),
    ("Call.backward", {"weights": None}), ("Call.backward", {"d_vector": None}),
    ("Call.backward", {"d_parameters": None}),
])  # fmt: skip
def test_sizes_and_choices_are_compared(name, changes):
    with pytest.raises((ArgumentError, DTypeError, ShapeError)):
        CALLS[name][0]()(**{**arguments(name), **changes})


def test_ways_back_that_have_no_way_there():
    for call, name in (
        (made("Steps", steps(rows=None)), "Steps.backward"),
        (made("Monotonic", monotonic(rows=None)), "Monotonic.backward"),
        (made("Call", attention()), "Call.backward"),  # of a memory whose entries are chosen
        (plain_call(), "Call.sparse_backward"),  # without a normalizer
    ):
        with pytest.raises((ArgumentError, ShapeError)):
            call.backward(**arguments(name)) if "sparse" not in name else call.sparse_backward(**arguments(name))
    for name in ("Call", "Recurrent", "Steps", "Monotonic", *RECORDS - {"Options"}):
        with pytest.raises((TypeError, ShapeError)):
            getattr(core, name).__new__(getattr(core, name))


@pytest.mark.parametrize(
    "given", [{}, {"weights": 1}, {"gradient": 1}, {"alpha": ones(1, dtype=np.float64), "weights": 1, "gradient": 1}]
)
def test_a_normalizer_is_one_of_two(given):
    with pytest.raises(ShapeError):
        core.KernelNormalizer(**given)


def test_functions_of_rows_are_of_the_type_and_have_buffers_for_themselves():
    alone = core.KernelFunctions(np.float32, ADDRESS, 0, 0, (), untouched)
    other = core.KernelFunctions(np.float64, ADDRESS, ADDRESS, 0, (), untouched)
    with pytest.raises(ShapeError):
        core.KernelNormalizer(ones(1, dtype=np.float64), functions=alone)
    for given in ({"buffers": 1, "alpha": ones(1, dtype=np.float64)}, {"buffers": -1, "functions": alone}):
        with pytest.raises(ArgumentError):
            core.KernelNormalizer(**given)
    arrays = ones(3, 4), core.Keys(ones(5, 4), ones(5, 4)), core.KernelScore(0), 1.0, core.Options()
    with pytest.raises(ShapeError):
        core.Call(*arrays, core.KernelNormalizer(functions=other))
    call = core.Call(*arrays, core.KernelNormalizer(functions=alone))
    with pytest.raises(ShapeError):
        call.sparse_backward(ones(3, 4), None, ones(3, 4), ones(5, 4), ones(5, 4), None, None, None, None)


def test_rows_of_narrower_types_are_for_forward_calls_of_float32():
    double = {name: ones(*np.shape(value), dtype=np.float64) for name, value in attention().items()
              if name in ("query", "vector", "bias")}  # fmt: skip
    for name in core.KEPT:
        call = made("Call", narrow(name, rows=None, vector=ones(D)))
        with pytest.raises(ShapeError):
            call.backward(**arguments("Call.backward"))
        for wrong in ({"panels": panels(ones(B, HK, TK, D))}, {**SPARSE, "bias": None, "seeds": None}, double):
            with pytest.raises((ShapeError, ArgumentError)):
                made("Call", narrow(name, **wrong))
    for number in (-1, len(core.KEPT) + 1):
        with pytest.raises(ArgumentError):
            made("Call", narrow("int8", kept=number))
    key, value = ones(B, TK, D, dtype=np.uint16), ones(B, TK, DV, dtype=np.uint16)
    with pytest.raises(ShapeError):
        made("Steps", steps(key=key, value=value, kept=core.KEPT["float16"]))


def test_functions_and_blocks_are_those_of_the_call():
    forward_only = core.KernelFunctions(np.float32, ADDRESS, 0, 0, (), untouched)
    with pytest.raises(ShapeError):
        core.Call(ones(3, 4), core.Keys(ones(5, 4), ones(5, 4)), core.KernelScore(core.SCORES["pairwise"]), 1.0,
                  core.Options())  # fmt: skip
    with pytest.raises(ShapeError):
        core.KernelScore(0, functions=forward_only)
    with pytest.raises(ArgumentError):
        core.KernelFunctions(np.float32, 0, 0, 0, (), None)
    with pytest.raises(ShapeError):  # slopes know nothing of gradients of parameters
        core.KernelFunctions(np.float32, ADDRESS, 0, 0, (0, 3), untouched, ADDRESS)
    for wrong in (ones(1, 1, 2, 1), ones(1, 1, 1, 2), ones(2, 1, 1, 1), ones(1, 3, 1, 1)):
        with pytest.raises(ShapeError):
            made("Call", attention(allow=core.KernelMask(forward_only, wrong)))
    with pytest.raises(ArgumentError):
        core.KernelMask(forward_only, np.full((1, 1, 1, 1), 3))
    with pytest.raises(ShapeError):
        made("Call", attention(modifier=core.KernelFunctions(np.float64, ADDRESS, 0, 0, (), untouched)))
    call = made("Call", attention(panels=None, rows=None, modifier=forward_only))
    with pytest.raises(ShapeError):
        call.backward(**arguments("Call.backward"))
    with pytest.raises(ShapeError):
        CALLS["query_backward"][0]()(**{**arguments("query_backward"), "score": core.SCORES["pairwise"]})


def test_plain_calls_are_of_arrays_that_fit_and_none_of_others():
    q, k, v = ones(2, 3, 4), ones(2, 5, 4), ones(2, 5, 6)
    context, row_max, row_sum = core.plain(q, k, v, core.Options())
    assert context.shape == (2, 3, 6)
    assert row_max.tolist() == [[2.0] * 3] * 2
    assert row_sum.tolist() == [[5.0] * 3] * 2
    others = [
        (ones(2, 3, 4, dtype=np.float64), k, v), (q.astype(">f4"), k, v), (ones(2, 3, 4, dtype=np.int32),) * 3,
        (q[0], k, v), (q, k[0], v), (ones(4),) * 3, (ones(1, 1, 1, 1, 4),) * 3, (q, ones(2, 5, 3), v),
        (q, k, ones(2, 4, 6)), (q, ones(1, 5, 4), ones(1, 5, 6)), (q, k, ones(1, 5, 6)),
        (ones(2, 3, 8)[..., ::2], k, v), (q, k, ones(2, 5, 12)[..., ::2]), (q, np.empty((2, 5, 4), "i1,f4")["f1"], v),
        (np.broadcast_to(ones(1), (2**40, 4)), np.broadcast_to(ones(1), (0, 4)), ones(0, 2**40)),
    ]  # fmt: skip
    for one in others:
        assert core.plain(*one, core.Options()) is None
    with pytest.raises(TypeError):
        core.plain(q, k, None, core.Options())
