"""The checks of a variant that compare bits, each a function of a `VariantSubject` that raises if it fails."""

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn.testing.arrays import flatten, padded, refused, same, untouched
from fastattn.testing.common_checks import any_number_of_threads, any_strides, forked_child, repeated_runs
from fastattn.testing.variant_subject import VariantSubject

__all__ = ["BIT_CHECKS"]


def steps_against_all_at_once(s: VariantSubject) -> None:
    """Step by step, all at once and on the way to gradients: the same bits."""
    p = s.problem(keys=40, steps=9)
    whole = p.forward()
    same(p.steps(), whole[:2], "steps, against all at once")
    same(p.variant.vjp(p.queries, p.prepare(), return_weights=True)[0][:2], whole[:2], "vjp, against forward")


def any_batch_and_position(s: VariantSubject) -> None:
    """A sample has the same bits alone, in a batch, and at another place of it."""
    p = s.problem(batch=4, masked=False)
    whole = p.forward()
    order = np.array([2, 0, 3, 1, 0])
    same(p.at(order).forward()[:2], [x[order] for x in whole[:2]], "samples in another order")
    d_context, d_weights = p.cotangents()
    whole_d = p.gradients(d_context, d_weights)
    for b in range(4):
        one = slice(b, b + 1)
        alone = p.at(one)
        same(alone.forward()[:2], [x[one] for x in whole[:2]], f"sample {b} alone")
        found = alone.gradients(d_context[one], np.ascontiguousarray(d_weights[one]))
        for name in ("queries", "memory"):
            same(found[name], whole_d[name][one], f"the gradient of {name} of sample {b} alone")


def any_padding(s: VariantSubject) -> None:
    """A memory has the same bits with any number of padding positions behind it."""
    p = s.problem(masked=False, keys=9)
    p.lengths[...] = 9
    whole = p.forward()
    d_context, d_weights = p.cotangents()
    whole_d = p.gradients(d_context, d_weights)
    for more in (1, 8, 30):
        values = None if p.values is None else padded(p.values, {1: (0, more)}, np.nan)
        q = dataclasses.replace(p, memory=padded(p.memory, {1: (0, more)}, np.nan), values=values)
        found = q.forward()
        same(found.context, whole.context, f"contexts with {more} positions of padding")
        same(np.ascontiguousarray(found.weights[..., :9]), whole.weights, f"weights with {more} positions of padding")
        found_d = q.gradients(d_context, padded(d_weights, {d_weights.ndim - 1: (0, more)}))
        same(found_d["queries"], whole_d["queries"], f"gradients of queries with {more} positions of padding")
        same(np.ascontiguousarray(found_d["memory"][:, :9]), whole_d["memory"], "gradients of the memory with padding")


def inputs_untouched(s: VariantSubject) -> None:
    """Inputs, states and parameters are not written by any call, also where they may only be read."""
    p = s.problem()
    d_context, d_weights = p.cotangents()
    given = {"queries": p.queries, "memory": p.memory, "values": p.values, "lengths": p.lengths, "mask": p.mask}
    cotangents = {"d_context": d_context, "d_weights": d_weights}
    values = {name: parameter.value for name, parameter in p.variant.parameters().items()}
    for _ in range(2):  # written or not, then read-only
        with untouched(**given, **cotangents, **values):
            p.forward()
            prepared = p.prepare()
            state = p.variant.start(prepared)
            for t in range(2):
                fields = [getattr(state, field.name) for field in dataclasses.fields(state)]
                before = [array.tobytes() for array in fields if isinstance(array, np.ndarray)]
                _, _, after = p.variant.step(p.queries[:, t], prepared, state)
                assert before == [a.tobytes() for a in fields if isinstance(a, np.ndarray)], "a step wrote its state"
                state = after
            p.variant.vjp(p.queries, p.prepare(), return_weights=True)[1](d_context, d_weights)
            p.step_gradients(d_context, d_weights)
        for array in (*given.values(), *cotangents.values()):
            if array is not None:
                array.flags.writeable = False


def selected_rows(s: VariantSubject) -> None:
    """Rows picked from memory and state, as of a beam, go on as the rows that they came from."""
    p = s.problem()
    prepared = p.prepare()
    state = p.variant.start(prepared)
    for t in range(2):
        _, _, state = p.variant.step(p.queries[:, t], prepared, state)
    wanted = p.variant.step(p.queries[:, 2], prepared, state)
    rows = np.array([2, 0, 2, 1])
    again = prepared.select(np.array([1, 2, 0])).select(np.array([1, 2, 1, 0]))
    for what, picked in (("selected rows", prepared.select(rows)), ("rows of a selection", again)):
        found = p.variant.step(p.queries[rows, 2], picked, state.select(rows))
        same(found[:2], [x[rows] for x in flatten(wanted[:2])], what)
    refused("a backward step with a selection", p.variant.step_vjp, p.queries[rows, 2], again, state.select(rows))


def saved_and_loaded(s: VariantSubject) -> str:
    """Parameters that were saved and loaded into another variant give the same bits."""
    p = s.problem(seed=1)
    file = io.BytesIO()
    values: dict[str, Any] = {name: parameter.value for name, parameter in p.variant.parameters().items()}
    np.savez(file, **values)
    file.seek(0)
    other = s.problem(seed=2)
    found = other.variant.parameters()
    before = {name: parameter.value.copy() for name, parameter in found.items()}
    other = dataclasses.replace(p, variant=other.variant)
    other.forward()
    with np.load(file) as saved:
        assert set(saved) == set(found), f"parameters are {sorted(found)}, those saved {sorted(saved)}"
        for name, parameter in found.items():
            parameter.assign(saved[name])
    same(other.forward()[:2], p.forward()[:2], "outputs with loaded parameters")
    same(other.gradients(*p.cotangents()), p.gradients(*p.cotangents()), "gradients with loaded parameters")
    return f"{len(before)} arrays"


def poison_in_padding(s: VariantSubject) -> None:
    """NaN and Inf in what is hidden change no bit of outputs, steps and gradients."""
    p = s.problem(keys=13, valued=s.make(*s.widths, np.dtype(np.float32), 0).sums_values)
    hidden = ~p.allowed
    arrays = [array for array in (p.memory, p.values) if array is not None]
    for array in arrays:
        array[hidden] = 0
    d = p.cotangents()
    clean = p.forward(), p.steps(), p.gradients(*d)
    for array, poison in zip(arrays, (np.nan, np.inf)):
        array[hidden] = poison
    for what, before, now in zip(("outputs", "steps", "gradients"), clean, (p.forward(), p.steps(), p.gradients(*d))):
        same(now, before, f"{what} with NaN in padding")


def nan_stays_in_its_sample(s: VariantSubject) -> None:
    """NaN in what is read reaches the sample that reads it, and no other."""
    p = s.problem(masked=False)
    whole = p.forward()
    p.memory[0, 0] = np.nan
    found = p.forward()
    same([x[1:] for x in found[:2]], [x[1:] for x in whole[:2]], "samples beside one with NaN")


BIT_CHECKS: tuple[Callable[[VariantSubject], object], ...] = (
    poison_in_padding, steps_against_all_at_once, repeated_runs, any_batch_and_position, any_padding,
    any_number_of_threads, any_strides, forked_child, inputs_untouched, selected_rows, saved_and_loaded,
    nan_stays_in_its_sample,
)  # fmt: skip
