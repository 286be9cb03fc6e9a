"""The float64 answer of every case, and the magnitude that rounding errors are measured in.

For a softmax-weighted sum the natural unit of the error of output ``i`` is ``eps * A_i * (1 + S_i)``, where ``A`` is
the same sum over absolute values and ``S`` the largest score of the row summed over absolute values: an error of
``S * eps`` in a score multiplies its weight by ``1 + S * eps``. Gradients use the same rule: every sum that forms them
is taken over absolute values. Calls of attention are judged by the twin and the units of the tests,
`tests/shared/bounds.py`. Models are measured by the largest value of each output.
"""

from dataclasses import dataclass, replace

from . import families
from .case import Arrays, Case


@dataclass(frozen=True)
class Reference:
    """Right values by name, and for each the size of one unit of error before the factor ``eps``.

    ``precision`` is that of the case, which says how a result is judged, and ``steps`` the number of products one after
    the other that a gradient goes through, each of which rounds.
    """

    values: Arrays
    magnitudes: Arrays
    precision: str = "float32"
    steps: int = 1


def compute(case: Case, data: Arrays) -> Reference:
    """All outputs of a case, in float64."""
    found: Reference = families.part(case.family, "reference").compute(case, data)
    return replace(found, precision=case.precision)
