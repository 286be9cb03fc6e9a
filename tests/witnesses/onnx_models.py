"""Evaluates one operator of ONNX Runtime's domain com.microsoft; what imports this is skipped without the packages."""

import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx, which builds the models for ONNX Runtime, is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime (onnxruntime) is not installed")

TYPES = {
    np.dtype(np.float32): onnx.TensorProto.FLOAT,
    np.dtype(np.int32): onnx.TensorProto.INT32,
}


def evaluate(operator, feeds, outputs, **attributes):
    """Outputs of a model that is one node; feeds are its inputs in order, by name, None where one is left out."""
    given = {name: array for name, array in feeds.items() if array is not None}
    names = [name if name in given else "" for name in feeds]
    node = onnx.helper.make_node(operator, names, outputs, domain="com.microsoft", **attributes)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        operator,
        [value(name, TYPES[array.dtype], array.shape) for name, array in given.items()],
        [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, given)
