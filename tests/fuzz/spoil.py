"""One case of the fuzzer of arguments: right calls, of which some arguments are spoilt, and what must hold of them.

A case calls through `Draw.call`. An argument is any array or number among those of a call, also in lists, tuples and
dicts; each is spoilt with a small probability, and so are arrays that were given earlier, between calls. A call works,
or raises a `FastattnError` or a `MemoryError`, or what Python and NumPy raise where a number was spoilt that is no
array; whatever comes, it writes nothing but what it is there to write.
"""

import warnings

import numpy as np

from fastattn.errors import FastattnError

ALLOWED = (FastattnError, MemoryError)
# Too, of Python and NumPy, where a number is wrong that is no array: a size, or how often.
OF_NUMBERS = (TypeError, ValueError, ArithmeticError, IndexError, AttributeError)
SHARE = 0.12  # of the arguments of a call that are spoilt


class Refused(Exception):
    """The call was refused as it should be, and the case is over."""


class WrongAnswerError(Exception):
    """A call wrote what it was only to read, or raised what is no error of the package."""


class Sub(np.ndarray):
    """A subclass of arrays that does nothing."""


class Draw:
    """The random choices of one case, and its arrays."""

    def __init__(self, rng):
        self.rng = rng
        self.given = []
        self.spoilt = []
        self.calls = 0
        self.numbers = False
        self.attribute = False

    def chance(self, share=0.5):
        return self.rng.random() < share

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def size(self, most=5):
        return int(self.rng.integers(1, most + 1))

    def floats(self, *shape, dtype=np.float32):
        return self.rng.standard_normal(shape).astype(dtype)

    def ids(self, most, *shape, dtype=np.int64):
        return self.rng.integers(0, max(most, 1), shape).astype(dtype)

    def lengths(self, batch, most):
        return self.rng.integers(0, most + 1, batch)

    def call(self, function, *args, writes=(), **options):
        """Call with some arguments spoilt; `writes` are the names of those that it may write."""
        self.attribute = function is setattr
        args, options = self.spoil_within(args), self.spoil_within(options)
        written = [options[name] for name in writes if isinstance(options.get(name), np.ndarray)]
        arrays = [array for array in self.arrays((args, options)) if array.size < 10**6]
        kept = [a for a in arrays if not any(np.may_share_memory(a, w) for w in written)]
        before = [(array, array.tobytes()) for array in kept if array.dtype != object]
        self.given += arrays
        self.calls += 1
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                result = function(*args, **options)
        except ALLOWED as error:
            self.unchanged(before, function)
            raise Refused(str(error)) from None
        except Exception as error:
            self.unchanged(before, function)
            if self.numbers and isinstance(error, OF_NUMBERS):
                raise Refused(str(error)) from None
            what = f"{type(error).__name__}: {error}".split("\n")[0]
            raise WrongAnswerError(f"{name_of(function)}({', '.join(self.spoilt)}): {what}") from error
        self.unchanged(before, function)
        if self.chance(0.1):
            self.disturb()
        return result

    def unchanged(self, before, function):
        for array, data in before:
            if array.tobytes() != data:
                raise WrongAnswerError(
                    f"{name_of(function)}({', '.join(self.spoilt)}): wrote {array.dtype}{array.shape}"
                )

    def disturb(self):
        """Write nonsense into an array that was given to an earlier call and is still the caller's."""
        array = self.given[self.rng.integers(len(self.given))] if self.given else None
        if array is None or not array.flags.writeable or array.dtype == object or not array.size:
            return
        wrong = self.pick(0, 1, 7, 255) if array.dtype.kind in "bu" else self.pick(0, -1, 7, 2**31 - 1, -(2**31))
        with np.errstate(all="ignore"):
            array[...] = np.array(wrong).astype(array.dtype)
        self.spoilt.append(f"{array.dtype}{array.shape} written later")

    def arrays(self, value):
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, (list, tuple)):
            for one in value:
                yield from self.arrays(one)
        elif isinstance(value, dict):
            yield from self.arrays(list(value.values()))

    def spoil_within(self, value):
        if isinstance(value, dict):
            return {key: self.spoil_within(one) for key, one in value.items()}
        if isinstance(value, tuple) and type(value) is tuple:
            return tuple(self.spoil_within(one) for one in value)
        if isinstance(value, list):
            return [self.spoil_within(one) for one in value]
        if not self.chance(SHARE):
            return value
        if isinstance(value, np.ndarray):
            wrong = self.array(value)
        elif isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
            wrong = self.number(value) if not isinstance(value, bool) or self.chance() else np.array([value, True])
        elif isinstance(value, str) and not self.attribute:
            wrong = self.pick("nothing", "", 3, b"x", np.array([value, "x"]), [value])
        else:
            return value
        old = f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else repr(value)
        new = f"{wrong.dtype}{wrong.shape}" if isinstance(wrong, np.ndarray) else repr(wrong)[:40]
        self.spoilt.append(f"{old} -> {new}")
        return wrong

    def number(self, value):
        """A wrong number, or none."""
        self.numbers = True
        whole = [0, 1, -1, 2, 7, 100, 1.5, np.nan, -np.inf, None, "x", True, [value], np.array([value]), b"1", 1j]
        real = [
            0,
            -1,
            -0.5,
            np.nan,
            np.inf,
            1e39,
            -1e39,
            1e-320,
            10**400,
            None,
            "x",
            np.float64(value),
            np.array(value),
        ]
        return self.pick(*(real if isinstance(value, float) else whole))

    def array(self, a):
        """An array that differs from this one in something, or something else."""
        kind = a.dtype.kind
        ways = [
            lambda: a.astype(self.pick("f", "d", "e", "i", "q", "Q", "?", "D")),
            lambda: a.astype(a.dtype.newbyteorder()),
            lambda: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
            lambda: np.asfortranarray(a),
            lambda: a[::-1] if a.ndim else a,
            lambda: a.T,
            lambda: a[None],
            lambda: a[0] if a.ndim and len(a) else a[()] if a.ndim else a,
            lambda: self.resized(a),
            lambda: self.resized(a),
            lambda: a.reshape(-1),
            lambda: a.reshape(-1)[:1].reshape(()) if a.size else a,
            lambda: a[..., :0] if a.ndim else a,
            lambda: a[:0] if a.ndim else a,
            lambda: self.read_only(a),
            lambda: self.unaligned(a),
            lambda: np.broadcast_to(a.reshape(-1)[:1].reshape((1,) * a.ndim), a.shape) if a.size else a,
            lambda: a.view(Sub),
            lambda: a.tolist(),
            lambda: np.ma.masked_array(a),
            lambda: a.astype(object),
            lambda: None,
            lambda: self.pick("x", 3, 1.5, {}, object(), b"bytes", [[1], [1, 2]]),
            lambda: self.given[self.rng.integers(len(self.given))] if self.given else a,
            lambda: np.full_like(a, self.pick(np.nan, np.inf, 3e38, 1e-45, 0)) if kind == "f" else self.indices(a),
            lambda: self.indices(a) if kind in "iu" else a * a.dtype.type(1),
        ]  # fmt: skip
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return ways[self.rng.integers(len(ways))]()
            except (TypeError, ValueError):
                return None

    def indices(self, a):
        wrong = a.copy()
        if wrong.size and wrong.dtype.kind in "iu":
            number = self.pick(-1, 1, 5, 100, 2**31, 2**40, -(2**40), 2**63 - 1, -(2**63))
            wrong.reshape(-1)[self.rng.integers(wrong.size)] = np.array(number).astype(a.dtype)
        return wrong

    def resized(self, a):
        shape = list(a.shape)
        if not shape:
            return np.ones(2, a.dtype)
        shape[self.rng.integers(len(shape))] += self.pick(-1, 1, 1, 2, 15, 100)
        wrong = np.zeros([max(n, 0) for n in shape], a.dtype)
        return wrong

    def read_only(self, a):
        wrong = a.copy()
        wrong.flags.writeable = False
        return wrong

    def unaligned(self, a):
        wrong = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        wrong[...] = a
        return wrong


def name_of(function):
    """Return what a reader would call a function, a method or a function that was returned."""
    return getattr(function, "__qualname__", type(function).__name__)
