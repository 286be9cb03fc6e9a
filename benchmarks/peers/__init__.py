"""The libraries that fastattn is compared with, one file each. A library that is not installed is left out by name."""

from __future__ import annotations

import importlib
import warnings

from .base import Library

PEERS = ("numpy_plain", "torch_eager", "torch_compile", "jax_jit", "keras_layers", "marian", "ctranslate")


def load(names: tuple[str, ...] = PEERS, threads: int = 1) -> tuple[list[Library], dict[str, str]]:
    """Import the peers in `names`.

    Returns
    -------
    tuple
        The libraries, and for each that could not be imported its name and the reason.
    """
    libraries: list[Library] = []
    missing: dict[str, str] = {}
    for name in names:
        module = importlib.import_module(f"{__name__}.{name}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                libraries.append(module.load(threads))
        except (ImportError, RuntimeError) as error:
            missing[module.NAME] = str(error).splitlines()[0]
    return libraries, missing
