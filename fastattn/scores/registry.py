"""The score functions by name, those of plugins too."""

from types import FunctionType

from fastattn.plugin.records import ScoreRecord
from fastattn.plugin.registry import Registry
from fastattn.scores.base import Score
from fastattn.scores.ours import ours

__all__ = ["REGISTRY", "create", "names", "record", "records", "register", "resolve"]


def of_function(given: object) -> Score | None:
    """Return the score that is a function of a user's, or None for what is no function."""
    if not isinstance(given, FunctionType) and not hasattr(given, "source"):
        return None
    from fastattn.jit import as_pairwise_score  # loaded at first use
    from fastattn.scores.pairwise import Pairwise

    return Pairwise(as_pairwise_score(given))


REGISTRY = Registry(ScoreRecord, Score, ours(), of_function)
create = REGISTRY.create
names = REGISTRY.names
record = REGISTRY.record
records = REGISTRY.records
register = REGISTRY.register
resolve = REGISTRY.resolve
