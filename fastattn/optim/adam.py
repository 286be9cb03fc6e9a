"""Adam and AdamW."""

import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array, as_array
from fastattn._kernels import core
from fastattn._numbers import number_in
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.layers import Parameter

__all__ = ["Adam", "AdamW"]


class Adam:
    """Adam, with decay decoupled from the gradient if any.

    A step t with gradient g, after scaling::

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        value = (1 - rate decay) value - rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)

    Parameters
    ----------
    parameters : dict of Parameter
        By name, as `Layer.parameters` gives them.
    rate : float
        Learning rate of steps that do not name another.
    betas : pair of float in [0, 1)
    epsilon : float
    decay : float
        0 is Adam. It acts on all parameters alike; make two optimizers to leave some out.

    Notes
    -----
    Kingma and Ba 2015, algorithm 1; decoupled decay: Loshchilov and Hutter 2019, algorithm 2, where the decay is
    multiplied by the learning rate, as is usual now. m and v take twice the memory of the values; below the smallest
    normal number they become 0, and a finite g beyond 2^63 (2^511 in float64) counts as that: its square is beyond the
    type. A step reads and writes each of the four arrays once.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Parameter
    >>> from fastattn.optim import Adam
    >>> w = Parameter(np.ones(3))
    >>> optimizer = Adam({"w": w}, rate=0.1)
    >>> w.accumulate(np.array([1.0, -5.0, 0.0]))
    >>> optimizer.step()
    >>> w.value.round(3), w.gradient
    (array([0.9, 1.1, 1. ]), array([0., 0., 0.]))
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        decay: float = 0.0,
    ) -> None:
        hint = "0.9 and 0.999 are usual."
        both: Any = betas
        if not isinstance(both, (tuple, list)) or len(both) != 2:
            raise ArgumentError(describe("betas", "a pair of numbers", reprlib.repr(both), hint))
        first, second = (number_in(f"betas[{i}]", beta, hint, least=0, below=1) for i, beta in enumerate(both))
        rate, epsilon, decay = _checked("rate", rate), _checked("epsilon", epsilon), _checked("decay", decay)
        self._parameters = dict(parameters)
        # Squares of smaller gradients are 0, whose root would leave the step to epsilon alone.
        least = max((math.sqrt(np.finfo(p.value.dtype).tiny) for p in self._parameters.values()), default=0.0)
        if epsilon < least:
            raise ArgumentError(describe("epsilon", f"at least {least:.2g}", epsilon, "1e-8 is usual."))
        self.rate, self.epsilon, self.decay, self.betas = rate, epsilon, decay, (first, second)
        self.steps = 0
        self._m = {name: core.lasting(p._array.shape, p._array.dtype) for name, p in self._parameters.items()}
        self._v = {name: core.lasting(p._array.shape, p._array.dtype) for name, p in self._parameters.items()}

    @property
    def parameters(self) -> dict[str, Parameter]:
        """By name; another dict each time, since an optimizer keeps to its parameters."""
        return dict(self._parameters)

    def step(self, scale: float = 1.0, rate: float | None = None) -> None:
        """Take one step with the gradients times scale, and set them to zero.

        Parameters
        ----------
        scale : float
            Clipping is ``scale=clip_scale(global_norm(parameters), limit)``.
        rate : float, optional
            Learning rate of this step, for example of a schedule.
        """
        scale = _checked("scale", scale)
        rate = self.rate if rate is None else rate
        rate = _checked("rate", rate)
        self.steps += 1
        beta1, beta2 = self.betas
        size, spread = rate / (1 - beta1**self.steps), 1 / math.sqrt(1 - beta2**self.steps)
        for name, p in self._parameters.items():
            # Parts that products read are made while the value is in the caches, instead of from memory afterwards.
            parts = p._parts()
            forms = {"turned" if turned else "parts": memory for (turned, _), memory in parts.items()}
            later = p._clears_later()
            fits = core.adam(p._changing(), p._gradient, self._m[name], self._v[name], scale, beta1, beta2, size,
                             spread, self.epsilon, 1 - rate * self.decay, not later, **forms)  # fmt: skip
            p._cleared = later
            if parts:
                p._keep_parts({(turned, count): fits[turned] for turned, count in parts})

    def state(self) -> dict[str, Array]:
        """Return copies of all that the next step depends on but the parameters: "steps", "m.<name>", "v.<name>"."""
        moments = {f"m.{name}": m.copy() for name, m in self._m.items()}
        moments.update({f"v.{name}": v.copy() for name, v in self._v.items()})
        return {"steps": np.array(self.steps, np.int64), **moments}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from what `state` returned; nothing changes if names, shapes or dtypes do not fit."""
        own = {**{f"m.{name}": m for name, m in self._m.items()}, **{f"v.{name}": v for name, v in self._v.items()}}
        wanted = {"steps", *own}
        if set(state) != wanted:
            missing, extra = sorted(wanted - set(state)), sorted(set(state) - wanted)
            got = f"{len(missing)} missing {missing[:3]}, {len(extra)} unknown {extra[:3]}"
            hint = "it must come from an optimizer of the same parameters."
            raise ArgumentError(describe("state", f"{len(wanted)} arrays", got, hint))
        given = {name: as_array(name, array) for name, array in state.items()}
        for name, array in own.items():
            if given[name].shape != array.shape or given[name].dtype != array.dtype:
                expected, got = (f"{a.dtype} of shape {a.shape}" for a in (array, given[name]))
                raise ShapeError(describe(name, expected, got, "the parameters have another shape or dtype."))
        if given["steps"].shape != () or given["steps"].dtype.kind not in "iu" or given["steps"] < 0:
            raise ArgumentError(describe("steps", "a number of steps", given["steps"], "load what state() returned."))
        for name, array in own.items():
            array[...] = given[name]
        self.steps = int(given["steps"])

    def __repr__(self) -> str:
        shapes = _reprs.shapes(self._parameters)
        return _reprs.words(self, shapes, rate=self.rate, betas=self.betas, decay=self.decay, steps=self.steps)


class AdamW(Adam):
    """Adam with decoupled decay, 0.01 unless another is given; see `Adam`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Parameter
    >>> from fastattn.optim import AdamW
    >>> w = Parameter(np.ones(1))
    >>> AdamW({"w": w}, rate=0.1, decay=0.5).step()
    >>> w.value
    array([0.95])
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, rate=rate, betas=betas, epsilon=epsilon, decay=decay)


def _checked(name: str, number: float) -> float:
    return number_in(name, number, f"check how {name} is computed.", least=0)
