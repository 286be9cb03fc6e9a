"""Sizes: ``V`` words, ``D`` width, ``H`` heads, ``F`` width of the feed-forward networks, ``N`` layers of both stacks,
``B`` samples, ``S`` source and ``T`` target positions, ``K`` of the beam.
"""

from ...case import FORWARD, PRECISIONS, TRAIN, Case, maker

_case = maker("transformer", "V D H F N B S T K", (23, 16, 2, 24, 2, 3, 5, 4, 3), samples="source target tokens score")
_SMALL = (2000, 256, 4, 1024, 3, 16, 12, 12, 4)
_SIZES = (8000, 512, 8, 2048, 6, 32, 20, 20, 5)


def _narrow(name: str, title: str, beam: int, precision: str) -> Case:
    """A search with matrices of a narrower type, which of the peers CTranslate2 has; of 1, greedy."""
    small = (23, 16, 2, 24, 2, 3, 5, 4, min(beam, 3))
    return _case(
        f"transformer_{name}_{precision}", f"Transformer {title}, {precision}, 6+6 layers, D512 V8000 B32 T20", FORWARD,
        (*_SIZES[:-1], beam), 1.0, smoke=small, precision=precision,
    )  # fmt: skip


CASES = (
    _case("transformer_train", "Transformer training step, 6+6 layers, D512 V8000 B32 T20", TRAIN, _SIZES, 1.25),
    _case("transformer_beam", "Transformer beam search of 5, 6+6 layers, D512 V8000 B32 T20", FORWARD, _SIZES, 1.0),
    _case("transformer_small", "Transformer beam search of 4, 3+3 layers, D256 V2000 B16 T12", FORWARD, _SMALL, 1.0),
    *(_narrow("beam", "beam search of 5", 5, precision) for precision in PRECISIONS[1:]),
    *(_narrow("greedy", "greedy search", 1, precision) for precision in PRECISIONS[1:]),
)
