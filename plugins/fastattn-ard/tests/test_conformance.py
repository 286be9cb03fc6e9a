"""Everything that fastattn promises holds for what this package provides."""

import fastattn_ard

from fastattn.testing import parametrize


@parametrize(fastattn_ard)
def test_conformance(check):
    check()
