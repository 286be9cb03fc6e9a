"""Checkpoints that fit their manifest and are not what was saved: each is of use, or refused by one line at once."""

import json
import random
import resource
import shutil
import time

import numpy as np
import pytest
from fuzz import checkpoints as forging

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import CheckpointError
from fastattn.seq2seq import checkpoint
from fastattn.seq2seq.strict_json import parse_json


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Files of a checkpoint of each kind of model."""
    pytest.importorskip("safetensors")
    parent = tmp_path_factory.mktemp("base")
    return {name: forging.make(model, parent / name) for name, model in forging.MODELS.items()}


def in_json(name, place, value):
    """Replace what is at a place of a JSON file."""

    def forge(files):
        content = json.loads(files[name])
        table = content
        for key in place[:-1]:
            table = table[key]
        table[place[-1]] = value
        return {**files, name: json.dumps(content).encode()}

    return forge


def text(name, before, after):
    """Replace text of a file."""
    return lambda files: {**files, name: files[name].replace(before, after, 1)}


def in_header(change, name="model.safetensors"):
    """Change the header of a safetensors file."""

    def forge(files):
        header, data = forging.parts(files[name])
        header = change(header) or header
        return {**files, name: forging.tensors(header, data)}

    return forge


def entry(key, value, tensor="bridge.w"):
    return in_header(lambda header: header[tensor].update({key: value}))


def number(value, name="model.safetensors"):
    """Replace the last number of the tensors."""

    def forge(files):
        header, data = forging.parts(files[name])
        return {**files, name: forging.tensors(header, data[:-4] + np.float32(value).tobytes())}

    return forge


def renamed(name):
    return in_header(lambda header: header.update({name: header.pop("bridge.w")}))


def twice(header):
    one = json.dumps({"bridge.w": header["bridge.w"]})[1:-1]
    return (one + ", " + json.dumps(header)[1:]).join(["{", ""]).encode()


STATE, CONFIG, SOURCE = "state.json", "config.json", "source.vocabulary.json"
DEEP = b'{"a":' * 200_000 + b"1" + b"}" * 200_000

# What is forged in a checkpoint of "bahdanau", and what the message of `load` names, None: it is loaded.
CORPUS = {
    "nothing": (lambda files: files, None),
    "a size of thousands": (in_json(CONFIG, ("model", "hidden"), 8000), "fewer parameters than the model"),
    "a size of millions": (in_json(CONFIG, ("model", "embedding"), 10**6), "fewer parameters than the model"),
    "a size beyond the type": (in_json(CONFIG, ("model", "hidden"), 2**64), "model.hidden"),
    "another size": (in_json(CONFIG, ("model", "hidden"), 3), "expected float32 of shape"),
    "another kind": (in_json(CONFIG, ("model", "kind"), "cho"), "model"),
    "no kind": (in_json(CONFIG, ("model", "kind"), "\x1b[31m"), "model.kind"),
    "a mechanism": (in_json(CONFIG, ("model", "mechanism"), {"name": "general"}), "tensors do not fit"),
    "a mechanism of layers": (
        in_json(CONFIG, ("model", "mechanism"), {"name": "multihead", "heads": 10**9}), "",
    ),
    "a configuration nested too deeply": (lambda files: {**files, CONFIG: DEEP}, "nested too deeply"),
    "a configuration that is a list": (lambda files: {**files, CONFIG: b"[]"}, "expected a table"),
    "a key twice": (text(CONFIG, b'"hidden": 4', b'"hidden": 9, "hidden": 4'), "a name twice"),
    "a number that is none": (text(CONFIG, b'"hidden": 4', b'"hidden": NaN'), "the number NaN"),
    "a number beyond the type": (text(CONFIG, b'"rate": 0.001', b'"rate": 1e999'), "the number 1e999"),
    "a number of thousands of digits": (text(CONFIG, b'"hidden": 4', b'"hidden": ' + b"4" * 9999), "not a checkpoint"),
    "a long value": (in_json(CONFIG, ("model", "readout"), "x" * 10**6), "model.readout"),
    "an allowed token that there is not": (in_json(CONFIG, ("inference", "allow"), ["zz"]), "inference.allow: "),
    "a forbidden one": (in_json(CONFIG, ("inference", "forbid"), ["zz"]), "inference.forbid: expected"),
    "a token that is none": (in_json(SOURCE, ("tokens", 0), 5), "vocabulary"),
    "a token twice": (in_json(SOURCE, ("tokens",), ["a", "a", "b"]), "twice"),
    "no tokens": (in_json(SOURCE, ("tokens",), []), "source_embedding.w: expected"),
    "tokens by the thousand": (in_json(SOURCE, ("tokens",), [*map(str, range(9999))]), "fewer parameters"),
    "merges of no tokens": (in_json(SOURCE, ("merges",), [["a", "zz"]]), "merges"),
    "a vocabulary of the future": (in_json(SOURCE, ("format",), 99), "format"),
    "a vocabulary that is not text": (lambda files: {**files, SOURCE: b"\xff\xfe"}, "not a checkpoint"),
    "no vocabulary": (lambda files: {k: v for k, v in files.items() if k != SOURCE}, "no source vocabulary"),
    "no tensors": (lambda files: {k: v for k, v in files.items() if "model" not in k}, "model.safetensors"),
    "tensors of a byte": (entry("dtype", "U8"), "no safetensors file"),
    "tensors of an unknown type": (entry("dtype", "X9"), "no safetensors file"),
    "a negative size": (entry("shape", [-4, 4]), "no safetensors file"),
    "a huge size": (entry("shape", [2**40, 2**40]), "no safetensors file"),
    "no elements": (entry("shape", [0, 10**18]), "no safetensors file"),
    "another shape of as many elements": (entry("shape", [2, 8]), "expected float32 of shape (4, 4)"),
    "offsets beyond the file": (entry("data_offsets", [0, 2**40]), "no safetensors file"),
    "offsets in turn": (entry("data_offsets", [64, 0]), "no safetensors file"),
    "a tensor twice": (in_header(twice), "a name twice"),
    "an empty tensor too many": (
        in_header(lambda h: h.update(more={"dtype": "F32", "shape": [0, 10**9], "data_offsets": [0, 0]})), "1 unknown",
    ),
    "a name that steers the terminal": (renamed("\x1b[31mbridge.w\r"), r"\x1b[31mbridge.w\r"),
    "a long name": (renamed("x" * 10**6), "characters)"),
    "a header of gigabytes": (
        lambda files: {**files, "model.safetensors": (2**40).to_bytes(8, "little") + b"{}"}, "no safetensors file",
    ),
    "no header": (lambda files: {**files, "model.safetensors": b""}, "no safetensors file"),
    "NaN": (number(np.nan), "is not finite"),
    "infinity": (number(np.inf), "is not finite"),
    "the largest number": (number(3e38), None),
}  # fmt: skip

# The same of what a resumed run reads besides.
RESUMED = {
    "nothing": (lambda files: files, None),
    "a batch beyond the epoch": (in_json(STATE, ("position", "batch"), 10**9), "batch 1000000000 of an epoch of"),
    "a step before the first": (in_json(STATE, ("position", "step"), -1), "position.step"),
    "a step that is another's": (in_json(STATE, ("position", "step"), 5), "step 5"),
    "an epoch that is a text": (in_json(STATE, ("position", "epoch"), "x"), "position.epoch"),
    "a position that is a list": (in_json(STATE, ("position",), [1, 2]), "position"),
    "no position": (text(STATE, b'"position"', b'"posture"'), "position"),
    "a best value that is a text": (in_json(STATE, ("best", "value"), "x"), "best.value"),
    "a best value that is infinite": (text(STATE, b'"value": ', b'"value": 1e999, "x": '), "the number 1e999"),
    "a schedule that is a text": (in_json(STATE, ("schedule",), "x"), "schedule"),
    "a schedule with a huge count": (in_json(STATE, ("schedule", "reductions"), 10**400), "state"),
    "a schedule with a negative count": (in_json(STATE, ("schedule", "reductions"), -(10**6)), "state"),
    "moments that are NaN": (number(np.nan, "state.safetensors"), "is not finite"),
    "moments of a diverged run": (number(np.inf, "state.safetensors"), "is not finite"),
    "a moment that is missing": (
        in_header(lambda header: {k: v for k, v in header.items() if k != "m.mechanism.v"}, "state.safetensors"), "",
    ),
    "moments of another shape": (
        in_header(lambda h: h["m.bridge.w"].update(shape=[2, 8]), "state.safetensors"), "m.bridge.w",
    ),
}  # fmt: skip


def check(call, expected):
    began = time.perf_counter()
    if expected is None:
        call()
    else:
        with pytest.raises(CheckpointError) as caught:
            call()
        message = str(caught.value)
        assert expected in message and "\n" not in message and message.isprintable(), message
        assert len(message) < forging.LINE and message.count("Hint: ") == 1, message
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("name", CORPUS)
def test_a_forged_checkpoint_is_of_use_or_refused(tmp_path, base, name):
    forge, expected = CORPUS[name]
    folder = forging.write(tmp_path, forge(base["bahdanau"]))
    for place in (tmp_path, folder):
        check(lambda place=place: seq2seq.load(place).translate(["ab"]), expected)


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_goes_on_from_a_forged_checkpoint_or_refuses_it(tmp_path, base, name):
    forge, expected = RESUMED[name]
    forging.write(tmp_path, forge(base["bahdanau"]))
    check(lambda: forging._resume(tmp_path), expected)
    assert checkpoint.steps(tmp_path)[-1] == (2 if expected is None else 1)


def test_a_hostile_checkpoint_of_kilobytes_costs_no_gigabytes(tmp_path, base, run_shared):
    forging.write(tmp_path / "run", CORPUS["a size of thousands"][0](base["bahdanau"]))
    code = """
import resource, time
from fastattn import seq2seq
from fastattn.errors import CheckpointError
import numpy, safetensors.numpy
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)
began = time.process_time()
try:
    seq2seq.load("run")
except CheckpointError as error:
    assert "fewer parameters" in str(error)
    print(time.process_time() - began)
"""
    assert float(run_shared(code).stdout) < 0.5


def test_a_layer_costs_more_than_its_parameters(tmp_path, base):
    """Millions of layers of a parameter each fit into the bytes of one tensor, and not into the number of tensors."""
    files = dict(base["transformer"])
    header = {"x": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 4 << 20]}}
    files["model.safetensors"] = forging.tensors(header, bytes(4 << 20))
    config = json.loads(files["config.json"])
    config["model"].update(width=1, heads=1, inner=1, encoder_layers=1000, decoder_layers=1000, longest=12)
    files["config.json"] = json.dumps(config).encode()
    forging.write(tmp_path, files)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(lambda: seq2seq.load(tmp_path), "fewer parameters than the model")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_random_forgeries(tmp_path, base, capsys):
    """A sample of what `fuzz/checkpoints.py` tries at length."""
    for seed in range(10**6, 10**6 + 150):
        rng = random.Random(seed)
        files, about, named = forging.forge(base[rng.choice(list(base))], rng)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        forging.write(tmp_path / "run", files, about, named)
        forging.use(tmp_path / "run")


def test_a_command_answers_a_forged_checkpoint_by_one_line(tmp_path, base, capsys):
    for number_, name in enumerate(("a size of thousands", "a name that steers the terminal", "NaN")):
        run = tmp_path / str(number_)
        forging.write(run, CORPUS[name][0](base["bahdanau"]))
        assert main(["translate", str(run), __file__]) == 1
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and err.strip().isprintable()


def test_json_is_read_as_it_was_meant_or_refused():
    assert parse_json(b'{"a": [1, 2.5, "x", null, true, 1e-9]}') == {"a": [1, 2.5, "x", None, True, 1e-9]}
    for bad in (b"NaN", b"[-Infinity]", b"1e400", b'{"a": 1, "a": 1}', b"[" * 10**5, b"{", b"\xff", b"1" * 9999):
        with pytest.raises(ValueError):
            parse_json(bad)
