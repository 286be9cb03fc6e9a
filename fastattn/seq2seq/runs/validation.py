"""How well a model does on pairs that it was not trained on, and whether that is better than before.

In the precision of those who use the model and ask for nothing, whatever it is trained in: figures of runs compare.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn.precision import float32_precision
from fastattn.seq2seq.config import Config
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.runs.processes import Processes
from fastattn.seq2seq.schema import from_table, setting
from fastattn.seq2seq.search.evaluation import HIGHER_IS_BETTER, evaluate
from fastattn.seq2seq.text.batches import Batches, group
from fastattn.seq2seq.text.corpus import Corpus
from fastattn.seq2seq.translate import Translator

__all__ = ["Best", "mean_loss", "translation_metric"]


@float32_precision("highest")
def mean_loss(
    model: Model, batches: Batches, stop: Callable[[], bool] = lambda: False, processes: Processes | None = None
) -> float | None:
    """Return minus the mean log-probability of the target tokens; its exponential is the perplexity.

    Parameters
    ----------
    model : Model
    batches : Batches
        Its epoch 0 is read.
    stop : callable
        Asked after every batch; None is returned when it says True, in any of the processes.
    processes : Processes, optional
        Those that share the batches: each computes some, and all add up the losses of all in the same order.
    """
    together = processes or Processes()
    found = np.zeros((batches.count(0), 2))
    stopped = False
    for number, batch in enumerate(batches.epoch(0)):
        if number % together.size == together.rank:
            found[number] = model.loss(batch)
            if stopped := stop():
                break
    if together.largest(stopped):
        return None
    gathered = [array.reshape(found.shape) for array in together.all_gather(found.reshape(-1))]
    total, tokens = 0.0, 0
    for number in range(len(found)):
        loss, count = gathered[number % together.size][number].tolist()
        total, tokens = total + loss, tokens + int(count)
    return total / tokens if tokens else math.nan


@dataclasses.dataclass
class Best:
    """The best validation so far, and how many have passed since.

    Attributes
    ----------
    value : float or None
        None before the first validation.
    step : int
    waited : int
        Validations since then.

    Examples
    --------
    >>> from fastattn.seq2seq.runs.validation import Best
    >>> best = Best()
    >>> [best.observe(value, step, "loss") for step, value in enumerate([3.0, 2.0, 2.5, float("nan")])]
    [True, True, False, False]
    >>> best
    Best(value=2.0, step=1, waited=2)
    """

    value: float | None = None
    step: int = setting(0, least=0)
    waited: int = setting(0, least=0)

    def observe(self, value: float, step: int, metric: str) -> bool:
        """Take note of a validation; return whether it is the best one. NaN never is."""
        before = self.value
        better = before is None or (value > before if HIGHER_IS_BETTER[metric] else value < before)
        if better and not math.isnan(value):
            self.value, self.step, self.waited = value, step, 0
            return True
        self.waited += 1
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: object) -> "Best":
        """Return what `to_dict` was called on; a ConfigError if it was not."""
        return from_table(cls, fields, "best")


@float32_precision("highest")
def translation_metric(
    model: Model,
    corpus: Corpus,
    config: Config,
    stop: Callable[[], bool] = lambda: False,
    processes: Processes | None = None,
) -> float | None:
    """Return the configured metric of the greedy translations of the validation sources.

    Parameters
    ----------
    model : Model
    corpus : Corpus
    config : Config
    stop : callable
        Asked after every batch; None is returned when it says True, in any of the processes.
    processes : Processes, optional
        Those that share the sources: each translates some.
    """
    together = processes or Processes()
    assert corpus.validation is not None and corpus.validation_text is not None
    name, text = config.training.metric, corpus.validation_text
    translator = Translator(model, corpus.source_vocabulary, corpus.target_vocabulary, config)
    outputs = [""] * len(text.sources)
    lengths = np.array([len(ids) for ids in corpus.validation.source], np.int64)
    groups, stopped = group(lengths, max(translator.tokens_per_batch, int(lengths.max()))), False
    for rows in groups[together.rank :: together.size]:
        for row, output in zip(rows.tolist(), translator.translate([text.sources[row] for row in rows], beam=1)):
            outputs[row] = output
        if stopped := stop():
            break
    if together.largest(stopped):
        return None
    for number, found in enumerate(together.exchange(outputs) if together.size > 1 else ()):
        for rows in groups[number :: together.size]:
            for row in rows:
                outputs[row] = found[row]
    return evaluate(outputs, [[target] for target in text.targets], corpus.target_vocabulary, [name])[name].value
