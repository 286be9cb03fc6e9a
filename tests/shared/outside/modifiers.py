"""Functions on scores, and mask functions, by hand: compiled as those that come from outside are, with their twins.

They stand for what `fastattn.jit` compiles, so that tests of the kernels need nothing of it.
"""

import functools
from dataclasses import dataclass, field
from types import SimpleNamespace

import numba
import numpy as np
from numba.core import types
from numba.core.extending import intrinsic

from fastattn._reference.attention import Modifier
from fastattn.jit import MaskFunction, ScoreModifier


@intrinsic
def at_address(typingctx, address):
    """An integer as a pointer to float64."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(types.int64), codegen


def signature(first, real, sums):
    row = [types.int64] * 5
    parameters = types.CPointer(types.CPointer(real))
    return types.void(*first, *row, parameters, *[types.CPointer(types.int64)] * sums)


def compiled(real, forward, backward):
    """The two functions of a modifier, by numba.cfunc."""
    scores = types.CPointer(real)
    return (
        numba.cfunc(signature([scores], real, 0), error_model="numpy")(forward),
        numba.cfunc(signature([scores, scores], real, 1), error_model="numpy")(backward),
    )


def _shaped(s, n, b, h, i, j, parameters):
    """slope[h] (j - i) + cap tanh(s / cap) + b / 8"""
    slope, cap = parameters[1][h], parameters[2][0]
    for t in range(n):
        s[t] = slope * (j + t - i) + cap * np.tanh(s[t] / cap) + parameters[3][b]


def _shaped_backward(s, d, n, b, h, i, j, parameters, sums):
    cap = parameters[2][0]
    of_slope = of_cap = 0.0
    for t in range(n):
        if d[t] != 0:
            y = np.tanh(s[t] / cap)
            of_slope += d[t] * (j + t - i)
            of_cap += d[t] * (y - (1 - y * y) * (s[t] / cap))
            d[t] *= 1 - y * y
    if sums[0]:
        at_address(sums[0])[h] += of_slope
    if sums[1]:
        at_address(sums[1])[0] += of_cap


def _holes(s, n, b, h, i, j, parameters):
    """-inf where i + 2 j + h is a multiple of 3, else 2 s"""
    for t in range(n):
        s[t] = -np.inf if (i + 2 * (j + t) + h) % 3 == 0 else 2 * s[t]


def _holes_backward(s, d, n, b, h, i, j, parameters, sums):
    for t in range(n):
        d[t] *= 2


def _holes_sloped(s, slopes, n, b, h, i, j, parameters):
    for t in range(n):
        hidden = (i + 2 * (j + t) + h) % 3 == 0
        s[t] = -np.inf if hidden else 2 * s[t]
        slopes[t] = np.nan if hidden else 2


@functools.cache
def functions(name, dtype):
    real = types.float32 if dtype == np.float32 else types.float64
    pairs = {"shaped": (_shaped, _shaped_backward), "holes": (_holes, _holes_backward)}
    return compiled(real, *pairs[name.removesuffix(" with slopes")])


@functools.cache
def sloped(dtype):
    """The function of "holes" that stands for its backward one."""
    scores = types.CPointer(types.float32 if dtype == np.float32 else types.float64)
    return numba.cfunc(signature([scores, scores], scores.dtype, 0), error_model="numpy")(_holes_sloped)


def pointers(*arrays):
    """The arrays' addresses behind that of their sizes, and all that has to stay alive."""
    kept = [np.array([x.size for x in arrays], np.int64), *arrays]
    return np.array([x.ctypes.data for x in kept], np.int64), kept


@dataclass(eq=False)
class ByHand(ScoreModifier):
    """A modifier as attention takes it."""

    name: str
    arrays: dict = field(default_factory=dict)
    fixed: tuple = ()
    inputs: frozenset = frozenset("hij")

    @property
    def parameters(self):
        return self.arrays

    def compiled(self, dtype, *sizes):
        both = functions(self.name, dtype.type)
        addresses, kept = pointers(*(np.ascontiguousarray(x, dtype) for x in (*self.arrays.values(), *self.fixed)))
        return SimpleNamespace(
            forward=both[0].address,
            backward=both[1].address,
            sloped=sloped(dtype.type).address if self.name.endswith("slopes") else 0,
            parameters=addresses.ctypes.data,
            gradients=(*(x.size for x in self.arrays.values()), *(0 for _ in self.fixed)),
            kept=(both, addresses, kept),
        )

    def gradients(self, sums):
        return {n: s.reshape(x.shape).astype(x.dtype) for s, (n, x) in zip(sums, self.arrays.items())}


def shaped(dtype, heads=1, batch=1):
    slope = np.linspace(-0.2, 0.3, heads).astype(dtype)
    cap = np.array([1.5], dtype)
    return ByHand("shaped", {"slope": slope, "cap": cap}, (np.arange(batch, dtype=dtype) / 8,))


def holes(slopes=False):
    return ByHand("holes with slopes" if slopes else "holes")


def twin(modifier):
    """The same in float64."""
    if modifier.name.startswith("holes"):

        def mask(s, b, h, i, j):
            return np.where((i + 2 * j + h) % 3 == 0, -np.inf, 2 * s)

        return Modifier(mask, lambda s, b, h, i, j, d: (np.where(d == 0, 0, 2 * d), {}))
    slope, cap = (x.astype(np.float64) for x in modifier.arrays.values())
    of_batch = modifier.fixed[0].astype(np.float64)

    def function(s, b, h, i, j):
        return slope[h] * (j - i) + cap * np.tanh(s / cap) + of_batch[b]

    def derivative(s, b, h, i, j, d):
        y = np.tanh(s / cap)
        of_slope = (d * (j - i)).sum(axis=(0, 2, 3))
        of_cap = np.where(d == 0, 0, d * (y - (1 - y * y) * (s / cap))).sum(keepdims=True).reshape(1)
        return np.where(d == 0, 0, d * (1 - y * y)), {"slope": of_slope, "cap": of_cap}

    return Modifier(function, derivative)


def _near(allowed, n, b, h, i, j, parameters):
    """i - j is from -w to w, or j is 0, and i + j + h is no multiple of 5"""
    width = parameters[1][0]
    for t in range(n):
        far = abs(i - j - t) > width and j + t != 0
        allowed[t] = not far and (i + j + t + h) % 5 != 0


@functools.cache
def mask_function():
    return numba.cfunc(signature([types.CPointer(types.uint8)], types.float64, 0))(_near)


@dataclass(eq=False)
class NearByHand(MaskFunction):
    """A mask function as attention takes it; what it says of blocks is found from all of its pairs."""

    width: int
    inputs = frozenset("hij")

    def array(self, shape):
        _, h, i, j = np.ogrid[tuple(map(slice, shape))]
        return np.broadcast_to(((abs(i - j) <= self.width) | (j == 0)) & ((i + j + h) % 5 != 0), shape)

    def block_map(self, *shape):
        pairs = self.array((1, *shape[1:]))
        padded = [(0, 0), (0, 0), *((0, -n % 64) for n in shape[2:])]
        none = np.pad(pairs, padded, constant_values=False)
        every = np.pad(pairs, padded, constant_values=True)
        cut = (1, shape[1], none.shape[2] // 64, 64, none.shape[3] // 64, 64)
        some, whole = none.reshape(cut).any(axis=(3, 5)), every.reshape(cut).all(axis=(3, 5))
        return np.where(whole, 1, np.where(some, 2, 0)).astype(np.uint8)

    def compiled(self, *shape):
        addresses, kept = pointers(np.array([self.width], np.float64))
        return SimpleNamespace(
            forward=mask_function().address, parameters=addresses.ctypes.data, gradients=(), kept=(addresses, kept)
        )
