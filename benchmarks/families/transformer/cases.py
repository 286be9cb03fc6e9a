"""Sizes: ``V`` words, ``D`` width, ``H`` heads, ``F`` width of the feed-forward networks, ``N`` layers of both stacks,
``B`` samples, ``S`` source and ``T`` target positions, ``K`` of the beam.
"""

from ...case import FORWARD, TRAIN, maker

_case = maker("transformer", "V D H F N B S T K", (23, 16, 2, 24, 2, 3, 5, 4, 3), samples="source target tokens score")
_SMALL = (2000, 256, 4, 1024, 3, 16, 12, 12, 4)
_SIZES = (8000, 512, 8, 2048, 6, 32, 20, 20, 5)

CASES = (
    _case("transformer_train", "Transformer training step, 6+6 layers, D512 V8000 B32 T20", TRAIN, _SIZES, 1.25),
    _case("transformer_beam", "Transformer beam search of 5, 6+6 layers, D512 V8000 B32 T20", FORWARD, _SIZES, 1.0),
    _case("transformer_small", "Transformer beam search of 4, 3+3 layers, D256 V2000 B16 T12", FORWARD, _SMALL, 1.0),
)
