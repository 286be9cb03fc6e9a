"""The libraries that fastattn is compared with. A library that is not installed is left out by name."""

import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import families
from .case import Arrays, Case, Run


@dataclass(frozen=True)
class Library:
    """A library that can run the cases of the families that have a module for it.

    ``prepare`` of that module returns one zero-argument function per spelling of the operation, everything that may be
    done once (copies, packing, layout, tracing) already done. It is asked for cases of the ``PRECISIONS`` that the
    module names, or of float32. A library gets its own best layout. The functions return when the result is complete.
    ``collect`` turns what they return into float32 arrays by name, in our layout, and is never timed.
    """

    name: str
    version: str
    module: str
    function: str = "prepare"

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]:
        """Functions by spelling; none when the library has no such operation."""
        module = families.part(case.family, self.module)
        make = getattr(module, self.function, None)
        able = case.precision in getattr(module, "PRECISIONS", ("float32",))
        found: dict[str, Run] = make(case, data) if make and able else {}
        return found

    def collect(self, case: Case, result: Any) -> Arrays:
        found: Arrays = families.part(case.family, self.module).collect(case, result)
        return found


def _version(package: str) -> str:
    return str(importlib.import_module(package).__version__)


def _torch(threads: int) -> str:
    import torch

    torch.set_num_threads(threads)
    return str(torch.__version__)


def _keras(threads: int) -> str:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    backend = keras.backend.backend()
    if backend not in ("jax", "torch"):
        raise RuntimeError(f"Keras runs on {backend} here; set KERAS_BACKEND to jax or torch")
    if backend == "torch":
        _torch(threads)
    return f"{keras.__version__} on {backend}"


def _transformers(threads: int) -> str:
    _torch(threads)
    import transformers

    transformers.logging.set_verbosity_error()
    return str(transformers.__version__)


def _onnx(threads: int) -> str:
    import onnx  # noqa: F401 (models are written with it)
    import onnxruntime

    return str(onnxruntime.__version__)


# Name in tables, modules of families with the function that prepares, and what imports the library and gives its
# version. Threads of NumPy's BLAS and of JAX are pinned by environment variables and affinity before the import.
_KNOWN: dict[str, tuple[str, str, str, Callable[[int], str]]] = {
    "numpy_plain": ("NumPy", "numpy", "prepare", lambda threads: _version("numpy")),
    "torch_eager": ("torch eager", "torch", "prepare", _torch),
    # Inductor fuses the formula into C++ loops; needs a C++ compiler.
    "torch_compile": ("torch.compile", "torch", "prepare_compiled", _torch),
    "jax_jit": ("JAX jit", "jax", "prepare", lambda threads: _version("jax")),
    "keras_layers": ("Keras", "keras", "prepare", _keras),
    "marian": ("Marian", "marian", "prepare", _transformers),
    "onnx": ("ONNX Runtime", "onnx", "prepare", _onnx),
    "ctranslate": ("CTranslate2", "ctranslate", "prepare", lambda threads: _version("ctranslate2")),
}
PEERS = tuple(_KNOWN)


def load(names: Sequence[str] = PEERS, threads: int = 1) -> tuple[list[Library], dict[str, str]]:
    """Import the peers in `names`.

    Returns
    -------
    tuple
        The libraries, and for each that could not be imported its name and the reason.
    """
    libraries: list[Library] = []
    missing: dict[str, str] = {}
    for name, module, function, import_it in (_KNOWN[name] for name in names):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                libraries.append(Library(name, import_it(threads), module, function))
        except (ImportError, RuntimeError) as error:
            missing[name] = str(error).splitlines()[0]
    return libraries, missing
