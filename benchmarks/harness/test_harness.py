"""The benchmarks' own checks: a planted fault must cost a contestant its number."""

import json

import numpy as np
import pytest

from .. import families, inputs, peers, readme_table, reference, versus
from ..cases import CASES, select
from ..timing import Effort, interleave
from . import accuracy, checkout, report
from .contest import hold

BRIEF = Effort(rounds=2, sample_seconds=1e-4)
# Families without NumPy have test files of their own; of narrow operands it has none.
SMALL = [case.small() for case in CASES if families.part(case.family, "numpy") and case.precision == "float32"]
(NUMPY,), _ = peers.load(("numpy_plain",))


def _right(case):
    data = inputs.make(case)
    return NUMPY.collect(case, NUMPY.prepare(case, data).popitem()[1]()), reference.compute(case, data)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_right_results_pass(case):
    result, right = _right(case)
    verdict = accuracy.judge(result, right)
    assert verdict.ok, verdict.reason
    assert max(verdict.errors.values()) < 2.0


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_each_output_is_judged(case):
    result, right = _right(case)
    for name, array in result.items():
        off = np.float32(1.001 if name.startswith("d_") else 1.0001)
        for fault in (array * off, array.astype(np.float64), array[..., :-1], array * np.float32(np.nan)):
            verdict = accuracy.judge({**result, name: fault}, right)
            assert not verdict.ok and name in verdict.reason
        assert not accuracy.judge({key: value for key, value in result.items() if key != name}, right).ok


class Faulty(peers.Library):
    """Forgets the last key."""

    def prepare(self, case, data):
        shortened = {name: array[..., :-1, :] if name in ("key", "value") else array for name, array in data.items()}
        return super().prepare(case, shortened)


class Raising(peers.Library):
    def prepare(self, case, data):
        return {"": lambda: 1 // 0}


def test_a_wrong_result_has_no_number():
    case = next(case for case in SMALL if case.name == "dot_long_fwd")
    faulty, raising = (kind(kind.__name__.lower(), "", "numpy") for kind in (Faulty, Raising))
    result = hold(case, [faulty, raising, NUMPY], BRIEF)
    faulty, raising, good = result["contestants"]
    assert faulty["status"] == raising["status"] == "wrong"
    assert "samples" not in faulty and "samples" not in raising
    assert "ZeroDivisionError" in raising["reason"]
    assert len(good["samples"]) == BRIEF.rounds and result["best_peer"] == "NumPy"
    assert report.best_of(result, "faulty") == "wrong"


@pytest.mark.parametrize("case", [case for case in SMALL if case.backward], ids=lambda case: case.name)
def test_reference_gradients_against_differences(case):
    """The reference is compared with central differences of its own forward pass."""
    data = {name: array.astype(np.float64) for name, array in inputs.make(case).items()}
    values, output = reference.compute(case, data).values, case.results[0]
    rng, step = np.random.default_rng(7), 1e-6

    def loss(changed):
        return (reference.compute(case, changed).values[output] * data[f"d_{output}"]).sum()

    for name in (name for name in data if name != f"d_{output}"):
        direction = rng.standard_normal(data[name].shape)
        up, down = (loss({**data, name: data[name] + sign * step * direction}) for sign in (1, -1))
        expected = (values[f"d_{name}"] * direction).sum()
        assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_interleaving_gives_every_one_a_sample_per_round():
    calls = []
    samples = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, Effort(8, 1e-9))
    assert {name: len(found) for name, found in samples.items()} == {"a": 8, "b": 8}
    # In every round an untimed call and a timed one of each; either may come first.
    rounds = ["".join(calls[at : at + 4]) for at in range(len(calls) - 32, len(calls), 4)]
    assert set(rounds) == {"aabb", "bbaa"}


def test_cases_are_chosen_by_name_or_prefix():
    assert [case.name for case in select(["additive_fwd"])] == ["additive_fwd"]
    assert [case.name for case in select(["gemm_m6", "decode_grad"])] == ["decode_grad", "gemm_m64"]
    assert len({case.name for case in CASES}) == len(CASES)
    with pytest.raises(ValueError, match="no case is called 'bogus'"):
        select(["bogus"])


def test_durations_have_three_digits():
    found = [report.duration(seconds) for seconds in (None, 2.5e-7, 1.5e-3, 0.1234, 12.0)]
    assert found == ["-", "0.25 us", "1.50 ms", "123 ms", "12.0 s"]


def test_table_goes_between_the_markers():
    readme = f"# Title\n{readme_table.START}\nold\n{readme_table.END}\nend\n"
    changed = readme_table.insert(readme, "new")
    assert changed == f"# Title\n{readme_table.START}\n\nnew\n\n{readme_table.END}\nend\n"
    assert readme_table.insert(changed, "new") == changed
    for broken in ("", readme + readme, readme.replace(readme_table.END, "")):
        with pytest.raises(ValueError, match="once each"):
            readme_table.insert(broken, "new")


def part_of_a_run(case, seconds, rounds, processor="a"):
    """What compare writes, as far as the table reads it."""
    ours, row = (
        {"name": name, "library": name, "status": "ok", "samples": [took] * rounds, "median": took}
        for name, took in (("fastattn", seconds), ("NumPy", 2 * seconds))
    )
    result = {
        "case": case, "title": case, "direction": "forward", "contestants": [ours, row], "ours": seconds,
        "best_peer": "NumPy", "best_peer_median": 2 * seconds, "ratio": 2.0,
    }  # fmt: skip
    machine = {"processor": processor, "python": "CPython"}
    run = {"threads": 1, "fastattn": {"level": "generic"}, "results": [result]}
    return {"smoke": False, "machine": machine, "versions": {}, "date": "2026-01-01", "command": "x", "runs": [run]}


def test_a_table_of_several_runs_has_the_last_figure_of_each_case():
    parts = [part_of_a_run("gemm_m1", 1.0, 9), part_of_a_run("additive_fwd", 2.0, 5), part_of_a_run("gemm_m1", 3.0, 9)]
    lines = readme_table.table(readme_table.merge(parts)).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:4]] == [["| additive_fwd", "2.00 s"], ["| gemm_m1", "3.00 s"]]
    assert "5 to 9 rounds" in lines[-1]
    with pytest.raises(ValueError, match="machine"):
        readme_table.merge([*parts, part_of_a_run("gemm_m8", 1.0, 9, processor="b")])


def test_slower_states_are_named():
    same, worse = [1.01, 0.99, 1.0, 1.005, 0.995], [0.95, 0.96, 0.955, 0.95, 0.96]
    assert versus.interval([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)
    middle, low, high = versus.interval(same)
    assert low < middle < high and middle == pytest.approx(1.0, abs=1e-4)
    assert high - middle == pytest.approx(2.776 * np.std(np.log(same), ddof=1) / 5**0.5, rel=0.02)
    assert versus.slower({"a": same, "b": same}) == []
    assert versus.slower({**dict.fromkeys("abcdefgh", same), "b": worse}) == ["b"]
    assert versus.slower({"a": worse}) == ["the geometric mean is below 0.99", "a"]
    assert versus.slower({"a": [0.7, 1.5]}) == []  # noise proves nothing about a case


@pytest.mark.skipif(not checkout.is_built(), reason="two built checkouts are compared; fastattn is installed here")
def test_a_checkout_against_itself(capsys, tmp_path):
    arguments = [str(checkout.ROOT), "smallest", "--rounds", "2", "--smoke", "--sample-seconds", "1e-4"]
    assert versus.main([*arguments, "--json", str(tmp_path / "rounds.json")]) == 0
    assert "geometric mean of 1" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "rounds.json").read_text())["1"]["smallest"]) == 2
