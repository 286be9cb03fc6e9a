"""The checks of what a variant hands out and takes back, each a function of a `VariantSubject` that raises if it fails.

Backward passes, states, prepared memories and selections are entries like any call: what does not fit is refused,
before a loop of the variant's own reads or writes memory that is not there.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn.attention import prepare
from fastattn.testing.arrays import Array, refused, same, strided
from fastattn.testing.certificate import Skipped
from fastattn.testing.variant_subject import VariantProblem, VariantSubject
from fastattn.variants.protocol.variant import AttentionState, Prepared

__all__ = ["memories_are_checked", "rows_are_checked", "states_are_checked", "step_gradients_are_checked"]


def _begun(p: VariantProblem) -> tuple[Prepared, AttentionState]:
    """Return a memory, and the state after a step over it."""
    prepared = p.prepare()
    return prepared, p.variant.step(p.queries[:, 0], prepared, p.variant.start(prepared))[2]


def _calls(p: VariantProblem, prepared: Any, state: Any) -> dict[str, Callable[[], object]]:
    """Return all calls that take a memory and a state, by name."""
    variant, queries = p.variant, p.queries
    return {
        "step": lambda: variant.step(queries[:, 1], prepared, state),
        "step_vjp": lambda: variant.step_vjp(queries[:, 1], prepared, state),
        "forward": lambda: variant.forward(queries, prepared, state=state),
        "vjp": lambda: variant.vjp(queries, prepared, state=state),
    }


def _roomy(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return ones in the middle of more of them: who reads beyond such an array gets wrong numbers, and no crash."""
    size = int(np.prod(shape))
    return np.ones(3 * size + 4096, dtype)[size + 2048 : 2 * size + 2048].reshape(shape)


def step_gradients_are_checked(s: VariantSubject) -> None:
    """The backward pass of a step refuses gradients of other shapes and dtypes, reads any strides, goes once, and keeps
    nothing of the caller's memory."""
    p = s.problem()
    prepared, state = _begun(p)
    found = []
    for change in (np.asarray, strided, lambda x: x.astype(x.dtype.newbyteorder()), np.copy):
        context, weights, after, first = p.variant.step_vjp(p.queries[:, 1], prepared, state)
        *_, second = p.variant.step_vjp(p.queries[:, 2], prepared, after)
        if weights is None:
            raise Skipped("its steps return no weights")
        d_context, d_weights = (np.linspace(-1, 1, x.size, dtype=x.dtype).reshape(x.shape) for x in (context, weights))
        _, d_state = second(change(d_context), change(d_weights))
        if change is np.asarray:
            wrong = {
                "a d_context of one sample": (_roomy((1, *context.shape[1:]), context.dtype), None),
                "a d_context that is narrower": (_roomy((len(context), context.shape[1] - 1), context.dtype), None),
                "a d_context of float64": (_roomy(context.shape, np.float64), None),
                "a d_context of words": ([["x"]], None),
                "d_weights of fewer positions": (d_context, _roomy((*weights.shape[:-1], 1), weights.dtype)),
                "d_weights of float64": (d_context, _roomy(weights.shape, np.float64)),
                "a d_state that is an array": (d_context, None, d_context),
            }
            for field in dataclasses.fields(d_state) if d_state is not None else ():
                array = getattr(d_state, field.name)
                if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                    for what, other in (
                        ("one sample", _roomy((1, *array.shape[1:]), array.dtype)),
                        ("float64", _roomy(array.shape, np.float64)),
                    ):
                        changed = dataclasses.replace(d_state, **{field.name: other})
                        wrong[f"a d_state whose {field.name} is of {what}"] = (d_context, None, changed)
            for what, arguments in wrong.items():
                refused(what, first, *arguments)
        given = change(d_context), change(d_weights)
        d_query, _ = first(*given, d_state)
        if change is np.copy:
            given[0][...], given[1][...] = 7, 7
        refused("a second call of the backward pass", first, d_context)
        found.append((d_query, p.variant.finish(prepared)))
    same(found[1], found[0], "a backward pass with strided gradients")
    same(found[2], found[0], "a backward pass with gradients of another byte order")
    same(found[3], found[0], "a backward pass whose gradients were changed before finish")


def rows_are_checked(s: VariantSubject) -> None:
    """Rows of a selection are numbers of samples from 0 on, of memory and state alike, and are copied."""
    p = s.problem()
    prepared, state = _begun(p)
    for what, rows in {
        "a negative row": [0, -1],
        "a row beyond the batch": [0, len(p.memory)],
        "a row that is no whole number": [0.5],
        "rows of two axes": [[0, 1]],
    }.items():
        refused(f"{what} of a memory", prepared.select, np.array(rows))
        refused(f"{what} of a state", state.select, np.array(rows))
    rows = np.array([2, 0])
    query = p.queries[rows, 1]
    picked = prepared.select(rows), state.select(rows)
    wanted = p.variant.step(query, *picked)[:2]
    rows[...] = 1
    same(p.variant.step(query, *picked)[:2], wanted, "a selection whose rows were changed afterwards")


def states_are_checked(s: VariantSubject) -> None:
    """A state of another memory, batch, dtype or variant is refused by every call."""
    p = s.problem()
    prepared, state = _begun(p)
    wrong: dict[str, Any] = {
        "a state of a longer memory": _begun(s.problem(keys=20))[1],
        "a state of a shorter memory": _begun(s.problem(keys=3))[1],
        "a state of a smaller batch": _begun(s.problem(batch=2))[1],
        "a selection of a state": state.select(np.array([0, 1])),
        "a state that is an array": p.memory[:, :, 0],
    }
    values = [getattr(state, field.name) for field in dataclasses.fields(state)]
    if any(isinstance(value, np.ndarray) and value.dtype.kind == "f" for value in values):
        wrong["a state of float64"] = _begun(s.problem(np.float64))[1]
    for what, one in wrong.items():
        for name, call in _calls(p, prepared, one).items():
            refused(f"{what} in {name}", call)


def memories_are_checked(s: VariantSubject) -> None:
    """What another variant prepared, or nobody, is refused by every call; and what was prepared stays as it is."""
    p, other = s.problem(), s.problem(seed=1)
    prepared, state = _begun(p)
    wrong: dict[str, Any] = {
        "a memory of another variant": other.prepare(),
        "no memory": None,
        "a plain array": p.memory,
        "a memory of fastattn.prepare": prepare(p.memory, p.memory),
    }
    for what, one in wrong.items():
        for name, call in _calls(p, one, state).items():
            refused(f"{what} in {name}", call)
        refused(f"{what} in start", p.variant.start, one)
        refused(f"{what} in finish", p.variant.finish, one)
    refused("a selection in finish", p.variant.finish, prepared.select(np.array([0, 1])))
    for name, value in vars(prepared).items():
        refused(f"assigning {name} of a prepared memory", setattr, prepared, name, None)
        assert not isinstance(value, np.ndarray) or not value.flags.writeable, f"{name} of a memory can be written"
