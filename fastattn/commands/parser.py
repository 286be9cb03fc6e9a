"""The parser of command lines: options and other arguments in any order, and what is wrong in one line."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from fastattn._printing import say
from fastattn.commands.failure import USAGE

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """One whose commands take options before, between and behind the other arguments."""

    _mixing = False  # whether `parse_known_intermixed_args`, which calls `parse_known_args`, is at work

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options; for a command there are no arguments left, or else it is an error."""
        if self._mixing or any(action.nargs == argparse.PARSER for action in self._actions):
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            found, left = self.parse_known_intermixed_args(self._with_lists_at_the_end(list(args)), namespace)
        finally:
            self._mixing = False
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave."""
        say(f"{self.prog}: {' '.join(message.split())}{self._meant(message)}; {self.prog} --help has the options")
        raise SystemExit(USAGE)

    def _with_lists_at_the_end(self, args: list[str]) -> list[str]:
        """Return the arguments with options of many words where nothing follows that they could take for one."""
        end = args.index("--") if "--" in args else len(args)
        head, tail = args[:end], args[end:]
        moved: list[str] = []
        for action in self._actions:
            if action.nargs != "+" or not action.choices:
                continue
            for name in action.option_strings:
                while name in head:
                    start = head.index(name)
                    stop = min(start + 1, len(head) - 1)  # one word at least, though it be wrong
                    while stop + 1 < len(head) and head[stop + 1] in action.choices:
                        stop += 1
                    moved += head[start : stop + 1]
                    del head[start : stop + 1]
        return head + moved + tail

    def _meant(self, message: str) -> str:
        """Return which option an unknown one may stand for."""
        _, found, given = message.partition("unrecognized arguments: ")
        name = given.split("=")[0].split(" ")[0]
        if not found or not name.startswith("--"):
            return ""
        known = [option.removeprefix("--") for option in self._option_string_actions if option.startswith("--")]
        meant = _closest(name.removeprefix("--"), known)
        return f" (did you mean --{meant}?)" if meant else ""


def _closest(name: str, known: Sequence[str]) -> str:
    import difflib

    from fastattn.seq2seq.aliases import ALIASES

    plain = name.lower().replace("-", "_")
    names: Iterable[str] = (own.replace("_", "-") for own in ALIASES.get(plain, ()))
    return next((own for own in names if own in known), "") or next(iter(difflib.get_close_matches(name, known, 1)), "")
