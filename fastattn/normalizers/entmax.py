"""alpha-entmax with a gradient of alpha."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fastattn import _reprs, linear
from fastattn._arrays import entmax_alpha, frozen
from fastattn.errors import ShapeError, describe
from fastattn.normalizers.base import Array, KernelNormalizer, Normalizer

__all__ = ["Entmax"]


@dataclass(frozen=True, eq=False)
class Entmax(Normalizer):
    """A family of weights from softmax (alpha = 1) to sparsemax (alpha = 2); alpha may be learned.

    ::

        p_j = [(alpha - 1) z_j - t]+ ^(1 / (alpha - 1))
        d_z = s (d_p - sum_k s_k d_p_k / sum_k s_k),   s_j = p_j ^(2 - alpha) where p_j > 0, else 0
        d_alpha = sum_j d_p_j [(p_j - q_j) / (alpha - 1)^2 + (h_j - q_j sum_k h_k) / (alpha - 1)]
                  with q = s / sum s,  h_j = -p_j log p_j

    Parameters
    ----------
    alpha : float or array of shape (H,)
        In [1, 2]; an array has one for each query head of 4-D arrays.

    Attributes
    ----------
    parameters : dict
        ``{"alpha": array}``; its gradient is ``Gradients.normalizer["alpha"]``, of alpha's shape and dtype.

    Notes
    -----
    1.5 and 2 are computed by the exact methods of `Entmax15` and `Sparsemax`; others by Newton's method to the last
    bits of float64, a logarithm and an exponential for each key within 1 / (alpha - 1) of the row's largest score and
    each of 3 to 9 rounds: many times slower. The gradient is computed in a form that does not cancel as alpha
    goes to 1.

    References
    ----------
    Peters, Niculae, Martins 2019 (arXiv:1905.05702), eq. 3 and prop. 2; the gradient of alpha: Correia, Niculae,
    Martins 2019 (arXiv:1909.00015), prop. 1, where each head learns its own.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, kv = np.array([[1.0]]), np.array([[0.5], [0.0], [-0.6]])
    >>> adaptive = fastattn.normalizers.Entmax(alpha=1.25)
    >>> context, backward = fastattn.attention_vjp(q, kv, kv, normalizer=adaptive)
    >>> print(np.round(backward(np.ones_like(context)).normalizer["alpha"], 6))
    0.251011
    """

    name: ClassVar[str] = "entmax"
    alpha: float | Array = 1.5
    _kernel: KernelNormalizer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check alpha and keep a copy of it that nobody changes."""
        given = entmax_alpha(self.alpha)
        if given.ndim > 1:
            hint = "give one alpha, or one for each query head."
            raise ShapeError(describe("alpha", "a number, or shape (H,)", f"shape {given.shape}", hint))
        object.__setattr__(self, "alpha", given)
        object.__setattr__(self, "_kernel", KernelNormalizer(frozen(given.astype(np.float64))))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.alpha,)  # checked and frozen again

    @property
    def parameters(self) -> dict[str, Array]:
        """``{"alpha": array}``."""
        return {"alpha": np.asarray(self.alpha)}

    def kernel(self, query_shape: tuple[int, ...]) -> KernelNormalizer:
        """Return alpha-entmax; raise a `ShapeError` if the number of alphas is not that of query's heads."""
        heads, shape = query_shape[1] if len(query_shape) == 4 else 1, np.shape(self.alpha)
        if shape not in ((), (heads,)):
            expected = f"shape ({heads},), one for each head of query"
            hint = "give one for each head, or one for all."
            raise ShapeError(describe("alpha", expected, f"shape {shape}", hint))
        return self._kernel

    def reduce(self, d_alpha: Array) -> dict[str, Array]:
        """Return the gradient of alpha, rows summed in one order."""
        alpha = np.asarray(self.alpha)
        by_head = d_alpha.transpose(0, 2, 1) if alpha.ndim else d_alpha.reshape(-1, 1)
        sums = linear.row_sum(np.ascontiguousarray(by_head))
        return {"alpha": sums.reshape(alpha.shape).astype(alpha.dtype)}

    __repr__ = _reprs.fields
