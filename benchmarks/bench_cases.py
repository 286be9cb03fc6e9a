"""Every case with every library; `-k` picks some, as in ``-k "decode and torch_eager"``."""

import pytest

from .cases import CASES
from .ours import NAME
from .peers import PEERS


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
@pytest.mark.parametrize("library", [NAME, *PEERS], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_speed(case, library, race):
    race(case, library)
