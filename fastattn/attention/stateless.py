"""Attention as two functions without state between them, for frameworks that keep the inputs themselves."""

from typing import Any, Literal, Unpack, overload

from fastattn._arrays import Array
from fastattn._relative import RelativeBias
from fastattn.attention.functional import AttentionOutput, Gradients, _Forward, handed_back
from fastattn.attention.options import Causal, Mask, Modifier, NormalizerLike, Options, ScoreLike
from fastattn.attention.residuals import Residuals
from fastattn.errors import ArgumentError, describe

__all__ = ["attention_backward", "attention_forward"]


# fmt: off
@overload
def attention_forward(
    query: Array, key: Array, value: Array, *,
    return_weights: Literal[False] = False, return_lse: Literal[False] = False, **options: Unpack[Options],
) -> tuple[Array, Residuals]: ...
@overload
def attention_forward(
    query: Array, key: Array, value: Array, *,
    return_weights: Literal[True], return_lse: bool = False, **options: Unpack[Options],
) -> tuple[AttentionOutput, Residuals]: ...
@overload
def attention_forward(
    query: Array, key: Array, value: Array, *,
    return_weights: bool = False, return_lse: Literal[True], **options: Unpack[Options],
) -> tuple[AttentionOutput, Residuals]: ...
@overload
def attention_forward(
    query: Array, key: Array, value: Array, *,
    return_weights: bool = False, return_lse: bool = False, **options: Unpack[Options],
) -> tuple[Array | AttentionOutput, Residuals]: ...
# fmt: on
def attention_forward(
    query: Array,
    key: Array,
    value: Array,
    *,
    score: ScoreLike = "scaled_dot",
    score_mod: Modifier | None = None,
    normalizer: NormalizerLike = "softmax",
    mask: Mask | None = None,
    key_lengths: Array | None = None,
    causal: Causal = None,
    window: tuple[int | None, int | None] | None = None,
    bias: Array | RelativeBias | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Array | None = None,
    return_weights: bool = False,
    return_lse: bool = False,
    out: Array | None = None,
) -> tuple[Array | AttentionOutput, Residuals]:
    """Compute attention and return what its backward pass needs beside the inputs: the first half of `attention_vjp`.

    Parameters
    ----------
    query, key, value, score, score_mod, normalizer, mask, key_lengths, causal, window, bias, scale, dropout, seed, out
        As in `attention`.
    return_weights, return_lse : bool
        As in `attention`.

    Returns
    -------
    output : array or AttentionOutput
        As `attention` returns, with the same bits.
    residuals : Residuals
        For `attention_backward`. It holds outputs, and two numbers a row; no input and no function, so that a framework
        keeps the inputs in its own way, and notices when they are changed.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, UnsupportedError, MemoryError
        As from `attention`.

    See Also
    --------
    attention_backward : the other half.
    attention_vjp : both in one, where a function may be kept.

    Notes
    -----
    Work and memory are those of `attention_vjp`.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, kv = np.zeros((2, 4), np.float32), np.ones((3, 4), np.float32)
    >>> context, residuals = fastattn.attention_forward(q, kv, kv)
    >>> residuals.row_sum
    array([3., 3.], dtype=float32)
    """
    forward = _Forward(
        query, key, value, score, score_mod, normalizer, mask, key_lengths, causal, window, bias, scale, dropout, seed,
        return_weights, return_lse, out, True,
    )  # fmt: skip
    if out is None and forward.given is None:  # nothing to hand back in other arrays
        return (forward.output() if return_weights or return_lse else forward.context), forward.residuals()
    whole, kept = handed_back(query, out, forward.output()), handed_back(query, None, forward.residuals())
    if forward.half is None:
        kept = kept._replace(context=whole.context, weights=whole.weights)
    return (whole if return_weights or return_lse else whole.context), kept


def attention_backward(
    query: Array,
    key: Array,
    value: Array,
    residuals: Residuals,
    d_context: Array | None = None,
    *,
    d_weights: Array | None = None,
    d_lse: Array | None = None,
    score: ScoreLike = "scaled_dot",
    score_mod: Modifier | None = None,
    normalizer: NormalizerLike = "softmax",
    mask: Mask | None = None,
    key_lengths: Array | None = None,
    causal: Causal = None,
    window: tuple[int | None, int | None] | None = None,
    bias: Array | RelativeBias | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Array | None = None,
    bias_gradient: bool = True,
) -> Gradients:
    """Return the gradients of attention from its inputs and what its forward pass left: the half of `attention_vjp`.

    Parameters
    ----------
    query, key, value, score, score_mod, normalizer, mask, key_lengths, causal, window, bias, scale, dropout, seed
        Those of the call of `attention_forward`, unchanged.
    residuals : Residuals
        What that call returned.
    d_context, d_weights, d_lse : array, optional
        Gradients of the outputs, of their shapes; at least one. `d_weights` needs weights among the residuals.
    bias_gradient : bool
        Whether the gradient of the bias is computed; without it no array of the bias' size is made.

    Returns
    -------
    Gradients
        With the bits of ``attention_vjp``'s.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, UnsupportedError, MemoryError
        As from `attention`; and if the residuals cannot be those of the call.

    Notes
    -----
    Work is that of the function that `attention_vjp` returns, and once more the products with a score's projections,
    where it has any.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, kv = np.zeros((2, 4), np.float32), np.ones((3, 4), np.float32)
    >>> context, residuals = fastattn.attention_forward(q, kv, kv, causal="top_left")
    >>> gradients = fastattn.attention_backward(q, kv, kv, residuals, np.ones_like(context), causal="top_left")
    >>> gradients.value[:, 0]
    array([1.5, 0.5, 0. ], dtype=float32)
    """
    given: Any = residuals  # of anything
    if not isinstance(given, Residuals):
        hint = "pass what attention_forward returned."
        raise ArgumentError(describe("residuals", "a Residuals", type(given).__name__, hint))
    forward = _Forward(
        query, key, value, score, score_mod, normalizer, mask, key_lengths, causal, window, bias, scale, dropout, seed,
        False, False, None, True, residuals,
    )  # fmt: skip
    return forward.backward(d_context, d_weights=d_weights, d_lse=d_lse, bias_gradient=bias_gradient)
