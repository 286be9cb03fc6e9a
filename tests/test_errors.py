"""The exceptions: what they derive from, and the form of their messages."""

import pytest

import fastattn
from fastattn import errors


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ShapeError", ValueError),
        ("DTypeError", TypeError),
        ("ArgumentError", ValueError),
        ("UnsupportedError", NotImplementedError),
        ("PluginError", Exception),
    ],
)
def test_an_error_is_ours_and_the_builtin_one(name, builtin):
    error = getattr(fastattn, name)
    assert error is getattr(errors, name)
    assert issubclass(error, errors.FastattnError) and issubclass(error, builtin)


def test_the_form_of_a_message():
    text = errors.describe("mask", "a bool array", "float32", "use mask.astype(bool).")
    assert text == "mask: expected a bool array, got float32.\nHint: use mask.astype(bool)."
