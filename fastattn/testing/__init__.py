"""The conformance kit: what our own variants and score functions pass, for those of anybody.

In a script::

    from fastattn.testing import check_variant
    print(check_variant(MyVariant, options={"width": 8}))

In a test-suite::

    from fastattn.testing import parametrize
    import my_plugin

    @parametrize(my_plugin)
    def test_conformance(check):
        check()

For an installed plugin: ``fastattn check NAME``. pytest is imported by `parametrize` alone.
"""

from fastattn.plugin.manager import isolated
from fastattn.testing.certificate import Certificate, Result
from fastattn.testing.kit import check_normalizer, check_plugin, check_score, check_variant, parametrize, records_of
from fastattn.testing.timing import benchmarks_of

__all__ = [
    "Certificate",
    "Result",
    "benchmarks_of",
    "check_normalizer",
    "check_plugin",
    "check_score",
    "check_variant",
    "isolated",
    "parametrize",
    "records_of",
]
