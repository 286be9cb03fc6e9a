"""Normalizers: how a row of scores becomes a row of weights that are not negative and sum to one.

==============  ==================================================  ===========
name            weights of a row of scores z                        class
==============  ==================================================  ===========
``softmax``     exp(z_j) / sum_k exp(z_k)                           `Softmax`
``sparsemax``   [z_j - t]+                                          `Sparsemax`
``entmax15``    [z_j / 2 - t]+ ^2                                   `Entmax15`
``entmax``      [(alpha - 1) z_j - t]+ ^(1 / (alpha - 1))           `Entmax`
==============  ==================================================  ===========

[x]+ is x where x > 0, else 0, and t is the number that makes the weights sum to one. Any of them may be given by name
or as an object; ``"entmax"`` by name is ``Entmax(alpha=1.5)``. The last three give most keys a weight of exactly 0;
such keys' values are not read. A function of yours of a row of scores (`fastattn.row_function`) is a normalizer, too:
`Rowwise`; `RowFunctions` takes functions that you compiled. `create` makes any, and those of plugins, by name, and
`names` lists them.
"""

from fastattn.normalizers.base import KernelNormalizer, Normalizer
from fastattn.normalizers.entmax import Entmax
from fastattn.normalizers.entmax15 import Entmax15
from fastattn.normalizers.registry import create, names, read, record, records, register, resolve
from fastattn.normalizers.rows import RowFunctions
from fastattn.normalizers.rowwise import Rowwise
from fastattn.normalizers.softmax import Softmax
from fastattn.normalizers.sparsemax import Sparsemax

__all__ = [
    "Entmax",
    "Entmax15",
    "KernelNormalizer",
    "Normalizer",
    "RowFunctions",
    "Rowwise",
    "Softmax",
    "Sparsemax",
    "create",
    "names",
    "read",
    "record",
    "records",
    "register",
    "resolve",
]
