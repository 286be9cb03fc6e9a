"""Command lines of every sort: each does its work, or is refused in one line.

python tests/fuzz/command_lines.py --cases 500
"""

import functools
import sys
from pathlib import Path

import answers
from files import model

NUMBERS = [
    "0",
    "1",
    "2",
    "3",
    "-1",
    "1.5",
    "1e3",
    "nan",
    "inf",
    "1000000000000",
    "9" * 400,
    "",
    "x",
    "0x10",
    "1_0",
    "\u0661",
]
PLACES = [
    "train.tsv", "train.tsv", "train.tsv", "none", ".", "..", "/", "", "-", "--", "-x", "c.toml", "c.toml", "run",
    "a\0b", "x" * 300, "\udcff", "\x1b[2J", "\u540d", "/dev/null", "/dev/full", "map.html", "map.png", "map.svg",
    "map.bmp", "map", "out", "run/map.html", "~", "words", "empty", "locked", "link",
]  # fmt: skip
WORDS = [
    "abc",
    "c d",
    "",
    " ",
    "a\tb",
    "\x1b[31m",
    "\u540d",
    "--json",
    "-o",
    "\udc80",
    "x" * 3000,
    "fastattn.nothing",
    "Class",
]
# Their work is not done here: it takes minutes, and has tests of its own.
SLOW = {"check", "bench", "quickstart"}


@functools.cache
def options():
    """Commands and the options that each has, with how many values they take."""
    from fastattn import cli

    [commands] = [action for action in cli._parser()._actions if action.nargs == "A..."]
    return {
        name: [
            (option, action.nargs, list(action.choices or ()))
            for option, action in parser._option_string_actions.items()
        ]
        for name, parser in commands.choices.items()
    }


def value(random):
    """A value for an option."""
    return random.choice([random.choice(NUMBERS), random.choice(PLACES), random.choice(WORDS), model()])


def line(random):
    """The words of a command line."""
    command = random.choice(list(options()))
    known = options()[command]
    words = []
    for _ in range(random.choice([0, 0, 1, 1, 2, 4])):
        option, nargs, choices = random.choice(known)
        if option in ("-h", "--help") and random.random() < 0.9:
            continue
        if random.random() < 0.1:
            option = option[: random.randrange(1, len(option) + 1)] + random.choice(["", "x", "=3", "=", "-size"])
        count = {0: 0, None: 1, "+": random.randrange(3)}.get(nargs, nargs)
        if random.random() < 0.05:
            count = random.randrange(3)
        words.append([option, *(random.choice(choices) if choices and random.random() < 0.8 else value(random)
                                for _ in range(count))])  # fmt: skip
        if "folder" in option and len(words[-1]) > 1:
            words[-1][1] = random.choice(["run", "new", "train.tsv", "locked", "", "words"])
    usual = {
        "train": [["c.toml"]],
        "translate": [[model()], ["train.tsv"]],
        "score": [[model()], ["train.tsv"]],
        "evaluate": [[model()], ["train.tsv"]],
        "heatmap": [[model()], ["abc"], ["-o", random.choice(["map.html", "map.png"])]],
        "new-plugin": [["mine"]],
    }.get(command, [])
    for place, others in enumerate(usual):
        if random.random() < 0.15:
            others[-1] = value(random)
        if random.random() > 0.1:
            words.insert(min(place, len(words)) if random.random() < 0.5 else random.randrange(len(words) + 1), others)
    if command in SLOW and (command != "quickstart" or not any("x" in word for group in words for word in group)):
        words.append([random.choice(["--frobnicate", "no such plugin"])] * 2)
    if random.random() < 0.05:
        words.append([value(random)])
    if random.random() < 0.03:
        words.insert(random.randrange(len(words) + 1), ["--"])
    name = (
        command
        if random.random() < 0.95
        else random.choice(["", command[:-1], "help", "--version", "-h", "\x1b", "--json"])
    )
    return [name, *(word for group in words for word in group)]


def case(random):
    """Run one command line."""
    folder = Path()
    answers.write_data(folder)
    (folder / "c.toml").write_text(answers.config())
    (folder / "words").write_text("abc\n\nc d\n")
    (folder / "empty").write_text("")
    (folder / "link").symlink_to("train.tsv")
    (folder / "locked").mkdir(mode=0)
    words = line(random)
    yield words, answers.run(words, answers.PAIRS.encode() if random.random() < 0.9 else b"")
    assert (folder / "train.tsv").read_text() == answers.PAIRS, f"{words} wrote over what it read"


if __name__ == "__main__":
    sys.exit(answers.main(__doc__, case))
