"""Attention on CPUs: score, normalise and sum in one fused kernel, forward and backward.

`attention` computes the context, `attention_vjp` also returns the function that computes all gradients, and `prepare`
projects and packs a memory once for many queries; `attention_forward` and `attention_backward` are `attention_vjp` for
frameworks. `create` makes an attention mechanism of the literature by its name. Score functions are in
`fastattn.scores`, normalizers in `fastattn.normalizers`, exceptions in `fastattn.errors`.

Importing this package loads NumPy and one extension module, and starts no threads. Where there is no extension module
it loads Numba, which compiles the kernels when they are called.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastattn import _known_as, errors, normalizers, scores
from fastattn._version import __version__
from fastattn.attention import (
    AttentionOutput,
    Gradients,
    Memory,
    Residuals,
    attention,
    attention_backward,
    attention_forward,
    attention_vjp,
    prepare,
)
from fastattn.config import get_include, get_num_threads, set_num_threads, show_config
from fastattn.errors import (
    ArgumentError,
    DTypeError,
    FastattnError,
    PluginError,
    ShapeError,
    UnsupportedError,
)
from fastattn.precision import float32_precision, get_float32_precision, set_float32_precision

if TYPE_CHECKING:
    from fastattn import functional, jit, layers, linear, positions, scale, seq2seq, testing, variants, viz
    from fastattn.jit import mask_mod, pairwise_score, row_function, score_mod
    from fastattn.variants import create

__all__ = [
    "ArgumentError",
    "AttentionOutput",
    "DTypeError",
    "FastattnError",
    "Gradients",
    "Memory",
    "PluginError",
    "Residuals",
    "ShapeError",
    "UnsupportedError",
    "__version__",
    "attention",
    "attention_backward",
    "attention_forward",
    "attention_vjp",
    "create",
    "errors",
    "float32_precision",
    "functional",
    "get_float32_precision",
    "get_include",
    "get_num_threads",
    "jit",
    "layers",
    "linear",
    "mask_mod",
    "normalizers",
    "pairwise_score",
    "positions",
    "prepare",
    "row_function",
    "scale",
    "score_mod",
    "scores",
    "seq2seq",
    "set_float32_precision",
    "set_num_threads",
    "show_config",
    "testing",
    "variants",
    "viz",
]

# Loaded at first use: parts, and names of parts.
_LAZY = {
    **dict.fromkeys(
        ("functional", "jit", "layers", "linear", "positions", "scale", "seq2seq", "testing", "variants", "viz"), ""
    ),
    "create": "variants",
    **dict.fromkeys(("mask_mod", "pairwise_score", "row_function", "score_mod"), "jit"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise _known_as.missing(__name__, name, _known_as.MECHANISMS)
    part = importlib.import_module(f"{__name__}.{_LAZY[name] or name}")
    return getattr(part, name) if _LAZY[name] else part


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
