"""The compiled part: one extension module, ``core``, over the C library in csrc/.

``core`` checks all that the kernels trust, unpacks arrays, releases the interpreter lock, makes one C call and turns
its status into an exception. It is private: callers say what is wrong with an argument in the argument's own words.
"""

try:
    import fastattn._kernels.core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "fastattn._kernels.core":
        raise
    raise ImportError(
        f"fastattn: expected its compiled module in {__path__[0]}, got none.\n"
        "Hint: after 'pip install .' start Python outside the checkout, or build in it by "
        "'python setup.py build_ext --inplace'."
    ) from None
