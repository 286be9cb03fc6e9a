"""Sizes as of dot products. Option: ``normalizer``."""

from functools import partial

from ...case import BOTH, FORWARD, maker

_case = maker("sparse", "B H Tq Tk D", (2, 2, 13, 13, 16), "context query key value")
_sparsemax, _entmax15 = partial(_case, normalizer="sparsemax"), partial(_case, normalizer="entmax15")
_PARAGRAPH = (4, 8, 256, 256, 64)

CASES = (
    _sparsemax("sparsemax_fwd", "sparsemax dot, B4 H8 T256 D64", FORWARD, _PARAGRAPH, 1.5),
    _sparsemax("sparsemax_grad", "sparsemax dot, B4 H8 T256 D64", BOTH, _PARAGRAPH, 1.5),
    _sparsemax(
        "sparsemax_step", "sparsemax dot decoder step, B32 H8 Tk512 D64", FORWARD, (32, 8, 1, 512, 64), 1.5,
        smoke=(2, 2, 1, 19, 16),
    ),
    _entmax15("entmax15_fwd", "entmax15 dot, B4 H8 T256 D64", FORWARD, _PARAGRAPH, 1.5),
    _entmax15("entmax15_grad", "entmax15 dot, B4 H8 T256 D64", BOTH, _PARAGRAPH, 1.5),
)  # fmt: skip
