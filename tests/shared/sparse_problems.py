"""Attention problems with sparse normalizers."""

import dataclasses

import pytest
from cases import AttentionCase, library_score, make
from checks import flatten

import fastattn
from fastattn import normalizers

NAMES = ("sparsemax", "entmax15", "entmax")
FAMILIES = ("scaled_dot", "additive")
sparse = pytest.mark.parametrize("name", NAMES)
families = pytest.mark.parametrize("score", FAMILIES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
OBJECTS = {
    "sparsemax": normalizers.Sparsemax(),
    "entmax15": normalizers.Entmax15(),
    "entmax": normalizers.Entmax(alpha=1.3),
}


def problem(name, score="scaled_dot", dtype="float32", **fields):
    shape = {"batch": (5,), "tq": 7, "tk": 41, "dk": 24, "dv": 19, **fields}
    p = make(AttentionCase(f"sparse-{score}", score=score, dtype=dtype, **shape))
    return dataclasses.replace(p, rest={**p.rest, "normalizer": OBJECTS[name]})


def everything(p, **rest):
    """Context, weights, gradients of query, key, value, (bias,) score and normalizer."""
    rest = {**p.rest, **rest}
    out, backward = fastattn.attention_vjp(*p.arrays, score=library_score(p.score), return_weights=True, **rest)
    return flatten(out) + flatten(backward(p.d_context))
