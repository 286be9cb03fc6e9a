"""The score functions by name, those of plugins too."""

from typing import Any

from fastattn.plugin.records import ScoreRecord
from fastattn.plugin.registry import Registry
from fastattn.scores.base import Score

__all__ = ["REGISTRY", "create", "names", "record", "records", "register", "resolve"]

_HERE = "fastattn.scores"
_LUONG = "Luong, Pham, Manning 2015 (arXiv:1508.04025)"


def _normal(*shape: str) -> Any:
    """Return a function that draws a parameter; sizes are those of query and key, their sum, or 7."""

    def draw(rng: Any, query: int, key: int, dtype: Any) -> Any:
        sizes = {"query": query, "key": key, "both": query + key, "width": 7, "keys": 80}
        return rng.normal(size=[sizes[name] for name in shape]).astype(dtype)

    return draw


_ADDITIVE = {"v": _normal("width"), "w_query": _normal("query", "width"), "w_key": _normal("key", "width")}

_OWN = (
    ScoreRecord("dot", f"{_HERE}.dot:Dot", "q . k", f"{_LUONG}, section 3.1"),
    ScoreRecord(
        "scaled_dot", f"{_HERE}.dot:ScaledDot", "q . k / sqrt(Dk)", "Vaswani et al. 2017 (arXiv:1706.03762), eq. 1"
    ),
    ScoreRecord(
        "cosine", f"{_HERE}.dot:Cosine", "q . k / (|q| |k|)", "Graves, Wayne, Danihelka 2014 (arXiv:1410.5401), eq. 6"
    ),
    ScoreRecord(
        "general", f"{_HERE}.dot:General", "q w k", f"{_LUONG}, section 3.1", ({"w": _normal("query", "key")},)
    ),
    ScoreRecord(
        "additive", f"{_HERE}.additive:Additive", "v . act(q w_query + k w_key + b)",
        "Bahdanau, Cho, Bengio 2015 (arXiv:1409.0473), A.1.2",
        (_ADDITIVE, {**_ADDITIVE, "b": _normal("width"), "activation": "sigmoid"}, {**_ADDITIVE, "softcap": 2.0}),
    ),
    ScoreRecord(
        "concat", f"{_HERE}.additive:Concat", "v . act([q; k] w)", f"{_LUONG}, section 3.1",
        ({"w": _normal("both", "width"), "v": _normal("width")},),
    ),
    ScoreRecord(
        "location", f"{_HERE}.location:Location", "(q w)_j", f"{_LUONG}, eq. 8", ({"w": _normal("query", "keys")},)
    ),
)  # fmt: skip
REGISTRY = Registry(ScoreRecord, Score, _OWN)
create = REGISTRY.create
names = REGISTRY.names
record = REGISTRY.record
records = REGISTRY.records
register = REGISTRY.register
resolve = REGISTRY.resolve
