"""An entry of each kind of the gallery is timed, at the page's sizes and for a moment."""

import numpy as np
import pytest

from ..timing import Effort
from . import gallery

ENTRIES = gallery.entries()
BRIEF = Effort(rounds=1, sample_seconds=1e-4)


@pytest.mark.parametrize("name", ["alibi", "softcap", "causal", "bilinear", "sigmoid"])
def test_an_entry_is_timed(name, capsys):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 4, 64, 16)).astype(np.float32) for _ in range(4)]
    gallery.report(name, ENTRIES[name], arrays, BRIEF)
    said, *numbers, beside = capsys.readouterr().out.split()
    assert said == name and len(numbers) == 4 and all(float(number) > 0 for number in numbers)
    assert beside == "-" or name in ("alibi", "causal")


def test_entries_of_other_sizes():
    other = gallery.entries(samples=3, heads=2, side=5, width=4)
    assert other.keys() == ENTRIES.keys()
    assert other["swin"]["score_mod"].parameters["table"].shape == (2, 9, 9)
    assert other["forgetting"]["score_mod"].parameters["gates"].shape == (3, 2, 25)


def test_an_unknown_entry_is_refused(capsys):
    with pytest.raises(SystemExit):
        gallery.main(["--only", "alibo"])
    assert "the page has no alibo" in capsys.readouterr().err
