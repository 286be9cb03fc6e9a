"""Backward passes of variants: what is given to them is checked here, before a kernel sees it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array, gradient_array
from fastattn.attention import AttentionOutput
from fastattn.errors import ArgumentError, UnsupportedError, describe
from fastattn.precision import captured
from fastattn.variants.protocol.state import AttentionState, check_state_gradient

__all__ = ["StepBackward", "check_cotangents"]


def check_cotangents(
    output: Array | AttentionOutput, d_context: object, d_weights: object, d_state: object = None
) -> tuple[Array, Array | None]:
    """Return the gradients of an output, in its dtype and of any strides, zeros for a missing d_context; or raise.

    At least one of the three must be there; `d_state` is not looked at.
    """
    context, weights = (output, None) if isinstance(output, np.ndarray) else output[:2]
    if d_context is None and d_weights is None and d_state is None:
        hint = "pass the gradient of what the loss depends on."
        raise ArgumentError(describe("d_context", "at least one of d_context, d_weights", "None", hint))
    if d_weights is not None and weights is None:
        hint = "call vjp(..., return_weights=True)."
        raise ArgumentError(describe("d_weights", "None unless the weights were returned", "an array", hint))
    found = None if d_weights is None or weights is None else _native("d_weights", d_weights, weights)
    return np.zeros_like(context) if d_context is None else _native("d_context", d_context, context), found


def _native(name: str, given: object, made: Array) -> Array:
    # In the machine's byte order and aligned; kernels, or the calls before them, take any strides.
    if type(given) is np.ndarray and given.shape == made.shape and given.dtype == made.dtype and given.flags.aligned:
        return given
    return np.require(gradient_array(name, given, made.shape, made.dtype), made.dtype, "A")


class StepBackward:
    """The backward pass of one step, which is what `Variant.step_vjp` returns last.

    Parameters
    ----------
    function : callable
        ``function(d_context, d_weights, d_state) -> (d_query, d_state)``: called with contiguous arrays in the dtype
        and of the shapes of the outputs; d_weights and d_state may be None. They are the caller's, who may use their
        memory again: what `finish` needs of them is left on the tape, which copies.
    context, weights : array, or None for weights
        What the step returned.
    state : AttentionState
        What the step returned; or a state of the class and shapes that its gradients have, if they are others.

    Notes
    -----
    It can be called once: what a step leaves for `Variant.finish` would otherwise count twice. A call that was refused
    does not count.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("dot", query_width=4, memory_width=4)
    >>> prepared = variant.prepare(np.ones((2, 5, 4), np.float32))
    >>> *_, backward = variant.step_vjp(np.ones((2, 4), np.float32), prepared, variant.start(prepared))
    >>> backward(np.ones((2, 3), np.float32))
    Traceback (most recent call last):
    fastattn.errors.ShapeError: d_context: expected shape (2, 4), got shape (2, 3).
    Hint: pass the gradient of the output.
    >>> d_query, d_state = backward(np.ones((2, 4), np.float32))
    """

    __slots__ = ("_function", "_output", "_state")

    def __init__(
        self,
        function: Callable[..., tuple[Array, Any]],
        context: Array,
        weights: Array | None,
        state: AttentionState,
    ) -> None:
        self._function: Callable[..., tuple[Array, Any]] | None = captured(function)
        self._output, self._state = AttentionOutput(context, weights), state

    def __call__(
        self, d_context: Array | None = None, d_weights: Array | None = None, d_state: Any = None
    ) -> tuple[Array, Any]:
        """Return the gradients of the query and of the state before the step.

        Parameters
        ----------
        d_context, d_weights : array, optional
            Gradients of what the step returned, of any strides; zeros if there is none.
        d_state : AttentionState, optional
            What the backward pass of the step after this one returned; None: zeros.

        Returns
        -------
        d_query : array, shape (B, Dq)
        d_state : AttentionState or None

        Raises
        ------
        ShapeError, DTypeError, ArgumentError
            If something does not fit the step.
        UnsupportedError
            At the second call.
        """
        if self._function is None:
            hint = "call step_vjp again for another backward pass."
            raise UnsupportedError(describe("backward", "one call for each step", "a second one", hint))
        d_context, d_weights = check_cotangents(self._output, d_context, d_weights, d_state)
        if d_state is not None:
            d_state = check_state_gradient(d_state, self._state)
        function, self._function = self._function, None
        contiguous = np.ascontiguousarray
        return function(contiguous(d_context), None if d_weights is None else contiguous(d_weights), d_state)
