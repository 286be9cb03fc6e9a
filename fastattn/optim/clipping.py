"""The norm of all gradients, and clipping by it."""

import math
from collections.abc import Mapping

import numpy as np

from fastattn._kernels import core
from fastattn._numbers import number_in
from fastattn.layers import Parameter

__all__ = ["clip_scale", "global_norm"]


def global_norm(parameters: Mapping[str, Parameter]) -> float:
    """Return the square root of the sum of the squares of all elements of all gradients.

    Parameters
    ----------
    parameters : dict of Parameter

    Returns
    -------
    float
        Summed in float64 in blocks of fixed size, in order: the same bits for any number of threads. NaN or infinite
        if a gradient is.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Parameter
    >>> from fastattn.optim import clip_scale, global_norm
    >>> w = Parameter(np.zeros(2))
    >>> w.accumulate(np.array([3.0, 4.0]))
    >>> global_norm({"w": w}), clip_scale(global_norm({"w": w}), 1.0)
    (5.0, 0.2)
    """
    total = 0.0
    for parameter in parameters.values():
        total = core.square_sum(parameter._gradient, total)
    if 1e-280 < total < math.inf:
        return math.sqrt(total)
    # Squares of float64 may overflow or vanish: those of the gradients over the largest element do not.
    gradients = [parameter._gradient for parameter in parameters.values()]
    largest = max((float(np.abs(g).max(initial=0)) for g in gradients), default=0.0)
    if not 0 < largest < math.inf:
        return math.sqrt(total)
    total = 0.0
    for gradient in gradients:
        total = core.square_sum(gradient / largest, total)
    return largest * math.sqrt(total)


def clip_scale(norm: float, limit: float) -> float:
    """Return ``min(1, limit / norm)``, what gradients of this norm are multiplied by so that it is at most limit.

    Parameters
    ----------
    norm : float
        An infinite norm or NaN is an error: the gradients are of no use.
    limit : float
        Above 0.

    Returns
    -------
    float

    Notes
    -----
    Pascanu, Mikolov, Bengio 2013, algorithm 1.
    """
    limit = number_in("limit", limit, "pass math.inf for no limit.", above=0, most=math.inf)
    hint = "a gradient overflowed or is NaN: lower the learning rate, or look for bad input."
    norm = number_in("norm", norm, hint, least=0)
    return 1.0 if norm <= limit else limit / norm
