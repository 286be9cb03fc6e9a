"""Files that are to be text: what is none is named, in one line, wherever it is read."""

import bz2
import gzip
import io
import lzma
import os
import sys
import threading
import zipfile
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastattn import seq2seq, viz
from fastattn.commands.lines import numbered_lines
from fastattn.errors import ConfigError, FastattnError, TextError
from fastattn.seq2seq import read_config, read_lines, read_pairs
from fastattn.seq2seq.text import files as textfile

TEXT = "ein Hund\ta dog\nr\u00f6te\tred\n\u732b\ta cat\n"


def zipped(text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pairs.tsv", text)
    return file.getvalue()


def wide(encoding):
    return TEXT.encode(encoding)


GZIP = gzip.compress(TEXT.encode() * 400)

# What is in the file, and what the message says it is.
WRONG = {
    "UTF-16": (wide("utf-16"), "is UTF-16 text. Hint: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)."),
    "UTF-16, other order": (b"\xfe\xff" + wide("utf-16-be"), "is UTF-16 text"),
    "UTF-16 without a mark": (wide("utf-16-le"), "is UTF-16LE text. Hint: convert it to UTF-8 (iconv -f UTF-16LE -t"),
    "UTF-16, other order, without a mark": (wide("utf-16-be"), "is UTF-16BE text"),
    "UTF-16 without ASCII letters": ("\u732b \u72ac\n\u9ce5\n".encode("utf-16-le"), "is UTF-16LE text"),
    "UTF-16 of a word": ("Hund".encode("utf-16-le"), "is UTF-16LE text"),
    "UTF-32": (wide("utf-32"), "is UTF-32 text"),
    "UTF-32, other order": (b"\0\0\xfe\xff" + wide("utf-32-be"), "is UTF-32 text"),
    "UTF-32 without a mark": (wide("utf-32-le"), "is UTF-32LE text"),
    "UTF-32, other order, without a mark": (wide("utf-32-be"), "is UTF-32BE text"),
    "UTF-16 in gzip": (gzip.compress(wide("utf-16")), "is UTF-16 text"),
    "gzip in gzip": (gzip.compress(GZIP), "is compressed by gzip. Hint: unpack it first (gzip -dc)."),
    "xz": (lzma.compress(TEXT.encode()), "is compressed by xz, not text. Hint: unpack it first (xz -dc)."),
    "bzip2": (bz2.compress(TEXT.encode()), "is compressed by bzip2, not text. Hint: unpack it first (bzip2 -dc)."),
    "zip": (zipped(TEXT), "is a zip archive, not text. Hint: unpack it first (unzip -p)."),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00", "is compressed by zstd, not text"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", "is a picture, not text. Hint: write its texts to a text file."),
    "program": (b"\x7fELF\x02\x01", "is a program, not text"),
    "NUL": (b"a\tb\nc\0d\te\n", "is binary: byte 6 is NUL. Hint: name a file of UTF-8 text."),
    "numbers": (bytes(range(256)) * 40, "is binary: byte 1 is NUL"),
    "gzip cut off": (GZIP[:-9], "its gzip data end too early. Hint: copy the file once more."),
    "gzip damaged": (GZIP[:30] + b"\xff\xff" + GZIP[32:], "its gzip data are damaged"),
    "CR": (b"a\tb\rc\td\r", "has lines that end with CR alone. Hint: end them with LF (tr '\\r' '\\n')."),
}


@pytest.fixture
def place(tmp_path):
    return lambda content: put(tmp_path / "pairs.tsv", content)


def put(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_text_is_named_by_all_that_read(kind, place, monkeypatch):
    content, message = WRONG[kind]
    path = place(content)
    readers = [
        lambda: read_lines(path),
        lambda: read_pairs(path),
        lambda: list(numbered_lines(str(path))),
    ]
    for read in readers:
        with pytest.raises(TextError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: {message}"), str(caught.value)
        assert "\n" not in str(caught.value) and str(caught.value).count("Hint: ") == 1
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    with pytest.raises(TextError, match=r"^(standard input|-): "):
        read_lines()


@pytest.mark.parametrize("kind", [kind for kind in WRONG if "gzip" not in kind and kind != "CR"])
def test_a_configuration_that_is_no_text_is_named(kind, place):
    content, message = WRONG[kind]
    with pytest.raises(ConfigError) as caught:
        read_config(place(content))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        gzip.compress(TEXT.encode()),
        gzip.compress(TEXT.encode("utf-8-sig")),
        gzip.compress(TEXT[:14].encode()) + gzip.compress(TEXT[14:].encode()),
    ],
    ids=["plain", "mark", "gzip", "mark in gzip", "gzip in parts"],
)
@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz"])
def test_text_is_read_by_what_it_is_and_not_by_its_name(content, name, tmp_path, monkeypatch):
    expected = ["ein Hund", "r\u00f6te", "\u732b"]
    assert read_pairs(put(tmp_path / name, content)).sources == expected
    assert [text for _, text in numbered_lines(str(tmp_path / name))] == TEXT.splitlines()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert read_pairs("-").sources == expected
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(content))))
    assert read_pairs("-").sources == expected


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    for content in (TEXT.encode(), GZIP):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
        writer.start()
        assert read_pairs(tmp_path / "pipe").sources[:2] == ["ein Hund", "r\u00f6te"]
        writer.join()
        (tmp_path / "pipe").unlink()


def test_a_line_with_a_nul_far_down_is_left_out_and_reported(place):
    pairs = read_pairs(place(b"a\tb\n" * 5000 + b"c\0\td\n"))
    assert pairs.report.skipped == {"line has a NUL character": (5001,)} and len(pairs.sources) == 5000


def test_carriage_returns_inside_lines_stay(place):
    assert read_lines(place(b"a\rb\nc\r\n")).texts == ["a\rb", "c"]
    assert read_lines(place(b"a\r\nb\r\n")).texts == ["a", "b"]


@pytest.mark.parametrize("wrong", [None, 3, ["a"], "", "a\0b", b"a\0"])
def test_a_path_is_a_path(wrong, tmp_path):
    config = seq2seq.Config(model=seq2seq.ChoConfig())
    for name, read in (("path", read_lines), ("path", read_pairs), ("config", read_config), ("folder", seq2seq.load),
                       ("folder", lambda x: seq2seq.train(config, x, pairs=[("a", "b")])),
                       ("run", seq2seq.checkpoint.load), ("path", lambda x: viz.save("<html>", x))):  # fmt: skip
        with pytest.raises(FastattnError, match=f"^{name}: expected a path, got") as caught:
            read(wrong)
        assert isinstance(caught.value, (TypeError, ValueError))


def test_a_path_that_is_no_file(tmp_path):
    for read in (read_lines, read_config):
        for path in ("/dev/full/x", tmp_path, "x" * 5000):
            with pytest.raises((TextError, ConfigError)) as caught:
                read(path)
            assert "\n" not in str(caught.value)


@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=("Cs",))))
def test_no_text_is_taken_for_something_else(text):
    assert textfile.not_text(b"x" + text.encode()) is None


@given(
    st.text(st.characters(categories=("Lu", "Ll", "Lo", "Nd")), min_size=2), st.sampled_from(["utf-16-le", "utf-16-be"])
)
def test_wide_text_is_never_read(text, encoding):
    content = f"{text[0]} {text}\n".encode(encoding)
    assert textfile.not_text(content) is not None


@given(st.binary(max_size=300), st.sampled_from(["gzip", "plain", "cut", "changed"]))
def test_no_bytes_raise_anything_else(tmp_path_factory, content, how):
    if how != "plain":
        content = zlib.compress(content, wbits=31)
        content = content[: len(content) // 2] if how == "cut" else content
        content = content[:12] + b"\x07" + content[13:] if how == "changed" else content
    path = put(tmp_path_factory.mktemp("bytes") / "x", content)
    try:
        read_lines(path)
    except TextError as error:
        assert "\n" not in str(error)
