"""The scoreboard's own checks: what is wrong has no time, what is lost is said, bits that depend on others are seen."""

import json
from dataclasses import replace

import numpy as np
import pytest

from .. import compare, inputs, peers, reference, roofline
from ..cases import CASES
from ..ours import NAME as OURS
from ..timing import LEAST_ROUNDS, Effort, interleave, middle
from . import accuracy, samples, scoreboard
from .contest import hold, with_a_chance
from .test_harness import Faulty

BRIEF = Effort(rounds=3, sample_seconds=1e-4)
CASE = next(case for case in CASES if case.name == "dot_sentence_fwd").small()


class Library(peers.Library):
    """NumPy's formula as if it were of two precisions."""

    def prepare(self, case, data):
        return super().prepare(replace(case, precision="float32"), data)


class Swayed(Library):
    """Changes the last bit of the last sample where there are others."""

    def collect(self, case, result):
        found = super().collect(case, result)
        if len(found["context"]) > 1:
            found["context"][-1] = np.nextafter(found["context"][-1], np.float32(np.inf))
        return found


class FaultyInBoth(Faulty, Library):
    pass


class Unable(Library):
    def prepare(self, case, data):
        raise OSError("no such unit")


def contest(*libraries, case=CASE):
    return hold(case, libraries, BRIEF, ("float32", "bfloat16"))


def report(result, **changes):
    """What compare writes of a result, as far as the page reads it."""
    config = {"version": "1", "level": "generic", "levels_cpu": ["generic"]}
    run = {
        "threads": 1, "results": [result], "versions": {OURS: "1", "peer": "2"}, "missing": {"onnx": "not <installed>"},
        "load_average": [0.5, 1.0], "fastattn": config, "cut": [],
    }  # fmt: skip
    machine = {"processor": "a processor", "cpus": 2, "system": "a system", "python": "CPython"}
    whole = {"runs": [run | changes], "machine": machine, "versions": {"numpy": "2"}, "command": "a", "date": "b"}
    return {"smoke": False, **whole}


def test_a_wrong_peer_has_no_time_and_is_shown():
    ours, faulty, unable = (kind(name, "", "numpy") for kind, name in (
        (Library, OURS), (FaultyInBoth, "faulty"), (Unable, "unable"),
    ))  # fmt: skip
    result = contest(ours, faulty, unable)
    wrong = [row for row in result["contestants"] if row["library"] != OURS]
    assert len(wrong) == 4 and all(row["status"] == "wrong" and "median" not in row for row in wrong)
    assert [row.verdict for row in scoreboard.rows(report(result)["runs"][0])] == ["no peer", "no peer"]
    page = scoreboard.page(report(result))
    assert page.count("wrong: context is off by") == 2 and page.count("failed: OSError: no such unit") == 2
    assert "not &lt;installed&gt;" in page and not scoreboard.failures(report(result))


def test_a_wrong_result_of_ours_is_loud():
    ours, peer = FaultyInBoth(OURS, "", "numpy"), Library("peer", "", "numpy")
    found = report(contest(ours, peer))
    assert len(scoreboard.failures(found)) == 2
    assert "WRONG: 1 threads, dot_sentence_fwd, fastattn, float32: context is off" in scoreboard.text(found)
    assert "Results of ours that are wrong" in scoreboard.page(found)


def test_rows_that_are_lost_are_told():
    result = contest(Library(OURS, "", "numpy"), Library("peer", "", "numpy"))
    for row in result["contestants"]:
        row["samples"] = [1.0, 1.1, 0.9] if row["library"] == OURS else [0.4, 0.5, 0.45]
        row["median"] = sorted(row["samples"])[1]
    found = report(result, cut=["gemm_large_m64"])
    first, second = scoreboard.rows(found["runs"][0])
    assert first.verdict == second.verdict == "slower"
    assert first.ratio == (pytest.approx(0.5 / 1.1), 0.4, 0.5)
    page = scoreboard.page(found)
    assert page.count('<span class="slower">slower</span>') == 2 and "faster in 0, even in 0, slower in 2" in page
    said = "No time was left, with 1 thread, for gemm_large_m64."
    assert said in page and said in scoreboard.text(found)


def test_a_finer_precision_may_take_part():
    result = contest(Library(OURS, "", "numpy"), Library("peer", "", "numpy"))
    for row in result["contestants"]:
        fast = row["precision"] == ("float32" if row["library"] == "peer" else "bfloat16")
        row["samples"] = [1.0 if fast else 2.0] * 3
        row["median"] = row["samples"][0]
    first, second = scoreboard.rows(report(result)["runs"][0])
    assert (first.verdict, second.verdict) == ("slower", "even")
    assert second.peer["precision"] == "float32"


def test_bits_that_depend_on_others_are_seen():
    result = contest(Library(OURS, "", "numpy"), Swayed("swayed", "", "numpy"))
    found = {row["library"]: row["alone"] for row in result["contestants"]}
    assert found["swayed"] is False and result["contestants"][-1]["status"] == "ok"


@pytest.mark.parametrize(
    "name", ["dot_long_fwd", "additive_grad", "gemm_large_m64", "lstm_grad", "memory_fwd", "transformer_small"]
)
def test_a_sample_is_cut_out(name):
    case = next(case for case in CASES if case.name == name).small()
    data = inputs.make(case)
    single, cut, axis = samples.alone(case, data)
    assert axis == 0 and single.sizes["M" if name.startswith("gemm") else "B"] == 1
    assert {key for key in data if len(cut[key]) != len(data[key])} == {key for key in data if key in single.samples}


def test_one_sample_is_asked_of_a_query():
    case = replace(CASE, sizes={**CASE.sizes, "B": 1}, smoke=CASE.sizes)
    single, cut, axis = samples.alone(case, inputs.make(case))
    assert axis == -2 and cut["query"].shape[-2] == 1 and cut["key"].shape[-2] == case.sizes["Tk"]
    assert "key" not in single.samples
    assert samples.alone(replace(case, samples=()), {}) is None
    assert samples.alone(replace(case, options={"causal": True}), {}) is None


@pytest.mark.parametrize(("precision", "allowed"), [("bfloat16", 2.0**-7), ("int8", 2.0**-5)])
def test_narrow_results_are_judged(precision, allowed):
    case = replace(CASE, precision=precision)
    right = reference.compute(case, inputs.make(case))
    for off, ok in ((0.9, True), (1.1, False)):
        result = {"context": (right.values["context"] * (1 + off * allowed)).astype(np.float32)}
        verdict = accuracy.judge(result, right)
        assert verdict.ok is ok and verdict.errors["context"] == pytest.approx(off * allowed, rel=1e-3)
    assert accuracy.gate("d_key", replace(right, steps=4)) == 2 * accuracy.gate("d_key", right)


def test_inputs_are_numbers_of_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    plain, rounded = (inputs.make(case) for case in (CASE, replace(CASE, precision="bfloat16")))
    for name, array in plain.items():
        assert (rounded[name] == array.astype(ml_dtypes.bfloat16).astype(np.float32)).all()


def test_medians_have_intervals():
    assert middle([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert middle(range(6)) == (2.5, 0, 5)
    assert middle(range(8)) == (3.5, 0, 7)
    assert middle(range(9)) == (4, 1, 7)
    assert middle(range(11)) == (5, 1, 9)


def test_rounds_end_with_the_budget():
    found = interleave({"a": lambda: None}, Effort(50, 1e-9, budget=0.0))
    assert len(found["a"]) == LEAST_ROUNDS


def test_ways_without_a_chance_are_left_out():
    from time import sleep

    libraries = {"a1": OURS, "a2": OURS, "b": "b", "c": "c", "d": "d"}
    rows = [{"name": name, "library": library, "precision": "float32"} for name, library in libraries.items()]
    seconds = {"a1": 0.1, "a2": 0.2, "b": 0.01, "c": 0.0101, "d": 0.05}
    runs = {name: lambda x=x: sleep(x) for name, x in seconds.items()}
    rows.append({"name": "n", "library": "b", "precision": "bfloat16"})
    runs["n"] = lambda: None
    assert list(with_a_chance(rows, runs)) == ["a1", "b", "c", "n"]
    assert rows[-2]["once"] >= 0.05


def test_the_public_cases_exist():
    assert scoreboard.PUBLIC.keys() <= {case.name for case in CASES}
    assert set(scoreboard.PEERS) <= set(peers.PEERS)


def test_the_command(tmp_path, capsys):
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    arguments = ["gemm_large_m64", "dot_sentence_fwd", "--public", "--smoke", "--threads", "1", "--rounds", "3"]
    assert compare.main([*arguments, "--peers", "numpy_plain", "-o", str(page), "--json", str(data)]) == 0
    text, found = page.read_text(), json.loads(data.read_text())
    assert "<script" not in text and "http" not in text.replace("http-equiv", "") and "<link" not in text
    precisions = {row["precision"] for result in found["runs"][0]["results"] for row in result["contestants"]}
    assert precisions == {"float32", "bfloat16", "int8"}
    ours = [row for result in found["runs"][0]["results"] for row in result["contestants"] if row["library"] == OURS]
    assert all(row["alone"] and row["status"] == "ok" for row in ours)
    assert "best peer" in capsys.readouterr().out


def test_shares_are_of_what_takes_longest():
    kernel = roofline.Kernel("a", "1", "float32", {"float32": 10.0, "bfloat16": 4.0}, 10.0, 1000.0, lambda: None)
    rates = {"0": 2.0, "float32": 100.0, "bfloat16": 20.0, "L1": 1e6}
    (line,) = roofline.rows_of([kernel], rates, "avx2")
    assert line["limit"] == "bfloat16" and line["share"] == pytest.approx(0.2 / 0.5)
    (line,) = roofline.rows_of([kernel], {"0": 2.0, "float32": 100.0}, "avx2")
    assert "share" not in line and "avx2" in roofline.table([line], True)
