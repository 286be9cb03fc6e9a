"""Fonts for labels in any script: matplotlib's own font lacks East Asian scripts, among others."""

import unicodedata
import warnings
from collections.abc import Iterable
from functools import cache

from fastattn._printing import visible
from fastattn.errors import describe_file

__all__ = ["drawable", "drawable_title", "families"]

BOX = "\u25a1"
_told: set[str] = set()  # scripts that there was a notice about: one each, however many pictures lack them


def drawable(text: list[str], stacklevel: int) -> tuple[list[str], list[str]]:
    """Return labels with a box for each character that no installed font has, and the families to write them in.

    There is one warning for each script that is drawn as boxes; `stacklevel` is counted from the caller.
    """
    family, missing = families(text)
    if not missing:
        return text, family
    family = list(dict.fromkeys([*family, *families([BOX])[0]]))
    scripts = sorted(set(map(_script, missing)))
    if not _told.issuperset(scripts):
        _told.update(scripts)
        some = ", ".join(scripts)
        problem = f"no installed font has {len(missing)} of the characters, which are drawn as boxes: {some}"
        hint = "install a font for this script, for example one of Noto Sans; pages are written in the browser's."
        warnings.warn(describe_file("labels", problem, hint), stacklevel=stacklevel + 1)
    return ["".join(BOX if c in missing else c for c in label) for label in text], family


def _script(character: str) -> str:
    """Return what the characters like this one are called, as far as their names begin with that."""
    if unicodedata.category(character) in {"So", "Sk"}:
        return "symbols"
    return unicodedata.name(character, "unnamed").split()[0].partition("-")[0].lower()


def drawable_title(title: str, stacklevel: int) -> tuple[str, list[str]]:
    """Return a title of one or more lines as `drawable` does labels, each line made visible."""
    lines, family = drawable([visible(line) for line in title.split("\n")], stacklevel + 1)
    return "\n".join(lines), family


def families(text: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return the font families in which to write the text, and the characters that no installed font has.

    Notes
    -----
    Other fonts than the configured ones are looked into only for characters that these lack.
    """
    from matplotlib import font_manager, rcParams

    configured = list(rcParams["font.family"])
    # Joiners and variation selectors choose among forms of their neighbours; a font without them loses nothing.
    missing = {c for label in text for c in label if not ("\ufe00" <= c <= "\ufe0f" or c in "\u200c\u200d")}
    for family in configured:
        missing -= _characters(font_manager.findfont(font_manager.FontProperties(family=[family])))
    extra: list[str] = []
    if missing:
        # Upright and regular ones, those of the Noto project first, which are made to be complete.
        entries = [e for e in font_manager.fontManager.ttflist if e.style == "normal" and _is_regular(e.weight)]
        for entry in sorted(entries, key=lambda e: (not e.name.startswith("Noto Sans"), e.name, e.fname)):
            found = missing & _characters(entry.fname)
            if found and entry.name not in extra:
                extra.append(entry.name)
                missing -= found
            if not missing:
                break
    return [*configured, *extra], missing


def _is_regular(weight: int | str) -> bool:
    return weight in {"normal", "regular", "book", "medium"} if isinstance(weight, str) else 400 <= weight <= 500


@cache
def _characters(path: str) -> frozenset[str]:
    """Return what a font file can draw, which is nothing for bitmap fonts and for those that draw placeholders."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
    except (OSError, RuntimeError):  # a font that was removed, or that is damaged
        return frozenset()
    name = font.family_name.replace(" ", "").lower()
    if not font.scalable or "lastresort" in name or "coloremoji" in name:
        return frozenset()
    return frozenset(map(chr, font.get_charmap()))
