"""Suites of others, answered by fastattn: ``python -m fastattn.verify onnx``.

`fastattn.verify.onnx` has the cases that the package onnx holds for the operator Attention.
"""

__all__: list[str] = []
