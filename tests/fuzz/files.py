"""Data files of every sort: each is trained on and translated, or refused by its name.

python tests/fuzz/files.py --cases 200
"""

import bz2
import functools
import gzip
import lzma
import os
import shutil
import sys
import tempfile
from pathlib import Path

import answers

TEXTS = [
    "abc",
    "ba",
    "c d",
    "a",
    "",
    " ",
    "x" * 30,
    "\u540d\u524d",
    "\u05d0\u05d1",
    "e\u0301",
    "\U0001f600",
    "a\x1bb",
    "\u2028",
    "a\rb",
]
BYTES = [
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\r",
    b"\n",
    b"\t",
    b"\x1b[2J",
    b"\xef\xbb\xbf",
    b"\x1f\x8b",
    b"\xe2\x80\xae",
]


# Keys of files that are not pairs.
OTHERS = [f"{side}_{what}" for side in ("source", "target") for what in ("vocabulary", "embeddings")]


def other(random):
    """Bytes that may or may not be a vocabulary, or vectors."""
    lines = [
        random.choice([*"abcd", "", " ", "\u2581a", "<s>", "x" * 99])
        + random.choice(["", "", "", "\t-1.5", "\t0", " 1 2", " 0.5" * 4, " nan" * 4, " 1e39" * 4, " x" * 4])
        for _ in range(random.choice([0, 1, 4, 9]))
    ]
    text = random.choice(["", "", "3 4\n"]) + "\n".join(lines) + "\n"
    text = random.choice([text] * 4 + ['{"a": 1, "b": 0}', '{"model": {}}', "[" * 9999, '{"tokens": []}'])
    return random.choice([bytes, gzip.compress])(text.encode())


@functools.cache
def model():
    """The folder of a model, which stays for all cases."""
    folder = Path(tempfile.mkdtemp())
    before = os.getcwd()
    os.chdir(folder)
    answers.write_data(folder)
    (folder / "c.toml").write_text(answers.config())
    assert answers.run(["train", "c.toml", "--folder", "model", "--quiet"]).status == 0
    os.chdir(before)
    import atexit

    atexit.register(shutil.rmtree, folder)
    return str(folder / "model")


def content(random):
    """Bytes that may or may not be pairs of texts."""
    text = "".join(
        random.choice(TEXTS) + random.choice(["\t"] * 12 + ["", " ", "\t\t"]) + random.choice(TEXTS)
        + random.choice(["\n"] * 12 + ["\r\n", "\r", "\n\n", ""])
        for _ in range(random.choice([0, 1, 2, 8, 30, 200]))
    )  # fmt: skip
    data = text.encode(
        random.choice(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
    )
    for _ in range(random.choice([0, 0, 1, 2, 5])):
        place = random.randrange(len(data) + 1)
        data = data[:place] + random.choice(BYTES) + data[place + random.randrange(2) :]
    pack = random.choice(
        [None] * 8 + [gzip.compress, bz2.compress, lzma.compress, lambda x: gzip.compress(gzip.compress(x))]
    )
    data = pack(data) if pack else data
    if random.random() < 0.1:
        data = data[: random.randrange(len(data) + 1)]
    if random.random() < 0.05:
        data += random.choice(
            [b"a" * 3_000_000, b"a\tb\n" * 200_000, b"\0" * 100_000, b"\t" * 5000, b"a " * 40_000 + b"\tb\n"]
        )
    if random.random() < 0.05:
        data = bytes(random.randrange(256) for _ in range(random.choice([1, 2, 3, 4, 100, 10_000])))
    return data


def put(path, random):
    """Make a file, or something that is none."""
    what = random.randrange(25)
    if what == 0:
        path.mkdir()
    elif what == 1:
        pass
    elif what == 2:
        path.symlink_to(random.choice(["none", path.name, "/dev/null", "/dev/zero", "train.tsv", "/proc/self/mem"]))
    else:
        path.write_bytes(content(random))
        if what == 3:
            path.chmod(0)


def case(random):
    """Give a file to every command that reads one."""
    folder = Path()
    answers.write_data(folder)
    kind = random.choice(list(answers.SIZES))
    text = answers.config(kind)
    if random.random() < 0.3:
        text = text.replace('"char"', random.choice(['"word"', '"bpe"']), random.choice([1, 2]))
    if random.random() < 0.2:
        text = text.replace("validation_every", "validate_every").replace(
            "[training]\n", '[training]\nmetric = "wer"\n'
        )
    used = random.choice(["train", "validation", "both"])
    target = random.random() < 0.3
    names = {"both": ("train", "validation")}.get(used, (used,))
    for name in names:
        text = text.replace(f'"{name}.tsv"', f'"{name}.x"' + (f'\n{name}_target = "{name}.y"' if target else ""))
        put(folder / f"{name}.x", random)
        if target:
            put(folder / f"{name}.y", random)
    if random.random() < 0.4:
        more = ["strict = true", "columns = [2, 1]", 'columns = ["a", "abc"]', *(f'{key} = "o"' for key in OTHERS)]
        text = text.replace("[vocabulary]", random.choice(more) + "\n[vocabulary]", 1)
        put(folder / "o", random)
        if random.random() < 0.5:
            (folder / "o").write_bytes(other(random))
        if random.random() < 0.3:
            text = text.replace('"char"', random.choice(['"sentencepiece"', '"tokenizer"']), 1)
    (folder / "c.toml").write_text(text)
    yield text, answers.run(["train", "c.toml", "--folder", "run", "--quiet"])
    file = f"{names[0]}.x"
    more = ["--target", f"{names[0]}.y"] if target else []
    for arguments in (
        ["translate", model(), file],
        ["translate", model(), file, "--json", "--best", "2", "--beam", "2", "--weights"],
        ["score", model(), file, *more],
        ["evaluate", model(), file, *more, "--metric", "wer", "per", "accuracy", "--translations", "out"],
        ["evaluate", model(), file, "--group", "--columns", "1", "1"],
    ):
        yield arguments, answers.run(arguments)
    if Path(file).is_file() and Path(file).resolve().parent == folder.resolve() and os.access(file, os.R_OK):
        data = Path(file).read_bytes()
        yield "translate < file", answers.run(["translate", model()], data)
        yield "score < file", answers.run(["score", model(), "-"], data)


if __name__ == "__main__":
    sys.exit(answers.main(__doc__, case))
