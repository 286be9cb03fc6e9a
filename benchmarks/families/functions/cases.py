"""Sizes as of dot products. Option: ``function``, what changes the scores, or ``additive``, what computes them.

An additive score is a function of pairs of features here, and has one head. Slopes of ALiBi are trained in a case with
gradients, which PyTorch's `flex_attention` has not on CPUs: there the formula is trained.
"""

from collections.abc import Mapping

from ...case import BOTH, FORWARD, Case, maker

_SIZES = "B H Tq Tk D"
_SMALL = (2, 2, 13, 13, 16)
_plain = maker("functions", _SIZES, _SMALL, "context query key value")
_sloped = maker("functions", _SIZES, _SMALL, "context query key value slopes")
_pairs = maker("functions", _SIZES, (2, 1, 7, 13, 16), "context query key value v")
_LONG, _MIDDLE, _SHORT = (1, 8, 2048, 2048, 64), (4, 8, 512, 512, 64), (8, 8, 128, 128, 64)
_NAMES: Mapping[tuple[int, ...], str] = {_LONG: "B1 H8 T2048", _MIDDLE: "B4 H8 T512", _SHORT: "B8 H8 T128"}


def _forward(function: str, sizes: tuple[int, ...], target: float) -> Case:
    make = _sloped if function == "alibi" else _plain
    name = f"{function}_{sizes[2]}_fwd"
    return make(name, f"{function} as a function, {_NAMES[sizes]} D64", FORWARD, sizes, target, function=function)


CASES = (
    *(
        _forward(function, sizes, target)
        for function in ("alibi", "softcap")
        for sizes, target in ((_LONG, 1.5), (_MIDDLE, 5.0), (_SHORT, 3.0))
    ),
    _forward("window", _LONG, 2.0),
    _sloped("alibi_512_grad", "alibi as a function, B4 H8 T512 D64", BOTH, _MIDDLE, 4.0, function="alibi"),
    _pairs(
        "additive_function_fwd", "additive as a function, B8 Tq64 Tk256 D128", FORWARD, (8, 1, 64, 256, 128), 3.0,
        function="additive",
    ),
)  # fmt: skip
