"""Averages of parameters over the steps of training."""

from collections.abc import Mapping

from fastattn import _reprs
from fastattn._numbers import number_in
from fastattn.layers import Parameter

__all__ = ["WeightAverage"]

_BLOCK = 1 << 14  # elements taken at a time, so that a pass over memory serves all three operations


class WeightAverage:
    """Exponential moving averages of parameters, which do better on new data than the last values.

    After step t::

        average = average + (1 - d) (value - average),   d = min(decay, (1 + t) / (10 + t))

    Parameters
    ----------
    parameters : dict of Parameter
        By name, as `Layer.parameters` gives them.
    decay : float in [0, 1)
        About 1 / (1 - decay) steps are averaged; fewer at the beginning, where the values are far from their end.

    Attributes
    ----------
    values : dict of array
        The averages by name.

    Notes
    -----
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 30 (1992);
    with exponential weights it stands in for a learning rate that falls. An update reads the values and the averages
    and writes the averages once.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Parameter
    >>> from fastattn.optim import WeightAverage
    >>> w = Parameter(np.zeros(2))
    >>> average = WeightAverage({"w": w}, 0.5)
    >>> w.assign(np.full(2, 4.0))
    >>> average.update(100)
    >>> average.values["w"], w.value
    (array([2., 2.]), array([4., 4.]))
    """

    def __init__(self, parameters: Mapping[str, Parameter], decay: float) -> None:
        self.decay = number_in("decay", decay, "0.999 averages about 1000 steps.", least=0, below=1)
        self._parameters = dict(parameters)
        self.values = {name: p.value.copy() for name, p in self._parameters.items()}

    @property
    def parameters(self) -> dict[str, Parameter]:
        """By name; another dict each time."""
        return dict(self._parameters)

    def update(self, step: int) -> None:
        """Take in the values after step `step`, counted from 1."""
        part = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, p in self._parameters.items():
            average, value = self.values[name].reshape(-1), p.value.reshape(-1)
            for first in range(0, average.size, _BLOCK):
                change = value[first : first + _BLOCK] - average[first : first + _BLOCK]
                change *= part
                average[first : first + _BLOCK] += change

    def exchange(self) -> None:
        """Let the parameters hold the averages and `values` what they held; a second call undoes the first."""
        for name, p in self._parameters.items():
            kept = p.value.copy()
            p.assign(self.values[name])
            self.values[name] = kept

    def __repr__(self) -> str:
        return _reprs.words(self, _reprs.shapes(self._parameters), decay=self.decay)
