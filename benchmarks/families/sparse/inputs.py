"""Standard normal query, key and value."""

from ..attention.inputs import make
from ..attention.inputs import with_heads as described

__all__ = ["described", "make"]
