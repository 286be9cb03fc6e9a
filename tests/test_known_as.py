"""Names that papers and other libraries use are answered with ours."""

import re

import pytest

import fastattn
from fastattn import _known_as
from fastattn.errors import ArgumentError

ADVICE = sorted({text for table in (*_known_as.FAMILIES.values(), _known_as.LAYERS) for text in table.values()})


@pytest.mark.parametrize("text", ADVICE)
def test_what_is_advised_is_there(text):
    made = re.findall(r"create\('(\w+)'(?:, (\w+)=)?", text)
    for name, option in made:
        assert not option or option in fastattn.variants.options(name)
    named = re.findall(r"fastattn\.((?:scores|layers)\.\w+|attention)", text)
    for path in named:
        found = fastattn
        for part in path.split("."):
            found = getattr(found, part)
    assert made or named


@pytest.mark.parametrize(
    ("place", "name", "ours"),
    [
        (fastattn, "MultiHeadAttention", "create('multihead', ...)"),
        (fastattn, "MultiheadAttention", "create('multihead', ...)"),
        (fastattn, "scaled_dot_product_attention", "fastattn.attention(query, key, value)"),
        (fastattn, "BahdanauAttention", "create('bahdanau', ...)"),
        (fastattn, "Attention", "fastattn.attention(query, key, value)"),
        (fastattn.scores, "Bahdanau", "fastattn.scores.Additive"),
        (fastattn.layers, "Dense", "fastattn.layers.Linear"),
        (fastattn.layers, "AdditiveAttention", "create('additive', ...)"),
        (fastattn.variants, "GroupedQueryAttention", "key_heads=..."),
    ],
)
def test_a_name_of_another_library_is_answered(place, name, ours):
    with pytest.raises(AttributeError, match=re.escape(ours)):
        getattr(place, name)


@pytest.mark.parametrize(
    ("make", "name", "ours"),
    [
        (fastattn.create, "global", "create('luong', ...)"),
        (fastattn.create, "self_attention", "create('causal_self_attention', ...)"),
        (fastattn.create, "scaled-dot-product", "fastattn.attention(query, key, value)"),
        (fastattn.scores.create, "bahdanau", "fastattn.scores.Additive"),
    ],
)
def test_so_is_one_given_as_a_string(make, name, ours):
    with pytest.raises(ArgumentError, match=re.escape(ours)):
        make(name)


def test_a_name_of_nobody_is_missing_without_advice():
    with pytest.raises(AttributeError, match=r"has no attribute 'frobnicate'$"):
        fastattn.frobnicate  # noqa: B018


@pytest.mark.parametrize("name", ["layers", "positions", "scale", "seq2seq", "testing", "viz"])
def test_rooms_are_there_without_an_import_of_their_own(name):
    assert getattr(fastattn, name).__name__ == f"fastattn.{name}"
