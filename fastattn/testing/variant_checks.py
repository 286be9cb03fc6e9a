"""The checks of a variant, each a function of a `VariantSubject` that raises if it fails."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn.attention import AttentionOutput
from fastattn.testing.arrays import Array, assigned, close, differences, refused, same
from fastattn.testing.certificate import Skipped
from fastattn.testing.common_checks import large_scores
from fastattn.testing.variant_bits import BIT_CHECKS
from fastattn.testing.variant_entries import (
    memories_are_checked,
    rows_are_checked,
    states_are_checked,
    step_gradients_are_checked,
)
from fastattn.testing.variant_subject import VariantProblem, VariantSubject
from fastattn.testing.variant_sums import order_of_sums

__all__ = ["VARIANT_CHECKS"]


def can_be_made(s: VariantSubject) -> str:
    """It is made in both precisions, its parameters too, and from the same seed the same."""
    for dtype in (np.float32, np.float64):
        one, other = (s.make(*s.widths, np.dtype(dtype), 3).parameters() for _ in range(2))
        for name, parameter in one.items():
            assert parameter.value.dtype == dtype, f"parameter {name} is {parameter.value.dtype}, not {np.dtype(dtype)}"
            same(parameter.value, other[name].value, f"parameter {name} of one seed")
    names = ", ".join(s.make(*s.widths, np.dtype(np.float64), 3).parameters())
    return f"parameters: {names}" if names else "no parameters"


def shapes_and_dtypes(s: VariantSubject) -> None:
    """Contexts (B, Tq, Dv) and weights (B, Tq, S) or (B, H, Tq, S), of the variant's dtype; also of no queries."""
    for dtype in (np.float32, np.float64):
        p = s.problem(dtype)
        batch, steps, keys = 3, 4, p.memory.shape[1]
        output = p.forward()
        assert isinstance(output, AttentionOutput), f"forward with weights returned {type(output).__name__}"
        assert output.weights is not None, "forward returned no weights though they were asked for"
        for name, array in (("context", output.context), ("weights", output.weights)):
            assert array.dtype == dtype, f"{name} is {array.dtype}, not {np.dtype(dtype)}"
        width = output.context.shape[-1]
        assert output.context.shape == (batch, steps, width), f"context has shape {output.context.shape}"
        heads = output.weights.shape[1:-2]
        assert len(heads) < 2 and output.weights.shape == (batch, *heads, steps, keys), (
            f"weights have shape {output.weights.shape}, not (B, Tq, S) or (B, H, Tq, S)"
        )
        if s.make(*s.widths, np.dtype(dtype), 0).sums_values:
            assert width == p.memory.shape[-1], f"contexts have width {width}, rows of the memory {p.memory.shape[-1]}"
        bare = p.variant.forward(p.queries, p.prepare())
        assert isinstance(bare, np.ndarray), "forward without weights must return an array"
        same(bare, output.context, "contexts without weights")
        prepared = p.prepare()
        context, weights, _ = p.variant.step(p.queries[:, 0], prepared, p.variant.start(prepared))
        assert context.shape == (batch, width), f"a step's context has shape {context.shape}"
        assert weights is not None and weights.shape == (batch, *heads, keys), "a step's weights are not (B, S)"
        none: Any = p.variant.forward(p.queries[:, :0], p.prepare())
        assert np.shape(none) == (batch, 0, width), f"contexts of no queries have shape {np.shape(none)}"


def masks(s: VariantSubject) -> None:
    """True = may attend: weights are exactly 0 where mask or lengths hide, and some are not 0 elsewhere."""
    p = s.problem(keys=15)
    output = p.forward()
    hidden = ~p.allowed
    weights = np.moveaxis(output.weights, -1, 1)
    assert np.isfinite(output.weights).all(), "weights are not finite"
    assert (weights[hidden] == 0).all(), "a hidden position has a weight (mask: True = may attend)"
    some = (weights != 0).reshape(*weights.shape[:2], -1).any(axis=(1, 2))
    assert some.all(), "no position that may be attended to has a weight"


def empty_rows(s: VariantSubject) -> str:
    """A sample without any key has weights 0, a context that depends on nothing, and no gradient."""
    p = s.problem(masked=False)
    p.lengths[1] = 0
    for array in (p.memory, p.values):
        if array is not None:
            array[1] = np.nan
    output = p.forward()
    assert np.isfinite(output.context).all(), "a row without keys is not finite"
    assert (output.weights[1] == 0).all(), "a row without keys has weights"
    if p.variant.sums_values:
        assert (output.context[1] == 0).all(), "a row without keys has a context that is not 0"
    assert (output.context[1] == output.context[1, :1]).all(), "the context of a row without keys depends on its query"
    gradients = p.gradients(*p.cotangents())
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all(), f"with a row without keys the gradient of {name} is not finite"
    for name in ("queries", "memory"):
        assert (gradients[name][1] == 0).all(), f"a row without keys has a gradient of its {name}"
    return "zeros" if (output.context[1] == 0).all() else "a constant"


def weights_agree_with_context(s: VariantSubject) -> str:
    """Contexts are the sums of values that the weights say, times one number each if the variant is gated."""
    for valued in (False, True):
        p = s.problem(np.float64, valued=valued)
        if not p.variant.sums_values:
            raise Skipped("its contexts are no sums of the memory's rows (sums_values is False)")
        output = p.forward()
        assert output.weights.ndim == 3, "contexts of several heads cannot be sums of the memory's rows"
        assert (output.weights >= 0).all(), "a weight is negative"
        summed = p.memory if p.values is None else p.values
        wanted = np.einsum("bts,bsd->btd", output.weights, np.where(p.allowed[..., None], summed, 0))
        if p.variant.gated:
            wanted *= ((output.context * wanted).sum(-1) / (wanted * wanted).sum(-1))[..., None]
        apart = close(output.context, wanted, 1e-12, "the sum of values with the returned weights")
    return f"to {apart:.1g}"


def gradients(s: VariantSubject) -> str:
    """In float64 they are the central differences of its own contexts and weights, for all inputs and parameters."""
    worst = 0.0
    for valued in (False, True) if s.make(*s.widths, np.dtype(np.float64), 0).sums_values else (False,):
        p = s.problem(np.float64, batch=2, steps=3, keys=5, valued=valued, seed=3)
        d_context, d_weights = p.cotangents()
        found = p.gradients(d_context, d_weights)

        def loss(p: VariantProblem = p, d_context: Array = d_context, d_weights: Array = d_weights) -> float:
            output = p.forward()
            return float((output.context * d_context).sum() + (output.weights * d_weights).sum())

        inputs = {"queries": p.queries, "memory": p.memory, **({"values": p.values} if p.values is not None else {})}
        parameters, loss_of_all = assigned(p.variant.parameters(), loss)
        for name, array in {**inputs, **parameters}.items():
            worst = max(worst, close(found[name], differences(loss_of_all, array), 2e-7, f"the gradient of {name}"))
    return f"to {worst:.1g}"


def gradients_add_up(s: VariantSubject) -> None:
    """Backward passes add to the gradients of parameters, and do not set them."""
    p = s.problem(np.float64)
    d = p.cotangents()
    once = p.gradients(*d)
    for parameter in p.variant.parameters().values():
        parameter.gradient[...] = 1
    p.variant.vjp(p.queries, p.prepare(), return_weights=True)[1](*d)
    for name, parameter in p.variant.parameters().items():
        close(parameter.gradient - 1, once[name], 1e-10, f"what was added to the gradient of {name}")


def step_gradients(s: VariantSubject) -> str:
    """Going back step by step gives the gradients of all at once."""
    p = s.problem(np.float64, steps=5)
    d_context, d_weights = p.cotangents()
    wanted = p.gradients(d_context, d_weights)
    found = p.step_gradients(d_context, d_weights)
    worst = max(close(found[name], wanted[name], 1e-10, f"the gradient of {name} by steps") for name in wanted)
    return f"to {worst:.1g}"


def wrong_calls(s: VariantSubject) -> None:
    """Arrays of wrong widths or dtypes are refused by an error of fastattn."""
    p = s.problem()
    calls: dict[str, Callable[[], object]] = {
        "a memory of another width": lambda: p.variant.prepare(p.memory[..., 1:]),
        "a memory of float64": lambda: p.variant.prepare(p.memory.astype(np.float64)),
        "a float mask": lambda: p.variant.prepare(p.memory, mask=np.ones(p.memory.shape[:2])),
        "lengths beyond the memory": lambda: p.variant.prepare(p.memory, lengths=p.lengths + 100),
        "queries of another batch": lambda: p.variant.forward(p.queries[1:], p.prepare()),
    }
    for what, call in calls.items():
        refused(what, call)


def formula(s: VariantSubject) -> str:
    """Contexts and weights are those of the reference, in both precisions."""
    worst = 0.0
    for dtype in (np.float32, np.float64):
        room = 300 * float(np.finfo(dtype).eps)
        for valued in (False, True) if s.make(*s.widths, np.dtype(dtype), 0).sums_values else (False,):
            p = s.problem(dtype, keys=19, valued=valued)
            wanted, found = s.expected(p), p.forward()
            if wanted is None:
                raise Skipped("no reference was given")
            worst = close(found.weights, np.asarray(wanted[1]), room, "weights, against the formula")
            worst = max(worst, close(found.context, np.asarray(wanted[0]), room, "contexts, against the formula"))
    return f"to {worst:.1g}"


VARIANT_CHECKS: tuple[Callable[[VariantSubject], object], ...] = (
    can_be_made, shapes_and_dtypes, formula, masks, empty_rows, weights_agree_with_context, gradients,
    gradients_add_up, step_gradients, order_of_sums, large_scores, wrong_calls, *BIT_CHECKS,
    step_gradients_are_checked, rows_are_checked, states_are_checked, memories_are_checked,
)  # fmt: skip
