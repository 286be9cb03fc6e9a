"""Models of ONNX Runtime: a graph of a few operators, written here, with arrays of the case as inputs or constants."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ...case import Arrays, Run
from ...case import named as collect

__all__ = ["collect", "node", "runner", "softmax_times"]
OPSET, IR = 17, 8


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    """An operator; names of inputs are separated by blanks, and that of an extension begins with ``com.microsoft.``"""
    domain, _, name = kind.rpartition(".")
    return helper.make_node(name, inputs.split(), output.split(), domain=domain, **attributes)


def runner(nodes: Sequence[Any], inputs: Arrays, constants: Arrays) -> Run:
    """A call of the graph, which returns its output ``y``."""
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    return lambda: session.run(None, given)[0]


def softmax_times(scores: str) -> list[Any]:
    """The last two operators of a formula: weights from scores, and their sums of values."""
    return [node("Softmax", scores, "weights", axis=-1), node("MatMul", "weights value", "y")]
