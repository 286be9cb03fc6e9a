"""What is printed, and how: the only file that writes to the standard output and the standard error.

A name of a file, a key, a token or a plugin may hold characters that steer the terminal on which it is shown: escape
sequences, carriage returns, marks that turn the direction of text. In a message they are shown and not obeyed. Data,
such as translations, leave as they are: what reads them wants every byte.
"""

import contextlib
import sys
import unicodedata

__all__ = ["emit", "one_line", "say", "show", "visible"]


def visible(text: object) -> str:
    r"""Return a text, on one line, as all of it can be seen.

    Parameters
    ----------
    text : object
        Its `str` is shown.

    Returns
    -------
    str
        In place of a control character, a line separator, a space of another width, a lone surrogate, or a mark that
        is invisible or turns the direction of text, its escape. The joiners U+200C and U+200D belong to words and stay.

    Examples
    --------
    >>> from fastattn._printing import visible
    >>> print(visible("two\nlines, \x1b[31mred"))
    two\nlines, \x1b[31mred
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character.isprintable() or character in "\u200c\u200d":
        return character
    if unicodedata.category(character) == "Cn":  # newer than Python's tables: the fonts may know it
        return character
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: str) -> str:
    r"""Return a text of several lines as one, made visible.

    Examples
    --------
    >>> from fastattn._printing import one_line
    >>> print(one_line("mask: expected a bool array.\nHint: use mask.astype(bool)."))
    mask: expected a bool array. Hint: use mask.astype(bool).
    """
    return visible(" ".join(part.strip() for part in text.split("\n")))


def say(*lines: object) -> None:
    """Write lines to the standard error, made visible; if nobody can read them, they are not missed."""
    if sys.stderr is None:  # print would take that for the standard output
        return
    with contextlib.suppress(Exception):  # it may be closed, full, or an object of the program's own
        for line in lines:
            print(visible(line), file=sys.stderr, flush=True)


def show(*lines: object) -> None:
    """Write lines to the standard output, made visible."""
    for line in lines:
        print(visible(line))


def emit(line: str) -> None:
    """Write a line of data to the standard output, unchanged."""
    print(line)
