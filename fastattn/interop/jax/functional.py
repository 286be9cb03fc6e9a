"""Attention as functions of JAX arrays: `attention`, with what `fastattn.attention` takes, and JAX's own form."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastattn import normalizers, scores
from fastattn._numbers import check_flag, check_number
from fastattn.attention import AttentionOutput
from fastattn.attention.arguments import check_arrays, check_options, check_sparse, score_arrays
from fastattn.attention.functions import is_function
from fastattn.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError, describe
from fastattn.interop.jax.attending import attend
from fastattn.interop.jax.problem import OPERANDS, Problem

__all__ = ["attention", "dot_product_attention"]

Array = Any  # of JAX or NumPy, or a tracer
_HALVES = frozenset({np.dtype(np.float16), np.dtype(jnp.bfloat16)})


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    score: str | Mapping[str, Any] = "scaled_dot",
    normalizer: str | Mapping[str, Any] = "softmax",
    mask: Array | None = None,
    key_lengths: Array | None = None,
    causal: str | bool | None = None,
    window: tuple[int | None, int | None] | None = None,
    bias: Array | None = None,
    score_mod: None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: Array | int | None = None,
    return_weights: bool = False,
    return_lse: bool = False,
) -> Any:
    """Attend with JAX arrays: `fastattn.attention`, to be compiled, differentiated and mapped.

    Parameters
    ----------
    query : array, shape (..., Tq, Dk)
        float32 or float64; 2-D, 3-D (B, T, D) or 4-D (B, H, T, D). Half types are computed with in float32, and results
        but the lse are rounded once.
    key : array, shape (..., Tk, Dk)
        In 4-D its number of heads may divide query's.
    value : array, shape (..., Tk, Dv)
    score : str or mapping
        A name, or a mapping of the name and the parameters; those that are arrays are differentiated:
        ``{"name": "additive", "v": v, "activation": "relu"}``.
    normalizer : str or mapping
        Likewise: ``{"name": "entmax", "alpha": alpha}``.
    mask : bool array, broadcastable to (..., Tq, Tk), optional
        True = may attend.
    key_lengths : int array, shape (B,), optional
    bias : array, broadcastable to (..., Tq, Tk), optional
        Added to the scores; its gradient is summed to its own shape in the kernel.
    score_mod : None
        Functions of yours, here and as `mask`, are refused: a compiled program holds numbers and names.
    causal, window, scale, dropout
        As in `fastattn.attention`; they are part of the compiled program. A `dropout` of 1 makes contexts of 0.
    seed : int, key of ``jax.random``, or uint32 array of shape (2,), optional
        Needed with dropout; or one for each of the B samples. An int gives the dropout of `fastattn.attention`.
    return_weights, return_lse : bool
        Return an `AttentionOutput` with these fields; both have gradients.

    Returns
    -------
    array, shape (..., Tq, Dv), or AttentionOutput of arrays

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, UnsupportedError
        As from `fastattn.attention`. What depends on the values of arrays, as key lengths that are too large, is an
        error of the compiled program with the same text.

    Examples
    --------
    ::

        import jax, jax.numpy as jnp
        from fastattn.interop.jax import attention

        query, memory = jnp.ones((2, 4)), jnp.ones((3, 4))
        jax.jit(jax.grad(lambda q: attention(q, memory, memory).sum()))(query)
    """
    rate = check_number("dropout", dropout, "pass 0.0 for none.")
    if not 0 <= rate <= 1:
        raise ArgumentError(describe("dropout", "a probability in [0, 1]", repr(dropout), "pass 0.0 for none."))
    weights, lse = check_flag("return_weights", return_weights), check_flag("return_lse", return_lse)
    _refuse_functions(score_mod, mask)
    settings, trained = split("score", score)
    settings_of_rows, trained_of_rows = split("normalizer", normalizer)
    problem = Problem(
        score=settings,
        score_names=tuple(trained),
        normalizer=settings_of_rows,
        normalizer_names=tuple(trained_of_rows),
        causal=causal,
        window=_hashable(window),
        scale=None if scale is None else check_number("scale", scale, "multiply query by one that JAX traces."),
        dropout=0.0 if rate == 1 else rate,
        weights=weights,
        lse=lse,
    )
    operands = {"query": query, "key": key, "value": value, "bias": bias, "mask": mask, "key_lengths": key_lengths}
    if problem.dropout:
        operands["seed"] = _words(seed)
    context, *rest = _attention(problem, _present(operands), (*trained.values(), *trained_of_rows.values()))
    context = context * 0 if rate == 1 else context
    return AttentionOutput(context, *rest) if weights or lse else context


def dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    *,
    scale: Any = None,
    is_causal: bool = False,
    query_seq_lengths: Array | None = None,
    key_value_seq_lengths: Array | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Any:
    """Compute what ``jax.nn.dot_product_attention`` does, with its arguments.

    Parameters
    ----------
    query : array, shape (B, T, N, H) or (T, N, H)
        float32, float64 or, computed with in float32, a half type.
    key, value : array, shape (B, S, K, H) or (S, K, H)
        K divides N. Values may have another width.
    bias : array, broadcastable to (B, N, T, S), optional
        Added to the scores; its gradient is summed to its own shape in the kernel.
    mask : bool array, broadcastable to (B, N, T, S), optional
        True = may attend.
    scale : float or array of one number, optional
        Default 1 / sqrt(H). An array, which JAX may trace and differentiate, is multiplied into `query`.
    is_causal : bool
        Query i reads keys up to i.
    query_seq_lengths, key_value_seq_lengths : int array, shape (B,), optional
        Queries and keys from these numbers on are padding.
    local_window_size : int or (int, int), optional
        Keys before and after the query's position that it reads.
    implementation : {None, "xla"}
        Only for the signature: fastattn's own is always used.
    return_residual : bool
        Return the log-sum-exp of each row too, (B, T, N), of query's type.

    Returns
    -------
    array, shape (B, T, N, H), or a pair with the residual

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, UnsupportedError
        As from `attention`.

    Notes
    -----
    Nothing of size (T, S) is made, forward or backward. A row that may attend to nothing is 0, and its log-sum-exp
    -inf, where JAX has the mean of all values; rows from `query_seq_lengths` on are such. What is masked is not read.
    The residual has a gradient, which JAX stops.
    """
    if implementation not in (None, "xla"):
        hint = "leave it out; fastattn's own is always used."
        raise UnsupportedError(describe("implementation", "None", repr(implementation), hint))
    residual = check_flag("return_residual", return_residual)
    if isinstance(scale, jax.Array) and scale.ndim == 0:
        query, scale = scale.astype(getattr(query, "dtype", np.float32)) * _array("query", query), 1.0
    window: Any = local_window_size
    problem = Problem(
        causal="top_left" if check_flag("is_causal", is_causal) else None,
        window=_hashable((window, window) if isinstance(window, int) else window),
        scale=None if scale is None else check_number("scale", scale, "pass 1.0 for none."),
        lse=residual,
        heads_third=True,
    )
    operands = {
        "query": query, "key": key, "value": value, "bias": bias, "mask": mask, "key_lengths": key_value_seq_lengths,
        "query_lengths": query_seq_lengths,
    }  # fmt: skip
    context, _, lse = _attention(problem, _present(operands), ())
    return (context, lse.astype(context.dtype)) if residual else context


def split(argument: str, given: Any) -> tuple[tuple[tuple[str, Any], ...], dict[str, Array]]:
    """Return a score or normalizer, a name or a mapping, as its settings, and its parameters that are arrays."""
    if isinstance(given, str):
        return (("name", given),), {}
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        arrays = {name: one for name, one in given.items() if isinstance(one, (jax.Array, np.ndarray))}
        settings = tuple((name, one) for name, one in given.items() if name not in arrays)
        if all(one is None or isinstance(one, (str, int, float)) for _, one in settings):
            return settings, arrays
    hint = "pass a name, or {'name': ..., ...} with its parameters under their names."
    raise ArgumentError(describe(argument, "a name or a mapping of numbers, words and arrays", repr(given), hint))


def _refuse_functions(score_mod: Any, mask: Any) -> None:
    if score_mod is not None:
        hint = "pass bias=, or the NumPy arrays of query, key and value to fastattn.attention_vjp."
        raise UnsupportedError(describe("score_mod", "None, in JAX", type(score_mod).__name__, hint))
    if is_function(mask):
        hint = "pass its values as a bool array, or causal= and window=."
        raise UnsupportedError(describe("mask", "a bool array, in JAX", type(mask).__name__, hint))


def _hashable(window: Any) -> Any:
    """Return a window as a part of a compiled program; what is wrong with it is said when it is checked."""
    return tuple(window) if isinstance(window, list) else window


def _present(operands: dict[str, Any]) -> dict[str, Array]:
    """Return the operands that there are as arrays; raise if one is on a device that is not the CPU."""
    found = {name: _array(name, one) for name, one in operands.items() if one is not None}
    for name, one in found.items():
        if isinstance(one, jax.Array) and not isinstance(one, jax.core.Tracer):
            platforms = {device.platform for device in one.devices()}
            if platforms != {"cpu"}:
                hint = "fastattn computes on the CPU: pass jax.device_put(x, jax.devices('cpu')[0])."
                raise UnsupportedError(describe(name, "an array on the CPU", f"one on {platforms.pop()}", hint))
    return found


def _array(name: str, one: Any) -> Array:
    if hasattr(one, "dtype"):
        return one
    try:
        return jnp.asarray(one)
    except (TypeError, ValueError) as error:
        hint = "pass jnp.asarray(rows), of rows of one length."
        raise DTypeError(describe(name, "an array", f"{type(one).__name__} ({error})", hint)) from None


def _words(seed: Any) -> Array:
    """Return a seed, or one for each sample, as two words of 32 bits."""
    if isinstance(seed, int):
        return np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
    words: Any = seed
    if words is not None and jnp.issubdtype(words.dtype, jax.dtypes.prng_key):
        words = jax.random.key_data(words)
    if words is None or words.dtype != np.uint32 or words.shape[-1:] != (2,):
        got = "None" if words is None else f"{words.dtype} of shape {words.shape}"
        hint = "pass an int, or jax.random.key(0)."
        raise ArgumentError(describe("seed", "an int or a key of two words, with dropout", got, hint))
    return words


@functools.partial(jax.jit, static_argnums=0)
def _attention(problem: Problem, operands: dict[str, Array], parameters: Sequence[Array]) -> tuple[Any, Any, Any]:
    """Return context, weights or None, and lse or None, in the axes of the operands."""
    query = operands["query"]
    if query.dtype in _HALVES:
        context, weights, lse = _attention(problem, *_widened(operands, parameters))
        return context.astype(query.dtype), None if weights is None else weights.astype(query.dtype), lse
    axes = query.ndim
    if problem.heads_third:
        four = {name: one[None] if one.ndim == 3 and name in OPERANDS[:3] else one for name, one in operands.items()}
    else:
        four = {name: _four(name, one, axes) for name, one in operands.items()}
    lengths = four.pop("query_lengths", None)
    if lengths is not None:
        queries = four["query"].shape[1]
        rows = (jnp.arange(queries) < jnp.reshape(lengths, (-1, 1)))[:, None, :, None]
        four["mask"] = rows if "mask" not in four else rows & four["mask"]
    problem = problem._replace(operands=tuple(name for name in OPERANDS if name in four))
    problem = _checked(problem, four, parameters)
    given = (*(four[name] for name in problem.operands), *parameters)
    context, *rest = attend(problem, given)
    weights = rest.pop(0) if problem.weights else None
    lse = rest.pop(0) if problem.lse else None
    if problem.heads_third:
        lse = None if lse is None else lse.swapaxes(1, 2)
        return (context[0], None, None if lse is None else lse[0]) if axes == 3 else (context, None, lse)
    rows = operands["query"].shape[:-1]
    return (
        context.reshape(*rows, context.shape[-1]),
        None if weights is None else weights.reshape(*rows, weights.shape[-1]),
        None if lse is None else lse.reshape(rows),
    )


def _widened(operands: dict[str, Array], parameters: Sequence[Array]) -> tuple[dict[str, Array], list[Array]]:
    """Return what is of half types in float32, or raise if query, key and value are of several types."""
    dtype = operands["query"].dtype
    for name in OPERANDS[1:3]:
        if operands[name].dtype != dtype:
            hint = f"pass x.astype(jnp.{dtype}), or query.astype(jnp.float32)."
            raise DTypeError(describe(name, f"{dtype}, the type of query", operands[name].dtype, hint))
    return {name: _wide(one) for name, one in operands.items()}, [_wide(one) for one in parameters]


def _wide(one: Array) -> Array:
    return one.astype(np.float32) if one.dtype in _HALVES else one


def _four(name: str, array: Array, axes: int) -> Array:
    """Return an operand of `axes` axes with four: without heads, or without a batch either."""
    if name == "key_lengths":
        return jnp.atleast_1d(array)
    if name == "seed" or not 2 <= axes <= 4 or array.ndim > axes:
        return array
    array = array.reshape((1,) * (axes - array.ndim) + array.shape)
    return array[:, None] if axes == 3 else array[None, None] if axes == 2 else array


def _checked(problem: Problem, operands: dict[str, Array], parameters: Sequence[Array]) -> Problem:
    """Raise what `fastattn.attention` would of shapes, types and options; return the problem with its causality.

    It is asked with arrays of these shapes whose memory is never touched.
    """
    for name, one in operands.items():
        if one.dtype in _HALVES:
            hint = "pass x.astype(jnp.float32), or query, key and value of one type."
            raise DTypeError(describe(name, f"{operands['query'].dtype}, the type of query", one.dtype, hint))
    empty = {name: np.empty(one.shape, one.dtype) for name, one in operands.items()}
    q, k, v = (empty[name] for name in OPERANDS[:3])
    if problem.heads_third and q.ndim == k.ndim == v.ndim == 4:
        q, k, v = (one.swapaxes(1, 2) for one in (q, k, v))
    q, k, v = check_arrays(q, k, v)
    check_options(
        q, k.shape[-2], None, empty.get("mask"), None, problem.causal, problem.window, empty.get("bias"), 0.0, None
    )
    lengths = empty.get("key_lengths")
    if lengths is not None and (lengths.dtype.kind not in "iu" or lengths.shape != q.shape[:1]):
        got = f"{lengths.dtype} of shape {lengths.shape}"
        raise ShapeError(describe("key_lengths", f"integers of shape {q.shape[:1]}", got, "pass one for each sample."))
    given = {name: np.ones(one.shape, one.dtype) for name, one in zip(problem.score_names, parameters)}
    settings = dict(problem.score)
    score = scores.create(settings.pop("name"), **settings, **given)
    score_arrays(score, q.dtype)
    score.check(q, k)
    if not problem.normalizer_names:
        settings = dict(problem.normalizer)
        made = normalizers.create(settings.pop("name"), **settings)
        check_sparse(made, q.dtype, q.shape, k.shape[-2], problem.lse)
    return problem._replace(causal="top_left" if problem.causal is True else problem.causal or None)
