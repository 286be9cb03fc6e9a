"""Hints of scores and normalizers."""

import ctypes
import pickle

import numpy as np

import fastattn
from fastattn import jit, normalizers, scores
from hints import advice, ones
from hints.attention import attend

W, V = ones(4, 4), ones(4)

advice(lambda query=ones(2, 3, 5): attend(query), "project one of them", query=ones(2, 3, 5) @ ones(5, 4))
advice(
    lambda score="scaled_dot": attend(ones(2, 3, 5), score=score),
    "or use scores.General(w) with w of shape (Dq, Dk)",
    score=scores.General(ones(5, 4)),
)
advice(lambda w=ones(3, 4): attend(score=scores.General(w)), "w is (Dq, Dk)", w=W)
advice(lambda w=ones(3, 5): attend(score=scores.Location(w)), "w is (Dq, Tmax)", w=ones(4, 5))
advice(lambda w=ones(4, 3): attend(score=scores.Location(w)), "use a w made for longer memories", w=ones(4, 5))
advice(
    lambda key=ones(2, 5, 4), value=ones(2, 5, 6): attend(key=key, value=value, score=scores.Location(ones(4, 3))),
    "or shorten the memory",
    key=ones(2, 3, 4),
    value=ones(2, 3, 6),
)
advice(
    lambda w_query=None: attend(ones(2, 3, 5), score=scores.Additive(V, w_query)),
    "without projections it is the width of v; pass w_query of shape (D, Da)",
    w_query=ones(5, 4),
)
advice(
    lambda w_key=ones(3, 4): attend(score=scores.Additive(V, w_key=w_key)),
    "that is what w_key takes; pass w_key of shape (D, Da)",
    w_key=W,
)
advice(lambda w=ones(7, 4): attend(score=scores.Concat(w, V)), "w is (Dq + Dk, Da)", w=ones(8, 4))
advice(
    lambda activation="tahn": scores.Additive(V, activation=activation),
    "did you mean {activation}?",
    activation="'tanh'",
)
advice(
    lambda activation="softplus": scores.Additive(V, activation=activation),
    "use one of these names",
    activation="relu",
)
advice(lambda softcap="5": scores.Dot(softcap=softcap), "leave it out for no cap", softcap=None)
advice(lambda softcap=0: scores.Dot(softcap=softcap), "leave it out for no cap", softcap=None)


def replaced(score, **parameters):
    score.parameters.update(parameters)
    return score


HINT = "make a new score for other parameters"
advice(lambda score=replaced(scores.General(W), w=V): attend(score=score), HINT, score=scores.General(W))
advice(lambda score=replaced(scores.Additive(V), b=ones(5)): attend(score=score), HINT, score=scores.Additive(V, b=V))
advice(lambda scale=1e39: attend(scale=scale), "pass {scale} for none", scale="1.0")
advice(lambda cap=1e39: attend(score=scores.Dot(softcap=cap)), "leave it out for no cap", cap=None)
advice(lambda w=V: scores.General(w), "w is ", w=W)
advice(
    lambda w=ones(7): attend(score=scores.LinearCombination(w, ones(1))),
    "only the terms x and y may differ in width",
    w=ones(8),
)
advice(lambda b=ones(5): scores.Additive(V, b=b), "b is of shape (Da,), as v is", b=V)

# Names
advice(lambda score=3: attend(score=score), "pass {score}, say", score="'dot'")
for name, given in (
    ("general", {"w": W}),
    ("additive", {"v": V}),
    ("location", {"w": ones(4, 5)}),
    ("concat", {"w": ones(8, 4), "v": V}),
):
    arguments = ", ".join(f"{parameter}=..." for parameter in given)
    advice(
        lambda score=name: attend(score=score),
        f"pass fastattn.scores.create({name!r}, {arguments})",
        score=scores.create(name, **given),
    )
advice(lambda score="scaled_dt": attend(score=score), "did you mean {score}?", score="'scaled_dot'")
advice(lambda score="xxx": attend(score=score), "use one of these names", score="dot")
advice(lambda name=3: scores.create(name), "pass {name}, say", name="'dot'")
advice(lambda normalizer="sofmax": attend(normalizer=normalizer), "did you mean {normalizer}?", normalizer="'softmax'")
advice(lambda normalizer=3: attend(normalizer=normalizer), "pass {normalizer}, say", normalizer="'softmax'")
advice(lambda name=3: normalizers.create(name), "pass {name}, say", name="'softmax'")
advice(lambda alpha=ones(1, 2): normalizers.Entmax(alpha), "give one alpha", alpha=1.5)
advice(lambda alpha=ones(1, 2): normalizers.Entmax(alpha), "or one for each query head", alpha=ones(2))
advice(lambda alpha=[1.5, 1.5]: attend(normalizer=normalizers.Entmax(alpha)), "or one for all", alpha=1.5)
advice(lambda alpha=3: normalizers.Entmax(alpha), "1 is softmax, 2 is sparsemax", alpha=2)
advice(
    lambda weights=len: normalizers.RowFunctions(weights, 1),
    "or the address of a C function",
    weights=ctypes.cast(ctypes.CFUNCTYPE(None)(lambda: None), ctypes.c_void_p).value,
)
advice(
    lambda of=lambda one: one.kernel((2, 3)): of(normalizers.Rowwise(jit.as_row_function(lambda s, b, h, i, j: s))),
    "call kernel_for(dtype, query_shape, keys, differentiate)",
    of=lambda one: one.kernel_for(np.dtype(np.float32), (2, 3), 4, True),
)


class Weights:
    """What `numba.cfunc` makes: an address, and the Python function whose name it has."""

    address = 1
    __wrapped__ = type("", (), {"__module__": __name__, "__qualname__": "WEIGHTS"})


WEIGHTS = Weights()
advice(
    lambda weights=1: pickle.dumps(normalizers.RowFunctions(weights, WEIGHTS)),
    "define it in a module, where a `numba.cfunc` keeps the name of its Python function",
    weights=WEIGHTS,
)

# Functions on scores as a part of them
GIVEN = fastattn.score_mod(lambda score, b, h, i, j, w: score * w)(w=ones())
advice(
    lambda inner=scores.Modified("dot", GIVEN): scores.Modified(inner, GIVEN),
    "write one function that does what both do",
    inner="dot",
)
advice(
    lambda inner=scores.General(W): scores.Modified(inner, GIVEN),
    "gradients come back under these names; give the function's parameters others",
    inner="dot",
)


def local(score):
    variant = fastattn.create("local_m", query_width=4, memory_width=4, rng=np.random.default_rng(0))
    variant.align.score = score
    prepared = variant.prepare(ones(2, 5, 4))
    return variant.step(ones(2, 4), prepared, variant.start(prepared))


advice(
    lambda: local(scores.Modified("dot", GIVEN)),
    'use it in attention, or in a variant of global soft attention, such as kind = "luong" with this score',
    lambda: local(scores.resolve("dot")),
)
