"""Engines that translate the blocks of a job: this process, and Ray Data.

An engine is a function ``engine(work, plan, *, workers, threads, address)`` that yields ``work(block)`` for all blocks
of all inputs of the plan, in any order: ``plan.blocks(file)`` yields those of one input. `work`, blocks and the plan
can be pickled.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from fastattn import errors
from fastattn._numbers import check_choice
from fastattn._optional import need
from fastattn.errors import ConfigError, FastattnError, describe_file
from fastattn.scale.rows import Block

__all__ = ["Engine", "engine_of", "local", "ray"]

Result = dict[str, Any]
WorkLike = Callable[[Block], Result]


class PlanLike(Protocol):
    """What an engine has to know of a `Plan`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths."""

    def blocks(self, file: int) -> Iterator[Block]:
        """Yield the blocks of an input that are not done."""


class Engine(Protocol):
    """A function that yields the results of all blocks of a plan."""

    def __call__(
        self, work: WorkLike, plan: PlanLike, /, *, workers: int, threads: int | None, address: str
    ) -> Iterator[Result]:
        """Yield them in any order."""


def local(work: WorkLike, plan: PlanLike, /, *, workers: int, threads: int | None, address: str) -> Iterator[Result]:
    """Translate in this process, which has as many threads as it may use."""
    if workers != 1 or address:
        name, value = ("address", address) if address else ("workers", workers)
        hint = "leave it out, or use another engine, such as ray."
        raise ConfigError(describe_file(name, f"{value} means nothing with the engine local", hint))
    for file in range(len(plan.inputs)):
        for block in plan.blocks(file):
            yield work(block)


def ray(work: WorkLike, plan: PlanLike, /, *, workers: int, threads: int | None, address: str) -> Iterator[Result]:
    """Translate by actors of Ray Data, and read by tasks beside them.

    A cluster on this machine is started with one CPU more than the workers have: actors that hold every CPU leave none
    for the tasks that read, and the job would wait for ever. In a cluster that is there, so many are refused.
    """
    engine, data, cpus = need("ray", "ray", "the engine ray"), need("ray.data", "ray", "the engine ray"), threads or 1
    wanted, ours = workers * cpus, not engine.is_initialized()
    if ours:
        how: dict[str, Any] = {"address": address} if address else {"num_cpus": wanted + 1, "include_dashboard": False}
        try:
            engine.init(log_to_driver=False, logging_level="ERROR", **how)
        except (ConnectionError, ValueError) as error:
            problem = f"no cluster: {' '.join(str(error).split())[:200]}"
            hint = "start one with ray start --head, or leave the address out."
            raise ConfigError(describe_file(f"ray {address}", problem, hint)) from None
    try:
        there = int(engine.cluster_resources().get("CPU", 0))
        if wanted >= there:
            problem = f"{workers} workers of {cpus} threads take all {there} CPUs, and none is left for reading"
            hint = "give fewer workers or threads: one CPU at least is for the tasks that read."
            raise ConfigError(describe_file("ray", problem, hint))
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # each block of a job goes to the next worker that is free
        files = data.from_items([{"file": file} for file in range(len(plan.inputs))])
        # With half a CPU, since Ray would make one actor of a task and an actor that want the same.
        blocks = files.map_batches(_Reading(plan), batch_size=1, num_cpus=0.5)
        results = blocks.map_batches(
            _Working, fn_constructor_args=(work,), batch_size=1, num_cpus=cpus,
            compute=data.ActorPoolStrategy(size=workers),
        )  # fmt: skip
        for row in results.iter_rows():
            result = json.loads(row["result"])
            if "error" in result:
                raise getattr(errors, result["error"], FastattnError)(result["text"])
            yield result
    finally:
        if ours:
            engine.shutdown()


@dataclasses.dataclass
class _Reading:
    """A task that reads inputs."""

    plan: PlanLike

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        try:
            for file in batch["file"]:
                for block in self.plan.blocks(int(file)):
                    yield {"block": [json.dumps(dataclasses.asdict(block))]}
        except FastattnError as error:
            yield {"block": [_told(error)]}


class _Working:
    """An actor that translates."""

    def __init__(self, work: WorkLike) -> None:
        self._work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"result": [self._result(text) for text in batch["block"]]}

    def _result(self, text: str) -> str:
        values = json.loads(text)
        if "error" in values:
            return text
        problems = {int(row): problem for row, problem in values.pop("problems").items()}
        try:
            return json.dumps(self._work(Block(**values, problems=problems)))
        except FastattnError as error:
            return _told(error)


def _told(error: FastattnError) -> str:
    """Return an error as data, which an engine hands on as it is."""
    return json.dumps({"error": type(error).__name__, "text": str(error)})


_ENGINES: dict[str, Engine] = {"local": local, "ray": ray}


def engine_of(engine: str | Engine) -> Engine:
    """Return the engine of a name, or a function as it is."""
    return engine if callable(engine) else _ENGINES[check_choice("engine", engine, tuple(_ENGINES))]
