"""Checkpoints: what is saved comes back, a damaged one is passed over with a word, and the last good one survives."""

import errno
import json
import os
import shutil
import sys

import numpy as np
import pytest

from fastattn.errors import ArgumentError, CheckpointError, MissingPackageError
from fastattn.layers import Linear
from fastattn.seq2seq import Vocabulary
from fastattn.seq2seq.runs import durable
from fastattn.seq2seq.runs.checkpoint import load, mark_best, save, steps
from fastattn.seq2seq.runs.tensors import check_tensors, pack, restore

VOCABULARIES = {"source": Vocabulary(["a", "b"]), "target": Vocabulary(["x", "\u00e9"], "char")}


def arrays(step):
    rng = np.random.default_rng(step)
    return {
        "encoder.w": rng.normal(size=(3, 4)).astype(np.float32),
        "b": rng.normal(size=5),
        "empty": np.zeros((0, 2), np.float32),
        "scalar": np.array(step, np.int64),
        "strided": rng.normal(size=(4, 6))[::2, ::-3].T,
    }


def put(run, step, **options):
    content = {
        "model": arrays(step),
        "state": {"m.b": np.full(5, step, np.float32)},
        "config": {"model": {"kind": "small"}},
        "progress": {"epoch": step, "rate": 0.1, "rng": 2**127 + 1},
        "vocabularies": VOCABULARIES,
    }
    return save(run, step, **{**content, **options})


def same(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype and array.shape == right[name].shape
        assert array.tobytes() == right[name].tobytes()
    return True


def damage(folder, name="model.safetensors", place=-1):
    path = folder / name
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def folders(run):
    return sorted(name for name in os.listdir(run) if name.startswith("checkpoint"))


def test_there_and_back(tmp_path, capsys):
    folder = put(tmp_path / "run", 7)
    assert folder == tmp_path / "run" / "checkpoint-00000007"
    found = load(tmp_path / "run")
    assert (found.folder, found.step, found.warnings) == (folder, 7, ())
    assert same(found.model, arrays(7)) and same(found.state, {"m.b": np.full(5, 7, np.float32)})
    assert found.config == {"model": {"kind": "small"}}
    assert found.progress == {"epoch": 7, "rate": 0.1, "rng": 2**127 + 1}
    assert found.vocabularies == VOCABULARIES
    assert capsys.readouterr().err == ""


def test_the_files_are_those_that_are_promised(tmp_path):
    folder = put(tmp_path, 7)
    assert sorted(os.listdir(folder)) == [
        "config.json", "manifest.json", "model.safetensors", "source.vocabulary.json", "state.json",
        "state.safetensors", "target.vocabulary.json",
    ]  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (
        manifest["format"] == 1
        and manifest["step"] == 7
        and set(manifest["files"]) == set(os.listdir(folder)) - {"manifest.json"}
    )
    assert (tmp_path / "latest").read_text() == "checkpoint-00000007\n"
    assert all(b"pickle" not in path.read_bytes() and path.read_bytes()[:1] != b"\x80" for path in folder.iterdir())


def test_equal_contents_are_equal_files(tmp_path):
    turned = dict(reversed(arrays(7).items()))
    one, two = put(tmp_path / "a", 7), put(tmp_path / "b", 7, model=turned)
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_the_newest_are_kept_and_the_best(tmp_path):
    for step in (10, 20, 30, 40, 50):
        put(tmp_path, step, keep=2, best=step == 20)
    assert steps(tmp_path) == [20, 40, 50]
    assert load(tmp_path).step == 50 and load(tmp_path, "best").step == 20
    mark_best(tmp_path / "checkpoint-00000040")
    put(tmp_path, 60, keep=1)
    assert steps(tmp_path) == [40, 60] and load(tmp_path, "best").step == 40
    assert sorted(os.listdir(tmp_path)) == ["best", "checkpoint-00000040", "checkpoint-00000060", "latest"]


def test_nine_digits_are_later_than_eight(tmp_path):
    for step in (99999999, 100000000):
        put(tmp_path, step)
    assert load(tmp_path).step == 100000000


def test_a_step_saved_again_is_replaced(tmp_path):
    put(tmp_path, 7, progress={"n": 1})
    put(tmp_path, 7, progress={"n": 2})
    assert load(tmp_path).progress == {"n": 2}
    assert folders(tmp_path) == ["checkpoint-00000007"]
    os.rename(tmp_path / "checkpoint-00000007", tmp_path / "checkpoint-00000007.old")
    put(tmp_path / "other", 7, progress={"n": 3})
    os.rename(tmp_path / "other" / "checkpoint-00000007", tmp_path / "checkpoint-00000007")
    assert load(tmp_path).progress == {"n": 3}


def test_the_state_need_not_be_read(tmp_path):
    folder = put(tmp_path, 7)
    (folder / "state.safetensors").unlink()
    assert load(tmp_path, state=False).state == {}
    with pytest.raises(CheckpointError, match="is missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damage, "model.safetensors: its bytes have changed since it was written."),
        (lambda folder: damage(folder, "config.json", 0), "config.json: its bytes have changed"),
        (lambda folder: damage(folder, "manifest.json", 5), "manifest.json: is not a manifest as it was written."),
        (lambda folder: os.truncate(folder / "state.safetensors", 9), "state.safetensors: expected a file of "),
        (lambda folder: os.truncate(folder / "manifest.json", 0), "manifest.json: is not a manifest"),
        (lambda folder: os.unlink(folder / "manifest.json"), "manifest.json: is missing."),
        (lambda folder: os.unlink(folder / "target.vocabulary.json"), "target.vocabulary.json: is missing."),
        (lambda folder: os.rename(folder / "state.json", folder / "x"), "state.json: is missing."),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, capsys, spoil, reason):
    put(tmp_path, 10)
    put(tmp_path, 20)
    spoil(put(tmp_path, 30))
    found = load(tmp_path)
    assert found.step == 20 and same(found.model, arrays(20))
    (warning,) = found.warnings
    assert warning.startswith(f"{tmp_path}/checkpoint-00000030/{reason}")
    assert warning.endswith(". Using checkpoint-00000020 instead.") and "Hint" not in warning
    assert capsys.readouterr().err == f"fastattn: {warning}\n"


def test_two_damaged_checkpoints_are_passed_over(tmp_path):
    put(tmp_path, 10)
    for step in (20, 30):
        damage(put(tmp_path, step))
    found = load(tmp_path)
    assert found.step == 10 and len(found.warnings) == 2


def test_when_none_is_good_all_are_named(tmp_path):
    for step in (20, 30):
        damage(put(tmp_path, step))
    with pytest.raises(CheckpointError, match="none of its checkpoints is good") as caught:
        load(tmp_path)
    text = str(caught.value)
    assert "checkpoint-00000030" in text and "checkpoint-00000020" in text and "\n" not in text
    assert text.count("Hint: ") == 1


def test_a_damaged_best_gives_the_newest(tmp_path, capsys):
    damage(put(tmp_path, 10, best=True))
    put(tmp_path, 20)
    found = load(tmp_path, "best")
    assert found.step == 20 and "checkpoint-00000010" in found.warnings[0]
    assert load(tmp_path).warnings == ()


def test_pointers_to_nothing_are_named(tmp_path):
    put(tmp_path, 10)
    assert "best: what it should name is missing. Using checkpoint-00000010" in load(tmp_path, "best").warnings[0]
    (tmp_path / "latest").write_text("checkpoint-00000099\n")
    assert "latest: checkpoint-00000099 is missing. Using checkpoint-00000010" in load(tmp_path).warnings[0]
    (tmp_path / "latest").write_text("../../other\n")
    assert load(tmp_path).step == 10
    (tmp_path / "latest").unlink()
    assert load(tmp_path).warnings == ()


def test_one_checkpoint_can_be_named(tmp_path):
    put(tmp_path, 10)
    folder = put(tmp_path, 20)
    assert load(tmp_path / "checkpoint-00000010").step == 10
    os.rename(tmp_path / "checkpoint-00000010", tmp_path / "mine")
    assert load(tmp_path / "mine").step == 10
    damage(folder)
    with pytest.raises(CheckpointError, match="its bytes have changed"):
        load(folder)


def test_a_checkpoint_under_the_name_of_another(tmp_path):
    put(tmp_path, 10)
    os.rename(put(tmp_path, 20), tmp_path / "checkpoint-00000030")
    found = load(tmp_path)
    assert found.step == 10 and "is the checkpoint of step 20 under another name" in found.warnings[-1]


def test_a_newer_version_is_not_passed_over(tmp_path, monkeypatch):
    put(tmp_path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "FORMAT", 2)
        put(tmp_path, 20)
    with pytest.raises(CheckpointError, match=r"format 2, and this fastattn knows formats up to 1.*newer fastattn"):
        load(tmp_path)


def test_whole_files_that_are_no_checkpoint(tmp_path):
    put(tmp_path, 10)
    about = {"step": 20}
    good = {"model.safetensors": pack(arrays(1)), "config.json": b"{}", "state.json": b"{}"}
    for name, data, reason in (
        ("model.safetensors", b"\x00" * 20, "is no safetensors file"),
        ("config.json", b"{", "is not a checkpoint"),
        ("source.vocabulary.json", b"{}", "JSON of a vocabulary"),
        ("model.safetensors", None, "model.safetensors"),
    ):
        files = {**good, name: data} if data is not None else {k: v for k, v in good.items() if k != name}
        durable.write_folder(tmp_path / "checkpoint-00000020", files, about)
        found = load(tmp_path)
        assert found.step == 10 and reason in found.warnings[0] and "\n" not in found.warnings[0]


def test_there_is_nothing_to_load(tmp_path):
    with pytest.raises(CheckpointError, match=r"none: no such folder\. Hint"):
        load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        load(tmp_path)
    assert steps(tmp_path) == [] == steps(tmp_path / "none")


def test_a_later_checkpoint_is_not_hidden_nor_lost(tmp_path):
    later = put(tmp_path, 20)
    with pytest.raises(CheckpointError, match=r"is later than step 10, which is to be saved. Hint: save to another"):
        put(tmp_path, 10)
    assert load(tmp_path).step == 20
    damage(later)
    put(tmp_path, 10)
    assert folders(tmp_path) == ["checkpoint-00000010", "checkpoint-00000020.damaged"]
    assert load(tmp_path).step == 10 and load(tmp_path).warnings == ()


def test_what_an_interrupted_save_left_is_removed(tmp_path):
    put(tmp_path, 10)
    for name in ("checkpoint-00000011.tmp", "checkpoint-00000010.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("")
    (tmp_path / "mine.tmp").mkdir()
    assert load(tmp_path).step == 10
    put(tmp_path, 12)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-00000010", "checkpoint-00000012", "latest", "mine.tmp"]


def test_a_kill_while_replacing_loses_nothing(tmp_path):
    os.rename(put(tmp_path, 10), tmp_path / "checkpoint-00000010.old")
    found = load(tmp_path)
    assert found.step == 10 and "checkpoint-00000010 is missing" in found.warnings[0]
    put(tmp_path, 11)
    assert steps(tmp_path) == [10, 11]


@pytest.mark.parametrize("name", ["open", "write", "fsync", "rename", "replace", "mkdir"])
def test_a_full_disk_leaves_the_last_good_one(tmp_path, monkeypatch, name):
    put(tmp_path, 10, best=True)
    real, count = getattr(os, name), 0
    for fails_at in range(30):

        def full(*arguments, at=fails_at, **options):
            nonlocal count
            count += 1
            if count == at + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)

        count = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            try:
                put(tmp_path, 20, keep=1)
            except CheckpointError as error:
                assert "no space left on device" in str(error) and "\n" not in str(error)
                assert load(tmp_path).step in (10, 20) and load(tmp_path, "best").step == 10
                assert "checkpoint-00000020.tmp" not in os.listdir(tmp_path)
        if count <= fails_at:
            break
    assert 0 < fails_at < 29 and load(tmp_path).step == 20
    assert folders(tmp_path) == ["checkpoint-00000010", "checkpoint-00000020"]


def test_a_run_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match=r"run: cannot be used: .*Hint: choose a folder that you may write to"):
        put(tmp_path / "run", 1)


def test_an_old_checkpoint_that_cannot_be_removed_is_named(tmp_path, monkeypatch, capsys):
    put(tmp_path, 1)

    def refuse(folder):
        if folder.name == "checkpoint-00000001":
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(durable, "remove_folder", refuse)
    put(tmp_path, 2, keep=1)
    assert "checkpoint-00000001: an old checkpoint cannot be removed: permission denied." in capsys.readouterr().err


def test_what_is_no_json_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CheckpointError, match="progress is no JSON"):
        put(tmp_path / "run", 1, progress={"loss": float("nan")})
    with pytest.raises(CheckpointError, match="config is no JSON"):
        put(tmp_path / "run", 1, config={"x": np.float32(1)})
    assert not (tmp_path / "run").exists()


def test_wrong_calls(tmp_path):
    with pytest.raises(ArgumentError, match="which"):
        load(tmp_path, "worst")
    for step, keep in ((-1, 1), (1, 0)):
        with pytest.raises(ArgumentError, match="keep"):
            save(tmp_path, step, model={}, state={}, config={}, progress={}, vocabularies={}, keep=keep)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("w"), "1 missing (w)"),
        (lambda found: found.update(x=found["w"], y=found["w"]), "2 unknown (x, y)"),
        (lambda found: found.update(v=found.pop("w")), "1 missing (w), 1 unknown (v)"),
        (lambda found: found.update({f"x{i}": found["w"] for i in range(5)}), "5 unknown (x0, x1, x2, ...)"),
        (lambda found: found.update(w=found["w"].T), "w: expected float32 of shape (2, 3), got float32 of (3, 2)"),
        (lambda found: found.update(w=found["w"].reshape(6)), "got float32 of (6,)"),
        (lambda found: found.update(b=found["b"].astype(np.float64)), "b: expected float32 of shape (3,), got float64"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message):
    layer = Linear(2, 3, rng=np.random.default_rng(0))
    parameters = layer.parameters()
    before = {name: parameter.value.copy() for name, parameter in parameters.items()}
    found = {name: value + 1 for name, value in before.items()}
    change(found)
    with pytest.raises(CheckpointError) as caught:
        restore(parameters, found, "run/checkpoint-00000001")
    assert str(caught.value).startswith("run/checkpoint-00000001: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same({name: parameter.value for name, parameter in parameters.items()}, before)


def test_parameters_are_restored_and_packed_anew():
    layer, other = (Linear(2, 3, rng=np.random.default_rng(seed)) for seed in (0, 1))
    x = np.ones((1, 2), np.float32)
    layer.forward(x)
    restore(layer.parameters(), {name: p.value for name, p in other.parameters().items()}, "x")
    assert np.array_equal(layer.forward(x), other.forward(x))
    with layer.w.edit() as value:
        value[...] = 0
    assert other.w.value.any()


def test_expected_tensors_pass():
    assert check_tensors(arrays(1), arrays(2), "x") is None


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    put(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: put(tmp_path, 2), lambda: load(tmp_path)):
        with pytest.raises(MissingPackageError, match=r"safetensors is needed .*'fastattn\[seq2seq\]'"):
            call()


KILLED = """
import os, random, signal, sys, time
import numpy as np
from fastattn.seq2seq import Vocabulary, checkpoint

def put(step):
    model = {"w": np.full((50, 40), step, np.float32)}
    checkpoint.save("run", step, model=model, state=model, config={}, progress={"step": step},
                    vocabularies={"source": Vocabulary(["a"])}, keep=2, best=step % 3 == 0)

put(1)
began = time.perf_counter()
put(1)
took = time.perf_counter() - began
step, rng, least = 1, random.Random(1), 1
for _ in range(25):
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        while True:
            step += 1
            put(step)
            os.write(writes, b"%d " % step)
    os.close(writes)
    told = b""
    wanted = rng.randrange(3)
    while told.count(b" ") < wanted:  # however slow the disk is, some saves are complete
        told += os.read(reads, 1 << 16)
    time.sleep(rng.uniform(0, 2 * took))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reads, 1 << 16):
        told += more
    os.close(reads)
    least += wanted
    told = [int(word) for word in told.split()] or [step]
    found = checkpoint.load("run")
    assert found.step in (told[-1], told[-1] + 1), (found.step, told)
    assert found.progress == {"step": found.step} and (found.model["w"] == found.step).all()
    assert not found.warnings, found.warnings
    step = found.step
print(step - least)
"""


def test_a_trainer_killed_at_any_moment_loses_nothing_it_had_saved(run_python):
    assert int(run_python("-W", "ignore", "-c", KILLED).stdout) >= 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose best checkpoint is not its last one."""
    import training_runs

    from fastattn import seq2seq

    folder = tmp_path_factory.mktemp("trained")
    # Nothing is translated right so early: no validation is better than the first one, on any machine.
    config = training_runs.make_config(
        metric="accuracy", rate=1e-6, max_steps=12, schedule="constant", keep=9, checkpoint_every=1
    )
    outcome = seq2seq.train(config, folder, pairs=training_runs.DATA[0], validation=training_runs.DATA[1], quiet=True)
    assert outcome.best_step < 12
    return folder, outcome.best_step


def without_checkpoints(run, best):
    for path in run.glob("checkpoint-*"):
        shutil.rmtree(path)


# What is done to a run, and which checkpoint `load` takes then, with what it says: "best", "last", or an error.
HALF_DELETED = {
    "nothing": (lambda run, best: None, "best", ""),
    "best": (lambda run, best: os.unlink(run / "best"), "best", "/best: is missing. Using checkpoint-"),
    "best, and its checkpoint": (
        lambda run, best: (os.unlink(run / "best"), shutil.rmtree(run / f"checkpoint-{best:08d}")), "last",
        "/best: is missing. Using checkpoint-00000012 instead.",
    ),
    "best, and a file of its checkpoint": (
        lambda run, best: (os.unlink(run / "best"), os.unlink(run / f"checkpoint-{best:08d}" / "config.json")), "last",
        "/best: is missing. Using checkpoint-00000012 instead.",
    ),
    "the best checkpoint": (
        lambda run, best: shutil.rmtree(run / f"checkpoint-{best:08d}"), "last", " Using checkpoint-00000012 ",
    ),
    "what best says": (lambda run, best: (run / "best").write_text(""), "last", "Using checkpoint-00000012 instead."),
    "all": (without_checkpoints, "", "has no checkpoint"),
    "best and latest": (
        lambda run, best: (os.unlink(run / "best"), os.unlink(run / "latest")), "best", "/best: is missing. Using",
    ),
    "the log": (lambda run, best: os.unlink(run / "log.jsonl"), "best", ""),
    "an old manifest": (lambda run, best: newer(run / f"checkpoint-{best:08d}"), "", "install a newer fastattn"),
}  # fmt: skip


def newer(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"]
    manifest["format"] = 99
    (folder / "manifest.json").write_text(json.dumps({**manifest, "checksum": durable._checksum(manifest)}))


@pytest.mark.parametrize("name", HALF_DELETED)
def test_what_is_used_in_place_of_a_missing_best_checkpoint_is_said(tmp_path, trained, capsys, name):
    from fastattn import seq2seq
    from fastattn.seq2seq.runs import running as runs

    change, expected, said = HALF_DELETED[name]
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    change(run, trained[1])
    if not expected:
        with pytest.raises(CheckpointError, match=said):
            seq2seq.load(run)
        return
    found = []
    restored = runs._restored
    runs._restored = lambda checkpoint, *more: (found.append(checkpoint.step), restored(checkpoint, *more))[1]
    try:
        seq2seq.load(run)
    finally:
        runs._restored = restored
    err = capsys.readouterr().err
    assert found == [trained[1] if expected == "best" else 12]
    assert said in err and len(err.splitlines()) == bool(said)
