"""Everything that fastattn promises holds for what this package provides."""

import fastattn_lowrank

from fastattn.testing import parametrize


@parametrize(fastattn_lowrank)
def test_conformance(check):
    check()
