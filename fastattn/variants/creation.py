"""`create`, a variant by name; creation.pyi tells type checkers the options of each of ours."""

from typing import Any

from fastattn.variants.protocol.variant import Variant
from fastattn.variants.registry import REGISTRY, check_normalized

__all__ = ["create"]


def create(name: str, **given: Any) -> Variant[Any]:
    """Make an attention mechanism.

    Parameters
    ----------
    name : str
        One of `fastattn.variants.names()`; ``plugin:name`` names the plugin, where several have it.
    **given
        Options of the variant. All have ``query_width`` and ``memory_width``, ``rng`` (needed where there are
        parameters) and ``dtype`` (float32); the others are in the docstring of the variant.

    Returns
    -------
    Variant
        See `fastattn.variants.protocol` for what it can do.

    Raises
    ------
    ArgumentError
        If there is no such variant, or it has no such option, or lacks one that it needs.
    UnsupportedError
        If a normalizer is given for a variant that has none, such as "monotonic".
    PluginError
        If what provides it cannot be imported.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> fastattn.create("general", query_width=3, memory_width=5, rng=np.random.default_rng(0))
    General(3 -> 5, w: (3, 5), float32)
    >>> fastattn.create("generel")
    Traceback (most recent call last):
    fastattn.errors.ArgumentError: name: expected one of ..., got 'generel'.
    Hint: did you mean 'general'?
    """
    check_normalized(name, given)
    return REGISTRY.create(name, **given)
