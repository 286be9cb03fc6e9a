"""Attention weights as one HTML page that needs no network, no other file and no other package."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn._strings import items
from fastattn.errors import DTypeError, ShapeError, describe
from fastattn.viz.inputs import check_weights, largest_colour
from fastattn.viz.palette import STEPS, colour, ink
from fastattn.viz.tokens import labels, title_of

__all__ = ["gallery", "page"]

Example = tuple[Array, Sequence[str], Sequence[str]]


def page(
    weights: Array,
    source: Sequence[str],
    target: Sequence[str],
    *,
    title: str | None = None,
    layers: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    normalized: bool = True,
) -> str:
    """Return a page that shows the attention weights of one pair of sentences.

    Parameters
    ----------
    weights : array, shape (Tq, Tk), (H, Tq, Tk) or (L, H, Tq, Tk), float32 or float64
        From 0 to 1; shown with four digits, or six if all are below 0.1. Colours end at 1, or at the largest weight if
        that is below 0.5, as the page says. With several layers or heads the page has a picker for each.
    source, target : sequence of str, lengths Tk and Tq
        A str counts as its characters.
    title : str, optional
    layers, heads : sequence of str, optional
        Their names; by default their numbers.
    normalized : bool
        Whether no row may sum to more than 1, within 1e-3; to less it may, as of local and monotonic attention.

    Returns
    -------
    str
        HTML; `save` writes it to a file. Its policy allows it nothing but its own style and script, so that a token
        can do no harm.

    Raises
    ------
    ShapeError
        If weights, tokens and names do not fit together.
    ArgumentError
        If a weight is NaN or not from 0 to 1, or a row does not sum to 1.
    DTypeError
        If the weights are not float32 or float64, or a token is not a str.

    Notes
    -----
    Under the mouse or the keyboard's cell, the page says the weight, and colours the source sentence by the row's
    weights. Cells are a grid of the ARIA kind with values for screen readers; the colours are cividis.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn import viz
    >>> weights = np.array([[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]])
    >>> viz.page(weights, "the house </s>".split(), ["das", "Haus"], title="das Haus")[:15]
    '<!doctype html>'
    """
    return gallery([(weights, source, target)], title=title, layers=layers, heads=heads, normalized=normalized)


def gallery(
    examples: Sequence[Example],
    *,
    title: str | None = None,
    layers: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    normalized: bool = True,
) -> str:
    """Return one page with several pairs of sentences and a picker for them.

    Parameters
    ----------
    examples : sequence of (weights, source, target)
        As for `page`; all with the same numbers of layers and heads.
    title, layers, heads, normalized
        As for `page`.

    Returns
    -------
    str

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        As `page`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn import viz
    >>> text = viz.gallery([(np.eye(2), "ab", "AB"), (np.eye(3), "abc", "ABC")], title="letters")
    >>> text.count("<table")
    1
    """
    hint = "pass (weights, source, target) of each pair."
    given: Any = list(items("examples", "a list of examples", examples, hint))
    examples = given
    if not examples:
        raise ShapeError(describe("examples", "at least one", 0, hint))
    for number, example in enumerate(given):
        if not isinstance(example, (tuple, list)) or len(example) != 3:
            got = type(example).__name__
            raise DTypeError(describe(f"examples[{number}]", "a tuple of three", got, hint))
    found: list[tuple[str, list[str], list[str], Array]] = []
    sizes: tuple[int, int] | None = None
    for number, (weights, source, target) in enumerate(examples):
        name = "weights" if len(examples) == 1 else f"examples[{number}]"
        columns, rows = labels("source", source), labels("target", target)
        array = check_weights(name, weights, len(rows), len(columns), "LH", normalized)
        if not array.size:
            hint = "leave empty sentences out, or keep their end-of-sentence tokens."
            raise ShapeError(describe(name, "at least one token on either side", f"shape {array.shape}", hint))
        array = array.reshape((1,) * (4 - array.ndim) + array.shape)
        if sizes is not None and sizes != array.shape[:2]:
            expected = f"{sizes[0]} layers and {sizes[1]} heads, as the first example has"
            hint = "make a page for each kind of model."
            raise ShapeError(describe(name, expected, f"{array.shape[0]} and {array.shape[1]}", hint))
        sizes = array.shape[:2]
        found.append((_name(number, rows), columns, rows, np.clip(array, 0, 1)))
    assert sizes is not None
    top = largest_colour(max(array.max() for *_, array in found))
    # Whole numbers, half the size of decimals.
    digits = 4 if top >= 0.1 else 6
    data = {
        "digits": digits,
        "top": round(top * 10**digits) or 1,
        "steps": STEPS,
        "layers": _names("layers", layers, sizes[0]),
        "heads": _names("heads", heads, sizes[1]),
        "examples": [
            {"name": name, "source": columns, "target": rows, "heads": sizes[1],
             "weights": np.rint(array * 10**digits).astype(int).ravel().tolist()}
            for name, columns, rows, array in found
        ],
    }  # fmt: skip
    style = read("page.css") + "".join(map(_rule, range(STEPS + 1)))
    return fill("page", title_of(title) or "Attention", style, data)


def fill(name: str, title: str, style: str, data: dict[str, Any]) -> str:
    """Return the page ``name.html`` with its title, its style, the script ``name.js`` and what this shows."""
    script = read(f"{name}.js")
    # "<" could end the script element, whatever stands in a token.
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(labels("title", [title])[0]),
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "data": text,
    }
    first, *pieces = read(f"{name}.html").split("{{")
    for piece in pieces:  # one pass: what is filled in is not looked through again
        key, rest = piece.split("}}", 1)
        first += parts[key] + rest
    return first


def _name(number: int, target: Sequence[str]) -> str:
    text = " ".join(target)
    return f"{number + 1}: {text if len(text) <= 60 else text[:59] + '...'}"


def _names(argument: str, names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [str(number) for number in range(1, count + 1)]
    found = labels(argument, names)
    if len(found) != count:
        raise ShapeError(describe(argument, f"{count} names", len(found), "name each once, or leave it out."))
    return found


def _rule(step: int) -> str:
    red, green, blue = colour(step)
    return f".c{step}{{background:#{red:02x}{green:02x}{blue:02x};color:{ink((red, green, blue))}}}\n"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def read(name: str) -> str:
    return resources.files("fastattn.viz").joinpath(name).read_text(encoding="utf-8")
