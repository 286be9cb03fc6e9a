"""The commands: what they print, what they exit with, and that every expected failure is one line."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import training_runs

import fastattn
from fastattn import seq2seq
from fastattn.cli import main
from fastattn.commands.failure import EXIT_CODES

CONFIG = """
[data]
train = "train.tsv"
validation = "validation.tsv"
[vocabulary]
source = "char"
target = "char"
[model]
kind = "bahdanau"
embedding = 16
hidden = 24
attention = 24
readout_width = 16
[training]
epochs = 0
max_steps = 60
tokens_per_batch = 400
max_length = 20
rate = 0.01
validate_every = 30
log_every = 20
[inference]
beam = 2
"""

PAIRS = training_runs.pairs(300, seed=2)


def write_corpus(folder, config=CONFIG):
    Path(folder, "train.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS[:250]))
    Path(folder, "validation.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS[250:]))
    path = Path(folder, "words.toml")
    path.write_text(config)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a trained model; nothing may be changed in it."""
    folder = tmp_path_factory.mktemp("commands")
    assert main(["train", str(write_corpus(folder)), "--quiet"]) == 0
    return folder / "words"


@pytest.fixture
def type_in(monkeypatch):
    """Give the command something to read from stdin."""

    def give(data):
        data = data if isinstance(data, bytes) else data.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    done = capsys.readouterr()
    return status, done.out, done.err


def start(*arguments, **options):
    """The command in a process of its own, which Ctrl-C reaches even where a shell has the suite ignore it."""
    above = str(Path(fastattn.__file__).resolve().parents[1])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "fastattn", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": above},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


def test_train_prints_the_outcome(model, tmp_path, capsys):
    status, out, err = run(capsys, "train", write_corpus(tmp_path), "--folder", tmp_path / "here", "--json")
    outcome = json.loads(out)
    assert (status, outcome["steps"], outcome["reason"]) == (0, 60, "max_steps")
    lines = err.splitlines()
    assert lines[0].startswith("model: bahdanau: ") and lines[0].endswith("besides those of the vocabularies")
    assert lines[1].startswith("vocabularies of ") and lines[1].endswith(" in training)")
    assert lines[2].startswith("step 20  loss ") and "tokens per second" in lines[2]
    assert any("validation loss" in line and "best so far" in line for line in lines)
    assert {"log.jsonl", "best", "latest"} <= {path.name for path in (tmp_path / "here").iterdir()}
    status, out, _ = run(capsys, "train", tmp_path / "words.toml", "--folder", tmp_path / "here", "--resume", "--quiet")
    assert (status, out.splitlines()[0]) == (0, "60 steps, 12 epochs; ended by max_steps")


@pytest.mark.parametrize("size", [(0, 0), (30, 100)])
def test_a_terminal_gets_a_bar(size, tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = start("train", write_corpus(tmp_path), stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux says so when the last writer has gone
            data = b""
        if not data:
            break
        shown += data
    os.close(master)
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    assert b"\r" in shown and b"/60" in shown and b"loss" in shown
    assert b"validation loss" in shown


def test_train_reports_lines_left_out(tmp_path, capsys):
    config = write_corpus(tmp_path)
    with open(tmp_path / "train.tsv", "ab") as file:
        file.write(b"no tab\n\tempty\nab\t\xff\n" + b"a" * 21 + b"\tb\n")
    status, _, err = run(capsys, "train", config, "--quiet")
    assert status == 0
    assert "250 of 254 lines kept" in err
    for reason in ("no tab: 1 line: 251", "empty: 1 line: 252", "UTF-8: 1 line: 253", "20 tokens: 1 line: 254"):
        assert reason in err


def test_train_reads_a_pipe(tmp_path, capsys, type_in):
    config = write_corpus(tmp_path, CONFIG.replace('"train.tsv"', '"-"'))
    type_in((tmp_path / "train.tsv").read_bytes())
    assert run(capsys, "train", config, "--quiet")[0] == 0


def test_translate_keeps_lines(model, capsys, type_in):
    type_in("abc\n\nfed\n")
    status, out, err = run(capsys, "translate", model)
    expected = seq2seq.load(model).translate(["abc", "", "fed"])
    assert (status, out) == (0, "".join(f"{text}\n" for text in expected))
    assert out.splitlines()[1] == ""
    assert err == "fastattn translate: line 2: empty, and so is its translation\n"


def test_translate_does_not_depend_on_what_else_is_translated(model, capsys, type_in, tmp_path):
    words = [source for source, _ in PAIRS]
    (tmp_path / "words").write_text("\n".join(words))
    _, together, _ = run(capsys, "translate", model, tmp_path / "words", "--json")
    for word, line in list(zip(words, together.splitlines()))[:5]:
        type_in(word)
        _, alone, _ = run(capsys, "translate", model, "--json")
        assert {**json.loads(alone), "line": 0} == {**json.loads(line), "line": 0}


def test_translate_n_best_and_weights(model, capsys, type_in):
    type_in("abcd")
    _, out, _ = run(capsys, "translate", model, "--best", "3", "--beam", "4")
    rows = [line.split("\t") for line in out.splitlines()]
    scores = [float(score) for _, score, _ in rows]
    assert [number for number, _, _ in rows] == ["1"] * 3
    assert scores == sorted(scores, reverse=True)
    type_in("abcd")
    _, out, _ = run(capsys, "translate", model, "--json", "--weights", "--beam", "1")
    [found] = json.loads(out)["translations"]
    assert found["source_tokens"] == ["a", "b", "c", "d", "</s>"]
    assert len(found["weights"]) == len(found["tokens"])
    assert all(abs(sum(row) - 1) < 1e-4 for row in found["weights"])


def test_translate_samples_by_seed(model, capsys, type_in):
    outputs = []
    for seed in (1, 1, 2):
        type_in("abcdefgh\nabcdefgh\n")
        outputs.append(run(capsys, "translate", model, "--sample", seed, "--temperature", "2")[1])
    assert outputs[0] == outputs[1] != outputs[2]
    assert len(set(outputs[0].splitlines())) == 2


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"a\xe4b\n", "line 4: is not UTF-8 from byte 2 on"),
        (b"a" * (1 << 20) + b"a\n", "line 4: is longer than 1048576 bytes"),
        (b"a" * 10000 + b"\0\n", "line 4: has a NUL character"),
    ],
    ids=["encoding", "length", "NUL"],
)
def test_what_precedes_a_bad_line_is_translated(bad, problem, model, capsys, type_in):
    type_in(b"abc\n\nfed\n" + bad + b"abc\n")
    status, out, err = run(capsys, "translate", model)
    assert (status, out.splitlines()) == (1, seq2seq.load(model).translate(["abc", "", "fed"]))
    assert len(err.splitlines()) == 2 and problem in err.splitlines()[1]  # the first one is about line 2


def test_evaluate(model, capsys, tmp_path):
    references = tmp_path / "test.tsv"
    references.write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS[250:]))
    status, out, _ = run(capsys, "evaluate", model, references, "--json", "--translations", tmp_path / "out")
    found = json.loads(out)
    assert (status, found["lines"], list(found)[1:]) == (0, 50, ["bleu", "chrf", "wer", "per", "accuracy"])
    assert "version:" in found["bleu"]["signature"]
    outputs = (tmp_path / "out").read_text().splitlines()
    right = sum(output == target for output, (_, target) in zip(outputs, PAIRS[250:]))
    assert found["accuracy"]["value"] == pytest.approx(100 * right / 50)
    assert found["per"]["value"] < found["wer"]["value"] == pytest.approx(100 - 100 * right / 50)


def test_evaluate_with_several_references(model, capsys, type_in):
    [output] = seq2seq.load(model).translate(["abc"])
    type_in(f"abc\tx\nabc\t{output}\n")
    status, out, _ = run(capsys, "evaluate", model, "--group")
    assert status == 0
    assert out.splitlines() == ["PER 0.00 (kind:char|n:1)", "accuracy 100.00 (split:whitespace|n:1)"]


def test_score_equals_what_the_search_says(model, capsys, type_in):
    [[found]] = seq2seq.load(model).search(["abcd"], beam=1)
    type_in(f"abcd\t{found.text}\n")
    status, out, err = run(capsys, "score", model)
    assert (status, out) == (0, f"{found.log_probability:.6f}\t{len(found.tokens)}\n")
    assert "1 pairs, perplexity" in err


def test_heatmap(model, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    status, out, _ = run(capsys, "heatmap", model, "abc", "-o", tmp_path / "map.png")
    assert (status, out.strip()) == (0, seq2seq.load(model).translate(["abc"])[0])
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    status, out, _ = run(capsys, "heatmap", model, "abc", "cba", "-o", tmp_path / "map.html")
    assert (status, out) == (0, "")
    assert (tmp_path / "map.html").read_text().lower().startswith("<!doctype html>")


@pytest.mark.parametrize("kind", ["bahdanau", "luong"])
def test_a_map_of_weights_that_do_not_sum_to_one(tmp_path, capsys, kind):
    pytest.importorskip("matplotlib")
    small = f'kind = "{kind}"\nembedding = 6\nhidden = 6\n[model.mechanism]\nname = "local_p"\nwindow = 2\n'
    text = CONFIG[: CONFIG.index("kind =")] + small + CONFIG[CONFIG.index("[training]") :].replace("60", "4")
    assert run(capsys, "train", write_corpus(tmp_path, text), "--quiet")[0] == 0
    for name in ("map.png", "map.html"):
        assert run(capsys, "heatmap", tmp_path / "words", "abc", "cb", "-o", tmp_path / name)[0] == 0
        assert (tmp_path / name).exists()


def test_the_page_of_a_transformer_has_every_layer_and_head(tmp_path, capsys):
    small = 'kind = "transformer"\nwidth = 12\nheads = 3\ninner = 16\nencoder_layers = 1\ndecoder_layers = 2\n'
    text = CONFIG[: CONFIG.index("kind =")] + small + CONFIG[CONFIG.index("[training]") :].replace("60", "4")
    assert run(capsys, "train", write_corpus(tmp_path, text), "--quiet")[0] == 0
    assert run(capsys, "heatmap", tmp_path / "words", "abc", "cb", "-o", tmp_path / "map.html")[0] == 0
    page = re.search(r'id="data">(.*?)</script>', (tmp_path / "map.html").read_text(), re.S).group(1)
    data = json.loads(page)
    found = seq2seq.load(tmp_path / "words").align("abc", "cb", layers=True)
    assert (len(data["layers"]), len(data["heads"]), found.map().shape) == (2, 3, (2, 3, 3, 4))
    shown = np.reshape(data["examples"][0]["weights"], found.map().shape) / 10000
    assert np.abs(shown - found.map()).max() <= 1e-4
    assert np.abs(found.map()[0] - found.map()[1]).max() > 1e-3


def test_a_model_without_attention_has_no_heat_map(tmp_path, capsys):
    config = write_corpus(tmp_path, CONFIG.replace("bahdanau", "cho").replace("attention = 24\n", ""))
    assert run(capsys, "train", config, "--quiet")[0] == 0
    status, _, err = run(capsys, "heatmap", tmp_path / "words", "abc", "-o", tmp_path / "map.html")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "attention" in err


FAILURES = {
    "no configuration": (["train", "{tmp}/none.toml"], 2, "none.toml: no such file"),
    "no TOML": (["train", "{tmp}/no.toml"], 2, "correct the TOML"),
    "unknown key": (["train", "{tmp}/key.toml"], 2, "did you mean 'hidden'"),
    "wrong value": (["train", "{tmp}/value.toml"], 2, "training.rate"),
    "no data named": (["train", "{tmp}/nothing.toml"], 2, "nothing.toml: data.train: missing. Hint: name a file"),
    "no data": (["train", "{tmp}/data.toml"], 1, "no such file"),
    "run exists": (["train", "{model}/../words.toml"], 2, "resume, or choose another folder"),
    "no folder": (["translate", "{tmp}/none"], 1, "no such folder"),
    "no checkpoint": (["translate", "{tmp}"], 1, "has no checkpoint"),
    "damaged": (["translate", "{tmp}/damaged"], 1, "none of its checkpoints is good"),
    "no path": (["train", ""], 2, "must not be empty"),
    "negative size": (["train", "{tmp}/size.toml"], 2, "model.hidden: expected at least 1, got -3"),
    "no share": (["train", "{tmp}/share.toml"], 2, "model.dropout: expected a number below 1, got 1.5"),
    "no sample": (["translate", "{model}", "--top-k", "3"], 2, "--top-k: means nothing without --sample"),
    "a sample": (["translate", "{model}", "--sample", "1", "--best", "3"], 2, "--best: means nothing with --sample"),
    "no penalty": (["translate", "{model}", "--sample", "1", "--length-penalty", "0"], 2, "means nothing with --s"),
    "no JSON": (["translate", "{model}", "--weights"], 2, "--weights: means nothing without --json"),
    "narrow": (["translate", "{model}", "--beam", "2", "--best", "3"], 2, "widen the beam"),
    "no number": (["translate", "{model}", "{tmp}/one", "--length-penalty", "1e300"], 2, "expected at most 100, got"),
    "no file": (["translate", "{model}", "{tmp}/none.txt"], 1, "none.txt: no such file or directory. Hint: name"),
    "bad UTF-8": (["translate", "{model}", "{tmp}/latin"], 1, "latin, line 2: is not UTF-8 from byte 2 on"),
    "no tab": (["score", "{model}", "{tmp}/latin"], 1, "Hint: "),
    "line counts": (["evaluate", "{model}", "{tmp}/one", "--target", "{tmp}/two"], 1, "no partner"),
    "kind of picture": (["heatmap", "{model}", "abc", "-o", "map.bmp"], 2, "map.bmp"),
    "picture nowhere": (["heatmap", "{model}", "abc", "-o", "{tmp}/none/map.html"], 1, "check the path"),
    "picture is a folder": (["heatmap", "{model}", "abc", "-o", "{tmp}/folder.html"], 1, "/folder.html: Is a dir"),
    "output is a folder": (["evaluate", "{model}", "{tmp}/train.tsv", "--translations", "{tmp}"], 1, "name a file"),
    "nothing to attend to": (["heatmap", "{model}", "", "-o", "{tmp}/map.html"], 1, "a token to attend to"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_line(name, model, tmp_path, capsys):
    arguments, expected, text = FAILURES[name]
    (tmp_path / "no.toml").write_text("[data\n")
    (tmp_path / "key.toml").write_text(CONFIG.replace("hidden =", "hiden ="))
    (tmp_path / "value.toml").write_text(CONFIG.replace("rate = 0.01", "rate = -1"))
    (tmp_path / "data.toml").write_text(CONFIG.replace("train.tsv", "none.tsv"))
    (tmp_path / "nothing.toml").write_text("")
    (tmp_path / "train.tsv").write_text("ab\tba\n")
    (tmp_path / "validation.tsv").write_text("ab\tba\n")
    (tmp_path / "size.toml").write_text(CONFIG.replace("hidden = 24", "hidden = -3"))
    (tmp_path / "share.toml").write_text(CONFIG.replace("hidden = 24", "hidden = 24\ndropout = 1.5"))
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "latin").write_bytes(b"abc\na\xe4b\n")
    (tmp_path / "one").write_text("a\n")
    (tmp_path / "two").write_text("a\nb\n")
    folder = tmp_path / "damaged" / "checkpoint-00000001"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    arguments = [argument.format(tmp=tmp_path, model=model) for argument in arguments]
    status, _, err = run(capsys, *arguments)
    assert (status, len(err.splitlines())) == (expected, 1), err
    assert err.startswith(f"fastattn {arguments[0]}: ")
    assert text in err


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("safetensors.numpy", ["train", "{tmp}/words.toml"]),
        ("sacrebleu.metrics", ["train", "{tmp}/bleu.toml"]),
        ("sacrebleu.metrics", ["evaluate", "{model}", "{tmp}/train.tsv"]),
        ("matplotlib", ["quickstart", "--folder", "{tmp}/words", "--steps", "1"]),
        ("matplotlib", ["heatmap", "{model}", "abc", "-o", "{tmp}/x.png"]),
    ],
)
def test_a_missing_package_is_one_line_before_the_work(package, arguments, model, tmp_path, capsys, monkeypatch):
    config = write_corpus(tmp_path)
    (tmp_path / "bleu.toml").write_text(config.read_text().replace("rate =", 'metric = "bleu"\nrate ='))
    monkeypatch.setitem(sys.modules, package, None)
    status, out, err = run(capsys, *(argument.format(tmp=tmp_path, model=model) for argument in arguments))
    assert (status, out, len(err.splitlines())) == (1, "", 1), err
    assert "pip install 'fastattn[" in err
    assert not (tmp_path / "words").exists()


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    config = write_corpus(tmp_path)
    monkeypatch.setattr(os, "write", full)
    status, _, err = run(capsys, "train", config, "--quiet")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "no space left on device" in err and "free" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_is_one_line_and_can_go_on(number, code, tmp_path, capsys):
    config = write_corpus(tmp_path, CONFIG.replace("max_steps = 60", "max_steps = 100000"))
    process = start("train", config, "--quiet")
    while not (tmp_path / "words" / "log.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, b"")
    assert len(err.splitlines()) == 1 and b"go on with --resume" in err
    config.write_text(config.read_text().replace("100000", "3"))
    assert run(capsys, "train", config, "--resume", "--quiet")[0] == 0


def test_ctrl_c_while_translating_is_one_line(model):
    process = start("translate", model, stdin=subprocess.PIPE)
    process.stdin.write(b"abc\n" * 512)
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"fastattn translate: interrupted\n")


def test_a_reader_that_goes_away_is_no_error(model, tmp_path):
    (tmp_path / "words").write_text("abc\n" * 20000)
    process = start("translate", model, tmp_path / "words", "--beam", "1")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141
    process.stderr.close()


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_one_line_or_none(name, model, tmp_path, environment):
    (tmp_path / "words").write_text("abc\n\n")
    number = ["stdin", "stdout", "stderr"].index(name)
    file = "-" if name == "stdin" else tmp_path / "words"
    command = f"exec {sys.executable} -P -m fastattn translate {model} {file} {number}{'<' if number == 0 else '>'}&-"
    done = subprocess.run(["bash", "-c", command], env=environment, input="abc\n", capture_output=True, text=True)
    translations = "".join(f"{text}\n" for text in seq2seq.load(model).translate(["abc", ""]))
    if name == "stderr":
        assert (done.returncode, done.stdout) == (0, translations)
    else:
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
        assert "is closed" in done.stderr


@pytest.mark.parametrize("command", ["quickstart", "train", "translate", "evaluate", "score", "heatmap", "info"])
def test_help_has_an_example_and_the_exit_codes(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"example:\n  fastattn {command}" in text or f"| fastattn {command}" in text
    assert text.endswith(EXIT_CODES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["translate", "model", "--beam", "0"], "fastattn translate: argument --beam: expected at least 1, got 0; the"),
        (["translate", "model", "--beam", "1.5"], "argument --beam: expected an integer, got 1.5"),
        (["translate", "model", "--beam", "x"], "argument --beam: invalid number value: 'x'"),
        (["translate", "model", "--max-length", "1000000000000"], "--max-length: expected at most 100000, got 1000000"),
        (["translate", "model", "--length-penalty", "nan"], "--length-penalty: expected a finite number, got nan"),
        (["translate", "model", "--beam-size", "3"], "unrecognized arguments: --beam-size 3 (did you mean --beam?)"),
        (["translate", "model", "--max_length=3"], "arguments: --max_length=3 (did you mean --max-length?)"),
        (["translate", "model", "--num-beams", "3"], "(did you mean --beam?)"),
        (["translate", "model", "--frobnicate"], "unrecognized arguments: --frobnicate; fastattn translate --help has"),
        (["translate"], "fastattn translate: the following arguments are required: MODEL"),
        (["translate", "a", "b", "c"], "fastattn translate: FILE: 2 files, and one output"),
        (["evaluate", "a", "b", "--columns", "0", "1"], "argument --columns: must be at least 1, not 0"),
        (["evaluate", "a", "b", "--metric", "blue"], "argument --metric: invalid choice: 'blue'"),
        (["evaluate", "a\0", "b"], "argument MODEL: must not have a NUL character"),
        (["trian"], "fastattn: argument COMMAND: invalid choice: 'trian'"),
        ([], "fastattn: the following arguments are required: COMMAND; fastattn --help has the options"),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(arguments, said, capsys):
    status, out, err = run(capsys, *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert said in err and err.startswith("fastattn")


@pytest.mark.parametrize("command", ["evaluate", "score"])
def test_options_stand_anywhere(command, model, capsys, tmp_path):
    (tmp_path / "x.tsv").write_text("abc\tcba\nb\tb\n")
    file, outputs = tmp_path / "x.tsv", []
    orders = [
        [model, file, "--json", "--columns", "1", "2"],
        ["--json", model, "--columns", "1", "2", file],
        ["--columns", "1", "2", "--json", model, file],
        [model, "--columns", "1", "2", "--json", "--", file],
    ]
    if command == "evaluate":
        for order in orders:
            order[order.index("--json") : order.index("--json")] = ["--metric", "per", "accuracy"]
    for order in orders:
        status, out, err = run(capsys, command, *order)
        assert status == 0, err
        outputs.append(out)
    assert len(set(outputs)) == 1 and outputs[0].startswith("{")


def test_options_of_every_command_stand_anywhere(model, capsys, tmp_path, type_in):
    """Before, between and behind what they belong to."""
    expected = seq2seq.load(model).translate(["abc"])
    (tmp_path / "x").write_text("abc\n")
    file = tmp_path / "x"
    for arguments in (["--beam", 2, model, file], [model, "--beam", 2, file], [model, file, "--beam", 2]):
        assert run(capsys, "translate", *arguments)[1].splitlines() == expected
    picture = tmp_path / "map.html"
    for arguments in (["-o", picture, model, "abc", "cba"], [model, "-o", picture, "abc", "cba"], [model, "abc", "-o",
                      picture, "cba"]):  # fmt: skip
        assert run(capsys, "heatmap", *arguments) == (0, "", "")
        picture.unlink()
    config = write_corpus(tmp_path, CONFIG.replace("60", "1"))
    assert run(capsys, "train", "--quiet", "--folder", tmp_path / "run", config)[0] == 0
    assert run(capsys, "train", "--resume", config, "--quiet", "--folder", tmp_path / "run")[0] == 0
    type_in("abc\n-x\n")
    assert len(run(capsys, "translate", "--max-length", 3, model, "-", "--beam", 1)[1].splitlines()) == 2


def test_best_prints_as_many_lines_for_every_line(model, capsys, type_in):
    type_in("abc\n\n \nd\n")
    status, out, _ = run(capsys, "translate", model, "--best", 3, "--beam", 4)
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0 and [row[0] for row in rows] == [str(n) for n in (1, 2, 3, 4) for _ in range(3)]
    assert [row[1:] for row in rows[3:6]] == [["0.000000", ""], ["-inf", ""], ["-inf", ""]]
    type_in("a\n")
    out = run(capsys, "translate", model, "--best", 300, "--beam", 300, "--max-length", 1)[1].splitlines()
    assert len(out) == 300 and out[-1] == "1\t-inf\t"


@pytest.mark.parametrize("way", ["the file", "a link", "a hard link", "stdin", "targets", "a checkpoint", "the log"])
def test_translations_never_go_to_what_is_read(way, model, tmp_path, capsys, monkeypatch, request):
    file, target = tmp_path / "x.tsv", tmp_path / "y"
    file.write_text("abc\tcba\n")
    target.write_text("cba\n")
    output, arguments = file, [file]
    if way == "a link":
        output = tmp_path / "link"
        output.symlink_to(file)
    elif way == "a hard link":
        output = tmp_path / "link"
        os.link(file, output)
    elif way == "stdin":
        stdin = file.open()
        request.addfinalizer(stdin.close)
        monkeypatch.setattr(sys, "stdin", stdin)
        arguments = []
    elif way == "targets":
        output, arguments = target, [file, "--target", target]
    elif way == "a checkpoint":
        output = next(model.glob("checkpoint-*")) / "config.json"
    elif way == "the log":
        output = model / "log.jsonl"
    before = output.read_bytes()
    status, _, err = run(capsys, "evaluate", model, *arguments, "--metric", "wer", "--translations", output)
    assert (status, len(err.splitlines())) == (2, 1) and "is read by this command" in err
    assert output.read_bytes() == before
    if way == "the log":
        link = tmp_path / "map.html"
        link.symlink_to(output)
        status, _, err = run(capsys, "heatmap", model, "abc", "-o", link)
        assert status == 2 and "is read by this command" in err and output.read_bytes() == before


@pytest.mark.parametrize("name", ["best", "latest", "lock", "log.jsonl"])
def test_a_run_never_writes_over_its_data(name, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    config = write_corpus(tmp_path, CONFIG.replace("train.tsv", f"run/{name}"))
    data = tmp_path / "run" / name
    (tmp_path / "train.tsv").rename(data)
    before = data.read_bytes()
    status, _, err = run(capsys, "train", config, "--folder", tmp_path / "run", "--quiet")
    assert (status, len(err.splitlines())) == (2, 1) and "Hint: train in another folder" in err
    assert data.read_bytes() == before
    assert run(capsys, "train", config, "--folder", tmp_path / "other", "--quiet")[0] == 0


def test_translations_may_go_anywhere_else(model, tmp_path, capsys):
    file = tmp_path / "x.tsv"
    file.write_text("abc\tcba\n")
    for output in (tmp_path / "out", tmp_path / "out", "/dev/null"):
        assert run(capsys, "evaluate", model, file, "--metric", "wer", "--translations", output)[0] == 0


def test_the_quickstart_throws_no_folder_of_others_away(tmp_path):
    from fastattn.errors import ConfigError
    from fastattn.seq2seq.quickstart import quickstart

    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="is not of the quickstart"):
        quickstart(tmp_path, again=True)
    assert (tmp_path / "attention" / "notes").read_text() == "mine"


def test_info_loads_no_model_code(run_python):
    code = "import sys; from fastattn.cli import main; main(['info']); print('seq2seq' in str(sys.modules))"
    assert run_python("-c", code).stdout.splitlines()[-1] == "False"
