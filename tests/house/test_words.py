"""What the sources say: plain words, and the terms of the field."""

import re

import pytest
import sources
from sources import relative

# What the sources do not say, and the field's term, or a plainer word, in its place.
WORDS = {
    r"\bways? back\b": "backward pass, gradient",
    r"\bsteps? back\b": "backward step",
    r"\bleave (\w+ )?away\b": "leave out",
    r"\bsays? whose\b": "names the plugin",
    r"\b(name|check)s? that there (is|are) not\b": "unknown name",
    r"\bis no (hook|name|number|place|text)\b": "is not a",
}
EXEMPT = {"tests/house/test_words.py"}


def said(text):
    """What a text says that it should not, each with the better word."""
    flat = re.sub(r"\s*\n[\s/*#|]*", " ", text)
    return [(found.group(), better) for words, better in WORDS.items() for found in re.finditer(words, flat, re.I)]


@pytest.mark.parametrize("path", [path for path in sources.texts() if relative(path) not in EXEMPT], ids=relative)
def test_plain_words(path):
    assert not said(path.read_text())


@pytest.mark.parametrize(
    "text", ["the way\n     * back", "leave return_lse away", "a Step back", "plugin:x says whose", "'3' is no name"]
)
def test_other_words_are_seen(text):
    assert len(said(text)) == 1
