"""Notebooks: cards whose styles reach nothing else and whose texts are no more than texts, and one bar of progress."""

import dataclasses
import re
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from test_copies import translator

import fastattn
from fastattn import _cards, layers, seq2seq, testing
from fastattn.seq2seq.runs.progress import Progress
from fastattn.seq2seq.runs.training import Outcome
from fastattn.viz.palette import contrast
from fastattn.viz.table import table

EVIL = "</td></style><script>alert(1)</script>\x1b[31m"
VOID = {"br"}


class Page(HTMLParser):
    """Elements, each with its text; every one must be closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.elements, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data


def check(html):
    """Return the text of a card and its elements, after a look at what it could do to the page around it."""
    style, body = re.fullmatch(r"<style>(.*?)</style>(<div.*)", html, re.S).groups()
    for rule in re.findall(r"([^{}]+)\{", style):
        for selector in re.split(r",(?![^(]*\))", rule):
            assert selector.strip().startswith("div.fastattn-card"), selector
    assert "@" not in style and "url(" not in style
    page = Page(body)
    for tag, attributes in page.elements:
        assert tag not in {"script", "style", "link", "img", "iframe"}
        assert not any(name == "id" or name.startswith("on") for name in attributes), attributes
        assert all(name.startswith("fastattn-") for name in attributes.get("class", "").split())
        # On a page of any colour: what has a background of its own has its ink too, and all else has neither.
        if "style" in attributes:
            ground, ink = re.fullmatch("background:(#[0-9a-f]{6});color:(#[0-9a-f]{3})", attributes["style"]).groups()
            rgb = tuple(bytes.fromhex(ground[1:]))
            assert contrast(rgb, (0, 0, 0) if ink == "#000" else (255, 255, 255)) >= 4.5
    colours = re.findall(r"(?<![-\w])(?:color|background): ([^;}]+)", style)
    assert set(colours) <= {"inherit", "none"}
    assert "\x1b" not in html
    return page.text, page.elements


def cells(elements):
    return [attributes["title"] for tag, attributes in elements if tag == "td" and "title" in attributes]


def made():
    x = np.ones((2, 3, 4))
    rng = np.random.default_rng(0)
    one = translator()
    yield fastattn.attention(x, x, x, return_weights=True)
    yield fastattn.attention(x, x, x, return_lse=True)
    yield layers.Linear(3, 4, rng=rng)
    yield fastattn.create("multihead", query_width=4, memory_width=4, heads=2, rng=rng)
    yield from (one, one.model, one.search(["ab"])[0][0], one.align("ab", "bc"))
    yield testing.check_plugin("fastattn.scores")[0]
    yield Outcome(Path("nowhere"), 1, 2, "epochs", "loss", 0.5, 1)


def test_cards_are_well_formed_and_keep_to_themselves():
    for one in made():
        assert len(one._repr_html_()) < 20000
        check(one._repr_html_())


def test_no_token_and_no_name_is_more_than_a_text():
    found = dataclasses.replace(translator().align("ab", "bc"), text=EVIL, tokens=[EVIL] * 3, source_tokens=[EVIL] * 3)
    text, elements = check(found._repr_html_())
    assert text.count("<script>") == 1 and len(cells(elements)) == 9 and "</script>" in cells(elements)[0]
    result = testing.certificate.Result(EVIL, "failed", EVIL)
    text, _ = check(testing.certificate.Certificate(EVIL, (result,))._repr_html_())
    assert text.count("<script>") == 3 and "FAILED" in text and "0 of 1 checks passed, 1 failed" in text
    check(Outcome(Path(EVIL), 1, 2, EVIL, EVIL, 0.5, 1)._repr_html_())


def test_the_weights_of_an_output_are_those_of_the_first_sample():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 3, 4, 8)), rng.normal(size=(2, 3, 5, 8))
    output = fastattn.attention(query, key, key, return_weights=True)
    text, elements = check(output._repr_html_())
    assert "the first sample, the mean of 3 heads" in text and "float64 (2, 3, 4, 8)" in text
    expected = output.weights[0].mean(axis=0)
    assert [float(cell.split(": ")[1]) for cell in cells(elements)] == [float(f"{x:.4g}") for x in expected.ravel()]
    assert cells(elements)[1].startswith("0, 1: ")


def test_a_translation_shows_the_last_layer_and_the_mean_of_heads():
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4, 5)).astype(np.float32)  # (n, L, H, S)
    found = seq2seq.translate.Translation("x", ["x", "</s>"], ["a", "b", "</s>"], -1.0, -1.0, False, weights)
    text, elements = check(found._repr_html_())
    assert "the mean of 5 heads" in text and "limit of length" in text
    expected = weights[:, -1].mean(axis=1)
    assert [float(cell.split(": ")[1]) for cell in cells(elements)] == pytest.approx(expected.ravel(), rel=1e-3)
    assert cells(elements)[0].startswith("x, a: ")


def test_a_map_of_small_weights_says_what_its_brightest_colour_is_and_a_large_one_how_to_see_it():
    names = [str(i) for i in range(20)]
    small = table(np.full((2, 20), 0.05), names, names[:2])
    assert "The brightest colour is 0.05, the largest weight." in small and small.count("background:#fee838") == 40
    assert "brightest" not in table(np.eye(3), "abc", "ABC")
    assert "fastattn.viz.heatmap draws them" in table(np.zeros((60, 80)), ["a"] * 80, ["b"] * 60)


def test_a_training_report_draws_the_losses_of_its_log(tmp_path):
    log = ['{"step": 1, "loss": 3.0}', '{"step": 2, "loss": 2.0, "validation_loss": 2.5}']
    (tmp_path / "log.jsonl").write_text("\n".join([*log, '{"step": 3, "loss": 1.0, "validation_loss": 2.0}']))
    text, elements = check(Outcome(tmp_path, 3, 1, "epochs", "loss", 2.0, 3)._repr_html_())
    lines = [attributes["points"].split() for tag, attributes in elements if tag == "polyline"]
    assert [len(points) for points in lines] == [3, 2] and lines[0][-1].split(",")[0] == lines[1][-1].split(",")[0]
    assert float(lines[0][0].split(",")[1]) < float(lines[0][1].split(",")[1])  # less loss is further down
    assert "training loss (solid), validation loss (dashed)" in text and "2.0000 at step 3" in text
    assert not _cards.curves({"one": [(1, 2.0)]}) and "nan" not in _cards.curves({"flat": [(1, 2.0), (1, 2.0)]})


def run(progress):
    progress.line("before")
    progress.begin(0, 3)
    for step in (1, 2, 3):
        progress.advance(3.0 - step / 2)
        progress.show(step=step, loss=3.0 - step / 2)
        progress.measured(step, {"validation_loss": 2.0 + step, "perplexity": 8.0}, "validation_loss", step == 3)
    progress.line("a note")
    progress.close()


def test_a_pipe_gets_lines(capsys):
    run(Progress(label="run"))
    out, err = capsys.readouterr()
    assert not out and err.splitlines() == [
        "run: before",
        "run: step 1  loss 2.5", "run: step 1  validation loss 3  perplexity 8",
        "run: step 2  loss 2", "run: step 2  validation loss 4  perplexity 8",
        "run: step 3  loss 1.5", "run: step 3  validation loss 5  perplexity 8  best so far",
        "run: a note",
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["a terminal", "a notebook"])
def test_a_terminal_and_a_notebook_get_one_bar_with_a_live_loss(place, capsys, monkeypatch):
    pytest.importorskip("tqdm.auto")
    if place == "a notebook":
        shell = types.SimpleNamespace(config={"IPKernelApp": {}})
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
        # tqdm has looked for a notebook once, when it was loaded: this is what it is without ipywidgets.
    else:
        monkeypatch.setattr("fastattn.seq2seq.runs.progress._on_terminal", lambda: True)
    progress = Progress(label="run")
    monkeypatch.setattr("tqdm.std.time", iter(range(10**6)).__next__)  # a second between steps: each is drawn
    run(progress)
    out, err = capsys.readouterr()
    shown, other = (out, err) if place == "a notebook" else (err, out)
    assert not other
    lines = [line.split("\r")[-1] for line in shown.split("\n") if line]
    assert [line for line in lines if "step/s" not in line and "s/step" not in line] == ["run: before", "run: a note"]
    assert "3/3" in lines[-1] and "loss 1.5, validation loss 5 (best)" in lines[-1]
    assert "loss 2.5" in shown and "loss 2," in shown
