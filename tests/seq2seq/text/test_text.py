"""Texts: every line is kept or reported by its number, whatever is on it."""

import gzip
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastattn.errors import ArgumentError, TextError
from fastattn.seq2seq import EOS, UNK, Vocabulary
from fastattn.seq2seq.runs.report import Report
from fastattn.seq2seq.text import files as textfile
from fastattn.seq2seq.text.encoding import encode, encode_pairs, read_lines, read_pairs

TAB = "\x09"


def file(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.replace("|", TAB).encode())
    return path


def whole(report):
    """Whether a report accounts for every line once."""
    numbers = [number for group in report.skipped.values() for number in group]
    assert sorted(set(numbers)) == sorted(numbers)
    assert all(1 <= number <= report.lines for number in numbers)
    return report.kept + len(numbers) == report.lines


def test_pairs_of_one_file(tmp_path):
    path = file(tmp_path, "x.tsv", "a b|x\r\nc|y z\n")
    pairs = read_pairs(path)
    assert (pairs.sources, pairs.targets, pairs.numbers) == (["a b", "c"], ["x", "y z"], [1, 2])
    assert pairs.report == Report(str(path), 2, 2) and str(pairs.report) == f"{path}: 2 of 2 lines kept"


def test_every_fault_of_a_pair_is_reported(tmp_path):
    content = "a|b\n\n  \nc\n|d\ne|\nf|g|h\ni| \n\xff|j\nk|l".replace("|", TAB).encode("latin-1")
    pairs = read_pairs(file(tmp_path, "x.tsv", content))
    assert list(zip(pairs.sources, pairs.targets, pairs.numbers)) == [("a", "b", 1), ("k", "l", 10)]
    assert pairs.report.skipped == {
        "line is empty": (2, 3),
        "line has no tab": (4,),
        "source is empty": (5,),
        "target is empty": (6, 8),
        "line has 3 columns": (7,),
        "line is not UTF-8": (9,),
    }
    assert whole(pairs.report)
    assert "x.tsv: target is empty: 2 lines: 6, 8" in str(pairs.report)


def test_columns_can_be_chosen(tmp_path):
    path = file(tmp_path, "x.tsv", "1|a|b|c\n2|d\n3|e|f\n")
    pairs = read_pairs(path, columns=(3, 2))
    assert (pairs.sources, pairs.targets) == (["b", "f"], ["a", "e"])
    assert pairs.report.skipped == {"line has 2 columns": (2,)}
    with pytest.raises(ArgumentError, match="columns: expected at least 1, got 0"):
        read_pairs(path, columns=(0, 1))


def test_pairs_of_two_files(tmp_path):
    left = file(tmp_path, "x.en", b"a\n\nc\n\xe9\ne\nf\n")
    right = file(tmp_path, "x.de", b"A\nB\n \nD\n\xc3\nF\n")
    pairs = read_pairs(left, right)
    assert list(zip(pairs.sources, pairs.targets, pairs.numbers)) == [("a", "A", 1), ("f", "F", 6)]
    assert pairs.report.skipped == {
        "source is empty": (2,),
        "target is empty": (3,),
        "source is not UTF-8": (4,),
        "target is not UTF-8": (5,),
    }
    assert pairs.report.name == f"{left}, {right}" and whole(pairs.report)


@pytest.mark.parametrize(("left", "right", "longer"), [(5, 3, 0), (3, 5, 1), (3, 3, None)])
def test_unequal_counts_are_reported_line_by_line(tmp_path, left, right, longer):
    paths = [file(tmp_path, f"x{i}", "a\n" * count) for i, count in enumerate((left, right))]
    pairs = read_pairs(*paths)
    assert pairs.numbers == [1, 2, 3] and whole(pairs.report)
    expected = {} if longer is None else {f"line has no partner in {paths[1 - longer]}": (4, 5)}
    assert pairs.report.skipped == expected
    if longer is not None:
        with pytest.raises(TextError, match=r"line has no partner in .*: 2 lines: 4-5\. Hint"):
            read_pairs(*paths, strict=True)


def test_strict_reading_raises_in_one_line(tmp_path):
    path = file(tmp_path, "x.tsv", "a|b\n\n\nc\n")
    with pytest.raises(TextError) as caught:
        read_pairs(path, strict=True)
    assert str(caught.value) == (
        f"{path}: line is empty: 2 lines: 2-3; line has no tab: 1 line: 4. "
        "Hint: correct or remove these lines; training leaves them out unless data.strict is true."
    )
    assert len(read_pairs(file(tmp_path, "y.tsv", "a|b\n"), strict=True).numbers) == 1


def test_only_line_feeds_end_lines(tmp_path):
    odd = "a\x0bb\x0cc\x85d\u2028e\u2029f\rg"
    text = read_lines(file(tmp_path, "x", f"{odd}\r\nlast".encode()))
    assert text.texts == [odd, "last"] and text.numbers == [1, 2]


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = file(tmp_path, "x.tsv", b"\xef\xbb\xbfa\x09b\n\xef\xbb\xbfc\x09d\n")
    assert read_pairs(path).sources == ["a", "\ufeffc"]


def test_lines_and_their_numbers(tmp_path):
    text = read_lines(file(tmp_path, "x", b"one\n\n \xff\n two \n"))
    assert (text.texts, text.numbers) == (["one", " two "], [1, 4])
    assert text.report.skipped == {"line is empty": (2,), "line is not UTF-8": (3,)} and whole(text.report)
    assert read_lines(file(tmp_path, "y", b"")).report == Report(str(tmp_path / "y"), 0, 0)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_that_is_too_long_is_not_held(tmp_path, monkeypatch, mark, end):
    monkeypatch.setattr(textfile, "LONGEST", 10)
    for length in range(8, 60):
        content = mark + b"a" * length + end
        text = read_lines(file(tmp_path, "x", content + (b"next" if end else b"")))
        kept = ["a" * length] if length <= 10 else []
        assert text.texts == kept + (["next"] if end else [])
        assert text.report.skipped == ({} if kept else {"line is longer than 10 bytes": (1,)})


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_no_bytes_break_the_account(tmp_path_factory, left, right):
    folder = tmp_path_factory.mktemp("bytes")
    one, two = file(folder, "a", left), file(folder, "b", right)
    if any(textfile.not_text(side) for side in (left, right)):
        with pytest.raises(TextError):
            read_pairs(one, two)
        return
    text = read_lines(one)
    assert whole(text.report) and text.report.lines == left.count(b"\n") + (left[-1:] not in (b"", b"\n"))
    for arguments in ((one, two), (one,)):
        try:
            pairs = read_pairs(*arguments)
        except TextError as error:
            assert "\n" not in str(error)
        else:
            assert whole(pairs.report) and len(pairs.sources) == len(pairs.targets) == pairs.report.kept


def test_the_standard_input(tmp_path, monkeypatch):
    def give(content):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    give(b"a\x09b\n")
    assert read_pairs("-").targets == ["b"]
    give(b"a\nb\n")
    assert read_lines().texts == ["a", "b"] and not sys.stdin.buffer.closed
    give(b"a\n")
    assert read_pairs("-", file(tmp_path, "x", "x\n")).sources == ["a"]
    with pytest.raises(TextError, match="is named as source and as target"):
        read_pairs("-", "-")


def test_files_that_cannot_be_read(tmp_path):
    good = file(tmp_path, "x", "a\n")
    for arguments in ((tmp_path / "none",), (good, tmp_path / "none"), (tmp_path / "none", good)):
        with pytest.raises(TextError, match=r"none: no such file or directory\. Hint: name a text file"):
            read_pairs(*arguments)
    with pytest.raises(TextError, match="is a directory"):
        read_lines(tmp_path)
    with pytest.raises(ArgumentError, match="columns"):
        read_pairs(good, file(tmp_path, "y", "b\n"), columns=(1, 2))


def test_no_pair_left_is_an_error(tmp_path):
    with pytest.raises(TextError, match=r"no pair can be used \(.*line has no tab: 2 lines: 1-2\)\. Hint: put a tab"):
        read_pairs(file(tmp_path, "x", "a\nb\n"))
    with pytest.raises(TextError, match=r"no pair can be used \(it is empty\)"):
        read_pairs(file(tmp_path, "x", ""))


def test_numbers_are_shown_as_ranges():
    numbers = (1, 2, 3, 7, 9, 10)
    assert str(Report("x", 20, 14, {"r": numbers})).endswith("x: r: 6 lines: 1-3, 7, 9-10")
    assert str(Report("x", 99, 0, {"r": tuple(range(1, 99, 2))})).endswith(": 1, 3, 5, 7, 9, 11, 13, 15, ...")


def test_encoded_pairs_end_with_eos_and_long_ones_are_reported(tmp_path):
    pairs = read_pairs(file(tmp_path, "x.tsv", "a b|x\n\na b c|x\na|x x x\na q|x x\na b c|x x x\n"))
    source, target = Vocabulary(["a", "b", "c"]), Vocabulary(["x"])
    sources, targets, left = encode_pairs(pairs, source, target, max_length=2)
    assert [ids.tolist() for ids in sources] == [[4, 5, EOS], [4, UNK, EOS]]
    assert [ids.tolist() for ids in targets] == [[4, EOS], [4, 4, EOS]]
    assert {ids.dtype for ids in sources + targets} == {np.dtype(np.int32)}
    assert (left.sources, left.targets, left.numbers) == (["a b", "a q"], ["x", "x x"], [1, 5])
    assert left.report.skipped == {
        "line is empty": (2,),
        "source has more than 2 tokens": (3, 6),
        "target has more than 2 tokens": (4,),
    }
    assert whole(left.report) and left.report.lines == 6
    assert pairs.report.skipped == {"line is empty": (2,)}
    assert len(encode_pairs(pairs, source, target)[0]) == 5
    with pytest.raises(TextError, match="no pair is short enough"):
        encode_pairs(left, Vocabulary(["a"], "char"), target, max_length=2)
    shorter = read_pairs(file(tmp_path, "y.tsv", "aa b|x\na|x\nb c d|x\n"))
    left = encode_pairs(shorter, source, target, max_length=2)[2]
    left = encode_pairs(left, Vocabulary(["a"], "char"), target, max_length=2)[2]
    assert left.report.skipped == {"source has more than 2 tokens": (1, 3)} and left.numbers == [2]


def test_long_pairs_may_be_errors(tmp_path):
    pairs = read_pairs(file(tmp_path, "x.tsv", "a|x\nb b|x\n"))
    vocabulary = Vocabulary(["a"])
    with pytest.raises(TextError, match="source has more than 1 tokens: 1 line: 2"):
        encode_pairs(pairs, vocabulary, vocabulary, max_length=1, strict=True)
    with pytest.raises(TextError, match=r"no pair is short enough. Hint: raise max_length"):
        encode_pairs(pairs, vocabulary, vocabulary, max_length=0)


def test_a_text_alone_is_encoded_alike():
    vocabulary = Vocabulary(["a"])
    assert encode(vocabulary, "a q").tolist() == [4, UNK, EOS]
    assert encode(vocabulary, "").tolist() == [EOS] and encode(vocabulary, "").dtype == np.int32


TABLE = "id\tgerman\tenglish\n1\tein Hund\ta dog\n2\t\tb\n3\tdie Katze\tthe cat\n"


@pytest.mark.parametrize("columns", [("german", "english"), (2, "english"), ("german", 3)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("commas", [False, True])
def test_columns_are_named_in_the_first_line(tmp_path, columns, pack, commas):
    path = tmp_path / f"pairs.{'csv' if commas else 'tsv'}{'.gz' if pack is gzip.compress else ''}"
    path.write_bytes(pack(("\ufeff" + (TABLE.replace("\t", ",") if commas else TABLE)).encode()))
    found = read_pairs(path, columns=columns)
    assert (found.sources, found.targets) == (["ein Hund", "die Katze"], ["a dog", "the cat"])
    assert found.numbers == [2, 4] and found.report.skipped == {"source is empty": (3,)}
    assert (found.report.lines, found.report.kept) == (4, 2)
    vocabulary = Vocabulary.build([*found.sources, *found.targets])
    again = encode_pairs(found, vocabulary, vocabulary)[2].report
    assert (again.lines, again.kept) == (4, 2)


def test_columns_that_are_not_there_are_answered_with_those_that_are(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(TABLE)
    with pytest.raises(TextError, match=r"has no column 'germn'; in its first line are id, german, english. Hint: did"):
        read_pairs(path, columns=("germn", "english"))
    path.write_text(TABLE.replace("id", "german"))
    with pytest.raises(TextError, match=r"has two columns 'german'"):
        read_pairs(path, columns=("german", "english"))
    path.write_text("")
    with pytest.raises(TextError, match=r"has no column 'german'"):
        read_pairs(path, columns=("german", "english"))


def test_rows_of_csv_stand_on_a_line_each(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('"a, ""b""",c\nx\n"d\ne",f\ng,"h"\ni,j,k\n')
    found = read_pairs(path)
    assert (found.sources, found.targets) == (['a, "b"', "g"], ["c", "h"])
    skipped = {"line has no comma": (2,), "line is no whole row of CSV": (3, 4), "line has 3 columns": (6,)}
    assert found.report.skipped == skipped
