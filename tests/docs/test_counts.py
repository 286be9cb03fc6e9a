"""Numbers of things that texts give in words are those of the code."""

import pytest
import sources

import fastattn

WORDS = dict(enumerate("twenty-five twenty-six twenty-seven twenty-eight twenty-nine thirty".split(), 25))


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/index.md"])
def test_there_are_as_many_mechanisms_as_is_said(name):
    own = fastattn.variants.registry.REGISTRY.built_in
    text = (sources.ROOT / name).read_text().lower()
    said = {word for word in WORDS.values() if f"{word} attention mechanisms" in text}
    assert said == {WORDS[len(own)]}
