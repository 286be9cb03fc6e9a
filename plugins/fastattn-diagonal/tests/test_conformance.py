"""Everything that fastattn promises holds for what this package provides."""

import fastattn_diagonal

from fastattn.testing import parametrize


@parametrize(fastattn_diagonal)
def test_conformance(check):
    check()
