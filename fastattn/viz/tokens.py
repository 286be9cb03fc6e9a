"""Tokens as labels: every character that one could not see, or that would disturb its surroundings, made visible."""

import unicodedata

from fastattn import _printing as printing
from fastattn._strings import strings

__all__ = ["display_width", "labels", "shorten", "title_of", "visible"]

EMPTY = "(empty)"
SPACE = "\u2423"  # open box
DOTTED_CIRCLE = "\u25cc"
ELLIPSIS = "\u2026"


def labels(name: str, tokens: object) -> list[str]:
    """Return the visible forms of the tokens in the argument called `name`; a str counts as its characters."""
    hint = "pass one str for each, such as text.split(); decode token ids first: vocabulary.decode(ids)."
    return [visible(token) for token in (tokens if isinstance(tokens, str) else strings(name, tokens, hint))]


def title_of(title: object) -> str:
    """Return the argument `title`, "" for None."""
    return "" if title is None else next(iter(strings("title", [title], "pass one str.")))


def visible(token: str) -> str:
    r"""Return the token as it can be shown on one line.

    Parameters
    ----------
    token : str

    Returns
    -------
    str
        An empty token becomes ``(empty)``, a space at either end an open box, a control character, a line separator, a
        lone surrogate or a mark that turns the direction of text its escape, as in messages, and a combining mark that
        stands first is put on a dotted circle. All else stays.

    Examples
    --------
    >>> from fastattn.viz.tokens import visible
    >>> print(visible(""), visible("a\nb"), ascii(visible(" a b")))
    (empty) a\nb '\u2423a b'
    """
    if not token:
        return EMPTY
    core = token.strip(" ")
    before = len(token) - len(token.lstrip(" ")) if core else len(token)
    after = len(token) - len(core) - before
    shown = SPACE * before + printing.visible(core) + SPACE * after
    return DOTTED_CIRCLE + shown if unicodedata.category(shown[0]).startswith("M") else shown


def display_width(label: str) -> int:
    """Return the width in columns of half an ideograph: marks take none, East Asian wide characters two."""
    return sum(
        0 if unicodedata.category(c) in {"Mn", "Me", "Cf"} else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in label
    )


def shorten(label: str, longest: int) -> str:
    """Return the label, or its two ends around an ellipsis if it is wider than `longest` columns."""
    if display_width(label) <= longest:
        return label
    half = (longest - 1) // 2
    return _fit(label, longest - 1 - half) + ELLIPSIS + _fit(label[::-1], half)[::-1]


def _fit(label: str, columns: int) -> str:
    end = 0
    while end < len(label) and display_width(label[: end + 1]) <= columns:
        end += 1
    return label[:end]
