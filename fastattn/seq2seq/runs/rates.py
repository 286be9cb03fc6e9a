"""Finding a learning rate: a short training in which it rises, and how the loss goes with it."""

import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastattn._numbers import number_in
from fastattn._optional import need
from fastattn._strings import path_name
from fastattn.errors import ArgumentError, FastattnError, describe
from fastattn.optim import Schedule
from fastattn.seq2seq.config import Config, read_config
from fastattn.seq2seq.runs.progress import Progress
from fastattn.seq2seq.runs.running import begin
from fastattn.seq2seq.runs.training import Run
from fastattn.seq2seq.text.corpus import Pairs, prepare_corpus
from fastattn.variants.protocol.checks import check_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RateCurve", "find_rate"]

_KEPT = 0.9  # of the running mean, in a step
_DIVERGED = 4.0  # times the lowest loss: from there on nothing is learnt from going on


@dataclass(frozen=True)
class RateCurve:
    """How the loss goes as the learning rate rises.

    Attributes
    ----------
    rates : tuple of float
        Of the steps.
    losses : tuple of float
        Running means of the loss per target token after each of them, with weights that fall by 0.9 a step.
    suggestion : float
        The rate where the loss falls most steeply with the logarithm of the rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float

    def figure(self) -> "Figure":
        """Return the curve as a figure of matplotlib, with the suggestion marked."""
        need("matplotlib", "viz", "the picture")
        from fastattn.viz.shown import ShownFigure

        figure = ShownFigure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.suggestion, linestyle="--", color="gray", label=f"suggestion {self.suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss per target token")
        axes.legend()
        return figure


def find_rate(
    config: Config | str | os.PathLike[str],
    *,
    pairs: Pairs | None = None,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    init_from: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> RateCurve:
    """Train for some steps with a rate that rises from one to the next, and look where the loss falls most steeply.

    ::

        rate(t) = lowest (highest / lowest)^((t - 1) / (steps - 1))

    Parameters
    ----------
    config : Config or path
        As for `train`: the model, also one to begin with (``training.init_from``), and the data. Its rate, schedule and
        averages are not used.
    pairs : iterable of (source, target), optional
        As for `train`.
    lowest, highest : float
    steps : int
        From 10 up; it ends earlier where the loss is 4 times its lowest value, or not finite.
    init_from : path, optional
        In place of ``training.init_from``: a trained model to begin with.
    quiet : bool
        Show no progress on stderr.

    Returns
    -------
    RateCurve

    Notes
    -----
    Nothing is written, and no model is changed: what is trained is a model of its own, which is then forgotten. Smith,
    "Cyclical Learning Rates for Training Neural Networks", WACV 2017, arXiv:1506.01186, section 3.3, with rates that
    rise by a factor as is usual now. A rate somewhat below the suggestion is safe for a constant one, the suggestion
    or several times of it is the highest one of a schedule.

    Examples
    --------
    >>> from fastattn.seq2seq import BahdanauConfig, Config, find_rate
    >>> config = Config(model=BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8))
    >>> curve = find_rate(config, pairs=[("a b", "b a"), ("b", "b")], steps=20, quiet=True)
    >>> 1e-6 <= curve.suggestion <= 1 and len(curve.rates) <= 20
    True
    """
    lowest = number_in("lowest", lowest, "1e-6 is usual.", above=0)
    highest = number_in("highest", highest, "1.0 is usual.", above=lowest)
    steps = check_size("steps", steps, least=10)
    if not isinstance(config, Config):
        config = read_config(config)
    if pairs is None and not config.data.train:
        raise ArgumentError(describe("config", "data.train", "none", "name a file there, or give pairs."))
    # Without what needs validation data, or has no part in a step.
    training = replace(config.training, schedule="constant", warmup=0, schedule_steps=0, lowest=0.0, average=0.0,
                       patience=0, metric="loss", validate_every=0)  # fmt: skip
    if init_from is not None:
        training = replace(training, init_from=path_name("init_from", init_from))
    config = replace(config, training=training, data=replace(config.data, validation="", validation_target=""))
    corpus = prepare_corpus(config, pairs)
    model, _, _ = begin(config, (corpus.source_vocabulary, corpus.target_vocabulary))
    run = Run(model, corpus, config, Path(), lambda run, best: None)
    run.schedule = _Rising(lowest, (highest / lowest) ** (1 / (steps - 1)))
    progress = Progress(quiet=quiet)
    progress.begin(0, steps)
    rates, losses, mean = list[float](), list[float](), 0.0
    try:
        for _, rate in itertools.islice(run.steps(), steps):
            position = run.position
            loss, position.loss, position.tokens = position.loss / position.tokens, 0.0, 0
            progress.advance(loss)
            mean = _KEPT * mean + (1 - _KEPT) * loss
            losses.append(mean / (1 - _KEPT**position.step))
            rates.append(rate)
            if losses[-1] > _DIVERGED * min(losses):
                break
    except FastattnError:  # it has diverged
        if len(rates) < 3:
            raise
    finally:
        progress.close()
    begun = len(rates) // 10  # the first means are of few steps
    slopes = np.gradient(np.array(losses), np.log(rates))[begun:]
    return RateCurve(tuple(rates), tuple(losses), rates[begun + int(slopes.argmin())])


class _Rising(Schedule):
    """A rate that rises by a factor from step to step."""

    def __init__(self, lowest: float, factor: float) -> None:
        self._lowest, self._factor = lowest, factor

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self._lowest * self._factor ** (step - 1)
