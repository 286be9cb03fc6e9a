"""Engines that translate the blocks of a job: this process, and Ray.

An engine is a function ``engine(work, plan, *, workers, threads, address, timeout)`` that yields ``work(block)`` for
all blocks of all inputs of the plan, in any order: ``plan.blocks(file)`` yields those of one input. `work` and blocks
can be pickled.
"""

import contextlib
import itertools
import time
from collections import Counter, deque
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

_AHEAD = 2  # blocks that a worker has: the one it is at, and the next, so that it waits for nobody
_TRIES = 4  # workers that a block may cost; so many times the workers may be lost while no block gets done
_TIMEOUT = 600.0  # seconds for a block, and for a worker to start with its first one


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
        self, work: WorkLike, plan: PlanLike, /, *,
        workers: int, threads: int | None, address: str, timeout: float | None,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield them in any order."""


def local(
    work: WorkLike, plan: PlanLike, /, *, workers: int, threads: int | None, address: str, timeout: float | None
) -> Iterator[Result]:
    """Translate in this process, which has as many threads as it may use."""
    for name, value, meant in (("workers", workers, 1), ("address", address, ""), ("timeout", timeout, None)):
        if value != meant:
            hint = "leave it out, or use another engine, such as ray."
            raise ConfigError(describe_file(name, f"{value} means nothing with the engine local", hint))
    for block in _blocks(plan):
        yield work(block)


def ray(
    work: WorkLike, plan: PlanLike, /, *, workers: int, threads: int | None, address: str, timeout: float | None
) -> Iterator[Result]:
    """Translate by actors of Ray, to each of which this process gives one block after the other.

    A cluster on this machine is started with as many CPUs as the workers have. An actor that dies, or takes longer than
    `timeout` for a block, is replaced, and its blocks are given to others.
    """
    engine, cpus = need("ray", "ray", "the engine ray"), threads or 1
    wanted, ours = workers * cpus, not engine.is_initialized()
    if ours:
        how: dict[str, Any] = {"address": address} if address else {"num_cpus": wanted, "include_dashboard": False}
        try:
            engine.init(log_to_driver=False, logging_level="ERROR", **how)
        except (ConnectionError, ValueError) as error:
            problem = f"no cluster: {' '.join(str(error).split())[:200]}"
            hint = "start one with ray start --head, or leave the address out."
            raise ConfigError(describe_file(f"ray {address}", problem, hint)) from None
    try:
        there = int(engine.cluster_resources().get("CPU", 0))
        if wanted > there:
            problem = f"{workers} workers of {cpus} threads want {wanted} CPUs, and the cluster has {there}"
            raise ConfigError(describe_file("ray", problem, "give fewer workers or threads."))
        kind = engine.remote(num_cpus=cpus)(_Working)
        with contextlib.closing(_Crew(engine, lambda: kind.remote(work), plan.inputs, timeout or _TIMEOUT)) as crew:
            yield from crew.results(_blocks(plan), workers)
    finally:
        if ours:
            engine.shutdown()


def _blocks(plan: PlanLike) -> Iterator[Block]:
    return itertools.chain.from_iterable(map(plan.blocks, range(len(plan.inputs))))


class _Working:
    """An actor that translates."""

    def __init__(self, work: WorkLike) -> None:
        self._work = work

    def result(self, block: Block) -> Result:
        """Return the result of a block; an error as data, since Ray would make another one of it."""
        try:
            return self._work(block)
        except FastattnError as error:
            return {"error": type(error).__name__, "text": str(error)}


class _Crew:
    """Actors of Ray with the blocks that each has; what one does not finish, another one does."""

    def __init__(self, engine: Any, start: Callable[[], Any], inputs: tuple[str, ...], timeout: float) -> None:
        self._engine, self._start, self._inputs, self._timeout = engine, start, inputs, timeout
        self._tasks: dict[Any, dict[Any, Block]] = {}  # of each actor, in the order in which it has got them
        self._since: dict[Any, float] = {}  # when each actor began with the first of its tasks
        self._again: deque[Block] = deque()
        self._tries = Counter[tuple[int, int]]()
        self._lost = 0  # workers since the last result

    def results(self, blocks: Iterator[Block], workers: int) -> Iterator[Result]:
        """Yield the results of blocks, as they come."""
        for _ in range(workers):
            self._hire()
        while self._give(blocks):
            tasks = {task: actor for actor, given in self._tasks.items() for task in given}
            first = min(since for actor, since in self._since.items() if self._tasks[actor])
            left = max(0.0, first + self._timeout - time.monotonic())
            done, _ = self._engine.wait(list(tasks), num_returns=1, timeout=left)
            for task in done:
                try:
                    result = self._engine.get(task)
                except self._engine.exceptions.RayTaskError:
                    raise  # a fault of ours
                except self._engine.exceptions.RayError as error:
                    self._replace(tasks[task], " ".join(str(error).split())[:200])
                    continue
                if "error" in result:
                    raise getattr(errors, result["error"], FastattnError)(result["text"])
                del self._tasks[tasks[task]][task]  # which need not be the first one: answers may overtake each other
                self._since[tasks[task]], self._lost = time.monotonic(), 0
                self._give(blocks)  # before this one is written
                yield result
            # Where there are results, this process may have been late, and not the others.
            for actor, since in [] if done else list(self._since.items()):
                if self._tasks[actor] and time.monotonic() >= since + self._timeout:
                    self._replace(actor, f"no result in {self._timeout:g} seconds")

    def close(self) -> None:
        """End all actors."""
        for actor in self._tasks:
            self._engine.kill(actor)

    def _hire(self) -> None:
        actor = self._start()
        self._tasks[actor], self._since[actor] = {}, time.monotonic()

    def _give(self, blocks: Iterator[Block]) -> bool:
        """Give blocks to actors that have less than they may have; return whether any has one."""
        for full in range(_AHEAD):
            for actor, given in self._tasks.items():
                if len(given) == full:
                    block = next(blocks, None)
                    if block is None and self._again:  # last, so that one that no worker bears keeps no other waiting
                        block = self._again.popleft()
                    if block is None:
                        break
                    if not given:
                        self._since[actor] = time.monotonic()
                    given[actor.result.remote(block)] = block
        return any(self._tasks.values())

    def _replace(self, actor: Any, reason: str) -> None:
        """Start another actor in the place of one that is lost, and let the blocks of that one be done again."""
        given = list(self._tasks.pop(actor).values())
        del self._since[actor]
        self._engine.kill(actor)
        place = given[0].file, given[0].first
        self._tries[place] += 1
        self._lost += 1
        cost = ""
        if self._tries[place] == _TRIES:
            cost = f"rows {place[1] + 1} to {place[1] + len(given[0].texts)} have cost {_TRIES} workers"
        elif self._lost == _TRIES * (len(self._tasks) + 1):
            cost = f"{self._lost} workers were lost one after the other"
        if cost:
            problem = f"{cost}, the last one: {reason}"
            hint = "see that workers have the memory, give fewer rows by --block, or more time by --timeout."
            raise FastattnError(describe_file(self._inputs[place[0]], problem, hint))
        self._again.extend([*given[1:], given[0]])
        self._hire()


_ENGINES: dict[str, Engine] = {"local": local, "ray": ray}


def engine_of(engine: str | Engine) -> Engine:
    """Return the engine of a name, or a function as it is."""
    return engine if callable(engine) else _ENGINES[check_choice("engine", engine, tuple(_ENGINES))]
