"""What reaches a terminal: whatever names a command is given, and whatever is written in files, nothing steers it.

The commands run with a pseudo-terminal as their output. Data, such as translations, are left as they are and are not
looked at here.
"""

import argparse
import io
import json
import os
import struct
import sys
import threading
import tty

import pytest
import training_runs
from plugin_sites import METADATA, POINTS, Site

from fastattn import cli
from fastattn.seq2seq.runs import durable

pytest.importorskip("safetensors")
pytest.importorskip("tqdm")

EVIL = "\x1b]0;owned\x07\x9b31m\r\x7f\u202e\u2028\x85"  # sets a title, colours, overwrites the line, turns the text
NAME = EVIL.replace("\x00", "").replace("/", "")


class Terminal:
    """A pseudo-terminal, and what was written to it, without the translation of line ends."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.text = bytearray()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self.master, 4096)
            except OSError:  # all ends at the other side are closed
                return
            if not data:
                return
            self.text += data

    def stream(self):
        return io.TextIOWrapper(os.fdopen(os.dup(self.slave), "wb"), encoding="utf-8", errors="replace")

    def close(self):
        os.close(self.slave)
        self.reader.join(30)
        os.close(self.master)
        return bytes(self.text)


@pytest.fixture
def run(monkeypatch):
    """Run a command on a terminal; return its exit code and all that it wrote."""

    def call(*arguments):
        terminal = Terminal()
        with terminal.stream() as out, terminal.stream() as err, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            try:
                status = cli.main([str(argument) for argument in arguments])
            except SystemExit as end:
                status = end.code
        return status, terminal.close().decode()

    return call


def check(text, shown=True):
    assert text, "nothing was said"
    assert text.replace("\n", "").isprintable(), ascii(text)
    assert not shown or "owned" in text  # in place of being left out


TOML = """
[data]
train = "{train}"
[vocabulary]
source = "char"
target = "char"
[model]
kind = "bahdanau"
embedding = 4
hidden = 4
attention = 4
readout_width = 4
[training]
epochs = 1
max_steps = 1
"""


def toml(text):
    """Write a text as TOML writes it, in the words of a basic string."""
    return "".join(f"\\u{ord(c):04X}" if not c.isprintable() else c for c in text)


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("terminal") / f"a folder {NAME}"
    made.mkdir()
    write(made, "train.tsv", "".join(f"{s}\t{t}\n" for s, t in training_runs.pairs(20, seed=2)))
    write(made, f"bad {NAME}.tsv", "ab\tcd\nno tab\n")
    write(made, "plain.toml", TOML.format(train="train.tsv"))
    write(made, "skips.toml", TOML.format(train=f"bad {toml(NAME)}.tsv"))
    write(made, "missing.toml", TOML.format(train=toml(NAME)))
    write(made, "key.toml", f'{TOML.format(train="train.tsv")}"{toml(NAME)}" = 1\n')
    write(made, "section.toml", f'["{toml(NAME)}"]\nx = 1\n')
    write(made, "kind.toml", TOML.format(train="train.tsv").replace('"bahdanau"', f'"{toml(NAME)}"'))
    write(made, "mechanism.toml", f'{TOML.format(train="train.tsv")}[model.mechanism]\nname = "{toml(NAME)}"\n')
    write(made, "broken.toml", f"x = {NAME}\n")
    (made / f"latin {NAME}").write_bytes(b"\xff\xfe\n")
    assert cli.main(["train", str(made / "plain.toml"), "--folder", str(made / f"model {NAME}"), "--quiet"]) == 0
    return made


@pytest.fixture
def model(folder):
    return folder / f"model {NAME}"


def forge(model, copy, change):
    """Copy a model, and change the files of its checkpoint so that its manifest fits."""
    [checkpoint] = [path for path in model.iterdir() if path.is_dir() and path.name.startswith("checkpoint")]
    files, about = durable.read_folder(checkpoint)
    about = {key: value for key, value in about.items() if key not in ("format", "checksum", "files")}
    change(files, about)
    copy.mkdir()
    durable.write_folder(copy / checkpoint.name, files, about)
    for name in ("best", "latest"):
        if (model / name).exists():
            (copy / name).write_bytes((model / name).read_bytes())
    return copy


def rename_tensor(files, about):
    data = files["model.safetensors"]
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    first = next(name for name in header if name != "__metadata__")
    header[NAME] = header.pop(first)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    files["model.safetensors"] = struct.pack("<Q", len(text)) + text + data[8 + size :]


def change_json(name, change):
    def apply(files, about):
        content = json.loads(files[name])
        change(content)
        files[name] = json.dumps(content).encode()

    return apply


FORGED = {
    "tensor": rename_tensor,
    "key of the configuration": change_json("config.json", lambda content: content["model"].update({NAME: 1})),
    "section of the configuration": change_json("config.json", lambda content: content.update({NAME: {}})),
    "kind of model": change_json("config.json", lambda content: content["model"].update(kind=NAME)),
    "file": lambda files, about: files.update({NAME: files.pop("config.json")}),
}


@pytest.mark.parametrize("what", FORGED)
def test_names_in_a_checkpoint(run, model, tmp_path, what):
    status, text = run("translate", forge(model, tmp_path / f"forged {NAME}", FORGED[what]), os.devnull)
    assert status == 1
    check(text)


COMMANDS = {
    "train": [
        ["train", "{folder}/none"], ["train", "{folder}/key.toml"], ["train", "{folder}/section.toml"],
        ["train", "{folder}/kind.toml"], ["train", "{folder}/mechanism.toml"], ["train", "{folder}/broken.toml"],
        ["train", "{folder}/missing.toml"], ["train", "{folder}/skips.toml", "--quiet"], ["train", "{folder}"],
        ["train", "{folder}/plain.toml", "--folder", "{folder}/train.tsv"],
        ["train", "{folder}/plain.toml", "--folder", "{model}"],
        ["train", "{folder}/plain.toml", "--folder", "{model}", "--resume"],
        ["train", "{folder}/plain.toml", EVIL],
    ],
    "translate": [
        ["translate", "{folder}"], ["translate", "{folder}/none"], ["translate", "{model}", "{folder}/none"],
        ["translate", "{model}", "{folder}/latin " + NAME], ["translate", "{model}", "{folder}"],
        ["translate", "{model}", "--beam", EVIL], ["translate", "{model}", f"--{EVIL}"],
        ["translate", "{model}", "--checkpoint", EVIL], ["translate", "{model}", "--top-p", f"0{EVIL}"],
    ],
    "evaluate": [
        ["evaluate", "{model}", "{folder}/bad " + NAME + ".tsv"], ["evaluate", "{model}", "--metric", EVIL],
        ["evaluate", "{model}", "{folder}/train.tsv", "--translations", "{folder}/none/none"],
    ],
    "score": [
        ["score", "{model}", "{folder}/bad " + NAME + ".tsv"], ["score", "{model}", "{folder}/none"],
        ["score", "{model}", "{folder}/train.tsv", "--target", "{folder}/latin " + NAME],
    ],
    "heatmap": [
        ["heatmap", "{model}", "a", "b", "-o", EVIL], ["heatmap", "{model}", "a", "b", "-o", "{folder}/none/x.png"],
        ["heatmap", "{folder}", "a", "b", "-o", "x.png"],
    ],
    "align": [["align", "{model}", "{folder}/bad " + NAME + ".tsv"], ["align", "{model}", EVIL]],
    "average": [
        ["average", "{folder}", "-o", "{folder}/new"], ["average", "{model}", "-o", "{model}"],
        ["average", EVIL, "-o", "{folder}/new"],
    ],
    "quantize": [
        ["quantize", EVIL, "-o", "{folder}/new"], ["quantize", "{model}", "-o", "{model}"],
        ["quantize", "{model}", "--weights", EVIL, "-o", "{folder}/new"],
    ],
    "find-rate": [
        ["find-rate", "{folder}/key.toml"], ["find-rate", "{folder}/plain.toml", "--steps", EVIL],
        ["find-rate", "{folder}/plain.toml", "--init-from", "{folder}/" + NAME],
    ],
    "quickstart": [
        ["quickstart", "--folder", "{folder}/train.tsv"], ["quickstart", "--steps", EVIL],
    ],
    "info": [["info", EVIL]],
    "convert": [
        ["convert", EVIL, "-o", "{folder}/new"], ["convert", "{model}", "--to", EVIL, "-o", "{folder}/new"],
        ["convert", "{folder}", "-o", EVIL],
    ],
    "plugins": [["plugins", EVIL], ["plugins"]],
    "check": [["check", EVIL], ["check", "loud"], ["check", "{folder}"]],
    "bench": [["bench", "--plugin", EVIL], ["bench", "--plugin", "loud"]],
    "new-plugin": [
        ["new-plugin", EVIL], ["new-plugin", "mine", "--folder", "{folder}/new"],
        ["new-plugin", "mine", "--kind", EVIL], ["new-plugin", "mine", "--folder", "{folder}/train.tsv"],
    ],
    EVIL: [[EVIL], [f"--{EVIL}"]],
}  # fmt: skip


DONE = [
    ["train", "{folder}/skips.toml", "--quiet"], ["train", "{folder}/plain.toml", "--folder", "{model}", "--resume"],
    ["new-plugin", "mine", "--folder", "{folder}/new"], ["plugins"],
]  # fmt: skip


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Plugins whose metadata and exceptions steer terminals."""
    made = Site(tmp_path / "site", monkeypatch)
    made.add("loud", code=f"raise ValueError({EVIL!r})")
    metadata = METADATA.replace("{name}", "\x1b[31mowned")
    made.add("red", metadata=metadata, points=POINTS.replace("{name} =", f"{EVIL[:9]} ="))
    made.add("none", metadata="", folder=f"x{NAME}-1.dist-info")
    return made


@pytest.mark.filterwarnings("ignore::fastattn.errors.PluginWarning")
@pytest.mark.parametrize(
    "arguments", [arguments for lines in COMMANDS.values() for arguments in lines], ids=lambda one: ascii(" ".join(one))
)
def test_names_on_the_command_line(run, site, folder, model, arguments):
    status, text = run(*(one.replace("{folder}", str(folder)).replace("{model}", str(model)) for one in arguments))
    fails = arguments not in DONE
    assert bool(status) is fails
    if "--resume" in arguments:
        text = text.replace("\r", "")  # the bar draws itself anew
    check(text, shown=arguments != [f"--{EVIL}"])  # of which argparse says that COMMAND is missing


def test_the_walk_has_every_command():
    [commands] = [one for one in cli._parser()._actions if isinstance(one, argparse._SubParsersAction)]
    assert set(commands.choices) == set(COMMANDS) - {EVIL}


def test_a_warning_of_a_command(run, site):
    """Without a filter, Python prints the warning itself."""
    with pytest.warns(UserWarning) as caught:
        run("bench", "--plugin", "loud")
    assert len(caught) == 3 and all(str(one.message).isprintable() for one in caught)


def test_what_is_said_of_a_damaged_checkpoint(run, model, tmp_path):
    copy = forge(model, tmp_path / NAME, lambda files, about: None)
    [checkpoint] = [path for path in copy.iterdir() if path.is_dir()]
    (checkpoint / "model.safetensors").write_bytes(b"")
    status, text = run("score", copy, os.devnull)
    assert status == 1
    check(text)


@pytest.mark.parametrize("variable", ["FASTATTN_ISA", "FASTATTN_NUM_THREADS", "OMP_NUM_THREADS", "FASTATTN_PLUGINS"])
def test_the_environment(run_python, variable):
    done = run_python("-m", "fastattn", "plugins", check=False, **{variable: NAME})
    more = run_python("-m", "fastattn", "info", check=False, **{variable: NAME})
    for text in (done.stdout, done.stderr, more.stdout, more.stderr):
        assert text.replace("\n", "").isprintable(), ascii(text)


def test_the_terminal_sees_what_is_written(run, monkeypatch):
    """The check itself: without `visible`, the escape sequences arrive."""
    monkeypatch.setattr("fastattn._printing.visible", str)
    _, text = run("train", f"/none/{NAME}")
    with pytest.raises(AssertionError):
        check(text)
