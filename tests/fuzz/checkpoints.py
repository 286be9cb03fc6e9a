"""Checkpoints that somebody forged: each file is changed, and the manifest and its hashes are made to fit again.

    python tests/fuzz/checkpoints.py [--cases 10000] [--seed 0] [--jobs N]

Every one must be loaded and be of use, for a translation and for a step of a resumed run, or be refused by one line:
no other exception, no large allocation, no hang. The exit status is 1 if one is not; its seed is shown.
"""

import argparse
import contextlib
import copy
import hashlib
import io
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastattn import seq2seq, variants
from fastattn.errors import CheckpointError, ConfigError, FastattnError
from fastattn.seq2seq import checkpoint
from fastattn.seq2seq.runs.tensors import pack
from fastattn.seq2seq.text.tokenizer_files import FILES

PAIRS = [("ab", "ba"), ("abc", "cba"), ("c", "c"), ("bca", "acb")]
HELD_OUT = [("ba", "ab")]

MODELS = {
    "bahdanau": seq2seq.BahdanauConfig(embedding=3, hidden=4, attention=3, readout_width=2),
    "mechanism": seq2seq.BahdanauConfig(
        embedding=3, hidden=4, attention=3, readout_width=2,
        mechanism={"name": "location_sensitive", "filters": 2, "filter_size": 3},
    ),
    "luong": seq2seq.LuongConfig(embedding=3, hidden=4, layers=1, score="location", longest_source=12),
    "transformer": seq2seq.TransformerConfig(
        width=4, heads=2, inner=4, encoder_layers=1, decoder_layers=1, positions="learned", longest=12
    ),
    "t5": seq2seq.TransformerConfig(width=4, heads=2, inner=4, encoder_layers=1, decoder_layers=1, positions="t5"),
    "wu": seq2seq.WuConfig(embedding=3, hidden=4, readout_width=2),
    "cho": seq2seq.ChoConfig(embedding=3, hidden=4, readout_width=2),
    "sutskever": seq2seq.SutskeverConfig(embedding=3, hidden=4, layers=1),
}  # fmt: skip

SECONDS = 10  # for one case; an ordinary one takes a hundredth of one
ROOM = 512 << 20  # bytes beyond what the process has before the first case
LINE = 1500  # characters of a message


def make(model, folder, kind="char", **settings):
    """Train a step, for a checkpoint to forge; return its files."""
    training = seq2seq.TrainingConfig(**{
        "epochs": 0, "max_steps": 1, "tokens_per_batch": 40, "max_length": 10, "schedule": "plateau", "average": 0.5,
        "validate_every": 1, **settings,
    })  # fmt: skip
    config = seq2seq.Config(
        model=model,
        vocabulary=seq2seq.VocabularyConfig(source=kind, target="char"),
        training=training,
        inference=seq2seq.InferenceConfig(beam=2, max_length=5),
    )
    seq2seq.train(config, folder, pairs=PAIRS, validation=HELD_OUT, quiet=True)
    found = checkpoint.load(folder).folder
    return {path.name: path.read_bytes() for path in found.iterdir() if path.name != "manifest.json"}


def write(run, files, about=None, named=None, step=1):
    """Write a checkpoint of a run with a manifest that fits."""
    folder = run / f"checkpoint-{step:08d}"
    folder.mkdir(parents=True)
    content = {
        "step": step, "fastattn": "0.1.0", **(about or {}), "format": (about or {}).get("format", 1),
        "files": {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()},
    }  # fmt: skip
    content["files"].update(named or {})
    for name, data in files.items():
        (folder / name).write_bytes(data)
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**content, "checksum": checksum}))
    (run / "latest").write_text(folder.name + "\n")
    (run / "best").write_text(folder.name + "\n")
    return folder


def tensors(header, data):
    """Return a safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def parts(file):
    """Return the header and the data of a safetensors file."""
    size = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + size]), file[8 + size :]


# Other values of settings that say which way a model is made.
CHOICES = {
    "readout": ["maxout", "linear"], "reset": ["before", "after"], "norm": ["pre", "post"], "tied": ["none", "all"],
    "score": ["dot", "general", "concat", "location"],
    "positions": ["sinusoidal", "learned", "rotary", "alibi", "t5"],
    "mechanism": [{"name": name} for name in variants.names()],
}  # fmt: skip

# What a value is replaced by.
NASTY = [
    0, -1, 1, 2, 3, 8, 1000, 8000, 10**6, 10**9, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**40, -(10**12), 0.0, 0.5,
    1.0, 1e-300, 1e300, -0.5, float("nan"), float("inf"), True, False, None, "", "x", "luong", "word", "char", "bpe",
    "\x1b[31mred", "a\nb", "\ud800", "x" * 5000, [], {}, [1], [[]], ["x"], {"a": 1}, {"name": "additive"},
    {"name": "hard"}, {"name": "multihead", "heads": 2}, {"name": "nothing"}, [0.9, 0.999], [1, 2, 3],
]  # fmt: skip


def nasty(rng):
    """Return a value that is out of place."""
    if rng.random() < 0.05:
        name = rng.choice(variants.names())
        known = [option for option in variants.options(name) if option != "rng"]
        options = {option: rng.choice(NASTY) for option in rng.sample(known, min(len(known), rng.randint(0, 2)))}
        return {"name": name, **options}
    return copy.deepcopy(rng.choice(NASTY))


def change(value, rng):
    """Return a JSON value with one place changed."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.06:
        return nasty(rng)
    if isinstance(value, dict):
        keys = list(value)
        what = rng.random()
        if what < 0.08:
            return {key: item for key, item in value.items() if key != rng.choice(keys)}
        if what < 0.16:
            return {**value, rng.choice([*keys, "new", "\x1b[2J", "__class__", ""]): nasty(rng)}
        key = rng.choice(keys)
        return {**value, key: change(value[key], rng)}
    place = rng.randrange(len(value))
    what = rng.random()
    if what < 0.1:
        return value[:place] + value[place + 1 :]
    if what < 0.2:
        return [*value, value[place]]
    return [*value[:place], change(value[place], rng), *value[place + 1 :]]


def forge_json(data, rng):
    """Change a JSON file: its values, or its text."""
    what = rng.random()
    if what < 0.75:
        value = json.loads(data)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            value = change(value, rng)
        return json.dumps(value).encode()
    if what < 0.80:
        deep = rng.choice([10, 1000, 100_000])
        return b"[" * deep + b"]" * deep if rng.random() < 0.5 else b'{"a":' * deep + b"1" + b"}" * deep
    if what < 0.85:
        return data.replace(b"{", b'{"%s": 1, ' % rng.choice([b"kind", b"step", b"value", b"tokens", b"model"]), 1)
    if what < 0.90:
        number = rng.choice([b"1e999", b"NaN", b"-Infinity", b"1" * 5000, b"-0", b"1E400", b"9" * 400])
        digits = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
        place = rng.choice(digits) if digits else 0
        return data[:place] + number + data[place + 1 :]
    return forge_bytes(data, rng)


def forge_bytes(data, rng):
    """Change some bytes of a file, or its length."""
    data = bytearray(data)
    what = rng.random()
    if what < 0.15:
        return bytes(data[: rng.randrange(len(data) + 1)])
    if what < 0.25:
        return bytes(data) + rng.randbytes(rng.randint(1, 40))
    for _ in range(rng.choice([1, 2, 8])):
        if data:
            data[rng.randrange(len(data))] = rng.choice([0, 255, 34, 92, 123, 0x80, rng.randrange(256)])
    return bytes(data)


def forge_tensors(file, rng):
    """Change a safetensors file: its header or its numbers."""
    header, data = parts(file)
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    entry = header[name]
    what = rng.randrange(14)
    if what == 0:
        entry["dtype"] = rng.choice(["F64", "F16", "BF16", "I8", "U8", "BOOL", "I64", "F8_E4M3", "F4", "C64", "X", 3])
    elif what == 1:
        shape = [*entry["shape"], 1] if rng.random() < 0.5 else entry["shape"][:-1]
        entry["shape"] = rng.choice([shape, entry["shape"][::-1], [0], [2**40, 2**40], [-1], [2**63], [10**9, 0], "x"])
    elif what == 2:
        begin, end = entry["data_offsets"]
        places = [0, end, begin, 4, 2**40, -4, 2**64]
        entry["data_offsets"] = [rng.choice([begin, *places]), rng.choice([end, *places])]
    elif what == 3:
        other = rng.choice(names)
        header[name], header[other] = header[other], header[name]
    elif what == 4:
        header[rng.choice(["\x1b[31m" + name, name + "\n", "", "__class__", "x" * 4000])] = header.pop(name)
    elif what == 5:
        text = json.dumps(header)
        return tensors(("{" + json.dumps(name) + ": " + json.dumps(entry) + ", " + text[1:]).encode(), data)
    elif what == 6:
        header["__metadata__"] = rng.choice([{}, {"a": "b"}, {"a": 1}, [], "x", {"x" * 3000: "y"}])
    elif what == 7:
        del header[name]
    elif what == 8:
        header["more"] = {"dtype": "F32", "shape": [0, rng.choice([0, 10**9, 10**18])], "data_offsets": [0, 0]}
    elif what == 9:
        length = rng.choice([0, 7, len(file), 2**31, 2**63, 2**64 - 1])
        return length.to_bytes(8, "little") + file[8:]
    elif what in (10, 11):
        numbers = np.frombuffer(bytearray(data), "<f4") if len(data) % 4 == 0 else np.zeros(1, "<f4")
        numbers = numbers.copy()
        for _ in range(rng.choice([1, 3, len(numbers)])):
            nasties = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-45, 1e10, 0.0]
            numbers[rng.randrange(len(numbers))] = rng.choice(nasties)
        return tensors(header, numbers.tobytes() if len(data) % 4 == 0 else data)
    elif what == 12:
        return tensors(b" " * rng.choice([0, 8, 1000]) + json.dumps(change(header, rng)).encode(), data)
    else:
        return forge_bytes(file, rng)
    return tensors(header, data)


def resize(files, rng):
    """Give the model other sizes, and tensors that fit them."""
    config = json.loads(files["config.json"])
    table = config["model"]
    for key, value in table.items():
        if type(value) is int and rng.random() < 0.4:
            table[key] = rng.choice([1, 1, 2, 3, 6, 7, 12])
        elif type(value) is bool and rng.random() < 0.3:
            table[key] = not value
        elif key in CHOICES and rng.random() < 0.3:
            table[key] = rng.choice(CHOICES[key])
    if rng.random() < 0.3:
        config["inference"].update(beam=rng.choice([1, 7, 1000]), coverage_penalty=rng.choice([0.0, 0.5]))
    files["config.json"] = json.dumps(config).encode()
    with contextlib.suppress(FastattnError):
        model = seq2seq.Config.from_dict(config).model
        sizes = (4 + len(json.loads(files[f"{side}.vocabulary.json"])["tokens"]) for side in ("source", "target"))
        parameters = seq2seq.build(model, *sizes, seed=rng.randrange(99)).parameters()
        values = {name: parameter.value for name, parameter in parameters.items()}
        files["model.safetensors"] = pack(values)
        moments = {f"{m}.{name}": np.zeros_like(value) for m in "mv" for name, value in values.items()}
        more = {f"value.{name}": value for name, value in values.items()}
        files["state.safetensors"] = pack({"steps": np.array(1), **moments, **more})


def forge_model(file, rng):
    """Change a sentencepiece model: bytes, or the order and number of its fields."""
    what = rng.random()
    if what < 0.6:
        return forge_bytes(file, rng)
    begin, end = sorted(rng.randrange(len(file) + 1) for _ in range(2))
    if what < 0.7:
        return file[:begin] + file[end:]
    if what < 0.8:
        return file[:end] + file[begin:end] * rng.choice([1, 3, 1000 if len(file) < 1000 else 2]) + file[end:]
    field = rng.choice([1, 2, 3, 3, 4, 5, 9])  # pieces, trainer, normalizer, tests, denormalizer, none
    size = rng.choice([0, 4, 40, 400])
    return file + bytes([field << 3 | 2]) + (bytes([size]) if size < 128 else b"\x90\x03") + rng.randbytes(size)


def forge_manifest(rng):
    """Return what the manifest says besides: a step, a format, files."""
    about, named = {}, {}
    what = rng.randrange(4)
    if what == 0:
        about["step"] = nasty(rng)
    elif what == 1:
        about["format"] = nasty(rng)
    elif what == 2:
        name = rng.choice(["../x", "", "a/b", ".", "model.safetensors", "x" * 300, "\x1b[1m", "state.json", "lock"])
        named[name] = rng.choice([[1, "00"], [-1, ""], [2**70, "0"], [0, "x" * 64], "x", None, [], [True, "0"], [1]])
    else:
        about[rng.choice(["files", "new", "checksum", "fastattn"])] = nasty(rng)
        about.pop("checksum", None)
    return about, named


def forge(files, rng):
    """Return changed files, and what the manifest says of them."""
    files, about, named = dict(files), {}, {}
    if rng.random() < 0.15:
        resize(files, rng)
        if rng.random() < 0.7:
            return files, about, named
    for _ in range(rng.choice([1, 1, 1, 2])):
        name = rng.choice([*files, "manifest"])
        if name == "manifest":
            about, named = forge_manifest(rng)
        elif rng.random() < 0.02:
            del files[name]
        else:
            with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):  # broken
                files[name] = FORGERS.get(Path(name).suffix, forge_json)(files[name], rng)
                with contextlib.suppress(KeyError):  # the hash of a tokenizer's file fits as well
                    side, _, rest = name.partition(".")
                    if rest in FILES.values():
                        table = json.loads(files[f"{side}.vocabulary.json"])
                        table["model"] = hashlib.sha256(files[name]).hexdigest()
                        files[f"{side}.vocabulary.json"] = json.dumps(table).encode()
    return files, about, named


FORGERS = {".safetensors": forge_tensors, ".model": forge_model}


class TooSlowError(Exception):
    """A case took too long."""


def _alarm(number, frame):
    raise TooSlowError


def use(run):
    """Translate with the checkpoint in a run's folder, and go on from it; return how each of the two ended."""
    outcomes = []
    for call in (_translate, _resume):
        try:
            call(run)
            outcomes.append("used")
        except FastattnError as error:
            text = str(error)
            if not isinstance(error, CheckpointError if call is _translate else (CheckpointError, ConfigError)):
                # Numbers that are finite, and so large that nothing computed from them is; a tokenizer that fails; or
                # one that cuts a text into more tokens than there may be.
                known = ("NaN from it", "the run has diverged", "its tokenizer fails", "no pair is short enough")
                assert any(words in text for words in known), text
                text = " ".join(text.splitlines())
            if "\n" in text or len(text) > LINE or text.count("Hint: ") != 1:
                raise AssertionError(f"a message of {len(text)} characters: {text[:300]!r}") from error
            outcomes.append(text)
    return outcomes


def _translate(run):
    translator = seq2seq.load(run)
    [found] = translator.translate(["ab"], max_length=5)
    assert isinstance(found, str)


def _resume(run):
    found = checkpoint.load(run)
    try:
        config = seq2seq.Config.from_dict(found.config)
    except ConfigError:  # nobody has such a configuration
        return
    step = found.progress.get("position", {})
    step = step.get("step", 1) if isinstance(step, dict) else 1
    longer = min(step + 1, 2**62) if isinstance(step, int) and step >= 0 else 2
    training = {"max_steps": longer, "epochs": 0, "patience": 0, "checkpoint_every": 0, "keep": 1}
    with contextlib.suppress(ConfigError):  # such values do not go together
        config = replace(config, training=replace(config.training, **training))
        if config.training.validate_every > 1 or config.training.accumulate > 9:
            return
        seq2seq.train(config, run, pairs=PAIRS, validation=HELD_OUT, resume=True, quiet=True)


def main(cases, seed):
    os.fsync = lambda descriptor: None  # a forged checkpoint need not survive a power cut
    signal.signal(signal.SIGALRM, _alarm)
    bad = used = 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as parent:
        base = [make(model, Path(parent, name)) for name, model in MODELS.items()]
        base += [make(MODELS["cho"], Path(parent, kind), kind=kind) for kind in ("bpe", *FILES)]
        run = Path(parent, "run")
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.RLIM_INFINITY))
        for number in range(seed, seed + cases):
            rng = random.Random(number)
            files, about, named = forge(rng.choice(base), rng)
            shutil.rmtree(run, ignore_errors=True)
            write(run, files, about, named)
            signal.alarm(SECONDS)
            try:
                with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                    used += use(run).count("used")
            except BaseException as error:
                signal.alarm(0)
                if isinstance(error, KeyboardInterrupt):
                    raise
                bad += 1
                print(f"seed {number}:\n" + "".join(traceback.format_exception(error)[-6:])[-1800:], flush=True)
            finally:
                signal.alarm(0)
    print(f"{cases} forged checkpoints, {used} uses, {bad} wrong answers, {time.perf_counter() - began:.0f} s")
    return int(bad > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    options = parser.parse_args()
    if options.jobs == 1:
        sys.exit(main(options.cases, options.seed))
    ends = [options.seed + options.cases * job // options.jobs for job in range(options.jobs + 1)]
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--jobs=1", f"--cases={end - begin}", f"--seed={begin}"],
            env={**os.environ, "FASTATTN_NUM_THREADS": "1"},
        )
        for begin, end in itertools.pairwise(ends)
    ]
    sys.exit(max([child.wait() for child in children]))
