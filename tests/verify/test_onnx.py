"""The ONNX operator Attention: its own node cases, answered as ``python -m fastattn.verify onnx`` does."""

import dataclasses
import importlib
import json
import math

import numpy as np
import pytest

pytest.importorskip("onnx", minversion="1.23", reason="the operator's cases come from onnx 1.23 or later")

from fastattn.verify import __main__ as command
from fastattn.verify import onnx

# Cases that are not met as they stand. They run in float32 in test_bfloat16_case_in_float32.
BFLOAT16 = [
    "test_attention_3d_causal_bf16",
    "test_attention_4d_attn_mask_causal_bf16",
    "test_attention_4d_causal_bf16",
    "test_attention_4d_causal_padded_kv_bf16",
    "test_attention_4d_padded_kv_bf16",
]
CASES = onnx.cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removeprefix("test_attention_"))
def test_a_case(case):
    found = onnx.answer(case)
    assert found.outcome == ("not expressible" if case.name in BFLOAT16 else "passed"), found.reason
    assert ("bfloat16" in found.reason) == (case.name in BFLOAT16)


@pytest.mark.parametrize("name", BFLOAT16)
def test_bfloat16_case_in_float32(name):
    """The operator's reference, given the same numbers as float32, has nothing rounded in between."""
    (case,) = (case for case in CASES if case.name == name)
    (node,) = case.model.graph.node
    reference = importlib.import_module("onnx.reference").ReferenceEvaluator(case.model)
    for arrays, _ in case.data_sets:
        wide = [onnx._widen(np.asarray(array)) for array in arrays]
        (right,) = reference.run(None, dict(zip([name for name in node.input if name], wide, strict=True)))
        assert right.dtype == np.float32
        np.testing.assert_allclose(onnx.evaluate(node, wide)["Y"], right, case.rtol, case.atol)


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
    chosen = [*CASES[:2], *(case for case in CASES if case.name == BFLOAT16[0])]
    monkeypatch.setattr(onnx, "cases", lambda: chosen)
    assert command.main(["onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 cases") and "passed             2" in lines and "failed             0" in lines
    assert any("bfloat16" in line for line in lines) and lines[-2].strip() == BFLOAT16[0]
    chosen[0] = changed(chosen[0], scale=3.0)
    assert command.main(["onnx", "--json"]) == 1
    outcomes = [one["outcome"] for one in json.loads(capsys.readouterr().out)]
    assert outcomes == ["failed", "passed", "not expressible"]


def test_without_the_package(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx.backend.test.case.node", None)
    assert command.main(["onnx"]) == 2
    assert "pip install 'fastattn[verify]'" in capsys.readouterr().err
