"""Distances with a learnt scale for each channel, a compiled plugin of fastattn."""

from fastattn.plugin import ScoreRecord

__all__ = ["fastattn_scores"]


def fastattn_scores():
    """Tell fastattn what is here; the compiled module is imported when a score is made."""
    return [
        ScoreRecord(
            "ard", "fastattn_ard.score:Ard", "-sum_c (w_c (q_c - k_c))^2", "Neal 1996, section 1.4",
            reference="fastattn_ard.score:formula",
        )
    ]  # fmt: skip
