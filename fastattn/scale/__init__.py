"""Beyond one process: workers of an engine that translate, and processes that train one model, with the same bits."""

from fastattn.scale.bulk import BulkOutcome, translate_files
from fastattn.scale.predictor import Predictor
from fastattn.scale.processes import joined
from fastattn.seq2seq.runs.processes import Processes

__all__ = ["BulkOutcome", "Predictor", "Processes", "joined", "translate_files"]
