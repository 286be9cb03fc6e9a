"""Problems in other batches, and arrays that lie in memory in other ways."""

import dataclasses

import numpy as np


def part(p, rows):
    """The problem with only these samples, in this order."""
    rest = {k: v[rows] if k in ("key_lengths", "mask", "seed") else v for k, v in p.rest.items()}
    names = ("query", "key", "value", "d_context")
    return dataclasses.replace(p, rest=rest, **{name: getattr(p, name)[rows] for name in names})


def misaligned(x):
    raw = np.empty(x.nbytes + 1, np.uint8)
    view = raw[1:].view()
    y = np.ndarray(x.shape, x.dtype, buffer=view.data)
    y[...] = x
    return y


def field(x):
    y = np.zeros(x.shape, [("first", np.uint8), ("x", x.dtype)])["x"]
    y[...] = x
    return y


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "negative rows": lambda x: np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :],
    "negative columns": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "negative batch": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "time first": lambda x: np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    "fortran": np.asfortranarray,
    "every second": lambda x: np.repeat(np.repeat(x, 2, axis=-1), 3, axis=-2)[..., ::3, ::2],
    "sliced": lambda x: np.pad(x, ((0, 0), (2, 3), (1, 4)))[:, 2:-3, 1:-4],
    "read-only": read_only,
    "misaligned": misaligned,
    "field of a record": field,
    "foreign byte order": lambda x: x.astype(x.dtype.newbyteorder()),
}
