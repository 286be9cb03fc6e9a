"""The score functions that there are, by name, those of plugins too."""

from typing import Any

from fastattn.errors import ArgumentError, DTypeError, describe
from fastattn.plugin import making, manager
from fastattn.plugin.records import ScoreRecord
from fastattn.scores.base import Score

__all__ = ["create", "names", "needed", "record"]

_HERE = "fastattn.scores"
_LUONG = "Luong, Pham, Manning 2015 (arXiv:1508.04025)"


def _normal(*shape: str) -> Any:
    """Return a function that draws a parameter; sizes are those of query and key, their sum, or 7."""

    def draw(rng: Any, query: int, key: int, dtype: Any) -> Any:
        sizes = {"query": query, "key": key, "both": query + key, "width": 7, "keys": 80}
        return rng.normal(size=[sizes[name] for name in shape]).astype(dtype)

    return draw


_ADDITIVE = {"v": _normal("width"), "w_query": _normal("query", "width"), "w_key": _normal("key", "width")}

_BUILT_IN = (
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


def fastattn_scores() -> tuple[ScoreRecord, ...]:
    """Return our own score functions, by the hook that plugins have."""
    return _BUILT_IN


def names() -> tuple[str, ...]:
    """Return the names of all score functions, those of plugins too."""
    return manager.known_names("scores")


def record(name: Any) -> ScoreRecord:
    """Return the record of a score function, or raise an ArgumentError that names what is closest."""
    if not isinstance(name, str):
        hint = "see fastattn.scores.names()."
        raise DTypeError(describe("name", "the name of a score function", type(name).__name__, hint))
    found = manager.find("scores", name)
    if found is None:
        hint = manager.current().advice("scores", name, names())
        raise ArgumentError(describe("score", f"one of {', '.join(names())}, or a score object", repr(name), hint))
    assert isinstance(found, ScoreRecord)
    return found


def needed(name: str) -> list[str]:
    """Return the options that a score function cannot be made without."""
    return making.needed(record(name))


def create(name: str, **given: Any) -> Score:
    """Make a score function.

    Parameters
    ----------
    name : str
        One of `fastattn.scores.names()`; ``plugin:name`` says whose, where there are several.
    **given
        Its parameters and options, as its class takes them.

    Returns
    -------
    Score

    Raises
    ------
    ArgumentError
        If there is no such score function, or it has no such option, or lacks one that it needs.
    PluginError
        If two plugins provide the name, or what provides it cannot be imported.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> fastattn.scores.create("general", w=np.ones((3, 5)))
    General(w: (3, 5))
    """
    made: Score = making.make(record(name), given, Score)
    return made
