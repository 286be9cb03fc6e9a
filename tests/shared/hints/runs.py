"""Hints of training, of checkpoints, and of what is made of them."""

import contextlib
import errno
import fcntl
import functools
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from fastattn import seq2seq
from fastattn.errors import FastattnError
from fastattn.seq2seq import (
    BahdanauConfig,
    Config,
    DataConfig,
    SutskeverConfig,
    TrainingConfig,
    VocabularyConfig,
    checkpoint,
)
from fastattn.seq2seq.runs.durable import _checksum
from fastattn.seq2seq.runs.tensors import unpack
from hints import Said, advice, write

PAIRS = [("ab", "ba"), ("abc", "cba"), ("b", "b"), ("ca", "ac")]
CONFIG = Config(
    DataConfig(),
    BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=4),
    VocabularyConfig("char", "char"),
    TrainingConfig(epochs=0, max_steps=2, tokens_per_batch=30, max_length=5),
)
KEPT = tempfile.TemporaryDirectory()  # for as long as the tests run


def train(folder="run", pairs=PAIRS, resume=False, config=CONFIG, **training):
    config = replace(config, training=replace(config.training, **training))
    return seq2seq.train(config, folder, pairs=pairs, resume=resume, quiet=True)


advice(
    lambda callbacks="TensorBoard": seq2seq.train(CONFIG, "run", pairs=PAIRS, quiet=True, callbacks=callbacks),
    "pass a list of functions of an Event",
    callbacks=[lambda event: None],
)
advice(
    lambda callbacks=("TensorBoard",): seq2seq.train(CONFIG, "other", pairs=PAIRS, quiet=True, callbacks=callbacks),
    "pass a list of functions of an Event",
    callbacks=[seq2seq.TensorBoard()],
)


advice(
    lambda pairs=None: seq2seq.find_rate(CONFIG, pairs=pairs, steps=10, quiet=True),
    "name a file there, or give pairs",
    pairs=PAIRS,
)
for name, wrong in (("lowest", 0), ("highest", 1e-7)):
    right = "1e-6" if name == "lowest" else "1.0"
    advice(
        lambda x=wrong, name=name: seq2seq.find_rate(CONFIG, pairs=PAIRS, steps=10, quiet=True, **{name: x}),
        "{x} is usual",
        x=right,
    )


def beginning(**model):
    shutil.rmtree("other", ignore_errors=True)
    config = replace(CONFIG, model=replace(CONFIG.model, **model))
    return seq2seq.train(config, "other", pairs=PAIRS, quiet=True, init_from=trained())


advice(lambda hidden=8: beginning(hidden=hidden), "give the settings of the model to begin from", hidden=4)


@functools.cache
def trained():
    train(Path(KEPT.name) / "run", checkpoint_every=1)
    return Path(KEPT.name) / "run"


def run(steps=2):
    """Return a folder of a run, of which there is a checkpoint for each step."""
    shutil.rmtree("run", ignore_errors=True)
    shutil.copytree(trained(), "run")
    if steps == 1:
        shutil.rmtree("run/checkpoint-00000002")
    return Path("run")


LAST = Path("checkpoint-00000002")

# Beginning and going on
advice(lambda pairs=None: train(pairs=pairs), "in Python, pairs may be given instead", pairs=PAIRS)
for place in ("a.tsv", "-"):
    advice(
        lambda place="": seq2seq.train(replace(CONFIG, data=DataConfig(place)), "run", quiet=True),
        "name a file of pairs, or - for the standard input",
        lambda place=place: from_file(place),
    )


def from_file(place):
    text = write("a.tsv", "".join(f"{source}\t{target}\n" for source, target in PAIRS))
    with open(text, encoding="utf-8") as file, mock.patch("sys.stdin", file):
        return seq2seq.train(replace(CONFIG, data=DataConfig(place)), "run", quiet=True)


def again(**more):
    return train(run(), max_steps=4, **more)


advice(lambda resume=False: again(resume=resume), "resume, or", resume=True)
advice(lambda: again(), "or choose another folder", lambda: [run(), train("other")])
advice(lambda pairs=PAIRS[1:]: again(pairs=pairs, resume=True), "restore the files", pairs=PAIRS)
advice(lambda: again(pairs=PAIRS[1:], resume=True), "or train in a new folder", lambda: train("other", PAIRS[1:]))
advice(lambda decay=0.5: again(decay=decay, resume=True), "change it back", decay=0.0)
advice(lambda: again(decay=0.5, resume=True), "or train in a new folder", lambda: train("other", decay=0.5))
for lowered in ({"rate": 0.0001}, {"clip": 0.5}):
    advice(
        lambda settings={"rate": 0.01}: again(resume=True, **settings),
        "only training.rate and training.clip may be lowered",
        settings=lowered,
    )


def diverging(rate, clip=0.0, pairs=PAIRS):
    with np.errstate(all="ignore"):
        return train("run", pairs, resume=True, rate=rate, clip=clip, epsilon=1e-300 if rate > 1 else 1e-8)


def diverged_and(rate=None, clip=None):
    """Diverge after a checkpoint; go on with other settings."""
    run()
    with np.errstate(all="ignore"):
        with contextlib.suppress(FastattnError):
            train("high", rate=1e38, checkpoint_every=1, max_steps=9)
        return train(
            "high", rate=rate or 1e38, clip=1.0 if clip is None else clip, checkpoint_every=1, max_steps=9, resume=True
        )


advice(lambda rate=1e38: diverged_and(rate=rate), "lower training.rate", rate=1e-3)
advice(
    lambda rate=None, clip=None: diverged_and(rate, clip),
    "or training.clip, and resume: the last checkpoint is from before",
    rate=1e-3,
    clip=0.5,
)


@contextlib.contextmanager
def failing(function, number):
    """Let a function of `os` fail as the file system does."""
    with mock.patch(f"os.{function}", side_effect=OSError(number, os.strerror(number))):
        yield


def saved(number=None, folder="run"):
    with failing("fsync", number) if number else contextlib.nullcontext():
        return train(folder)


advice(lambda number=errno.ENOSPC: saved(number), "MB or more and go on; what was saved before is intact", number=None)
advice(lambda number=errno.EROFS: saved(number), "choose a folder that you may write to; what was saved", number=None)
advice(lambda number=errno.EIO: saved(number), "check the disk; what was saved before is intact", number=None)
advice(
    lambda folder="a.txt/run": [write("a.txt", ""), saved(folder=folder)],
    "choose a folder that you may write to",
    folder="run",
)


def locked(other="run"):
    Path("run").mkdir(exist_ok=True)
    with open("run/lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return train(other)


advice(lambda: locked(), "wait for it", lambda: train())
advice(lambda other="run": locked(other), "or choose another folder", other="other")


def logged(strict=False):
    said = []
    Path("run/log.jsonl").mkdir(parents=True)
    with mock.patch("fastattn.seq2seq.runs.runlog.say", said.append):
        outcome = train()
    if strict:
        raise Said(said[0])
    return outcome


advice(
    lambda strict=True: logged(strict),
    "training goes on; lines are missing from its log",
    lambda: [shutil.rmtree("run"), logged()],
)


# Checkpoints
def save(run="run", step=3, **more):
    given = {"model": {}, "state": {}, "config": {}, "progress": {}, "vocabularies": {}, **more}
    return checkpoint.save(run, step, **given)


advice(lambda step=-1: save(step=step), "count steps from {step}; ", step="0")
advice(lambda keep=0: save(keep=keep), "keep={keep} is usual", keep="3")
advice(lambda run="a.txt": [write("a.txt", ""), save(run)], "choose a folder that you may write to", run="b")
advice(lambda folder="run": [save("run"), save(folder, 2)], "save to another folder", folder="other")
advice(
    lambda remove=False: [save("run"), remove and shutil.rmtree("run/checkpoint-00000003"), save("run", 2)],
    "or remove it",
    remove=True,
)
advice(lambda progress={"loss": np.inf}: save(progress=progress), "save finite numbers only", progress={"loss": 1.0})
advice(lambda which="first": checkpoint.load(run(), which), "pass which='last'", which="last")
advice(lambda which="bset": seq2seq.load(run(), which), "did you mean 'best'?", which="best")
advice(
    lambda folder="none": [run(), checkpoint.load(folder)], "name the folder of a run that has saved one", folder="run"
)


def damaged(name="model.safetensors", content=b"", folder=LAST):
    """A run of which one checkpoint has a file with other bytes, or without it."""
    path = run() / folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content or path.read_bytes()[:-1] + b"!")
    return path


def loaded(restore=False, other=LAST, **more):
    path = damaged(**more)
    if restore:
        shutil.copy(trained() / LAST / path.name, path)
    return checkpoint.load(Path("run") / other)


for more in ({}, {"content": b"!"}, {"content": None}, {"name": "manifest.json", "content": b"{}"}):
    advice(lambda restore=False, more=more: loaded(restore, **more), "restore it from a copy", restore=True)
    advice(
        lambda other=LAST, more=more: loaded(other=other, **more),
        "or use another checkpoint",
        other="checkpoint-00000001",
    )


def all_damaged(mend=False, anew=False):
    damaged()
    shutil.rmtree("run/checkpoint-00000001")
    if mend:
        shutil.copytree(trained() / LAST, Path("run") / LAST, dirs_exist_ok=True)
    return train("other") if anew else checkpoint.load("run")


advice(lambda mend=False: all_damaged(mend), "restore one from a copy", mend=True)
advice(lambda anew=False: all_damaged(anew=anew), "or train anew in another folder", anew=True)


def manifest(**changes):
    path = run() / LAST / "manifest.json"
    content = {**json.loads(path.read_text()), **changes}
    del content["checksum"]
    path.write_text(json.dumps({**content, "checksum": _checksum(content)}))
    return checkpoint.load(Path("run") / LAST)


advice(lambda changes={"format": 99}: manifest(**changes), "install a newer fastattn", changes={"format": 1})
advice(
    lambda name="checkpoint-00000005": [
        run(),
        os.rename(Path("run") / LAST, Path("run") / name),
        checkpoint.load(Path("run") / name),
    ],
    "give it back its name",
    name=LAST.name,
)


def forged(load=seq2seq.load, **changes):
    """Load a checkpoint that is whole, of which some contents are not those that training saved."""
    found = checkpoint.load(trained())
    content = {name: getattr(found, name) for name in ("model", "state", "config", "progress", "vocabularies")}
    for name, change in changes.items():
        content[name] = change(content[name])
    checkpoint.save("run", 2, **content)
    return load("run")


def cut(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


def same(content):
    return content


advice(lambda change=cut("source"): forged(vocabularies=change), "use another checkpoint", change=same)
advice(
    lambda change=lambda config: {**config, "inference": {"allow": ["A"]}}: forged(config=change),
    "use another checkpoint",
    change=same,
)
for wrong in (
    lambda config: {**config, "new": {}},
    lambda config: {**config, "model": {**config["model"], "hidden": 0}},
):
    advice(lambda change=wrong: forged(config=change), "install the fastattn that wrote it", change=same)
for wrong in (cut("bridge.w"), lambda model: {**model, "bridge.w": model["bridge.w"][:1]}):
    advice(
        lambda change=wrong: forged(model=change),
        "use the configuration and the vocabularies that were saved with it",
        change=same,
    )
advice(
    lambda change=lambda model: {**model, "bridge.w": model["bridge.w"] * np.float32(np.nan)}: forged(model=change),
    "use an earlier checkpoint",
    lambda: seq2seq.load(run() / "checkpoint-00000001"),
)
advice(
    lambda change=lambda model: {**model, "bridge.w": model["bridge.w"] * np.float32(np.nan)}: forged(model=change),
    "or train anew with a lower rate: the run had diverged",
    lambda: [train("other", rate=1e-4), seq2seq.load("other")],
)
advice(
    lambda data=b"{}": unpack(data, "a.safetensors"),
    "use another checkpoint",
    lambda: unpack((run() / LAST / "model.safetensors").read_bytes(), "a.safetensors"),
)


ALL_TIED = {
    "kind": "transformer",
    "tied": "all",
    "width": 4,
    "heads": 2,
    "inner": 4,
    "encoder_layers": 1,
    "decoder_layers": 1,
}


def tied(config):
    return {**config, "model": ALL_TIED}


def longer(found):
    return {**found, "target": seq2seq.Vocabulary(list("abcd"), "char")}


advice(
    lambda config=tied, vocabularies=longer: forged(config=config, vocabularies=vocabularies),
    "install the fastattn that wrote it",
    config=same,
    vocabularies=same,
)


def resumed(folder):
    return train(folder, resume=True, max_steps=4)


for wrong in (cut("position"), lambda progress: {**progress, "position": {**progress["position"], "batch": 99}}):
    advice(lambda change=wrong: forged(resumed, progress=change), "use another checkpoint", change=same)
    advice(lambda change=wrong: forged(resumed, progress=change), "or train in a new folder", lambda: train("other"))


def not_a_checkpoint(name="config.json"):
    """A checkpoint that is whole, with a file that is not JSON."""
    with mock.patch("fastattn.seq2seq.runs.checkpoint._json", lambda run, name, content: b"{"):
        save("run", 1)
    return checkpoint.load("run/checkpoint-00000001")


advice(lambda: not_a_checkpoint(), "use another checkpoint", lambda: checkpoint.load(run()))


# Averages and ensembles
def averaged(folders, output="mean"):
    for folder in ("mean", "wide"):
        shutil.rmtree(folder, ignore_errors=True)
    return checkpoint.average(folders() if callable(folders) else folders, output)


def wide():
    train("wide", config=replace(CONFIG, model=replace(CONFIG.model, hidden=8)))
    return [trained(), "wide"]


def other_letters():
    train("wide", pairs=[("xy", "yx")])
    return [trained(), "wide"]


for wrong in (wide, other_letters):
    advice(lambda folders=wrong: averaged(folders), "average checkpoints of one run", lambda: averaged([trained()]))
advice(lambda folders=[]: averaged(folders), "name runs or checkpoints", lambda: averaged([trained()]))
advice(lambda output=trained(): averaged([trained()], output), "choose another folder", output="mean")


def quantized(output="small"):
    shutil.rmtree("small", ignore_errors=True)
    return seq2seq.quantize(trained(), output)


advice(lambda output=trained(): quantized(output), "choose another folder", output="small")


def with_matrix(bits):
    """A checkpoint with one matrix more, of bfloat16."""
    shutil.rmtree("small", ignore_errors=True)
    one = checkpoint.load(trained())
    checkpoint.save(
        "small", 1, model={**one.model, "w.bfloat16": bits}, state={}, config={}, progress={}, vocabularies={}
    )
    return checkpoint.load("small/checkpoint-00000001")


advice(lambda bits=np.ones(3): with_matrix(bits), "use another checkpoint", bits=np.ones((3, 2), np.uint16))


def together(others):
    shutil.rmtree("wide", ignore_errors=True)
    return seq2seq.load(trained(), ensemble=others() if callable(others) else others)


advice(
    lambda others=lambda: other_letters()[1:]: together(others),
    "train the models of an ensemble with the same data and [vocabulary]",
    others=lambda: wide()[1:],
)
advice(lambda others="wide": together(others), "pass a list of folders", others=lambda: wide()[1:])


# Translating
def translator(kind="bahdanau"):
    return seq2seq.load(run()) if kind == "bahdanau" else sutskever()


def sutskever():
    train("other", config=replace(CONFIG, model=SutskeverConfig(embedding=4, hidden=4, layers=1)))
    return seq2seq.load("other")


advice(
    lambda weights=False: translator().search(["ab"], weights=weights)[0][0].map(),
    "ask for weights={weights}.",
    weights="True",
)
advice(
    lambda prefix=["a", "b"]: translator().translate(["ab"], prefix=prefix),
    "give one text for all, or one for each",
    prefix=["a"],
)
advice(
    lambda forbid=["A"]: translator().translate(["ab"], forbid=forbid),
    "target_vocabulary.tokens has them",
    forbid=["a"],
)
advice(lambda beam=2: translator().search(["ab"], beam=beam, best=3), "widen the beam", beam=3)
advice(lambda best=0: translator().search(["ab"], best=best), "pass best={best}, say", best="64")
advice(lambda beam=0: translator().search(["ab"], beam=beam), "the default is {beam}.", beam="5")
advice(lambda targets=[]: translator().score(["ab"], targets), "give one target for every source", targets=["ba"])
advice(
    lambda source="": translator().align(source),
    "give a text with a token to attend to",
    source="ab",
)
advice(
    lambda kind="sutskever": translator(kind).align("ab"),
    "or train another kind of model: 'cho' and 'sutskever' have no attention",
    kind="bahdanau",
)
