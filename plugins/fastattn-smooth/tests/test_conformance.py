"""Everything that fastattn promises holds for what this package provides."""

import fastattn_smooth

from fastattn.testing import parametrize


@parametrize(fastattn_smooth)
def test_conformance(check):
    check()
