"""The hooks by which a package says what it provides.

A plugin is a module (or any object) with functions of these names; no decorator is needed. It is found through an entry
point in the group ``fastattn.plugins``, and its hooks are called once, when something is listed or when a name is
looked up that is not built in; never while attention is computed. They take no arguments and return records, which
cost nothing to make: `fastattn.plugin.records`.
"""

from collections.abc import Iterable

import pluggy

from fastattn.plugin.records import ModelRecord, NormalizerRecord, PositionsRecord, ScoreRecord, VariantRecord

__all__ = [
    "GROUP",
    "PROJECT",
    "fastattn_models",
    "fastattn_normalizers",
    "fastattn_positions",
    "fastattn_scores",
    "fastattn_variants",
]

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


@_spec
def fastattn_positions() -> Iterable[PositionsRecord]:  # type: ignore[empty-body]
    """Return the mechanisms of positions of the plugin; since 0.1.

    A factory takes those of ``width``, ``head_width``, ``heads``, ``bidirectional``, ``rng`` and ``dtype`` that it
    names, and options of its own, as keywords and returns a `fastattn.positions.Positions`::

        from fastattn.plugin import PositionsRecord

        def fastattn_positions():
            return [PositionsRecord("steps", "my_package.steps:Steps", summary="a bias at every n-th distance")]
    """


@_spec
def fastattn_models() -> Iterable[ModelRecord]:  # type: ignore[empty-body]
    """Return the encoder-decoders of the plugin; since 0.1.

    A factory takes the settings and the sizes of both vocabularies by position, ``rng`` and ``dtype`` as keywords, and
    returns a `fastattn.seq2seq.Model`. The settings are a frozen dataclass whose field ``kind`` is the name by
    default, and become the section ``[model]`` of configurations::

        from fastattn.plugin import ModelRecord

        def fastattn_models():
            return [ModelRecord("copier", "my_package.copier:Copier", settings="my_package.copier:CopierConfig")]
    """
