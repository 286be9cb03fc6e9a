"""As much of Ray as the engine of a job asks for, in this process: for tests where it is not installed."""

import contextlib
import sys
from types import SimpleNamespace
from unittest import mock


class Dataset:
    """Rows that are made when they are asked for."""

    def __init__(self, rows):
        self._rows = rows

    def map_batches(self, function, *, batch_size, fn_constructor_args=(), **how):
        """Apply a function, or an object of a class, to batches of one row."""
        assert batch_size == 1
        work = function(*fn_constructor_args) if isinstance(function, type) else function

        def rows():
            for row in self._rows:
                found = work({name: [value] for name, value in row.items()})
                for batch in [found] if isinstance(found, dict) else found:
                    yield from (dict(zip(batch, values)) for values in zip(*batch.values()))

        return Dataset(rows())

    def iter_rows(self):
        """Yield all rows."""
        return self._rows


@contextlib.contextmanager
def ray(cpus=9, clusters=("auto",)):
    """Put it in the place of Ray."""
    made = SimpleNamespace(started=[])

    def init(**how):
        if how.get("address", "auto") not in clusters:
            raise ConnectionError("Could not find any running Ray instance.")
        made.started.append(how)

    made.init, made.is_initialized = init, lambda: bool(made.started)
    made.shutdown = made.started.clear
    made.cluster_resources = lambda: {"CPU": float(made.started[-1].get("num_cpus", cpus))}
    context = SimpleNamespace()
    data = SimpleNamespace(
        DataContext=SimpleNamespace(get_current=lambda: context), from_items=Dataset,
        ActorPoolStrategy=lambda size: size,
    )  # fmt: skip
    with mock.patch.dict(sys.modules, {"ray": made, "ray.data": data}):
        yield made
