"""Hints of the command line."""

from pathlib import Path
from unittest import mock

from fastattn.seq2seq import Vocabulary, quickstart
from hints import advice, command, write
from hints.runs import run


def translate(*words, read="ab\n"):
    return command("translate", run(), *words, read=read)


advice(lambda words=["--top-k", "3"]: translate(*words), "give --sample SEED", words=["--top-k", "3", "--sample", "1"])
advice(lambda words=["--beam", "3", "--sample", "1"]: translate(*words), "leave out one of them", words=["--beam", "3"])
advice(
    lambda words=["--best", "2", "--alternatives", "2"]: translate(*words),
    "leave out one of them",
    words=["--best", "2"],
)
advice(
    lambda starts="": translate("--prefixes", write("starts", starts)),
    "give a line for each, empty ones too",
    starts="\n",
)
advice(lambda words=["--weights"]: translate(*words), "give --json", words=["--weights", "--json"])
advice(
    lambda words=["--best", "3", "--beam", "2"]: translate(*words),
    "widen the beam",
    words=["--best", "3", "--beam", "3"],
)
advice(
    lambda text=b"a\xff\n": translate(read=text), "put each sentence on a line of its own, of UTF-8 text", text="ab\n"
)
for suffix in (".png", ".html"):
    advice(
        lambda name="map": command("heatmap", run(), "ab", "ba", "-o", name),
        "end it in one of .png, .pdf, .svg, .html, .htm",
        name=f"map{suffix}",
    )
advice(
    lambda name="My-one": command("new-plugin", name), "use lower case letters, digits and underscores", name="my_one"
)


def evaluated(output):
    return command("evaluate", run(), write("a.tsv", "ab\tba\n"), "--translations", output, "--metric", "per")


advice(lambda output="a.tsv": evaluated(output), "write to another file", output="b.txt")


def forgotten(folder):
    write("run/notes.txt", "mine")
    quickstart._forget(Path(folder))


advice(lambda folder="run": forgotten(folder), "choose another --folder", folder="other")


def twice(*words):
    command("new-plugin", "one")
    return command("new-plugin", "one", *words)


advice(lambda: twice(), "choose another name", lambda: command("new-plugin", "two"))
advice(lambda: twice(), "or another --folder", lambda: command("new-plugin", "one", "--folder", "other"))


def without_tokenizers():
    with mock.patch.dict("sys.modules", {"tokenizers": None}):
        return Vocabulary.build(["ab"], "bpe", max_size=9)


advice(without_tokenizers, "run pip install 'fastattn[text]'.", lambda: Vocabulary.build(["ab"], "bpe", max_size=9))
