"""Everything that fastattn promises holds for what this package provides."""

import fastattn_cauchy

from fastattn.testing import parametrize


@parametrize(fastattn_cauchy)
def test_conformance(check):
    check()
