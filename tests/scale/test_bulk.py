"""Whole files by an engine: the bytes of lines, whatever the blocks, the inputs' formats, or the interruptions."""

import gzip
import json
from importlib.util import find_spec

import pytest
import training_runs
from hints import Said, command

from fastattn import seq2seq
from fastattn.errors import ArgumentError, CheckpointError, ConfigError, FastattnError, TextError
from fastattn.scale import bulk, engines, translate_files
from fastattn.scale.rows import Block

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

TEXTS = [source for source, _ in training_runs.pairs(50, seed=4)]
parquet = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = training_runs.make_config(max_steps=30, checkpoint_every=30, average=0.0)
    seq2seq.train(config, folder, pairs=training_runs.DATA[0], validation=training_runs.DATA[1], quiet=True)
    return folder


@pytest.fixture(scope="module")
def expected(model):
    """What the translation of lines prints."""
    return command("translate", model, "--beam", "2", read="".join(f"{text}\n" for text in TEXTS))


def written(folder, kind, texts=TEXTS):
    path = folder / f"texts.{kind}"
    if kind == "txt":
        path.write_text("".join(f"{text}\n" for text in texts))
    elif kind == "gz":
        path.write_bytes(gzip.compress("".join(f"{text}\n" for text in texts).encode()))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"id": n, "source": text}) + "\n" for n, text in enumerate(texts)))
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"id": range(len(texts)), "source": texts}), path)
    return path


def translated(model, inputs, output, **more):
    return translate_files(model, inputs, output, quiet=True, **{"beam": 2, **more})


@pytest.mark.parametrize("kind", ["txt", "gz", "jsonl", pytest.param("parquet", marks=parquet)])
@pytest.mark.parametrize("block", [1, 7, 512])
def test_files_have_the_bytes_of_lines(tmp_path, model, expected, kind, block):
    outcome = translated(model, [written(tmp_path, kind)], tmp_path / "out", block=block)
    assert (tmp_path / "out" / "texts.txt").read_text() == expected
    assert (outcome.rows, outcome.bad, outcome.blocks) == (50, 0, -(-50 // block))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"texts.txt", "bad.jsonl", "job.json", "lock"}
    assert translated(model, [written(tmp_path, kind)], tmp_path / "out", block=block) == outcome


def test_rows_that_cannot_be_used_are_reported(tmp_path, model):
    rows = [b'{"source": "ab"}', b"{", b'{"source": 3}', b"[]", b'{"source": "a\\nb"}', b'{"source": "\xff"}',
            b'{"source": "\\ud800"}', b'{"source": ""}', b'{"source": "abc"}']  # fmt: skip
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(rows))
    outcome = translated(model, [tmp_path / "rows.jsonl"], tmp_path / "out", block=2)
    lines = (tmp_path / "out" / "rows.txt").read_text().split("\n")
    good = seq2seq.load(model).translate(["ab", "abc"], beam=2)
    assert lines == [good[0], *[""] * 7, good[1], ""]
    report = [json.loads(line) for line in (tmp_path / "out" / "bad.jsonl").read_text().splitlines()]
    assert [line["row"] for line in report] == [2, 3, 4, 5, 6, 7] and outcome.bad == 6
    assert [line["problem"] for line in report] == [
        "is no JSON", "is not a text: int", "has no 'source'", "has more than one line", "is not UTF-8", "is not UTF-8",
    ]  # fmt: skip


def test_a_job_goes_on_block_by_block(tmp_path, model, expected):
    """An engine fails after some blocks, again and again; what is done is not done again."""
    inputs = [written(tmp_path, "txt"), written(tmp_path, "jsonl", TEXTS[:20]).rename(tmp_path / "more.jsonl")]
    worked = []

    def fails(work, plan, **more):
        for number, result in enumerate(engines.local(work, plan, **more)):
            if number == 2:
                raise CheckpointError("a worker is gone")
            worked.append((result["file"], result["first"]))
            yield result

    for tries in range(3):
        with pytest.raises(CheckpointError, match="a worker is gone"):
            translated(model, inputs, tmp_path / "out", block=10, engine=fails)
        assert len(list((tmp_path / "out" / "blocks").iterdir())) == 2 * (tries + 1)
    outcome = translated(model, inputs, tmp_path / "out", block=10, engine=fails)
    assert sorted(set(worked)) == sorted(worked) and len(worked) == 7
    assert (outcome.blocks, outcome.before, outcome.rows) == (7, 6, 70)
    assert (tmp_path / "out" / "texts.txt").read_text() == expected
    assert (tmp_path / "out" / "more.txt").read_text() == "".join(expected.splitlines(True)[:20])


def test_a_block_whose_texts_have_changed_is_done_again(tmp_path, model):
    def one(work, plan, **more):
        yield next(engines.local(work, plan, **more))
        raise CheckpointError("gone")

    path = written(tmp_path, "txt")
    with pytest.raises(CheckpointError, match="gone"):
        translated(model, [path], tmp_path / "out", block=10, engine=one)
    written(tmp_path, "txt", TEXTS[::-1])
    translated(model, [path], tmp_path / "out", block=10)
    found = (tmp_path / "out" / "texts.txt").read_text()
    assert found.splitlines() == seq2seq.load(model).translate(TEXTS[::-1], beam=2)


def test_results_in_any_order_and_twice(tmp_path, model, expected):
    def reversed_engine(work, plan, **more):
        found = [json.loads(json.dumps(result)) for result in engines.local(work, plan, **more)]
        return iter([*found[::-1], *found[:2]])

    translated(model, [written(tmp_path, "txt")], tmp_path / "out", block=7, engine=reversed_engine)
    assert (tmp_path / "out" / "texts.txt").read_text() == expected


def test_an_engine_that_leaves_a_block_out_is_an_error(tmp_path, model):
    def forgets(work, plan, **more):
        return (result for number, result in enumerate(engines.local(work, plan, **more)) if number != 2)

    with pytest.raises(FastattnError, match=r"row 21 of texts\.txt is in no block that the engine has returned"):
        translated(model, [written(tmp_path, "txt")], tmp_path / "out", block=10, engine=forgets)


def test_another_job_in_the_folder_is_refused(tmp_path, model):
    path = written(tmp_path, "txt", TEXTS[:3])
    translated(model, [path], tmp_path / "out")
    for change, named in (({"beam": 1}, "options"), ({"block": 5}, "block"), ({"column": "x"}, "column")):
        with pytest.raises(ConfigError, match=f"the job in this folder has {named} "):
            translated(model, [path], tmp_path / "out", **change)
    with bulk._alone(tmp_path / "busy", {}), pytest.raises(CheckpointError, match="another job is at work"):
        translated(model, [path], tmp_path / "busy")


def test_wrong_inputs(tmp_path, model):
    path = written(tmp_path, "txt", TEXTS[:3])
    (tmp_path / "texts").write_text("")
    (tmp_path / "wide.txt").write_bytes("wide".encode("utf-16"))
    for inputs, error, text in (
        ([], ConfigError, "name at least one file"),
        ([tmp_path / "nothing"], TextError, "is no file"),
        ([path, tmp_path / "texts"], ConfigError, r"2 of them would be translated to texts\.txt"),
        ([tmp_path / "wide.txt"], TextError, "UTF-16"),
    ):
        with pytest.raises(error, match=text):
            translated(model, inputs, tmp_path / "out")
    with pytest.raises(ConfigError, match="means nothing with the engine local"):
        translated(model, [path], tmp_path / "other", workers=2)
    with pytest.raises(ConfigError, match=r"timeout: 3\.0 means nothing with the engine local"):
        translated(model, [path], tmp_path / "other", timeout=3)
    with pytest.raises(ArgumentError, match="timeout: expected a number"):
        translated(model, [path], tmp_path / "other", timeout=0)


def test_the_command(tmp_path, model, expected):
    path, other = written(tmp_path, "txt"), tmp_path / "rows.jsonl"
    other.write_text('{"text": "ab"}\n{"text": null}\n')
    printed = command("translate", model, path, "-o", tmp_path / "out", "--beam", 2, "--block", 9, "--threads", 1)
    assert printed == f"50 rows in 6 blocks: {tmp_path / 'out'}\n"
    assert (tmp_path / "out" / "texts.txt").read_text() == expected
    printed = command("translate", model, other, "-o", tmp_path / "rows", "--column", "text", "--prefix", "a")
    assert printed.splitlines()[1] == f"1 rows could not be used: {tmp_path / 'rows' / 'bad.jsonl'}"
    assert (tmp_path / "rows" / "rows.txt").read_text().startswith("a")
    for wrong, text in (
        (["--engine", "local"], "means nothing without -o"),
        ([path], "2 files, and one output"),
        (["-o", tmp_path / "x", "--best", "3"], "means nothing with -o"),
        (["-o", tmp_path / "x", "--json"], "means nothing with -o"),
        (["-o", tmp_path / "x", "--sample", "1"], "means nothing with -o"),
    ):
        with pytest.raises(Said, match=text):
            command("translate", model, path, *wrong)
    assert command("translate", model, path, "--beam", 2) == expected


def test_a_block_says_whether_it_is_the_same():
    one = Block(0, 0, ["a", ""], {1: "is no JSON"})
    assert one.digest() == Block(3, 9, ["a", ""], {1: "is no JSON"}).digest()
    assert one.digest() not in (Block(0, 0, ["a", ""]).digest(), Block(0, 0, ["b", ""], {1: "is no JSON"}).digest())
