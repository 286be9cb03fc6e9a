"""The learning rate of each step."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from fastattn import _reprs
from fastattn._numbers import check_choice, number_in
from fastattn.errors import ArgumentError, describe

__all__ = ["Constant", "Cosine", "InverseSquareRoot", "OneCycle", "ReduceOnPlateau", "Schedule"]

_RISE, _SPREAD = 0.3, 25.0  # of one cycle: the share of its steps that rise, and the highest rate over the first


class Schedule:
    """Base class of schedules.

    Steps count from 1. `observe` tells a schedule how well the model does, after each validation; `state` is what a
    resumed run must load, numbers that JSON keeps exactly.
    """

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        raise NotImplementedError

    def observe(self, value: float) -> None:
        """Take note of a validation; most schedules do not care."""

    def state(self) -> dict[str, float]:
        """Return what the schedule remembers."""
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Continue from what `state` returned."""
        given: Any = state  # from a file, of any type
        if not isinstance(given, Mapping) or set(given) != set(self.state()):
            expected = f"the keys {sorted(self.state())}"
            raise ArgumentError(describe("state", expected, repr(given), "the state is that of another schedule."))

    __repr__ = _reprs.attributes


class Constant(Schedule):
    """The same rate for every step, after a linear rise over the first `warmup` ones.

    Parameters
    ----------
    rate : float
    warmup : int

    Examples
    --------
    >>> from fastattn.optim import Constant
    >>> [Constant(0.5, warmup=2).rate(step) for step in (1, 2, 3)]
    [0.25, 0.5, 0.5]
    """

    def __init__(self, rate: float, *, warmup: int = 0) -> None:
        _positive("rate", rate)
        _count("warmup", warmup)
        self.highest, self.warmup = float(rate), warmup

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.highest * (step / self.warmup if step < self.warmup else 1.0)


class InverseSquareRoot(Schedule):
    """``rate * min(step / warmup, sqrt(warmup / step))``: a linear rise to `rate`, then a fall with the root.

    Parameters
    ----------
    rate : float
        The highest rate, at step `warmup`. That of Vaswani et al. 2017, equation 3, is ``(width * warmup)**-0.5``.
    warmup : int

    Examples
    --------
    >>> from fastattn.optim import InverseSquareRoot
    >>> [InverseSquareRoot(1.0, warmup=4).rate(step) for step in (1, 4, 16)]
    [0.25, 1.0, 0.5]
    """

    def __init__(self, rate: float, *, warmup: int = 4000) -> None:
        _positive("rate", rate)
        _count("warmup", warmup, least=1)
        self.highest, self.warmup = float(rate), warmup

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.highest * min(step / self.warmup, math.sqrt(self.warmup / max(step, 1)))


class Cosine(Schedule):
    """A linear rise to `rate`, then a fall along half a cosine::

        rate(t) = rate t / warmup                                                              t < warmup
        rate(t) = lowest + (rate - lowest) (1 + cos(pi (t - warmup) / (steps - warmup))) / 2   t <= steps

    and `lowest` from then on.

    Parameters
    ----------
    rate : float
        The highest rate.
    steps : int
        The step that has the lowest rate, the last one of the run as a rule.
    warmup : int
        Steps of the rise, fewer than `steps`.
    lowest : float
        At most `rate`.

    Notes
    -----
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, arXiv:1608.03983,
    equation 5, without restarts.

    Examples
    --------
    >>> from fastattn.optim import Cosine
    >>> [round(Cosine(1.0, steps=10, warmup=2).rate(step), 3) for step in (1, 2, 6, 10, 11)]
    [0.5, 1.0, 0.5, 0.0, 0.0]
    """

    def __init__(self, rate: float, *, steps: int, warmup: int = 0, lowest: float = 0.0) -> None:
        _positive("rate", rate)
        _count("warmup", warmup)
        _count("steps", steps, least=warmup + 1)
        self.highest, self.steps, self.warmup = float(rate), steps, warmup
        self.lowest = number_in("lowest", lowest, "0.0 is usual.", least=0, most=rate)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup:
            return self.highest * step / self.warmup
        return _between(self.highest, self.lowest, (step - self.warmup) / (self.steps - self.warmup))


class OneCycle(Schedule):
    """A rise from ``rate / 25`` to `rate` and a fall to `lowest`, each along half a cosine.

    Parameters
    ----------
    rate : float
        The highest rate, at step `warmup`; several times what a constant one would be.
    steps : int
        The step that has the lowest rate, the last one of the run as a rule.
    warmup : int
        Steps of the rise, fewer than `steps`; 0: 0.3 of them.
    lowest : float
        At most `rate`.

    Notes
    -----
    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018,
    arXiv:1708.07120, section 3; cosines in place of the straight lines there, as is usual now. The decay rates of Adam
    stay as they are.

    Examples
    --------
    >>> from fastattn.optim import OneCycle
    >>> [round(OneCycle(1.0, steps=10).rate(step), 3) for step in (0, 3, 10, 11)]
    [0.04, 1.0, 0.0, 0.0]
    """

    def __init__(self, rate: float, *, steps: int, warmup: int = 0, lowest: float = 0.0) -> None:
        _positive("rate", rate)
        _count("warmup", warmup)
        _count("steps", steps, least=warmup + 1)
        self.highest, self.steps, self.warmup = float(rate), steps, warmup or int(_RISE * steps)
        self.lowest = number_in("lowest", lowest, "0.0 is usual.", least=0, most=rate)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup:
            return _between(self.highest / _SPREAD, self.highest, step / self.warmup)
        return _between(self.highest, self.lowest, (step - self.warmup) / (self.steps - self.warmup))


class ReduceOnPlateau(Schedule):
    """A rate that is multiplied by `factor` whenever `patience` validations in a row brought nothing better.

    Parameters
    ----------
    rate : float
    factor : float in (0, 1)
    patience : int
        Validations that may pass without a better value before the rate falls; 0: the first one that is not better.
    threshold : float
        By how much a value must be better than the best one to count.
    better : "lower" or "higher"
        Which values are better: "lower" for a loss.
    lowest : float
        The rate does not fall below it.
    warmup : int
        Steps of a linear rise at the start.

    Examples
    --------
    >>> from fastattn.optim import ReduceOnPlateau
    >>> schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.5):
    ...     schedule.observe(loss)
    >>> schedule.rate(1)
    0.5
    """

    def __init__(
        self,
        rate: float,
        *,
        factor: float = 0.5,
        patience: int = 2,
        threshold: float = 0.0,
        better: Literal["lower", "higher"] = "lower",
        lowest: float = 0.0,
        warmup: int = 0,
    ) -> None:
        _positive("rate", rate)
        _count("patience", patience)
        _count("warmup", warmup)
        self.highest, self.patience, self.warmup = float(rate), patience, warmup
        self.factor = number_in("factor", factor, "0.5 halves the rate.", above=0, below=1)
        self.threshold = number_in("threshold", threshold, "0.0 is usual.", least=0)
        self.lowest = number_in("lowest", lowest, "0.0 is usual.", least=0)
        hint = 'pass "lower" for a loss, "higher" for an accuracy.'
        self.better = check_choice("better", better, ("lower", "higher"), hint)
        self._sign = 1.0 if better == "lower" else -1.0
        self._best: float = math.inf  # times the sign
        self._waited = 0
        self._reductions = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        reduced = max(self.highest * self.factor**self._reductions, min(self.lowest, self.highest))
        return reduced * (step / self.warmup if step < self.warmup else 1.0)

    def observe(self, value: float) -> None:
        """Take note of a validation; NaN is never better."""
        value = self._sign * float(value)
        if value < self._best - self.threshold or (self._best == math.inf and value < math.inf):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._waited = 0
            self._reductions += 1

    def state(self) -> dict[str, float]:
        """Return what the schedule remembers; without "best" as long as there was no validation."""
        state: dict[str, float] = {"waited": self._waited, "reductions": self._reductions}
        return state if self._best == math.inf else {**state, "best": self._sign * self._best}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Continue from what `state` returned."""
        given: Any = state  # from a file, of any type
        values: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        counts, best = [values.get(name) for name in ("waited", "reductions")], values.get("best", 0.0)
        right = all(isinstance(count, int) and 0 <= count < 2**53 for count in counts)
        right = right and isinstance(best, (int, float)) and not math.isnan(best)
        if set(values) - {"best"} != {"waited", "reductions"} or not right:
            expected, hint = "counts waited and reductions, and perhaps best", "the state is that of another schedule."
            raise ArgumentError(describe("state", expected, dict(values), hint))
        self._waited, self._reductions = int(state["waited"]), int(state["reductions"])
        self._best = self._sign * float(best) if "best" in state else math.inf


def _between(first: float, last: float, part: float) -> float:
    """Return the value of half a cosine from `first` to `last` after a part of it; `last` beyond its end."""
    return last + (first - last) * (1 + math.cos(math.pi * min(part, 1.0))) / 2


def _positive(name: str, number: float) -> float:
    return number_in(name, number, f"check how {name} is computed.", above=0)


def _count(name: str, number: int, least: int = 0) -> None:
    if number_in(name, number, f"{name} counts.", least=least) != int(number):
        raise ArgumentError(describe(name, f"an integer from {least} up", repr(number), f"{name} counts."))
