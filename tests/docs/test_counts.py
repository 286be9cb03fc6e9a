"""Numbers of things that texts give in words are those of the code."""

import pytest
import sources

import fastattn
from fastattn.scores import ours

WORDS = dict(enumerate("twenty-five twenty-six twenty-seven twenty-eight twenty-nine thirty".split(), 25))


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/index.md"])
def test_there_are_as_many_mechanisms_as_is_said(name):
    own = fastattn.variants.registry.REGISTRY.built_in
    text = (sources.ROOT / name).read_text().lower()
    said = {word for word in WORDS.values() if f"{word} attention mechanisms" in text}
    assert said == {WORDS[len(own)]}


def test_the_scores_that_have_a_scale_of_their_own_are_named():
    own = {one.name for one in ours.classes() if one.default_scale(object.__new__(one), 16) == 0.25}
    for text in (sources.ROOT.joinpath("docs/api.md").read_text(), fastattn.attention.__doc__):
        (said,) = (line for line in text.replace("`", "").splitlines() if "default 1" in line)
        assert {name for name in own if f'"{name}"' in said} == own == {"scaled_dot", "l1", "l2"}
