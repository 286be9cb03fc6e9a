"""Sizes: ``B`` samples, ``Tq`` queries, ``Tk`` keys, ``Da`` of query, key and v, ``Dv`` of values."""

from ...case import BOTH, FORWARD, maker

_case = maker("additive", "B Tq Tk Da Dv", (2, 9, 11, 16, 24), "context query key value v", "context query key value")
_SEQUENCES = (16, 100, 100, 256, 256)

CASES = (
    _case("additive_fwd", "additive, B16 T100 Da256", FORWARD, _SEQUENCES, 12.0),
    _case("additive_grad", "additive, B16 T100 Da256", BOTH, _SEQUENCES, 9.0),
    _case(
        "additive_step", "additive decoder step, B32 Tk30 Da256 Dv512", FORWARD, (32, 1, 30, 256, 512), 2.0,
        smoke=(3, 1, 7, 16, 24),
    ),
)  # fmt: skip
