"""Laplace attention, a plugin of fastattn whose loops are Numba functions."""

from fastattn.plugin import VariantRecord

__all__ = ["fastattn_variants"]


def fastattn_variants():
    """Tell fastattn what is here; Numba is imported when a variant is made."""
    return [
        VariantRecord(
            "laplace", "fastattn_laplace.variant:Laplace", "-sum_c |w_c (q_c - m_c)|",
            "Kim et al. 2019 (arXiv:1901.05761), section 3.2", reference="fastattn_laplace.variant:formula",
        )
    ]  # fmt: skip
