"""The score functions by name, those of plugins too."""

from fastattn.plugin.records import ScoreRecord
from fastattn.plugin.registry import Registry
from fastattn.scores.base import Score
from fastattn.scores.ours import ours

__all__ = ["REGISTRY", "create", "names", "record", "records", "register", "resolve"]

REGISTRY = Registry(ScoreRecord, Score, ours())
create = REGISTRY.create
names = REGISTRY.names
record = REGISTRY.record
records = REGISTRY.records
register = REGISTRY.register
resolve = REGISTRY.resolve
