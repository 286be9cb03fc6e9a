"""As much of Ray as the engine of a job asks for, in this process: for tests where it is not installed."""

import contextlib
import sys
import time
from types import SimpleNamespace
from unittest import mock

SLOW = 0.05  # seconds that a slow actor takes


class RayError(Exception):
    """What Ray raises, of lost actors too."""


class RayTaskError(RayError):
    """What a task has raised."""


class Actor:
    """An object in the place of a process; its fate is that it "works", is "slow", "hangs" or "dies"."""

    def __init__(self, made, fate, deadly):
        self.made, self.fate, self.deadly, self.killed = made, fate, deadly, False
        self.result = SimpleNamespace(remote=lambda *given: Task(self, given))


class Task:
    """What an actor is to do; it is done when it is asked for."""

    def __init__(self, actor, given):
        self.actor, self.given, self.since = actor, given, time.monotonic()

    def ended(self):
        """Whether there is something to get."""
        fate = self.actor.fate
        return fate != "hangs" and (fate != "slow" or time.monotonic() >= self.since + SLOW)

    def get(self):
        """Return what comes of it."""
        if self.actor.fate == "dies" or self.actor.deadly(*self.given):
            raise RayError("The actor died\nunexpectedly.")
        return self.actor.made.result(*self.given)


def wait(tasks, *, num_returns, timeout):
    """Return tasks that have ended, and the others."""
    end = time.monotonic() + timeout
    while not (ended := [task for task in tasks if task.ended()][:num_returns]) and time.monotonic() < end:
        time.sleep(0.001)
    return ended, [task for task in tasks if task not in ended]


@contextlib.contextmanager
def ray(cpus=9, clusters=("auto",), fates=(), deadly=lambda given: False):
    """Put it in the place of Ray. Actors have these fates, in the order in which they are started; all others work.

    Whatever actor is given what is deadly dies.
    """
    made = SimpleNamespace(started=[], actors=[], wait=wait, get=Task.get)
    left = iter(fates)

    def init(**how):
        if how.get("address", "auto") not in clusters:
            raise ConnectionError("Could not find any running Ray instance.")
        made.started.append(how)

    def start(kind, given):
        made.actors.append(Actor(kind(*given), next(left, "works"), deadly))
        return made.actors[-1]

    def kill(actor):
        actor.killed = True

    made.init, made.is_initialized, made.kill = init, lambda: bool(made.started), kill
    made.shutdown = made.started.clear
    made.cluster_resources = lambda: {"CPU": float(made.started[-1].get("num_cpus", cpus))}
    made.remote = lambda num_cpus: lambda kind: SimpleNamespace(remote=lambda *given: start(kind, given))
    made.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    with mock.patch.dict(sys.modules, {"ray": made}):
        yield made
