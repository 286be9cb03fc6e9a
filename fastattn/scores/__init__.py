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

The first three have no parameters and may be given by name. `create` makes any of them, and those of plugins, by name;
`names` lists them.
"""

from fastattn.scores.additive import Additive, Concat
from fastattn.scores.base import Score
from fastattn.scores.dot import Cosine, Dot, General, ScaledDot
from fastattn.scores.location import Location
from fastattn.scores.registry import create, names, record, records, register, resolve

__all__ = [
    "Additive",
    "Concat",
    "Cosine",
    "Dot",
    "General",
    "Location",
    "ScaledDot",
    "Score",
    "create",
    "names",
    "record",
    "records",
    "register",
    "resolve",
]
