"""Types of the binding of the C kernels; what each function takes is said in the .pxi files."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def use_team(address: int) -> None: ...
def _cgroup_cpus() -> int | None: ...
def build_info() -> dict[str, Any]: ...
def unit(a: Array, last_axis: bool = True) -> Array: ...

SCORES: Final[dict[str, int]]
KEPT: Final[dict[str, int]]

class KernelScore:
    kernel: Final[int]
    activation: Final[int]
    vector: Final[Array | None]
    softcap: Final[float]
    functions: Final[KernelFunctions | None]
    def __init__(
        self,
        kernel: int,
        activation: int = 0,
        vector: Array | None = None,
        softcap: float = 0,
        functions: KernelFunctions | None = None,
    ) -> None: ...

class KernelNormalizer:
    alpha: Final[Array | None]
    weights: Final[int]
    gradient: Final[int]
    owner: Final[object]
    functions: Final[KernelFunctions | None]
    buffers: Final[int]
    def __init__(
        self,
        alpha: Array | None = None,
        weights: int = 0,
        gradient: int = 0,
        owner: object = None,
        functions: KernelFunctions | None = None,
        buffers: int = 0,
    ) -> None: ...

class KernelFunctions:
    sizes: Final[tuple[int, ...]]
    owner: Final[object]
    @property
    def size(self) -> int: ...
    def split(self, sums: Array) -> list[Array | None]: ...
    def __init__(
        self,
        dtype: np.dtype[Any] | None,
        forward: int,
        backward: int,
        parameters: int,
        sizes: Iterable[int],
        owner: object,
        sloped: int = 0,
    ) -> None: ...

class KernelMask:
    functions: Final[KernelFunctions]
    def __init__(self, functions: KernelFunctions, blocks: Array) -> None: ...

class Options:
    mask: Final[Array | None]
    bias: Final[Array | None]
    key_lengths: Final[Array | None]
    causal: Final[int]
    left: Final[int]
    right: Final[int]
    seeds: Final[Array | None]
    drop_below: Final[int]
    keep_scale: Final[float]
    modifier: Final[KernelFunctions | None]
    allow: Final[KernelMask | None]
    def __init__(
        self,
        mask: Array | None = None,
        bias: Array | None = None,
        key_lengths: Array | None = None,
        causal: int = 0,
        left: int = -1,
        right: int = -1,
        seeds: Array | None = None,
        drop_below: int = 0,
        keep_scale: float = 1,
        modifier: KernelFunctions | None = None,
        allow: KernelMask | None = None,
    ) -> None: ...
    def replace(self, bias: Array | None, key_lengths: Array | None) -> Options: ...
    @property
    def only_lengths(self) -> bool: ...

class Keys:
    def __init__(
        self,
        key: Array,
        value: Array,
        panels: Array | None = None,
        rows: Array | None = None,
        table: Array | None = None,
        positions: int | None = None,
        kept: int = 0,
    ) -> None: ...

class Features:
    def __init__(self, history: Array, weights: Array, filters: Array | None = None) -> None: ...

class Chunks:
    def __init__(self, width: int, query: Array, keys: Keys, score: KernelScore) -> None: ...

class Sequences:
    def __init__(
        self,
        batch: int,
        steps: int,
        lengths: Array | None = None,
        starts: Array | None = None,
        order: Array | None = None,
    ) -> None: ...

def tiles() -> bool: ...

class Call:
    def __init__(
        self,
        query: Array,
        keys: Keys,
        score: KernelScore,
        scale: float,
        options: Options,
        normalizer: KernelNormalizer | None = None,
    ) -> None: ...
    def forward(
        self,
        context: Array,
        weights: Array | None,
        lse: Array | None,
        row_max: Array | None,
        row_sum: Array | None,
        exact: Array | None = None,
    ) -> None: ...
    def backward(
        self,
        context: Array,
        weights: Array | None,
        row_max: Array,
        row_sum: Array,
        d_context: Array,
        d_weights: Array | None,
        d_lse: Array | None,
        d_query: Array,
        d_key: Array,
        d_value: Array,
        d_bias: Array | None,
        d_vector: Array | None,
        d_parameters: Array | None,
        value: Array | None = None,
    ) -> bool: ...
    def sparse_backward(
        self,
        d_context: Array,
        d_weights: Array | None,
        d_query: Array,
        d_key: Array,
        d_value: Array,
        d_bias: Array | None,
        d_vector: Array | None,
        d_parameters: Array | None,
        d_alpha: Array | None,
        value: Array | None = None,
    ) -> bool: ...

def plain(query: Array, key: Array, value: Array, options: Options) -> tuple[Array, Array, Array] | None: ...
def panel_width(dtype_like: Array) -> int: ...
def panel_elements(key: Array, score: int, tk: int) -> int: ...
def pack_keys(key: Array, score: KernelScore, first: int, last: int, panels: Array) -> None: ...
def parts(of_thread: bool) -> int: ...
def set_parts(parts: int, of_thread: bool) -> None: ...
def gemm_packed_elements(like: Array, k: int, n: int) -> int: ...
def gemm_pack(w: Array, transposed: bool, packed: Array) -> None: ...
def gemm_parts_bytes(like: Array, k: int, n: int, count: int = 3) -> int: ...
def gemm_split(w: Array, transposed: bool, parts: Array) -> bool: ...
def gemm(
    x: Array,
    packed: Array | None,
    y: Array,
    bias: Array | None = None,
    relu: bool = False,
    parts: Array | None = None,
) -> bool: ...
def gemm_narrow(
    x: Array,
    packed: Array,
    y: Array,
    scales: Array | None = None,
    plain: Array | None = None,
    bias: Array | None = None,
    relu: bool = False,
) -> None: ...
def narrow_product(
    x: object,
    shape: tuple[int, ...],
    packed: Array,
    scales: Array | None,
    plain: Array | None,
    bias: object,
    relu: object,
) -> Array | None: ...
def gemm_tn(
    x: Array, dy: Array, dw: Array, db: Array | None = None, accumulate: bool = False, parts: int = 0
) -> None: ...
def map_array(function: int, x: Array, y: Array) -> None: ...
def softmax(x: Array, mask: Array | None, y: Array, rows: int, columns: int) -> None: ...
def softmax_backward(y: Array, dy: Array, dx: Array, rows: int, columns: int) -> None: ...
def normalize(x: Array, y: Array, inverse_norm: Array, rows: int, columns: int) -> None: ...
def normalize_backward(y: Array, inverse_norm: Array, dy: Array, dx: Array, rows: int, columns: int) -> None: ...
def mix64(x: int) -> int: ...
def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array: ...

class KeptMemory:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...

def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array: ...
def lasting(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array: ...
def memory_kept() -> int: ...
def memory_limit(size: int) -> int: ...
def cross_entropy(
    logits: Array, bias: Array | None, targets: Array, smoothing: float, gradient: bool, losses: Array
) -> None: ...
def log_softmax(x: Array, bias: Array | None, y: Array, rows: int, columns: int) -> None: ...
def adam(
    value: Array,
    gradient: Array,
    m: Array,
    v: Array,
    scale: float,
    beta1: float,
    beta2: float,
    size: float,
    spread: float,
    epsilon: float,
    keep: float,
    clear: bool = True,
    parts: Array | None = None,
    turned: Array | None = None,
) -> tuple[bool, bool]: ...
def add_scaled(x: Array, scale: float, y: Array) -> None: ...
def square_sum(x: Array, start: float) -> float: ...
def gather(table: Array, ids: Array, y: Array, columns: bool = False) -> None: ...
def scatter(dy: Array, ids: Array, skip: int, table: Array, columns: bool = False) -> None: ...
def layer_norm(x: Array, gain: Array, offset: Array, epsilon: float, y: Array, mean: Array, inverse: Array) -> None: ...
def layer_normalized(x: object, gain: Array, offset: Array, epsilon: float, added: object = None) -> Array | None: ...
def layer_norm_backward(
    x: Array, gain: Array, mean: Array, inverse: Array, dy: Array, dx: Array, d_gain: Array, d_offset: Array
) -> None: ...
def dropout(x: Array, seeds: Array, drop_below: int, keep_scale: float, y: Array) -> None: ...
def query_backward(
    query: Array,
    keys: Keys,
    score: KernelScore,
    scale: float,
    weights: Array,
    d_context: Array,
    d_query: Array,
    d_score: Array,
    d_weights: Array | None = None,
) -> None: ...

class Recurrent:
    def __init__(
        self, cell: int, hidden: int, w_input: Array, w_hidden: Array, b_input: Array, b_hidden: Array | None
    ) -> None: ...
    def forward(
        self,
        x: Array | None,
        sequences: Sequences,
        reverse: bool,
        first: tuple[Array | None, Array | None] | None,
        last: tuple[Array, Array | None],
        gates: Array,
        kept: tuple[Array, Array] | None = None,
        y: Array | None = None,
        inside: Array | None = None,
        parts: tuple[Array, ...] | None = None,
    ) -> None: ...
    def backward(
        self,
        w_hidden_transposed: Array,
        sequences: Sequences,
        reverse: bool,
        dy: Array | None,
        d_last: tuple[Array | None, Array | None] | None,
        d_first: tuple[Array, Array | None],
        gates: Array,
        kept: tuple[Array, Array],
        c_first: Array | None,
        parts: tuple[Array, ...] | None = None,
    ) -> None: ...

def entmax(x: Array, mask: Array | None, y: Array, alpha: float, rows: int, columns: int) -> None: ...
def entmax_backward(
    y: Array, dy: Array, dx: Array, d_alpha: Array | None, alpha: float, rows: int, columns: int
) -> None: ...
def relu_backward(y: Array, d: Array) -> None: ...
def largest(x: Array, values: Array, ids: Array) -> None: ...
def rotary(x: Array, cosines: Array, sines: Array, interleaved: bool, inverse: bool, y: Array) -> None: ...

class Steps:
    def __init__(
        self,
        query: Array,
        keys: Keys,
        score: KernelScore,
        scale: float,
        first: Array,
        last: Array,
        mask: Array | None = None,
        sigmoid: bool = False,
        features: Features | None = None,
        factor: Array | None = None,
    ) -> None: ...
    def forward(self, context: Array, weights: Array, normalized: Array, total: Array) -> None: ...
    def backward(
        self,
        d_context: Array,
        d_weights: Array | None,
        d_query: Array,
        d_history: Array | None,
        d_factor: Array | None,
        d_key: Array,
        d_vector: Array | None,
        d_feature_weights: Array | None,
        d_filters: Array | None,
        first_step: int = 0,
        last_step: int | None = None,
    ) -> None: ...

class Monotonic:
    def __init__(
        self,
        query: Array,
        keys: Keys,
        score: KernelScore,
        offset: Array,
        lengths: Array,
        mask: Array | None = None,
        chunks: Chunks | None = None,
        previous: Array | None = None,
        start: Array | None = None,
        seeds: Array | None = None,
        step: int = 0,
        noise: float = 0,
    ) -> None: ...
    def forward(
        self,
        context: Array,
        weights: Array,
        alignment: Array | None,
        energy: Array | None,
        chunk_energy: Array | None,
        found: Array | None,
    ) -> None: ...
    def backward(
        self,
        d_context: Array,
        d_weights: Array | None,
        d_alignment: Array | None,
        d_query: Array,
        d_chunk_query: Array | None,
        d_previous: Array,
        d_key: Array,
        d_vector: Array,
        d_offset: Array,
        d_chunk_key: Array | None,
        d_chunk_vector: Array | None,
    ) -> None: ...

def logarithm(x: Array, seeds: Array | None, step: int, y: Array) -> None: ...
def uniform(seeds: Array, step: int, draw: int, u: Array) -> None: ...
def xla_handlers(forward: int, backward: int) -> tuple[int, int]: ...

_C_API: object
