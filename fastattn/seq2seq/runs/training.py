"""Training: the loop over batches, whose state between two steps is arrays and integers and nothing else."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastattn import _allocator, _cards
from fastattn.errors import CheckpointError, ConfigError, FastattnError, describe_file, problem_of
from fastattn.optim import (
    Adam,
    Constant,
    Cosine,
    InverseSquareRoot,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    WeightAverage,
    clip_scale,
    global_norm,
)
from fastattn.precision import Precision, float32_precision
from fastattn.seq2seq.config import Config, TrainingConfig
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.runs.callbacks import Callback, Event, Kind
from fastattn.seq2seq.runs.processes import Processes
from fastattn.seq2seq.runs.progress import Progress
from fastattn.seq2seq.runs.runlog import RunLog, read_log
from fastattn.seq2seq.runs.shards import ShardedGradients, part
from fastattn.seq2seq.runs.signals import Stop, Stopped, stop_requests
from fastattn.seq2seq.runs.tensors import check_finite, not_finite, restore
from fastattn.seq2seq.runs.validation import Best, mean_loss, translation_metric
from fastattn.seq2seq.schema import as_table, from_table, setting
from fastattn.seq2seq.search.evaluation import HIGHER_IS_BETTER
from fastattn.seq2seq.text.batches import Batch, sample_seeds
from fastattn.seq2seq.text.corpus import Corpus

__all__ = ["Outcome", "Position", "Run", "make_schedule"]

# Of the products of a step, by the setting. The precision of the process, which no checkpoint records, is not asked.
_PRECISIONS: Mapping[str, Precision] = {"float32": "batched", "bfloat16": "medium"}


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    folder : Path
    steps, epochs : int
        Steps taken, and epochs completed.
    reason : str
        Why it ended: "epochs", "max_steps", "patience", or "callback" if one of them ended it.
    metric : str
    best : float or None
        The best value of the metric on the validation data.
    best_step : int
    """

    folder: Path
    steps: int
    epochs: int
    reason: str
    metric: str
    best: float | None
    best_step: int

    def _repr_html_(self) -> str:
        """A card with the losses of the run's log, if that is still there."""
        facts: dict[str, object] = {"steps": self.steps, "epochs": self.epochs, "ended by": self.reason}
        if self.best is not None:
            facts[f"best {self.metric}"] = f"{self.best:.4f} at step {self.best_step}"
        try:
            lines = read_log(self.folder / "log.jsonl")
        except OSError:
            lines = []
        names = {"loss": "training loss", "validation_loss": "validation loss"}
        losses = {names[key]: [(line["step"], line[key]) for line in lines if key in line] for key in names}
        return _cards.card("A model was trained", _cards.rows({**facts, "model": self.folder}), _cards.curves(losses))


@dataclass
class Position:
    """Where a run stands between two steps.

    Attributes
    ----------
    step : int
        Steps taken.
    epoch, batch : int
        The next batch: its epoch, and its number there.
    validated : int
        The step of the last validation, -1 before the first.
    loss, tokens : float, int
        Sums since the last line of the log.
    """

    step: int = setting(0, least=0)
    epoch: int = setting(0, least=0)
    batch: int = setting(0, least=0)
    validated: int = setting(-1, least=-1)
    loss: float = 0.0
    tokens: int = setting(0, least=0)


class Run:
    """A model in training.

    Parameters
    ----------
    model : Model
    corpus : Corpus
    config : Config
    folder : Path
        Where the log is; its checkpoints are the business of `save`.
    save : callable
        ``save(run, best)`` writes a checkpoint, `best` if the last validation was the best one.
    notes : mapping, optional
        For the log: where the run begins, or what a resumed one changes in the settings of the steps.
    callbacks : sequence of callable
    processes : Processes, optional
        Those that train the model together, each in a `Run` of its own. All take the same steps, and hold the same
        parameters and moments; the first one alone writes, and calls the callbacks.

    Attributes
    ----------
    final : Best or None
        What the validation at the end came to, where the end is no turn of `validate_every`. It counts for what is
        the best checkpoint, and is forgotten when the run is extended, which then has the bits of one that was as
        long from the beginning.

    Notes
    -----
    Between two steps the state of a run is the model's parameters, the optimizer's moments, and the integers and
    floats of `state`; the order of samples and every dropout mask are functions of (seed, epoch, sample). So a run
    that continues from a checkpoint computes the same bits as one that never stopped.
    """

    def __init__(
        self,
        model: Model,
        corpus: Corpus,
        config: Config,
        folder: Path,
        save: Callable[["Run", bool], None],
        notes: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        processes: Processes | None = None,
    ) -> None:
        settings = config.training
        self.model, self.corpus, self.config, self.folder, self.notes = model, corpus, config, folder, notes
        self.position, self.best = Position(), Best()
        self.final: Best | None = None
        self.parameters = model.parameters()
        self.schedule = make_schedule(settings)
        self.optimizer = Adam(self.parameters, rate=settings.rate, betas=settings.betas, epsilon=settings.epsilon,
                              decay=settings.decay)  # fmt: skip
        self.average = WeightAverage(self.parameters, settings.average) if settings.average else None
        self.processes = processes or Processes()
        self._precision = _PRECISIONS[settings.precision]
        self._gradients = ShardedGradients(self.parameters, settings.shards, self.processes)
        self._save, self._saved = save, (0, -1, False)
        self._callbacks, self._ended = callbacks, False
        self._last: Sequence[Batch] = ()  # of the last step, what this process has computed
        self._timed: list[float] = [0, 0.0]  # target tokens and seconds since the last line of the log

    def weights(self) -> dict[str, Any]:
        """Return what is validated and used: the parameters' values by name, or their averages."""
        return self.average.values if self.average else {name: p.value for name, p in self.parameters.items()}

    def arrays(self) -> dict[str, Any]:
        """Return the arrays besides `weights` that the next step depends on."""
        arrays: dict[str, Any] = self.optimizer.state()
        if self.average is not None:
            arrays.update({f"value.{name}": p.value for name, p in self.parameters.items()})
        return arrays

    def digest(self) -> str:
        """Return the SHA-256 of all arrays that the next step depends on; with one process there is nothing to compare,
        and it is ""."""
        if self.processes.size == 1:
            return ""
        digest = hashlib.sha256()
        for _, array in sorted({**self.weights(), **self.arrays()}.items()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """Return all of the state that is not in arrays, for JSON."""
        return {
            "position": dataclasses.asdict(self.position),
            "best": self.best.to_dict(),
            "final": None if self.final is None else self.final.to_dict(),
            "schedule": dict(self.schedule.state()),
            "data": self.corpus.digest,
        }

    def load_state(self, state: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Continue from what `state` and `arrays` returned, in a run of a model that holds what `weights` returned.

        Raises
        ------
        ConfigError
            If the data are not those that the run began with.
        """
        if state.get("data") != self.corpus.digest:
            problem = "the data are not those that the run began with"
            hint = "restore the files and the [vocabulary] section, or train in a new folder."
            raise ConfigError(describe_file(self.folder, problem, hint))
        check_finite(arrays, self.folder)
        try:
            self._load_numbers(state)
            if self.average is not None:
                values = {name[len("value.") :]: array for name, array in arrays.items() if name.startswith("value.")}
                restore(self.parameters, values, self.folder)
                arrays = {name: array for name, array in arrays.items() if not name.startswith("value.")}
            self.optimizer.load_state(arrays)
        except (FastattnError, KeyError, TypeError) as error:
            problem = f"is no state of this run: {problem_of(error)}"
            hint = "use another checkpoint, or train in a new folder."
            raise CheckpointError(describe_file(self.folder, problem, hint)) from None
        self._saved = self._mark()

    def _load_numbers(self, state: Mapping[str, Any]) -> None:
        self.position = position = from_table(Position, state["position"], "position")
        self.best = Best.from_dict(state["best"])
        self.schedule.load_state(as_table(state["schedule"], "schedule"))
        count = self.corpus.train.count(position.epoch)
        if position.batch >= count:
            raise CheckpointError(f"position: batch {position.batch} of an epoch of {count}")
        if self.finished() and state.get("final") is not None:
            self.final = Best.from_dict(state["final"])

    def finished(self) -> str:
        """Return why the run is over, "" if it is not."""
        settings, position = self.config.training, self.position
        if settings.max_steps and position.step >= settings.max_steps:
            return "max_steps"
        if settings.epochs and position.epoch >= settings.epochs:
            return "epochs"
        if settings.patience and self.best.waited >= settings.patience:
            return "patience"
        return "callback" if self._ended else ""

    def run(self, progress: Progress) -> Outcome:
        """Train until the end.

        Raises
        ------
        Stopped
            After SIGINT or SIGTERM, when a checkpoint of the present state has been written.
        FastattnError
            If the run has diverged: a loss, a gradient or a parameter is infinite or NaN.
        """
        path = None if self.processes.rank else self.folder / "log.jsonl"
        log = RunLog(path, self.position.step, finished=bool(self.finished()))
        try:
            if self.notes:
                log.write_once(step=self.position.step, epoch=self.position.epoch, **self.notes)
            reason = "failed"
            self._tell("begin")
            try:
                with stop_requests() as stop:
                    self._loop(log, progress, stop)
                reason = self.finished()
            except Stopped:
                reason = "stopped"
                raise
            finally:
                self._tell("end", reason=reason)
        finally:
            log.close()
            progress.close()
            _allocator.release()
        position, best = self.position, self.final or self.best
        name = self.config.training.metric
        return Outcome(self.folder, position.step, position.epoch, self.finished(), name, best.value, best.step)

    def _loop(self, log: RunLog, progress: Progress, stop: Stop) -> None:
        settings, steps = self.config.training, self.steps()
        while True:
            is_best = self._must_validate() and self._validate(log, progress, stop)
            number = self.processes.largest(stop.number)  # all stop after the same step
            if is_best or (not number and self._due(settings.checkpoint_every, self._saved[0])):
                self._checkpoint(is_best)
            reason = self.finished()
            if number or reason:
                if self._saved != self._mark():
                    self._checkpoint(False)
                if reason and not self._must_validate():
                    return
                text = f"stopped after step {self.position.step}, which is saved in {self.folder}; go on with --resume"
                raise Stopped(number, text)
            norm, rate = next(steps)
            progress.advance(self.position.loss / self.position.tokens)
            self._tell("step", gradient_norm=norm, rate=rate)
            if self.position.step % settings.log_every == 0:
                self._log(log, progress, norm, rate)

    def _tell(self, kind: Kind, **values: Any) -> None:
        """Call all callbacks; the run ends if one of them says so."""
        position = self.position
        event = Event(kind, position.step, position.epoch, self.folder, self.model, values)
        for callback in self._callbacks if self.processes.rank == 0 else ():
            self._ended |= bool(callback(event))
        if self._callbacks and kind != "end":  # at which there may be no others any more
            self._ended = bool(self.processes.largest(self._ended))

    def steps(self) -> Iterator[tuple[float, float]]:
        """Take a step for each item: its gradient's norm before clipping, and its rate."""
        position, batches, accumulate = self.position, self.corpus.train, self.config.training.accumulate
        while True:
            count, group = batches.count(position.epoch), list[Batch]()
            for batch in batches.epoch(position.epoch, position.batch):
                group.append(batch)
                last = position.batch + len(group) == count
                if len(group) == accumulate or last:
                    figures = self._step(group)
                    position.batch += len(group)
                    group = []
                    if last:
                        position.epoch, position.batch = position.epoch + 1, 0
                    yield figures

    def _step(self, group: list[Batch]) -> tuple[float, float]:
        settings, position, began = self.config.training, self.position, time.perf_counter()
        # Each token of a step counts the same, in whichever of its batches it is.
        tokens = sum(int(batch.target_lengths.sum()) for batch in group)
        rise = min(1.0, position.step / settings.sampling_warmup) if settings.sampling_warmup else 1.0

        @float32_precision(self._precision)
        def add(batches: Sequence[Batch]) -> float:
            """Add the gradients of some batches, and return their loss."""
            loss = 0.0
            for batch in batches:
                seeds = sample_seeds(settings.seed, position.epoch, batch.indices)
                more, _, backward = self.model.loss_vjp(batch, seeds=seeds, sampling=settings.sampling * rise)
                backward(1.0 / tokens)
                loss += more
            return loss

        if settings.shards == 1:
            loss, self._last = add(group), group
        else:
            shards = {
                shard: [batch for whole in group if len(batch := part(whole, shard, settings.shards))]
                for shard in self._gradients.own
            }
            loss = self._gradients.add(lambda shard: add(shards[shard]))
            self._last = [batch for batches in shards.values() for batch in batches]
        norm = global_norm(self.parameters)
        if not (math.isfinite(norm) and math.isfinite(loss)):
            raise self._diverged(f"step {position.step + 1}: the loss is {loss / tokens}, its gradient's norm {norm}")
        rate = self.schedule.rate(position.step + 1)
        self.optimizer.step(clip_scale(norm, settings.clip) if settings.clip else 1.0, rate)
        position.step += 1
        if self.average is not None:
            self.average.update(position.step)
        position.loss += loss
        position.tokens += tokens
        self._timed[0] += tokens
        self._timed[1] += time.perf_counter() - began
        return norm, rate

    def _turn(self, every: int) -> bool:
        """Whether this step is one of every so many, or with 0 the last one of an epoch."""
        return self.position.step % every == 0 if every else self.position.batch == 0

    def _due(self, every: int, last: int) -> bool:
        """Whether it is time for what was last done after step `last`: in its turn, and at the end."""
        return self.position.step not in (0, last) and (self._turn(every) or bool(self.finished()))

    def _must_validate(self) -> bool:
        """Whether a validation is due: in its turn, or one more at the end."""
        every = self.config.training.validate_every
        return (
            self.corpus.validation is not None
            and self._due(every, self.position.validated)
            and (self._turn(every) or self.final is None)
        )

    def _validate(self, log: RunLog, progress: Progress, stop: Stop) -> bool:
        """Measure, and return whether it was better than ever before."""
        if self.average is None:
            return self._measure(log, progress, stop)
        self.average.exchange()
        try:
            return self._measure(log, progress, stop)
        finally:
            self.average.exchange()

    def _measure(self, log: RunLog, progress: Progress, stop: Stop) -> bool:
        assert self.corpus.validation is not None
        position, name = self.position, self.config.training.metric
        loss = mean_loss(self.model, self.corpus.validation, stop.requested, self.processes)
        if loss is None:
            return False  # interrupted; the resumed run measures again
        if not math.isfinite(loss):
            raise self._diverged(f"step {position.step}: the validation loss is {loss}")
        values, value = {"validation_loss": loss, "perplexity": math.exp(min(loss, 700.0))}, loss
        if name != "loss":
            metric = translation_metric(self.model, self.corpus, self.config, stop.requested, self.processes)
            if metric is None:
                return False
            values[name] = value = metric
        turn = self._turn(self.config.training.validate_every)
        if turn:
            is_best = self.best.observe(value, position.step, name)
            self.schedule.observe(-value if HIGHER_IS_BETTER[name] else value)
            position.validated = position.step
        else:
            self.final = dataclasses.replace(self.best)
            is_best = self.final.observe(value, position.step, name)
        log.write(step=position.step, epoch=position.epoch, **values, best=is_best, **({} if turn else {"final": True}))
        progress.measured(position.step, values, "validation_loss" if name == "loss" else name, is_best)
        self._tell("validation", **values, best=is_best)
        return is_best

    def _log(self, log: RunLog, progress: Progress, norm: float, rate: float) -> None:
        position, (tokens, seconds) = self.position, self._timed
        values = {"loss": position.loss / position.tokens, "gradient_norm": norm, "rate": rate,
                  "tokens_per_second": round(tokens / max(seconds, 1e-9))}  # fmt: skip
        log.write(step=position.step, epoch=position.epoch, **values)
        progress.show(step=position.step, **values)
        self._tell("log", **values)
        position.loss, position.tokens, self._timed = 0.0, 0, [0, 0.0]

    def _mark(self) -> tuple[int, int, bool]:
        return self.position.step, self.position.validated, self.final is not None

    def _checkpoint(self, best: bool) -> None:
        self._check_finite()
        hint = "look for a process whose memory or processor is at fault; the last checkpoint is from before."
        self.processes.check_alike({"the parameters": self.digest()}, hint)
        self.processes.in_first(lambda: self._save(self, best))
        self._saved = self._mark()
        self._tell("checkpoint", best=best)

    def _check_finite(self) -> None:
        """Raise if the run has diverged: what is saved must be of use, to those who load it and to a resumed run."""
        where = f"step {self.position.step}"
        for name in not_finite({**self.weights(), **self.arrays()}):
            raise self._diverged(f"{where}: {name} is not finite")
        # Finite parameters can be so large that nothing else is; the next step, if there is one, would find out.
        with float32_precision(self._precision):
            own = np.array([sum(self.model.loss(batch)[0] for batch in self._last)])
        loss = sum(float(one[0]) for one in self.processes.all_gather(own))
        if not math.isfinite(loss):
            raise self._diverged(f"{where}: the loss is {loss} after it")

    def _diverged(self, problem: str) -> FastattnError:
        hint = "lower training.rate or training.clip, and resume: the last checkpoint is from before."
        return FastattnError(describe_file(self.folder, f"{problem}: the run has diverged", hint))


def make_schedule(settings: TrainingConfig) -> Schedule:
    """Return the schedule of the learning rate that a configuration describes."""
    rate, warmup = settings.rate, settings.warmup
    if settings.schedule == "plateau":
        patience = settings.plateau_patience - 1
        return ReduceOnPlateau(rate, factor=settings.factor, patience=patience, lowest=settings.lowest)
    if settings.schedule == "inverse_sqrt":
        return InverseSquareRoot(rate, warmup=warmup)
    if settings.schedule in ("cosine", "one_cycle"):
        falling = Cosine if settings.schedule == "cosine" else OneCycle
        return falling(rate, steps=settings.schedule_steps, warmup=warmup, lowest=settings.lowest)
    return Constant(rate)
