"""Attention as one function that JAX compiles, differentiates and maps: each pass is one call of a foreign function."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fastattn.interop.jax import calls
from fastattn.interop.jax.problem import Problem

__all__ = ["attend"]

Arrays = Sequence[Any]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(problem: Problem, given: Arrays) -> Arrays:
    """Return context, weights and lse, those of them that are wanted, for operands of four axes and parameters."""
    return _forward(problem, given)[0]


def _forward(problem: Problem, given: Arrays) -> tuple[Arrays, tuple[Arrays, Arrays]]:
    query, key, value = given[:3]
    batch, heads, queries = _ours(problem, query)[:3]
    keys, rows = _ours(problem, key)[2], (batch, heads, queries)
    shapes: list[tuple[int, ...]]
    shapes = [(batch, queries, heads, value.shape[-1]) if problem.heads_third else (*rows, value.shape[-1])]
    shapes += [(*rows, keys)] * problem.weights + [rows] * problem.lse + [rows, rows] * problem.rows
    out = _call(calls.FORWARD, problem, [jax.ShapeDtypeStruct(shape, query.dtype) for shape in shapes], given)
    return out[: 1 + problem.weights + problem.lse], (given, out)


def _backward(problem: Problem, saved: tuple[Arrays, Arrays], d: Arrays) -> tuple[Arrays]:
    given, out = saved
    trained = [jax.numpy.issubdtype(x.dtype, np.floating) for x in given]
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x, has in zip(given, trained) if has]
    found = iter(_call(calls.BACKWARD, problem, shapes, (*given, *out, *d)))
    return (tuple(next(found) if has else None for has in trained),)


def _ours(problem: Problem, array: Any) -> tuple[int, ...]:
    """Return the shape of an array with its heads second."""
    first, second, third, last = array.shape
    return (first, third, second, last) if problem.heads_third else array.shape


def _call(target: str, problem: Problem, shapes: Any, given: Arrays) -> Arrays:
    call = jax.ffi.ffi_call(target, shapes, vmap_method="broadcast_all")
    return tuple(call(*given, problem=problem.text(), **problem.numbers(given[0].shape[-1])))


attend.defvjp(_forward, _backward)
