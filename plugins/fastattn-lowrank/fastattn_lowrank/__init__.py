"""Low-rank bilinear attention, a plugin of fastattn with two scores."""

from fastattn.plugin import ScoreRecord

__all__ = ["fastattn_scores"]

PAPER = "Kim et al. 2017 (arXiv:1610.04325), section 3"


def fastattn_scores():
    """Tell fastattn which scores are here."""
    place = "fastattn_lowrank.scores"
    return [
        ScoreRecord("low_rank", f"{place}:LowRank", "(q a) . (k b)", PAPER, reference=f"{place}:formula"),
        ScoreRecord(
            "low_rank_tanh", f"{place}:LowRankTanh", "tanh(q a) . tanh(k b)", PAPER, reference=f"{place}:formula_tanh"
        ),
    ]
