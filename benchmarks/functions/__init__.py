"""Functions of users against our own kernels and those of PyTorch: ``python -m benchmarks.functions``."""
