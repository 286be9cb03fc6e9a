"""Smoothed softmax, a plugin of fastattn whose loops are Numba functions."""

from fastattn.plugin import NormalizerRecord

__all__ = ["fastattn_normalizers"]


def fastattn_normalizers():
    """Tell fastattn what is here; Numba is imported when a normalizer is made."""
    return [
        NormalizerRecord(
            "smooth", "fastattn_smooth.normalizer:smooth", "sigmoid(z_j) / sum_k sigmoid(z_k)",
            "Chorowski et al. 2015 (arXiv:1506.07503), section 2.3", reference="fastattn_smooth.normalizer:formula",
        )
    ]  # fmt: skip
