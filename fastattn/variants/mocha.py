"""Monotonic chunkwise attention: a softmax over the few positions up to where monotonic attention stops."""

from typing import Any

import numpy as np

from fastattn.scores import Additive
from fastattn.variants.monotonic import Monotonic, Search, energy_of
from fastattn.variants.protocol.checks import check_size

__all__ = ["Mocha"]


class Mocha(Monotonic):
    """Monotonic chunkwise attention of Chiu and Raffel 2018 (arXiv:1712.05382).

    ::

        alpha_ij    as of `Monotonic`, with its energy
        u_ij = v' . tanh(W' s_{i-1} + V' h_j + b')
        beta_ij = sum_{k=j}^{j+w-1} alpha_ik exp(u_ij) / sum_{l=k-w+1}^k exp(u_il),     c_i = sum_j beta_ij h_j

    In hard mode a step stops as monotonic attention does, and its weights are a softmax of u over the w positions up to
    there. Chunks at the beginning are shorter, and so are those with masked positions.

    Parameters
    ----------
    query_width, memory_width, width : int
        Both energies have the same Da.
    chunk : int
        w, the number of positions; 1 is monotonic attention. 2 in most of the paper's experiments with speech.
    offset, noise, search, rng, dtype
        As of `Monotonic`.

    Attributes
    ----------
    align : Soft
    r : Parameter, shape (1,)
    chunk_align : Soft
        W', V' and b' (w_query, w_key, b), and v, of an `Additive` score.

    Notes
    -----
    Every chunk's exponentials are relative to its own largest energy. The authors' and fairseq's code subtract the
    largest of the whole row and clip, so that chunks far below it have sums that round to zero. Work beyond that of
    `Monotonic` is a second energy, and 2 w S exponentials, forward and back.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("mocha", query_width=3, memory_width=5, width=8, chunk=3, offset=0.0,
    ...                           rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((1, 6, 5), np.float32))
    >>> context, weights, state = variant.step(np.ones((1, 3), np.float32), prepared, variant.start(prepared))
    >>> weights.shape, state.alignment.shape
    ((1, 6), (1, 6))
    """

    name = "mocha"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        chunk: int = 2,
        offset: float = -4.0,
        noise: float = 1.0,
        search: Search = "hard",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(
            query_width=query_width, memory_width=memory_width, width=width, offset=offset, noise=noise, search=search,
            rng=rng, dtype=dtype,
        )  # fmt: skip
        self.chunk = check_size("chunk", chunk)
        self.chunk_align = energy_of(Additive, self, width, rng, bias=True)
