"""The exceptions that fastattn raises.

Every one is a `FastattnError`; most are also the built-in exception that a caller would expect. A message names the
argument, says what was expected and what was given, and ends with a line that says what to do::

    mask: expected a bool array, got float32.
    Hint: pass np.asarray(mask, bool) with True = may attend, or bias= to add numbers to the scores.

What is wrong with a file or an installation is said in one line, which begins with the place::

    train.toml: training.rate: expected a number above 0, got -1. Hint: 0.001 suits most models.

Characters in what was given that would steer a terminal are shown as escapes. A failed allocation raises the built-in
`MemoryError`.
"""

from collections.abc import Iterable

from fastattn._printing import one_line, visible

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConfigError",
    "DTypeError",
    "FastattnError",
    "MissingPackageError",
    "PluginError",
    "PluginWarning",
    "ShapeError",
    "TextError",
    "UnsupportedError",
    "describe",
    "describe_file",
    "did_you_mean",
    "hint_of",
    "problem_of",
    "within",
]


_LONGEST = 1000  # characters of what a message quotes


class FastattnError(Exception):
    """Base class of all exceptions that fastattn defines."""


class ShapeError(FastattnError, ValueError):
    """An array has the wrong number of dimensions, or sizes that do not fit together."""


class DTypeError(FastattnError, TypeError):
    """An argument has an element type, or a Python type, that is not accepted there."""


class ArgumentError(FastattnError, ValueError):
    """An argument has a value that is not accepted."""


class UnsupportedError(FastattnError, NotImplementedError):
    """A combination of options that is meaningful but cannot be honoured; nothing is dropped in silence."""


class PluginError(FastattnError):
    """A plugin cannot be loaded, or what it provides is unusable or conflicts with another provider."""


class PluginWarning(UserWarning):
    """A plugin is left out, or something in it is ignored; everything else works."""


class ConfigError(FastattnError, ValueError):
    """A configuration has an unknown key, or a value of the wrong type or out of range."""


class TextError(FastattnError, ValueError):
    """A text cannot be read, or has lines that cannot be used."""


class CheckpointError(FastattnError):
    """A checkpoint cannot be written, is damaged, or does not fit the model."""


class MissingPackageError(FastattnError, ImportError):
    """An optional package is needed and not installed."""


def describe(argument: str, expected: str, got: object, hint: str) -> str:
    """Return the text of an error message.

    Parameters
    ----------
    argument : str
        Name of the argument as the caller wrote it.
    expected : str
        What would have been accepted, without a full stop.
    got : object
        What was given; its `str` is shown.
    hint : str
        One sentence that says what to do.

    Returns
    -------
    str

    Examples
    --------
    >>> from fastattn.errors import ShapeError, describe
    >>> raise ShapeError(describe("key", "last size 8", "last size 4", "project the keys to the width of the query."))
    Traceback (most recent call last):
    fastattn.errors.ShapeError: key: expected last size 8, got last size 4.
    Hint: project the keys to the width of the query.
    """
    found = _shortened(visible(got))
    return f"{visible(argument)}: expected {visible(expected)}, got {found}.\nHint: {visible(hint)}"


def describe_file(place: object, problem: str, hint: str) -> str:
    """Return the text of an error message about a file, in one line.

    Parameters
    ----------
    place : object
        Where the fault is: a path, a path with a line, a key; its `str` is shown.
    problem : str
        What is wrong there, without a full stop.
    hint : str
        One sentence that says what to do.

    Returns
    -------
    str

    Examples
    --------
    >>> from fastattn.errors import describe_file
    >>> describe_file("pairs.tsv, line 3", "no tab", "put a tab between source and target.")
    'pairs.tsv, line 3: no tab. Hint: put a tab between source and target.'
    """
    return one_line(f"{place}: {_shortened(problem)}. Hint: {hint}")


def _shortened(text: str) -> str:
    """Return a text of at most `_LONGEST` characters: what was given may be of any length."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 40]}... ({len(text)} characters)"


def problem_of(error: object) -> str:
    """Return what an error says is wrong, in one line without its hint: to be told within another message.

    Parameters
    ----------
    error : exception or str
        Of fastattn, or any other; or its text.

    Returns
    -------
    str
        Without a full stop.

    Examples
    --------
    >>> from fastattn.errors import ArgumentError, describe, describe_file, problem_of
    >>> error = ArgumentError(describe("hidden", "at least 1", 0, "64 is little."))
    >>> describe_file("config.json", problem_of(error), "use another checkpoint.")
    'config.json: hidden: expected at least 1, got 0. Hint: use another checkpoint.'
    """
    return " ".join(str(error).split()).partition(" Hint: ")[0].rstrip(".")


def hint_of(error: object) -> str:
    """Return the hint of an error: to be given within another message.

    Examples
    --------
    >>> from fastattn.errors import ArgumentError, describe, hint_of
    >>> hint_of(ArgumentError(describe("hidden", "at least 1", 0, "64 is little.")))
    '64 is little.'
    """
    return " ".join(str(error).split()).partition(" Hint: ")[2]


def within(place: object, error: BaseException) -> str:
    """Return the message of an error in one line, with the place where it arose before it.

    Examples
    --------
    >>> from fastattn.errors import ArgumentError, describe, within
    >>> within("model", ArgumentError(describe("hidden", "at least 1", 0, "64 is little.")))
    'model: hidden: expected at least 1, got 0. Hint: 64 is little.'
    """
    return f"{visible(place)}: {' '.join(str(error).splitlines())}"


def did_you_mean(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """Return the hint for a name that is not known.

    Parameters
    ----------
    name : object
        What was given; its `str` is compared.
    known : iterable of str
        What would have been accepted; the message lists it.
    otherwise : str, optional
        The hint where nothing known is similar.

    Returns
    -------
    str

    Examples
    --------
    >>> from fastattn.errors import did_you_mean
    >>> did_you_mean("tahn", ["tanh", "relu"])
    "did you mean 'tanh'?"
    """
    import difflib  # loaded for errors only

    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        letter = foreign_letter(str(name)) if close[0].isascii() else ""
        return f"did you mean {close[0]!r}{f' of ASCII, where {letter}' if letter else ''}?"
    return otherwise or ("use one of these names." if known else "leave it out.")


def foreign_letter(name: str) -> str:
    """Return what the first character of a name is that is not of ASCII, or nothing."""
    import unicodedata  # loaded for errors only

    for letter in name:
        if not letter.isascii():
            return f"{letter!r} is U+{ord(letter):04X}, {unicodedata.name(letter, 'which has no name')}"
    return ""
