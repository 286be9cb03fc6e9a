"""Positions: what tells attention where queries and keys are.

`create` makes a mechanism by one of the `names`; the variants "multihead" and "causal_self_attention" take them as
``positions=``, and the Transformer in its configuration. All keep one protocol, `fastattn.positions.base.Positions`.
`Sinusoidal2D` and `Learned2D` are for feature grids, which `fastattn.grid.Grid` makes memories of.
"""

from fastattn._relative import RelativeBias
from fastattn.positions.alibi import Alibi, alibi_slopes
from fastattn.positions.attending import attend, attend_vjp
from fastattn.positions.base import Positions
from fastattn.positions.buckets import RelativeBuckets, relative_buckets
from fastattn.positions.grids import Learned2D, Sinusoidal2D
from fastattn.positions.registry import create, names, record, records, register
from fastattn.positions.rotary import Rotary
from fastattn.positions.shaw import RelativeVectors
from fastattn.positions.tables import Learned, Sinusoidal, sinusoids
from fastattn.positions.visible import check_window, visible

__all__ = [
    "Alibi",
    "Learned",
    "Learned2D",
    "Positions",
    "RelativeBias",
    "RelativeBuckets",
    "RelativeVectors",
    "Rotary",
    "Sinusoidal",
    "Sinusoidal2D",
    "alibi_slopes",
    "attend",
    "attend_vjp",
    "check_window",
    "create",
    "names",
    "record",
    "records",
    "register",
    "relative_buckets",
    "sinusoids",
    "visible",
]
