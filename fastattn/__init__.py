"""Attention on CPUs: score, normalise and sum in one fused kernel, forward and backward.

`attention` computes the context, `attention_vjp` also returns the function that computes all gradients, and `prepare`
projects and packs a memory once for many queries. `create` makes an attention mechanism of the literature by its name.
Score functions are in `fastattn.scores`, normalizers in `fastattn.normalizers`, exceptions in `fastattn.errors`.

Importing this package loads NumPy and one extension module, and starts no threads.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastattn import _known_as, errors, normalizers, scores
from fastattn._version import __version__
from fastattn.attention import AttentionOutput, Gradients, Memory, attention, attention_vjp, prepare
from fastattn.config import get_include, get_num_threads, set_num_threads, show_config
from fastattn.errors import (
    ArgumentError,
    DTypeError,
    FastattnError,
    PluginError,
    ShapeError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from fastattn import functional, layers, linear, positions, seq2seq, testing, variants, viz
    from fastattn.variants import create

__all__ = [
    "ArgumentError",
    "AttentionOutput",
    "DTypeError",
    "FastattnError",
    "Gradients",
    "Memory",
    "PluginError",
    "ShapeError",
    "UnsupportedError",
    "__version__",
    "attention",
    "attention_vjp",
    "create",
    "errors",
    "functional",
    "get_include",
    "get_num_threads",
    "layers",
    "linear",
    "normalizers",
    "positions",
    "prepare",
    "scores",
    "seq2seq",
    "set_num_threads",
    "show_config",
    "testing",
    "variants",
    "viz",
]

_LAZY = frozenset(
    {"create", "functional", "layers", "linear", "positions", "seq2seq", "testing", "variants", "viz"}
)  # loaded at first use


def __getattr__(name: str) -> Any:
    if name == "create":
        return importlib.import_module(f"{__name__}.variants").create
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise _known_as.missing(__name__, name, _known_as.MECHANISMS)


def __dir__() -> list[str]:
    return sorted(set(globals()) | _LAZY)
