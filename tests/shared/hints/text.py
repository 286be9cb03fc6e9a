"""Hints about texts: arguments, files, vocabularies."""

import bz2
import gzip
import io
import lzma
from unittest import mock

from fastattn._strings import path_name, string, string_pairs
from fastattn.seq2seq import (
    Config,
    DataConfig,
    TransformerConfig,
    Vocabulary,
    build,
    encode_pairs,
    read_lines,
    read_pairs,
    read_vocabulary,
)
from fastattn.seq2seq.runs.pretrained import start_embeddings
from fastattn.seq2seq.runs.report import Report
from fastattn.seq2seq.text.encoding import ParallelText
from fastattn.seq2seq.text.files import read_bytes, read_whole
from hints import advice, write

# Arguments
advice(lambda value=3: string("text", value), "pass one text as a str", value="3")
advice(
    lambda value=b"ab": string("text", value),
    "decode it: {value}.",
    lambda: string("text", b"ab".decode("utf-8")),
    value='.decode("utf-8")',
)
VOCABULARY = Vocabulary(["a", "b"])
advice(
    lambda tokens="ab": VOCABULARY.encode(tokens),
    "pass a list of str; a text is to be split first",
    lambda: VOCABULARY.encode(VOCABULARY.split("ab")),
)
PAIRS = ["ab", "cd"]
advice(
    lambda pairs=PAIRS: list(string_pairs("pairs", pairs)), "pass pairs=[(source, target), ...]", pairs=[("ab", "cd")]
)
advice(
    lambda pairs=(PAIRS, PAIRS), sources=PAIRS, targets=PAIRS: list(string_pairs("pairs", pairs)),
    "or of two lists pairs={pairs}.",
    pairs="zip(sources, targets)",
)

advice(lambda path="": path_name("path", path), "pass a path as a str or a pathlib.Path", path="pairs.tsv")
advice(lambda path=3: path_name("path", path), "pass a path as a str or a pathlib.Path", path="pairs.tsv")

# Vocabularies
advice(lambda kind="wrd": Vocabulary(["a"], kind), "did you mean {kind}?", kind="'word'")
advice(lambda tokens=["a", ""]: Vocabulary(tokens), "leave it out", tokens=["a"])
advice(lambda tokens=["a", "a"]: Vocabulary(tokens), "list every token once", tokens=["a"])
MERGES = [("a", "b")]
advice(lambda kind="word": Vocabulary(["a", "b", "ab"], kind, MERGES), "use kind={kind}.", kind='"bpe"')
advice(
    lambda tokens=["a", "b"]: Vocabulary(tokens, "bpe", MERGES),
    "list both parts and the two joined among the tokens",
    tokens=["a", "b", "ab"],
)
advice(
    lambda merges=[("a",)]: Vocabulary(["a", "b", "ab"], "bpe", merges), "pass (left, right) for each", merges=MERGES
)
advice(
    lambda merges=["ab"]: Vocabulary(["a", "b", "ab"], "bpe", merges),
    "pass pairs of tokens, each of them a str",
    merges=MERGES,
)
advice(lambda max_size=4: Vocabulary.build(["a b"], max_size=max_size), "pass max_size={max_size}, say", max_size="64")
advice(lambda max_size=5: Vocabulary.build(["abc"], "bpe", max_size=max_size), "give a larger max_size", max_size=9)
advice(
    lambda min_count=1: Vocabulary.build(["aa aa aa aa b"], "bpe", max_size=6, min_count=min_count),
    "or a min_count that leaves rare characters out",
    min_count=2,
)
advice(lambda ids=[9]: VOCABULARY.decode(ids), "decode with the vocabulary that the ids come from", ids=[4])
advice(
    lambda ids=[0.5]: VOCABULARY.decode(ids),
    "pass ids, such as encode returns",
    lambda: VOCABULARY.decode(VOCABULARY.encode(["a"])),
)
JSON = VOCABULARY.to_json()
advice(lambda text="{}": Vocabulary.from_json(text), "use the text that to_json returned", text=JSON)
advice(
    lambda text=JSON.replace('"format": 1', '"format": 9'): Vocabulary.from_json(text),
    "install a newer fastattn",
    text=JSON.replace('"format": 9', '"format": 1'),
)


advice(
    lambda text=b"a\xff".decode("utf-8", "surrogateescape"): Vocabulary.build([text], "bpe"),
    'decode bytes with errors="replace"',
    text=b"a\xff".decode("utf-8", errors="replace"),
)

LINES = ["a b", "b a"] * 9
TOKENIZER = Vocabulary.build(LINES, "tokenizer", max_size=300)
advice(
    lambda model=b"{}": Vocabulary((), "tokenizer", model=model),
    "name the file that the tokenizer's library saved",
    model=TOKENIZER.model,
)
advice(lambda texts=[" "]: Vocabulary.build(texts, "sentencepiece"), "give texts, or", texts=LINES)
advice(
    lambda min_count=3: Vocabulary.build(["a b", "b a"], "sentencepiece", min_count=min_count),
    "or a lower min_count",
    min_count=1,
)
advice(
    lambda max_size=5, min_count=1: Vocabulary.build(["ab ab ab c"], "sentencepiece", max_size=max_size,
                                                     min_count=min_count),
    "give a larger max_size, or a min_count that leaves rare characters out",
    max_size=30,
    min_count=2,
)  # fmt: skip
advice(
    lambda max_size=99: Vocabulary.build(LINES, "tokenizer", max_size=max_size),
    "give a larger max_size",
    max_size=260,
)
FAILING = (
    b'{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "%s"}}'
)
advice(
    lambda model=FAILING % b"u", text="b": Vocabulary((), "tokenizer", model=model).split(text),
    "correct the tokenizer's file, or the text",
    model=FAILING % b"a",
    text="a",
)
advice(lambda punctuation=True: Vocabulary([], "char", punctuation=punctuation), "leave it out, or", punctuation=False)
advice(lambda kind="char": Vocabulary([], kind, punctuation=True), "use kind={kind} or", kind='"word"')
advice(
    lambda model="x": Vocabulary((), "tokenizer", model=model),
    "read the file: pathlib.Path(...).read_bytes()",
    model=TOKENIZER.model,
)
advice(
    lambda model=b"": Vocabulary((), "tokenizer", model=model),
    'give the file for kind="sentencepiece" or "tokenizer", and none for others',
    model=TOKENIZER.model,
)
advice(
    lambda begin=["b"]: Vocabulary(["a"], "tokenizer", model=TOKENIZER.model, begin=begin),
    "list it among the tokens that are given beside the file of a tokenizer",
    begin=["a"],
)
advice(
    lambda marks="ab": Vocabulary(["a", "b"], "tokenizer", model=TOKENIZER.model, marks=marks),
    "pass a list of str, each of them one of tokens",
    marks=["a", "b"],
)
advice(
    lambda model=TOKENIZER.model + b" ": Vocabulary.from_json(TOKENIZER.to_json(), model),
    "use the file that was saved with the vocabulary",
    model=TOKENIZER.model,
)


# Files
def read(content, name="a.tsv", reader=read_lines, **more):
    return reader(write(name, content), **more)


advice(lambda name="a.tsv": read_lines(name), "name a text file that can be read", lambda: read("a\n"))
advice(lambda closed=True: read_standard_input(closed), "give it something to read", closed=False)


def read_standard_input(closed):
    with mock.patch("sys.stdin", None if closed else io.TextIOWrapper(io.BytesIO(b"a\n"))):
        return read_lines("-")


PACKED = gzip.compress(b"a\n" * 1000)
advice(lambda content=PACKED[:20]: read(content), "copy the file once more", content=PACKED)
advice(
    lambda content=PACKED[:12] + b"\0" * 9 + PACKED[21:]: read(content), "pack it anew", content=gzip.compress(b"a\n")
)
advice(
    lambda content=PACKED: read(content, reader=lambda place: read_whole(place, 9999)),
    "unpack it first (gzip -dc)",
    content=gzip.decompress(PACKED),
)
advice(
    lambda content=lzma.compress(b"a\n"): read(content),
    "unpack it first (xz -dc)",
    content=lzma.decompress(lzma.compress(b"a\n")),
)
advice(lambda content=bz2.compress(b"a\n"): read(content), "unpack it first (bzip2 -dc)", content=b"a\n")
advice(lambda content=b"\x93NUMPY\1": read(content), "write its texts to a text file", content=b"a\n")
for encoding in ("UTF-16", "UTF-32"):
    advice(
        lambda content="\u00e4\n".encode(encoding): read(content),
        f"convert it to UTF-8 (iconv -f {encoding} -t UTF-8)",
        content="\u00e4\n".encode(encoding).decode(encoding).encode("UTF-8"),
    )
advice(lambda content=b"a\1\0\2\3": read(content), "name a file of UTF-8 text", content="a b")
advice(
    lambda content=b"a\rb\r": read(content),
    "end them with LF (tr '\\r' '\\n')",
    content=b"a\rb\r".replace(b"\r", b"\n"),
)
advice(
    lambda content="a" * 99: read(content, reader=lambda place: read_whole(place, 9)),
    "name the file that is meant",
    content="a",
)
advice(
    lambda content="a" * 99: read(content, reader=lambda place: read_bytes(place, 9)),
    "name the file that is meant",
    content="a",
)
advice(
    lambda content=b"\xe4\n": read(content, reader=lambda place: read_whole(place, 9)),
    "save the file as UTF-8",
    content="\u00e4\n",
)


def pairs(content, target=None, **more):
    return read(content, reader=read_pairs, target=target and write("b.tsv", target), **more)


advice(lambda content="a\nb\n": pairs(content), "put a tab between source and target", content="a\tb\n")
advice(lambda target=None: pairs("a\nb\n", target), "or name two files", target="c\nd\n")
advice(lambda target="\n\n": pairs("a\nb\n", target), "name other files", target="c\nd\n")
advice(lambda content="a\tb\nc\n": pairs(content, strict=True), "correct or remove these lines", content="a\tb\nc\td\n")
advice(
    lambda strict=True: pairs("a\tb\nc\n", strict=strict),
    "training leaves them out unless data.strict is true",
    strict=False,
)
TABLE = "id,german,english\n1,a,b\n"
advice(
    lambda columns=("germn", "english"): pairs(TABLE, name="a.csv", columns=columns),
    "did you mean 'german'?",
    columns=("german", "english"),
)
advice(
    lambda columns=("x", 3): pairs(TABLE, name="a.csv", columns=columns),
    "name a column that is there once, or give its number",
    columns=(2, "english"),
)
advice(lambda columns=(0, 1): pairs("a\tb\n", columns=columns), "correct it, or leave it out", columns=(1, 2))
advice(lambda columns=(1, 2): pairs("a\n", "b\n", columns=columns), "leave out columns, or target", columns=None)
advice(
    lambda target="b.tsv": [write("a.tsv", "a\n"), write("b.tsv", "b\n"), read_pairs("b.tsv", target)],
    "name two files",
    target="a.tsv",
)


# Vocabularies and vectors in files
def vocabulary(content, name="a.txt", kind="word", **more):
    return read_vocabulary(write(name, content), kind, **more)


advice(lambda content="a\na\n": vocabulary(content), "list every token once", content="a\n")
advice(lambda content="a\n\nb\n": vocabulary(content), "write one token a line", content="a\nb\n")
advice(
    lambda kind="word": vocabulary(TOKENIZER.model.replace(b"{", b"{\n\n", 1), kind=kind),
    "a file of another sort is of another kind",
    kind="tokenizer",
)
advice(
    lambda content="a\n", name="a.txt", kind="bpe": vocabulary(content, name, kind),
    'name a tokenizer.json, and kind "tokenizer", or a model',
    content=TOKENIZER.model,
    name="tokenizer.json",
    kind="tokenizer",
)
advice(
    lambda content='{"a": "b"}': vocabulary(content, "a.json"), "name a table of numbers by token", content='{"a": 1}'
)
advice(
    lambda kind="word": vocabulary(TOKENIZER.model, "tokenizer.json", kind),
    "a tokenizer.json is of kind {kind}",
    kind='"tokenizer"',
)
SAVED = Vocabulary(["a"], lowercase=True).to_json()
advice(
    lambda lowercase=False: vocabulary(SAVED, "a.json", lowercase=lowercase), "ask for lowercase True", lowercase=True
)
advice(
    lambda content=SAVED, name="a.json": vocabulary(content, name), "or name another file", content="a\n", name="a.txt"
)


def vectors(content, width=2, tied="none", sides=("source",)):
    one = TransformerConfig(width=width, heads=1, inner=2, encoder_layers=1, decoder_layers=1, tied=tied)
    config = Config(model=one, data=DataConfig(**{f"{side}_embeddings": write("a.vec", content) for side in sides}))
    return start_embeddings(build(one, 6, 6, seed=0), config, (VOCABULARY, VOCABULARY))


advice(lambda width=4: vectors("a 1 2\n", width), "set model.width = 2, or", width=2)
advice(lambda content="a 1 2\n": vectors(content, 4), "or name vectors of width 4", content="a 1 2 3 4\n")
advice(lambda content="x 1 2\n": vectors(content), "name vectors of the same language and kind", content="b 1 2\n")
advice(lambda content="a 1 x\n": vectors(content), "correct it, or", content="a 1 2\n")
advice(lambda content="a 1 x\nb 1 2\n": vectors(content), "leave the line out", content="b 1 2\n")
advice(
    lambda sides=("source", "target"): vectors("a 1 2\n", tied="all", sides=sides),
    "name vectors for one of them, of both languages",
    sides=("source",),
)
advice(
    lambda places={"source_embeddings": "a.vec"}: start_embeddings(
        object(), Config(model=TransformerConfig(), data=DataConfig(**places)), (VOCABULARY, VOCABULARY)
    ),
    "leave it out",
    places={},
)
TEXT = ParallelText(["a b"], ["a b"], [1], Report("pairs", 1, 1))
advice(
    lambda max_length=1: encode_pairs(TEXT, VOCABULARY, VOCABULARY, max_length=max_length),
    "raise max_length",
    max_length=2,
)
