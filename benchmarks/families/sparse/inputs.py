"""Standard normal query, key and value."""

from ..attention.inputs import with_heads as make

__all__ = ["make"]
