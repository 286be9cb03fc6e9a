"""The ONNX operator Attention: its own node cases, answered as ``python -m fastattn.verify onnx`` does."""

import dataclasses
import importlib
import json
import math

import pytest

pytest.importorskip("onnx", minversion="1.23", reason="the operator's cases come from onnx 1.23 or later")

from fastattn.verify import __main__ as command
from fastattn.verify import onnx

CASES = onnx.cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removeprefix("test_attention_"))
def test_a_case(case):
    found = onnx.answer(case)
    assert found.outcome == "passed", found.reason


def test_half_types_are_not_widened():
    types = set()
    for case in CASES:
        (node,) = case.model.graph.node
        for arrays, (expected, *_) in case.data_sets:
            if expected.dtype.itemsize == 2:
                assert onnx.evaluate(node, arrays)["Y"].dtype == expected.dtype
                types.add(expected.dtype.name)
    assert types == {"float16", "bfloat16"}


def test_the_operator_has_all_its_cases():
    # onnx 1.23 has 93. Fewer would mean that the cases were not found.
    assert len(CASES) >= 93
    assert math.isclose(CASES[0].rtol, 1e-3)


def changed(case, **attributes):
    """A case with other attributes, and the results that it had before."""
    helper = importlib.import_module("onnx.helper")
    model = type(case.model)()
    model.CopyFrom(case.model)
    kept = [item for item in model.graph.node[0].attribute if item.name not in attributes]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend([*kept, *(helper.make_attribute(*item) for item in attributes.items())])
    return dataclasses.replace(case, model=model)


def test_a_difference_and_an_unknown_attribute_are_seen():
    assert onnx.answer(changed(CASES[0], scale=3.0)).outcome == "failed"
    found = onnx.answer(changed(CASES[0], new_feature=1))
    assert found.outcome == "not expressible" and "new_feature" in found.reason


def test_the_command(capsys, monkeypatch):
    chosen = [*CASES[:2], changed(CASES[2], new_feature=1)]
    monkeypatch.setattr(onnx, "cases", lambda: chosen)
    assert command.main(["onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 cases") and "passed             2" in lines and "failed             0" in lines
    assert any("new_feature" in line for line in lines) and lines[-2].strip() == chosen[2].name
    chosen[0] = changed(chosen[0], scale=3.0)
    assert command.main(["onnx", "--json"]) == 1
    outcomes = [one["outcome"] for one in json.loads(capsys.readouterr().out)]
    assert outcomes == ["failed", "passed", "not expressible"]


def test_without_the_package(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx.backend.test.case.node", None)
    assert command.main(["onnx"]) == 2
    assert "pip install 'fastattn[verify]'" in capsys.readouterr().err
