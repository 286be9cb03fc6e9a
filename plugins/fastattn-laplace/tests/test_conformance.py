"""Everything that fastattn promises holds for what this package provides."""

import fastattn_laplace

from fastattn.testing import parametrize


@parametrize(fastattn_laplace)
def test_conformance(check):
    check()
