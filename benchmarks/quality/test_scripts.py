"""The scripts run on made-up data in the formats of the real ones: a smoke test, not a measurement."""

import gzip
import json
import random

import pytest

pytest.importorskip("safetensors")
pytest.importorskip("tqdm")

from . import cmudict, common, german, inflection, length, multi30k, sigmorphon

LETTERS = "abcdefgh"


def _words(count):
    rng = random.Random(0)
    return ["".join(rng.choices(LETTERS, k=rng.randint(2, 6))) for _ in range(count)]


def _write(path, lines, packed=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(line + "\n" for line in lines).encode()
    if packed:
        path = path.with_name(path.name + ".gz")
        text = gzip.compress(text)
    path.write_bytes(text)


def run_twice(module, data, tmp_path, *more):
    """The command, twice: the second time everything is read from what the first has left."""
    written = []
    for name in ("first.json", "second.json"):
        fixed = ["--data", str(data), "--runs", str(tmp_path / "runs"), "--quick", "--seeds", "1"]
        assert module.main([*fixed, "--json", str(tmp_path / name), *more]) == 0
        written.append(json.loads((tmp_path / name).read_text()))
    assert written[0]["rows"] == written[1]["rows"]
    assert [run["steps"] for run in written[0]["runs"]] == [run["steps"] for run in written[1]["runs"]]
    assert written[0]["quick"]
    return written[0]


@pytest.fixture
def captions(tmp_path):
    pytest.importorskip("tokenizers")
    pytest.importorskip("sacrebleu")
    words = _words(900)
    for part, count in (("train", 60), ("val", 8), ("test_2016_flickr", 24)):
        lines = [" ".join([*words[5 * n : 5 * n + 5], "."]) for n in range(count)]
        _write(tmp_path / "data" / f"{part}.lc.norm.tok.en", lines, packed=True)
        _write(tmp_path / "data" / f"{part}.lc.norm.tok.de", [line.upper() for line in lines], packed=True)
    return tmp_path / "data"


def test_cmudict(tmp_path, capsys):
    for part, count in (("train", 80), ("dev", 10), ("test", 12)):
        words = [" ".join(word) for word in _words(count)]
        _write(tmp_path / "data" / f"CMUDict.{part}.src", words)
        _write(tmp_path / "data" / f"CMUDict.{part}.trg", [word.upper() for word in words], packed=part == "dev")
    found = run_twice(cmudict, tmp_path / "data", tmp_path, "--weights", "int8")
    assert [row["published"] for row in found["rows"]] == [30.8, 7.3, None, None]
    half = run_twice(cmudict, tmp_path / "data", tmp_path, "--precision", "bfloat16")
    precisions = [run["asked"]["config"]["training"]["precision"] for run in (*found["runs"], *half["runs"])]
    assert precisions == ["float32", "bfloat16"]
    assert "| CMUdict WER, % |" in capsys.readouterr().out


def test_sigmorphon(tmp_path, capsys):
    for language in ("fre", "hin"):
        for part, count in (("train", 60), ("dev", 8), ("test", 10)):
            lines = [f"{word}\t{' '.join(word.upper())}" for word in _words(count)]
            _write(tmp_path / "data" / part / f"{language}_{part}.tsv", lines)
    found = run_twice(sigmorphon, tmp_path / "data", tmp_path, "--languages", "fre", "hin")
    mean = next(row for row in found["rows"] if row["name"] == "**mean WER, %**")
    assert mean["published"] == pytest.approx((6.22 + 6.67) / 2)
    assert "| fre WER, % |" in capsys.readouterr().out


def test_inflection(tmp_path, capsys):
    for part, count in (("train-high", 60), ("dev", 8), ("test", 10)):
        lines = [f"{word[:4]} {word[4:]}\t{word}s\tN;PL" for word in _words(count)]
        _write(tmp_path / "data" / f"german-{part}", lines)
    found = run_twice(inflection, tmp_path / "data", tmp_path, "--languages", "german")
    assert [row["published"] for row in found["rows"]][:4] == [89.6, 0.244, 88.1, 0.282]
    assert [run["mechanism"] for run in found["runs"]] == list(inflection.MECHANISMS)
    asked = {run["mechanism"]: run["asked"]["config"]["model"].get("mechanism") for run in found["runs"]}
    assert {run["mechanism"]: run["asked"]["config"]["model"]["kind"] for run in found["runs"]}["exact"] == "wu"
    assert asked["soft"] is None and asked["sparse"]["normalizer"] == "entmax15"
    assert "| german local_p MLD |" in capsys.readouterr().out


def test_words_to_inflect_are_tags_and_letters(tmp_path):
    for part in ("train-high", "dev", "test"):
        _write(tmp_path / f"german-{part}", ["ab rat\tr ab\tV;PST"])
    data = inflection.read(tmp_path, "german")
    assert data["test"] == [("<V> <PST> a b <space> r a t", "r <space> a b")]
    _write(tmp_path / "german-dev", ["ab\tb"])
    with pytest.raises(OSError, match="two tabs"):
        inflection.read(tmp_path, "german")


def test_multi30k(captions, tmp_path, capsys):
    found = run_twice(multi30k, captions, tmp_path, "--weights", "int8", "bfloat16")
    assert found["rows"][0]["published"] == 39.0 and found["rows"][1]["name"] == "the same models, matrices of int8"
    folder = tmp_path / "runs" / "multi30k-quick-1"
    assert json.loads((folder / "result-int8.json").read_text())["BLEU"] == found["rows"][1]["values"][0]
    (folder / "result-int8.json").unlink()

    def types(translator):
        parameters = translator.model.parameters().items()
        return {name: repr(held.packed()) for name, held in parameters if held.value.ndim == 2}

    assert any("int8" in shown for shown in common.narrowed(folder, "int8", types).values())
    assert "tok:none" in found["runs"][0]["scores"]["signature"]
    assert "test 2016, BLEU" in capsys.readouterr().out


def test_german(tmp_path, capfd):
    for package in ("sentencepiece", "sacrebleu"):
        pytest.importorskip(package)
    words = _words(900)
    for part, count in (("train", 60), ("val", 8), ("test_2016_flickr", 24)):
        lines = [" ".join([*words[5 * n : 5 * n + 5], "."]) for n in range(count)]
        _write(tmp_path / "data" / f"{part}.de", lines, packed=True)
        _write(tmp_path / "data" / f"{part}.en", [line.upper() for line in lines], packed=True)
    arguments = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--quick"]
    assert german.main(arguments) == 0
    out = capfd.readouterr().out
    assert "| Multi30K de-en, test 2016, BLEU |" in out and "| 28.30 |" in out and "tok:13a" in out
    assert german.main(arguments) == 0  # what is finished is read
    assert 'source = "sentencepiece"' in german.configuration(False)


def test_length(captions, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    found = run_twice(length, captions, tmp_path, "--plot", str(tmp_path / "length.png"))
    assert [row["name"] for row in found["rows"]][:2] == ["with attention, 1 joined", "with attention, 2 joined"]
    pairs = found["runs"][0]["scores"]["pairs"]
    assert sum(pairs.values()) == 24 + 12 + 8 + 6
    out = capsys.readouterr().out
    assert "| words of the source | pairs | with attention | without (Cho 2014) | RNNsearch-30 |" in out
    assert (tmp_path / "length.png").stat().st_size > 10_000


def test_a_range_of_lengths_beside_the_published_curve():
    scores = {"length": {"0": 30.0, "5": 10.0, "6": 5.0}, "pairs": {"0": 3, "5": 2, "6": 1}}
    lines = length.by_length([{"kind": "cho", "scores": scores}], ["cho"]).splitlines()
    rows = [row["RNNenc-30"] for key, row in length.FIGURE.items() if 50 < float(key) <= 60]
    assert len(rows) == 9
    assert lines[3].startswith("| 51 to 60 | 2 | 10.0 |") and lines[3].split(" | ")[4] == f"{sum(rows) / 9:.1f}"
    assert lines[4] == "| 61 to 70 | 1 | 5.0 | - | - | - | - |"


def test_captions_joined():
    pairs = [(f"a{n}", f"b{n}") for n in range(5)]
    assert length.join(pairs, 2) == [("a0 a1", "b0 b1"), ("a2 a3", "b2 b3")]
    assert length.join(pairs, 1) == pairs


def test_mean_and_spread():
    row = common.Row("x", [1.0, 2.0, 3.0], 2.5)
    assert row.mean == 2.0 and row.spread == 1.0
    assert common.table([row], "t").splitlines()[2] == "| x | 2.00 +- 1.00 | 3 | 2.50 |"
    assert common.Row("x", [1.0]).spread is None


def test_other_settings_in_the_same_folder_are_refused(captions, tmp_path, capsys, monkeypatch):
    fixed = ["--data", str(captions), "--runs", str(tmp_path / "runs"), "--quick", "--seeds", "1"]
    assert multi30k.main(fixed) == 0
    monkeypatch.setitem(multi30k.PARTS, "train", "val")
    assert multi30k.main(fixed) == 1
    assert "other settings or data" in capsys.readouterr().err


def test_missing_files_are_one_line(tmp_path, capsys):
    assert cmudict.main(["--data", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_files_of_different_lengths_are_refused(tmp_path):
    _write(tmp_path / "a", ["1", "2"])
    _write(tmp_path / "b", ["1"])
    with pytest.raises(OSError, match="2 lines"):
        common.read_parallel(tmp_path / "a", tmp_path / "b")
