"""The one door to the fused kernels: `attention` and `attention_vjp`."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack, overload

import numpy as np

from fastattn import _cards, _reprs
from fastattn._arrays import Array, as_array, gradient_array, like, narrowed, native, widened
from fastattn._kernels import core
from fastattn._numbers import check_flag
from fastattn._relative import RelativeBias, diagonals
from fastattn.attention.arguments import (
    NO_OPTIONS,
    allocate,
    check_arrays,
    check_options,
    check_output,
    check_scale,
    check_sparse,
    score_arrays,
)
from fastattn.attention.functions import apart, as_modifier, check_modified
from fastattn.attention.halves import on_tiles
from fastattn.attention.options import Causal, Mask, Modifier, NormalizerLike, Options, ScoreLike
from fastattn.attention.overflow import again, exponents, less
from fastattn.attention.residuals import Residuals
from fastattn.errors import ArgumentError, UnsupportedError, describe
from fastattn.normalizers.base import Normalizer
from fastattn.normalizers.registry import resolve as resolve_normalizer
from fastattn.precision import captured
from fastattn.scores.base import KERNEL_NONE, OperandGradients, Operands, kernel_score
from fastattn.scores.registry import resolve

if TYPE_CHECKING:
    from fastattn.jit import ScoreModifier

__all__ = ["AttentionOutput", "Gradients", "attention", "attention_vjp"]

_FLOAT32 = np.dtype(np.float32)
_NDARRAY, _SOFTMAX = np.ndarray, "softmax"  # found sooner than through a module, and compared sooner


class AttentionOutput(NamedTuple):
    """What `attention` returns when weights or lse are asked for; fields that were not are None.

    Attributes
    ----------
    context : array, shape (..., Tq, Dv)
    weights : array, shape (..., Tq, Tk), or None
        After the normalizer, before dropout.
    lse : array, shape (..., Tq), or None
        Log of the sum of exponentials of each row's scores; -inf where a row may attend to nothing.
    """

    context: Array
    weights: Any = None
    lse: Any = None

    def __repr__(self) -> str:
        return _reprs.fields(self)

    def _repr_html_(self) -> str:
        """A card with the weights of the first sample, of heads their mean."""
        parts = [_cards.rows({name: _reprs.brief(value) for name, value in self._asdict().items()})]
        if self.weights is not None and self.weights.size:
            from fastattn.viz.table import table  # loaded at first use

            first, axes = self.weights, self.weights.ndim
            shown = ["the first sample"] * (axes > 2) + [f"the mean of {first.shape[1]} heads"] * (axes > 3)
            first = first[0].mean(axis=0) if axes > 3 else first[0] if axes > 2 else first
            names = (list(map(str, range(count))) for count in reversed(first.shape))
            parts += [_cards.note(f"weights, {', '.join(shown)}:")] * bool(shown) + [table(first, *names)]
        return _cards.card(type(self).__name__, *parts)


class Gradients(NamedTuple):
    """Gradients, each of the shape and dtype of what it belongs to.

    Attributes
    ----------
    query, key, value : array
    bias : array or None
    score : dict of str to array
        By the names of the parameters of the score and of what modifies it.
    normalizer : dict of str to array
        By the names of the normalizer's parameters; empty where it has none.
    """

    query: Array
    key: Array
    value: Array
    bias: Array | None
    score: dict[str, Array]
    normalizer: dict[str, Array] = {}  # noqa: RUF012 -- a NamedTuple has no default_factory

    def __repr__(self) -> str:
        return _reprs.fields(self)


# fmt: off
@overload
def attention(
    query: Array, key: Array, value: Array, *,
    return_weights: Literal[False] = False, return_lse: Literal[False] = False, **options: Unpack[Options],
) -> Array: ...
@overload
def attention(
    query: Array, key: Array, value: Array, *,
    return_weights: Literal[True], return_lse: bool = False, **options: Unpack[Options],
) -> AttentionOutput: ...
@overload
def attention(
    query: Array, key: Array, value: Array, *,
    return_weights: bool = False, return_lse: Literal[True], **options: Unpack[Options],
) -> AttentionOutput: ...
@overload
def attention(
    query: Array, key: Array, value: Array, *,
    return_weights: bool = False, return_lse: bool = False, **options: Unpack[Options],
) -> Array | AttentionOutput: ...
# fmt: on
def attention(
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
) -> Array | AttentionOutput:
    """Score every key against every query, normalise each row, and sum the values by these weights.

    ::

        score_ij   = score_mod(softcap(scale * score(q_i, k_j))) + bias_ij      -inf where masked
        weights_ij = exp(score_ij) / sum_j exp(score_ij)             or as another normalizer says
        context_i  = sum_j dropout(weights_ij) v_j

    Parameters
    ----------
    query : array, shape (..., Tq, Dk)
        float32 or float64; 2-D, 3-D (B, T, D) or 4-D (B, H, T, D), of any strides. This and all other arrays may be of
        another library, if in the CPU's memory: they are read in place (DLPack, ``__array_interface__``). float16 and
        bfloat16 (``ml_dtypes.bfloat16``) are types to store query, key, value, and a bias in: see Notes.
    key : array, shape (..., Tk, Dk)
        In 4-D its number of heads may divide query's (grouped queries).
    value : array, shape (..., Tk, Dv)
    score : str, Score or function
        ``"dot"``, ``"scaled_dot"``, ``"cosine"``, an object of `fastattn.scores`, or a function ``f(q, k)`` of one
        feature of query and key, which is summed over all (`fastattn.pairwise_score`).
    score_mod : function, optional
        ``score_mod(score, b, h, i, j)``, what becomes of a score of batch entry b, head h, query i and key j, with
        parameters of its own where it was bound to some. A score of -inf is masked.
    normalizer : str, Normalizer or function
        ``"softmax"``, ``"sparsemax"``, ``"entmax15"``, ``"entmax"``, an object of `fastattn.normalizers`, or a function
        ``f(s, b, h, i, j)`` of a row of scores, which returns its weights (`fastattn.row_function`).
    mask : bool array, broadcastable to (..., Tq, Tk), or function, optional
        True = may attend. What is masked is never read: it may be NaN. A function ``mask(b, h, i, j)`` is asked once
        for each block of 64 queries and 64 keys; blocks of which no pair counts cost nothing.
    key_lengths : int array, shape (B,), optional
        Keys from this number on are padding.
    causal : {"top_left", "bottom_right", True}, optional
        Query i reads keys up to i (top left), or up to i + Tk - Tq (bottom right, with each sample's own key length in
        place of Tk). True is allowed when Tq == Tk.
    window : (left, right), optional
        At most this many keys before and after the query's position; None on a side is unbounded.
    bias : array, broadcastable to (..., Tq, Tk), or RelativeBias, optional
        Added to the scores; -inf masks. `fastattn.positions.RelativeBias` has one number for each distance.
    scale : float, optional
        Factor of the raw score; default 1 / sqrt(Dk) for "scaled_dot", "l1" and "l2", else 1.
    dropout : float
        Probability in [0, 1) with which a weight becomes 0; the others are divided by 1 - dropout.
    seed : int or int array of shape (B,), optional
        Needed with dropout. A mask is a function of (seed, head, row, key).
    return_weights, return_lse : bool
        Return an `AttentionOutput` with these fields. Only softmax has an lse.
    out : array, shape (..., Tq, Dv), optional
        Receives the context; must not overlap an input.

    Returns
    -------
    array or AttentionOutput
        The context, of query's dtype and library, as weights are; `out` if it was given. A row that may attend to
        nothing is 0, its lse -inf.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, UnsupportedError
        Each names the argument, what was expected, what came, and what to do.
    MemoryError
        If an output or the workspace cannot be allocated.

    Notes
    -----
    Work: ``2 B H Tq Tk (Dk + Dv)`` operations, less what causal, window and lengths exclude. Memory beyond inputs and
    outputs: a fixed amount for each thread, and at most 48 rows against more than 512 keys leave a context for every
    512 keys. Nothing of size (Tq, Tk) is stored unless the weights are asked for; a location score is of that size.
    Arrays of a half type are computed with in float32: copies of them, in memory of their number. Context and weights
    are rounded once, to nearest; the lse is float32, and so are parameters of a score.
    Sparse normalizers keep the scores of one block of rows: for each thread, up to 96 rows against Tk keys, in at most
    256 KiB, or 6 rows where these need more. Values whose weight is 0 are not read, nor are masked ones.
    A row's bits do not depend on the batch, on padding, on the number of threads or on strides.

    References
    ----------
    Bahdanau, Cho, Bengio 2015 (arXiv:1409.0473); Luong, Pham, Manning 2015 (arXiv:1508.04025); Vaswani et al. 2017
    (arXiv:1706.03762); for the tiling Dao et al. 2022 (arXiv:2205.14135).

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q = np.zeros((1, 2, 4), np.float32)
    >>> kv = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    >>> fastattn.attention(q, kv, kv, key_lengths=[2])
    array([[[2., 3., 4., 5.],
            [2., 3., 4., 5.]]], dtype=float32)
    """
    forward = _Forward(
        query, key, value, score, score_mod, normalizer, mask, key_lengths, causal, window, bias, scale, dropout, seed,
        return_weights, return_lse, out, False,
    )  # fmt: skip
    found = forward.output() if return_weights or return_lse else forward.context
    return found if out is None and forward.given is None else handed_back(query, out, found)


# fmt: off
@overload
def attention_vjp(
    query: Array, key: Array, value: Array, *,
    return_weights: Literal[False] = False, return_lse: Literal[False] = False, **options: Unpack[Options],
) -> tuple[Array, Callable[..., Gradients]]: ...
@overload
def attention_vjp(
    query: Array, key: Array, value: Array, *,
    return_weights: Literal[True], return_lse: bool = False, **options: Unpack[Options],
) -> tuple[AttentionOutput, Callable[..., Gradients]]: ...
@overload
def attention_vjp(
    query: Array, key: Array, value: Array, *,
    return_weights: bool = False, return_lse: Literal[True], **options: Unpack[Options],
) -> tuple[AttentionOutput, Callable[..., Gradients]]: ...
@overload
def attention_vjp(
    query: Array, key: Array, value: Array, *,
    return_weights: bool = False, return_lse: bool = False, **options: Unpack[Options],
) -> tuple[Array | AttentionOutput, Callable[..., Gradients]]: ...
# fmt: on
def attention_vjp(
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
) -> tuple[Array | AttentionOutput, Callable[..., Gradients]]:
    """Compute attention and return a function that computes its gradients (vector-Jacobian product).

    Parameters
    ----------
    query, key, value, score, score_mod, normalizer, mask, key_lengths, causal, window, bias, scale, dropout, seed, out
        As in `attention`.
    return_weights, return_lse : bool
        As in `attention`.

    Returns
    -------
    output : array or AttentionOutput
        As `attention` returns.
    backward : callable
        ``backward(d_context=None, *, d_weights=None, d_lse=None) -> Gradients``. May be called more than once; inputs
        and outputs must not have been changed in between. `d_weights` needs ``return_weights=True``. With
        ``bias_gradient=False``, an array as large as a bias that nobody trains is not made.

    Notes
    -----
    Saved for backward: two numbers a row. Scores are computed again; work about 2.5 times that of the forward pass.
    With a sparse normalizer nothing is saved, and beyond the scores only keys that have a weight cost anything.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q = np.zeros((2, 4), np.float32)
    >>> kv = np.ones((3, 4), np.float32)
    >>> context, backward = fastattn.attention_vjp(q, kv, kv)
    >>> backward(np.ones_like(context)).value.sum(axis=0)
    array([2., 2., 2., 2.], dtype=float32)
    """
    forward = _Forward(
        query, key, value, score, score_mod, normalizer, mask, key_lengths, causal, window, bias, scale, dropout, seed,
        return_weights, return_lse, out, True,
    )  # fmt: skip
    found = forward.output() if return_weights or return_lse else forward.context
    return handed_back(query, out, found), captured(forward.backward)


def handed_back(query: Any, out: Any, found: Any) -> Any:
    """Return what was computed as a call returns it: in arrays of the query's library, and `out` itself if given."""
    if out is None:
        return like(query, found)
    if not isinstance(found, AttentionOutput):
        return out
    return AttentionOutput(out, like(query, found.weights), like(query, found.lse))


class _Forward:
    """One call, checked and computed: its outputs, and what its backward pass needs."""

    # Nothing is stored of what a call has not: stores are a part of the time of the smallest.
    given: object = None  # the query, where it is of another array library
    half: np.dtype[Any] | None = None  # a half type in which query, key and value came; all else is float32 then
    half_bias = False  # of a half type: the bias came in it too
    tiled = False  # of a half type: computed on a matrix unit, in bfloat16
    exact: tuple[Any, Any]  # of a half type: context and weights before they were rounded to it
    modifier: "ScoreModifier | None" = None
    normalizer: Normalizer | None = None  # None: softmax
    sparse: core.KernelNormalizer | None = None
    relative: RelativeBias | None = None
    operands: Operands | None = None  # what the score made of query and key
    options = NO_OPTIONS
    context: Array
    weights: Any = None
    lse: Any = None
    row_max: Any = None  # arrays, for a call that will have a backward pass
    row_sum: Any = None

    def __init__(
        self,
        query: object,
        key: object,
        value: object,
        score: ScoreLike,
        score_mod: Modifier | None,
        normalizer: NormalizerLike,
        mask: object,
        key_lengths: object,
        causal: object,
        window: object,
        bias: object,
        scale: float | None,
        dropout: object,
        seed: object,
        return_weights: bool,
        return_lse: bool,
        out: Array | None,
        keep_rows: bool,
        residuals: Residuals | None = None,
    ) -> None:
        # What every call passes through is written out here, as it decides how long the smallest calls take.
        if type(query) is not _NDARRAY:
            self.given = query
        self.query, self.key, self.value = q, k, v = check_arrays(query, key, value)
        chosen = resolve(score)
        if score_mod is not None or chosen.kernel == KERNEL_NONE:
            chosen, score_mod = apart(chosen, score_mod)
        self.score = chosen
        dtype = q.dtype
        inputs: tuple[Array, ...]
        half = None
        if dtype is not _FLOAT32 and dtype.char not in "fd":
            self.half = half = dtype
            dtype = _FLOAT32
            inputs = (q, k, v)
            if bias is not None and not isinstance(bias, RelativeBias):
                bias = as_array("bias", bias)
                self.half_bias = bias.dtype == half
                if self.half_bias:
                    inputs = (*inputs, bias)
                    bias = widened(bias)
        if chosen.parameters:
            score_arrays(chosen, dtype, half)
        chosen.check(q, k)
        rows = q.shape[:-1]
        keys, width = k.shape[-2:]
        if return_weights is not False or return_lse is not False:
            return_weights = check_flag("return_weights", return_weights)
            return_lse = check_flag("return_lse", return_lse)
        sparse = None
        if normalizer is not _SOFTMAX and (not isinstance(normalizer, str) or normalizer != _SOFTMAX):
            self.normalizer = resolve_normalizer(normalizer)
            self.sparse = sparse = check_sparse(self.normalizer, dtype, q.shape, keys, return_lse, keep_rows)
        self.kernel = of_kernel = kernel_score(chosen, dtype, width, keep_rows)
        options = NO_OPTIONS
        if not (
            mask is key_lengths is causal is window is bias is score_mod is None
            and type(dropout) is float
            and dropout == 0
        ):
            if score_mod is not None:
                self.modifier = as_modifier(score_mod)
            if isinstance(bias, RelativeBias):
                self.relative = bias
            form = q if half is None else np.broadcast_to(np.float32(0), q.shape)
            self.options = options = check_options(
                form, keys, self.modifier, mask, key_lengths, causal, window, bias, dropout, seed,
                differentiate=keep_rows,
            )  # fmt: skip
        self.scale = factor = chosen.default_scale(width) if scale is None else check_scale(scale, dtype)
        if half is not None:
            other = chosen.projects or sparse is not None
            self.tiled = tiled = on_tiles(half, width, of_kernel, factor, options, other)
            if tiled:  # nothing of it is projected
                q, k, v = q.view(np.uint16), k.view(np.uint16), v.view(np.uint16)
            else:
                self.query, self.key, self.value = q, k, v = widened(q), widened(k), widened(v)
        if chosen.projects:
            self.operands = operands = chosen.project(q, k, factor)
            q, k = operands.query, operands.key
            if operands.bias is not None:
                whole = operands.bias if options.bias is None else operands.bias + options.bias
                options = options.replace(whole, options.key_lengths)
        if score_mod is not None and self.modifier is not None:
            check_modified(chosen, self.modifier, self.operands is not None and self.operands.bias is not None)
        self.call = call = core.Call(q, core.Keys(k, v), of_kernel, factor, options, sparse)
        shape = (*rows, v.shape[-1])
        if residuals is not None:  # computed before; what is left is the backward pass
            found = residuals.checked((shape, rows, rows, (*rows, keys)), dtype, self.sparse is None)
            self.context, self.row_max, self.row_sum, self.weights = found
            self.exact = self.context, self.weights
            return
        if half is not None:
            context = allocate("context", shape, half if tiled else dtype)
            target = context
            if out is not None:
                target = check_output(out, shape, half, (*inputs, *chosen.parameters.values()), self.options)[1]
        elif out is None:
            context = target = allocate("context", shape, dtype)
        else:
            inputs = (self.query, self.key, v, *chosen.parameters.values())
            context, target = check_output(out, shape, dtype, inputs, self.options)
        self.context = target
        weights = lse = row_max = row_sum = None
        if return_weights:
            self.weights = weights = allocate("weights", (*rows, keys), dtype)
        if return_lse:
            self.lse = lse = np.empty(rows, dtype)
        if keep_rows and sparse is None:
            self.row_max, self.row_sum = row_max, row_sum = np.empty(rows, dtype), np.empty(rows, dtype)
        if half is None:
            call.forward(context, weights, lse, row_max, row_sum)
        else:
            if tiled:
                exact = allocate("context", shape, dtype) if row_max is not None else None
                call.forward(context.view(np.uint16), weights, lse, row_max, row_sum, exact)
                self.exact = exact, weights
            else:
                call.forward(context, weights, lse, row_max, row_sum)
                self.exact = context, weights
                context = narrowed(context, half)
                if out is None:
                    self.context = target = context
            if weights is not None:
                self.weights = narrowed(weights, half)
        if context is not target:
            target[...] = context

    def output(self) -> AttentionOutput:
        """Return all outputs that were asked for."""
        return AttentionOutput(self.context, self.weights, self.lse)

    def residuals(self) -> Residuals:
        """Return what the backward pass needs beside the inputs."""
        context, weights = (self.context, self.weights) if self.half is None else self.exact
        return Residuals(context, self.row_max, self.row_sum, weights)

    def backward(
        self,
        d_context: Array | None = None,
        *,
        d_weights: Array | None = None,
        d_lse: Array | None = None,
        bias_gradient: bool = True,
    ) -> Gradients:
        """Return the gradients of query, key, value, bias and the score's parameters.

        Parameters
        ----------
        d_context, d_weights, d_lse : array, optional
            Gradients of the outputs, of their shapes; at least one.
        bias_gradient : bool
            Whether the gradient of the bias is computed.
        """
        bias_gradient = bias_gradient if bias_gradient is True else check_flag("bias_gradient", bias_gradient)
        context, weights = (self.context, self.weights) if self.half is None else self.exact
        query, key, value, score = self.query, self.key, self.value, self.score
        call, dtype, on_tiles_too = self.call, query.dtype, False
        if self.half is not None and self.tiled:
            dtype = _FLOAT32
            # Gradients of a bias and of weights are computed in float32.
            on_tiles_too = d_weights is None and not (bias_gradient and self.options.bias is not None)
            if not on_tiles_too:
                query, key, value, call = self._widened()
        operands = Operands(query, key, None, query, key) if self.operands is None else self.operands
        stored = dtype if self.half is None else self.half
        if d_context is None and d_weights is None and d_lse is None:
            hint = "pass the gradient of what the loss depends on."
            raise ArgumentError(describe("d_context", "at least one of d_context, d_weights, d_lse", "None", hint))
        if d_weights is not None and weights is None:
            hint = "call attention_vjp(..., return_weights=True)."
            raise ArgumentError(describe("d_weights", "None unless the weights were returned", "an array", hint))
        if d_context is None:
            d_out = np.zeros(context.shape, stored if on_tiles_too else dtype)
        else:
            d_out = _cotangent("d_context", d_context, context.shape, stored)
            d_out = core.unit(d_out if self.half is None or on_tiles_too else widened(d_out))
        if d_weights is not None and weights is not None:
            d_weights = _cotangent("d_weights", d_weights, weights.shape, stored)
            d_weights = native(d_weights if self.half is None else widened(d_weights))
        if d_lse is not None and self.sparse is not None:
            hint = "rows of sparse weights have no log-sum-exp; leave d_lse out."
            raise UnsupportedError(describe("d_lse", "None with a sparse normalizer", "an array", hint))
        if d_lse is not None:
            d_lse = native(_cotangent("d_lse", d_lse, query.shape[:-1], dtype))
        if on_tiles_too:
            d_query, d_key, d_value = self._backward_on_tiles(d_out, d_lse)
            tiled = Gradients(d_query, d_key, d_value, None, {})
            return tiled if self.given is None else like(self.given, tiled)
        q, k = operands.query, operands.key
        # Without a batch entry or a query head there is no task that would write the gradients of the key heads.
        empty = core.empty if all(query.shape[:-2]) else np.zeros
        d_query, d_key, d_value = empty(q.shape, dtype), empty(k.shape, dtype), empty(value.shape, dtype)
        bias = self.options.bias
        reduced = bias if operands.bias is None else operands.bias
        d_bias = d_relative = None
        if self.relative is not None and operands.bias is None:
            if self.relative.trained and bias_gradient:
                # Rows of the view overlap: all that share a head's are added by one thread, in order.
                d_relative = np.zeros(self.relative.values.shape)
                d_bias = diagonals(d_relative, query.shape[-2], key.shape[-2], True)
        elif reduced is not None and (bias_gradient or operands.bias is not None):
            # What many pairs share is summed in float64: of a whole matrix the kernel keeps a block of sums at a time.
            shape = reduced.shape if bias is None else np.broadcast_shapes(reduced.shape, bias.shape)
            shared = math.prod(shape) < math.prod(query.shape[:-1]) * key.shape[-2]
            in_blocks = shape[-2:] == (query.shape[-2], key.shape[-2]) and self.sparse is None
            d_bias = np.zeros(shape, np.float64 if shared and not in_blocks else dtype)
        d_vector = None if score.vector() is None else np.zeros(q.shape[-1], dtype)
        d_alpha = d_parameters = None
        modifier, functions = self.options.modifier, self.kernel.functions
        of_rows = None if self.sparse is None else self.sparse.functions
        sizes = [0 if one is None else one.size for one in (modifier, functions, of_rows)]
        if modifier is not None or functions is not None or of_rows is not None:
            d_parameters = np.zeros(sum(sizes))
        if self.normalizer is None or self.sparse is None:
            finite = call.backward(
                core.unit(context), weights, self.row_max, self.row_sum, d_out, d_weights, d_lse,
                d_query, d_key, d_value, d_bias, d_vector, d_parameters,
            )  # fmt: skip
        else:
            shape = (
                query.shape[0] if query.ndim > 2 else 1,
                query.shape[1] if query.ndim == 4 else 1,
                query.shape[-2],
            )
            d_alpha = np.empty(shape) if self.normalizer.parameters and of_rows is None else None
            finite = self.call.sparse_backward(
                d_out, d_weights, d_query, d_key, d_value, d_bias, d_vector, d_parameters, d_alpha
            )
        if not finite:
            sums = d_bias if d_relative is None else d_relative
            written = (d_query, d_key, d_value, sums, d_vector, d_parameters, d_alpha)
            self._overflowed(call, value, operands, d_out, d_weights, d_lse, written)
        of_normalizer = self.normalizer.reduce(d_alpha) if self.normalizer and d_alpha is not None else {}
        if d_bias is not None:
            d_bias = _narrow(d_bias, dtype)
        if d_relative is not None:
            d_relative = _narrow(d_relative, dtype)
        gradients = OperandGradients(d_query, d_key, d_bias, d_vector)
        d_query, d_key, parameters = score.project_vjp(operands, gradients, self.scale)
        if functions is not None and d_parameters is not None:
            sums = d_parameters[sizes[0] : sizes[0] + sizes[1]]
            parameters = {**parameters, **score.function_gradients(functions.split(sums))}
        if self.modifier is not None and modifier is not None and d_parameters is not None:
            parameters = {**parameters, **self.modifier.gradients(modifier.split(d_parameters))}
        if of_rows is not None and self.normalizer is not None and d_parameters is not None:
            of_normalizer = self.normalizer.function_gradients(of_rows.split(d_parameters[sizes[0] + sizes[1] :]))
        if operands.bias is not None and d_bias is not None:
            d_bias = None if bias is None else _sum_to(d_bias, bias.shape)
        if self.relative is not None:
            whole = d_bias if operands.bias is not None and self.relative.trained else None
            d_bias = d_relative if whole is None else self.relative.gradient(whole)
        if self.half is not None:
            d_query, d_key, d_value = (narrowed(x, self.half) for x in (d_query, d_key, d_value))
            if self.half_bias and d_bias is not None:
                d_bias = narrowed(d_bias, self.half)
        found = Gradients(d_query, d_key, d_value, d_bias if bias_gradient else None, parameters, of_normalizer)
        return found if self.given is None else like(self.given, found)

    def _backward_on_tiles(self, d_context: Array, d_lse: Array | None) -> tuple[Array, Array, Array]:
        """Return the gradients of query, key and value, which are bfloat16."""
        empty = core.empty if all(self.query.shape[:-2]) else np.zeros
        dtype, context = d_context.dtype, np.ascontiguousarray(self.exact[0])
        d_query, d_key, d_value = (empty(x.shape, dtype) for x in (self.query, self.key, self.value))
        of_rows = context, None, self.row_max, self.row_sum
        finite = self.call.backward(
            *of_rows, d_context.view(np.uint16), None, d_lse, d_query.view(np.uint16), d_key.view(np.uint16),
            d_value.view(np.uint16), None, None, None,
        )  # fmt: skip
        if not finite:  # sums may overflow where those of less of everything do not
            q, k, v, call = self._widened()
            d_out = widened(d_context)
            d_q, d_k, d_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
            if not call.backward(*of_rows, d_out, None, d_lse, d_q, d_k, d_v, None, None, None):
                written = (d_q, d_k, d_v, None, None, None, None)
                self._overflowed(call, v, Operands(q, k, None, q, k), d_out, None, d_lse, written)
            for found, more in ((d_query, d_q), (d_key, d_k), (d_value, d_v)):
                np.copyto(found, narrowed(more, dtype), where=~np.isfinite(found))
        return d_query, d_key, d_value

    def _widened(self) -> tuple[Array, Array, Array, core.Call]:
        """Return query, key and value of a call on tiles in float32, and the call of them."""
        query, key, value = widened(self.query), widened(self.key), widened(self.value)
        return query, key, value, core.Call(query, core.Keys(key, value), self.kernel, self.scale, self.options)

    def _overflowed(
        self,
        call: core.Call,
        value: Array,
        operands: Operands,
        d_out: Array,
        d_weights: Array | None,
        d_lse: Array | None,
        written: tuple[Array | None, ...],
    ) -> None:
        """Find gradients that are not finite once more, with less of everything, and put them in place."""
        context, weights = (self.context, self.weights) if self.half is None else self.exact
        if d_weights is not None and weights is not None:
            d_weights = np.where(weights == 0, d_weights.dtype.type(0), d_weights)  # what is not read may be anything
        axes = d_out.ndim
        sums = written[3]
        apart = sums is not None and sums.ndim == axes > 2 and len(sums) == len(d_out) and self.relative is None
        # A row's own power, a sample's, that of all: what is written into each does not depend on what else there is.
        of_rows, of_samples = (0,), (1, 2, 3) if apart else (1, 2)
        of_all = (4, 5, 6) if apart else (3, 4, 5, 6)
        for kept, places in ((axes - 1, of_rows), (int(axes > 2), of_samples), (0, of_all)):
            found = [(place, x) for place in places if (x := written[place]) is not None]
            power = exponents((d_out, d_weights, None if d_lse is None else d_lse[..., None]), kept)

            def run(of_values: int, power: Any = power) -> tuple[Any, ...]:
                whole = power + of_values
                new: Any = tuple(None if x is None else np.zeros_like(x) for x in written)
                d_query, d_key, d_value, d_bias, d_vector, d_parameters, d_alpha = new
                if d_bias is not None and self.relative is not None and operands.bias is None:
                    d_bias = diagonals(d_bias, operands.query.shape[-2], operands.key.shape[-2], True)
                from_weights, less_value = less(d_weights, whole), less(value, of_values)
                if self.sparse is None:
                    call.backward(
                        np.ascontiguousarray(less(context, of_values)), weights, self.row_max, self.row_sum,
                        less(d_out, power), from_weights, None if d_lse is None else less(d_lse, whole[..., 0]),
                        d_query, d_key, d_value, d_bias, d_vector, d_parameters, less_value,
                    )  # fmt: skip
                else:
                    call.sparse_backward(
                        less(d_out, power), from_weights, d_query, d_key, d_value, d_bias, d_vector, d_parameters,
                        d_alpha, less_value,
                    )  # fmt: skip
                return new

            powers = [power if x.ndim == axes else power.item() for _, x in found]
            again([(*one, p, one[0] != 2) for one, p in zip(found, powers, strict=True)], value.dtype, run)


def _cotangent(name: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return gradient_array(name, value, shape, dtype, f"pass the gradient of {name[2:]}.")


def _narrow(sums: Array, dtype: np.dtype[Any]) -> Array:
    """Return sums of float64 in another type, infinite beyond it."""
    if sums.dtype == dtype:
        return sums
    with np.errstate(over="ignore"):
        return sums.astype(dtype)


def _sum_to(array: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an array of `shape` was broadcast."""
    extra = array.ndim - len(shape)
    axes = (*range(extra), *(extra + i for i, n in enumerate(shape) if n == 1 and array.shape[extra + i] != 1))
    return array.sum(axis=axes, dtype=np.float64).astype(array.dtype).reshape(shape)
