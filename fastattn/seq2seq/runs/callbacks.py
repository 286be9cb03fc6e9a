"""What a run tells those who want to know, step by step; and TensorBoard, which is told."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from fastattn._optional import need
from fastattn._strings import items, path_name
from fastattn.errors import DTypeError, describe
from fastattn.seq2seq.models.model import Model

__all__ = ["Callback", "Event", "TensorBoard", "check_callbacks"]


Kind = Literal["begin", "step", "log", "validation", "checkpoint", "end"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes
    ----------
    kind : {"begin", "step", "log", "validation", "checkpoint", "end"}
        "begin": before the first step of this call of `train`, a resumed one too; "step": after each step, with
        `gradient_norm` and `rate`; "log" and "validation": a line of the log, with its figures; "checkpoint": one was
        written, with `best`; "end": after the last step, with the `reason` of `Outcome`, or "stopped" after a signal,
        or "failed" where an exception ends the run.
    step, epoch : int
        Steps taken, and epochs completed.
    folder : Path
        Of the run.
    model : Model
        For looking at, not for changing: with the values of the last step, while `training.average` is not 0 too.
    values : mapping of str to object
        The figures.
    """

    kind: Kind
    step: int
    epoch: int
    folder: Path
    model: Model
    values: Mapping[str, Any] = field(default_factory=dict)


class Callback(Protocol):
    """A function that is called with each event of a run, and returns whether the run is to end; None: no."""

    def __call__(self, event: Event, /) -> object:
        """Be told."""


def check_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return callbacks as a list, or raise."""
    hint = "pass a list of functions of an Event."
    found = list(items("callbacks", "functions", callbacks, hint))
    for callback in found:
        if not callable(callback):
            raise DTypeError(describe("callbacks", "functions", type(callback).__name__, hint))
    return found  # type: ignore[return-value]


class TensorBoard:
    """A callback that writes the figures of the log for TensorBoard, as scalars by their names.

    Parameters
    ----------
    folder : path, optional
        By default ``tensorboard`` in the folder of the run.

    Notes
    -----
    By the package tensorboardX. A resumed run goes on in the same folder; figures of steps that it repeats hide those
    that were written before.

    Examples
    --------
    >>> import tempfile
    >>> from fastattn.seq2seq import BahdanauConfig, Config, TensorBoard, TrainingConfig, train
    >>> model = BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8)
    >>> config = Config(model=model, training=TrainingConfig(epochs=3, log_every=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outcome = train(config, folder, pairs=[("a b", "b a")], quiet=True, callbacks=[TensorBoard()])
    >>> outcome.steps
    3
    """

    def __init__(self, folder: Any = None) -> None:
        self.folder = None if folder is None else Path(path_name("folder", folder))
        need("tensorboardX", "tensorboard", "TensorBoard")  # now, not when the data have been read
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Write what happened."""
        if event.kind == "begin":
            folder = self.folder or event.folder / "tensorboard"
            writer = need("tensorboardX", "tensorboard", "TensorBoard").SummaryWriter
            # A file of its own, also of a run that is resumed in the same second, which is all that names have of time.
            self._writer = writer(str(folder), purge_step=event.step + 1, filename_suffix=f".{time.time_ns()}")
        elif self._writer is not None and event.kind in ("log", "validation"):
            for name, value in event.values.items():
                if not isinstance(value, bool):
                    self._writer.add_scalar(name, value, event.step)
        elif self._writer is not None and event.kind == "end":
            self._writer.close()
            self._writer = None
