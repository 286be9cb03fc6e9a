"""The kernels in Numba: what ``core`` is where the compiled module is not there, or ``FASTATTN_BACKEND=numba``.

The names are those of the compiled module, core.pyi has their types, and whoever calls them need not know which it is.
A call has the same bits in any batch, padding, order of steps and number of threads, as there; not those of the
compiled module.
"""

from fastattn._kernels.numba.attention import Call, pack_keys, panel_elements, panel_width, plain, tiles, xla_handlers
from fastattn._kernels.numba.functions import (
    largest,
    logarithm,
    map_array,
    mix64,
    normalize,
    normalize_backward,
    relu_backward,
    rotary,
    softmax,
    softmax_backward,
    uniform,
)
from fastattn._kernels.numba.memory import KeptMemory, aligned_empty, empty, memory_kept, memory_limit, unit
from fastattn._kernels.numba.monotonic import Monotonic
from fastattn._kernels.numba.products import (
    gemm,
    gemm_narrow,
    gemm_pack,
    gemm_packed_elements,
    gemm_parts_bytes,
    gemm_split,
    gemm_tn,
    parts,
    set_parts,
)
from fastattn._kernels.numba.records import (
    SCORES,
    Chunks,
    Features,
    KernelFunctions,
    KernelMask,
    KernelNormalizer,
    KernelScore,
    Keys,
    Options,
    Sequences,
)
from fastattn._kernels.numba.recurrent import Recurrent
from fastattn._kernels.numba.sparse import entmax, entmax_backward
from fastattn._kernels.numba.steps import Steps, query_backward
from fastattn._kernels.numba.threads import _cgroup_cpus, build_info, get_num_threads, set_num_threads
from fastattn._kernels.numba.training import (
    adam,
    add_scaled,
    cross_entropy,
    dropout,
    gather,
    layer_norm,
    layer_norm_backward,
    log_softmax,
    scatter,
    square_sum,
)

__all__ = [
    "SCORES",
    "Call",
    "Chunks",
    "Features",
    "KeptMemory",
    "KernelFunctions",
    "KernelMask",
    "KernelNormalizer",
    "KernelScore",
    "Keys",
    "Monotonic",
    "Options",
    "Recurrent",
    "Sequences",
    "Steps",
    "_cgroup_cpus",
    "adam",
    "add_scaled",
    "aligned_empty",
    "build_info",
    "cross_entropy",
    "dropout",
    "empty",
    "entmax",
    "entmax_backward",
    "gather",
    "gemm",
    "gemm_narrow",
    "gemm_pack",
    "gemm_packed_elements",
    "gemm_parts_bytes",
    "gemm_split",
    "gemm_tn",
    "get_num_threads",
    "largest",
    "layer_norm",
    "layer_norm_backward",
    "log_softmax",
    "logarithm",
    "map_array",
    "memory_kept",
    "memory_limit",
    "mix64",
    "normalize",
    "normalize_backward",
    "pack_keys",
    "panel_elements",
    "panel_width",
    "parts",
    "plain",
    "query_backward",
    "relu_backward",
    "rotary",
    "scatter",
    "set_num_threads",
    "set_parts",
    "softmax",
    "softmax_backward",
    "square_sum",
    "tiles",
    "uniform",
    "unit",
    "xla_handlers",
]
