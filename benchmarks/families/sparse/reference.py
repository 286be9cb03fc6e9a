"""Sparse attention in float64."""

from ..attention.reference import compute

__all__ = ["compute"]
