"""The compiled part: one extension module, ``core``, over the C library in csrc/.

``core`` checks all that the kernels trust, unpacks arrays, releases the interpreter lock, makes one C call and turns
its status into an exception. It is private: callers say what is wrong with an argument in the argument's own words.
"""

try:
    import fastattn._kernels.core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "fastattn._kernels.core":
        raise
    from fastattn.errors import describe

    here = __file__.removesuffix("__init__.py")
    hint = "after 'pip install .' start Python elsewhere, or build here: python setup.py build_ext --inplace."
    raise ImportError(describe("fastattn", f"its compiled module in {here}", "none", hint)) from None
