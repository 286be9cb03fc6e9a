"""The hooks by which a package says what it provides.

A plugin is a module (or any object) with functions of these names; no decorator is needed. It is found through an entry
point in the group ``fastattn.plugins``, and its hooks are called once, when something is listed or when a name is
looked up that is not built in; never while attention is computed. They take no arguments and return records, which
cost nothing to make: `fastattn.plugin.records`.
"""

from collections.abc import Iterable

import pluggy

from fastattn.plugin.records import NormalizerRecord, ScoreRecord, VariantRecord

__all__ = ["GROUP", "PROJECT", "fastattn_normalizers", "fastattn_scores", "fastattn_variants"]

PROJECT = "fastattn"
GROUP = "fastattn.plugins"

_spec = pluggy.HookspecMarker(PROJECT)


@_spec
def fastattn_scores() -> Iterable[ScoreRecord]:  # type: ignore[empty-body]
    """Return the score functions of the plugin; since 0.1.

    A factory takes the parameters of the score as keywords and returns a `fastattn.scores.Score`::

        from fastattn.plugin import ScoreRecord

        def fastattn_scores():
            return [ScoreRecord("euclid", "my_package.euclid:Euclid", summary="-|q - k|^2")]
    """


@_spec
def fastattn_normalizers() -> Iterable[NormalizerRecord]:  # type: ignore[empty-body]
    """Return the normalizers of the plugin; since 0.1.

    A factory takes options as keywords and returns what turns a row of scores into weights::

        from fastattn.plugin import NormalizerRecord

        def fastattn_normalizers():
            return [NormalizerRecord("power", "my_package.power:Power", summary="max(0, 1 + z / n)^n, normalized")]
    """


@_spec
def fastattn_variants() -> Iterable[VariantRecord]:  # type: ignore[empty-body]
    """Return the attention mechanisms of the plugin; since 0.1.

    A factory takes ``query_width``, ``memory_width``, ``rng``, ``dtype`` and options of its own as keywords and returns
    a `fastattn.variants.Variant`::

        from fastattn.plugin import VariantRecord

        def fastattn_variants():
            return [VariantRecord("diagonal", "my_package.diagonal:Diagonal", summary="sum_c q_c w_c m_c")]
    """
