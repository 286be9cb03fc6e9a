"""Score functions: what is computed from one query and one key before the softmax.

==============  ==============================================  ======================
name            score of query q and key k                      class
==============  ==============================================  ======================
``dot``         q . k                                           `Dot`
``scaled_dot``  q . k / sqrt(Dk)                                `ScaledDot`
``cosine``      q . k / (\\|q\\| \\|k\\|)                           `Cosine`
``general``     q w k                                           `General`
``additive``    v . tanh(q w_query + k w_key + b)               `Additive`
``concat``      v . tanh([q; k] w)                              `Concat`
``location``    (q w)_j for the key at position j               `Location`
==============  ==============================================  ======================

and more: `names` lists all, those of plugins too, and `create` makes any of them by name. One without parameters may be
given by its name. A score is a file of this folder: the class says how it reduces to a kernel, what its gradients are,
where training begins (`drawn`), its paper and its formula.
"""

from typing import Any

from fastattn import _known_as
from fastattn.scores import ours
from fastattn.scores.additive import Additive
from fastattn.scores.base import Score
from fastattn.scores.concat import Concat
from fastattn.scores.cosine import Cosine
from fastattn.scores.dot import Dot, ScaledDot
from fastattn.scores.general import General
from fastattn.scores.location import Location
from fastattn.scores.modified import Modified
from fastattn.scores.registry import create, names, record, records, register, resolve

__all__ = [
    "Additive",
    "Concat",
    "Cosine",
    "Dot",
    "General",
    "Location",
    "Modified",
    "ScaledDot",
    "Score",
    "create",
    "names",
    "record",
    "records",
    "register",
    "resolve",
]


def __getattr__(name: str) -> Any:
    """Return a class that a file of this folder defines, and that is not imported above."""
    for kind in ours.classes():
        if kind.__name__ == name:
            return kind
    raise _known_as.missing(__name__, name, _known_as.SCORES)
