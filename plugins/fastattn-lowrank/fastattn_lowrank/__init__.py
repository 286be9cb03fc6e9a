"""Low-rank bilinear attention, a plugin of fastattn with two scores and a variant."""

from fastattn.plugin import ScoreRecord, VariantRecord

__all__ = ["fastattn_scores", "fastattn_variants"]

PAPER = "Kim et al. 2017 (arXiv:1610.04325), section 3"
RANK = 4


def _matrix(side):
    def draw(rng, query, key, dtype):
        return rng.normal(size=((query, key)[side], RANK)).astype(dtype)

    return draw


def fastattn_scores():
    """Tell fastattn which scores are here."""
    example = {"a": _matrix(0), "b": _matrix(1)}
    place = "fastattn_lowrank.scores"
    return [
        ScoreRecord("low_rank", f"{place}:LowRank", "(q a) . (k b)", PAPER, (example,), f"{place}:formula"),
        ScoreRecord(
            "low_rank_tanh", f"{place}:LowRankTanh", "tanh(q a) . tanh(k b)", PAPER, (example,), f"{place}:formula_tanh"
        ),
    ]


def fastattn_variants():
    """Tell fastattn which variants are here."""
    place = "fastattn_lowrank.variant"
    return [
        VariantRecord("low_rank", f"{place}:LowRank", "(q A) . (m B)", PAPER, ({"rank": RANK},), f"{place}:formula")
    ]
