"""Attention of fastattn with a sparse normalizer, which is an option of the same call."""

from ..dot.ours import collect, prepare

__all__ = ["collect", "prepare"]
