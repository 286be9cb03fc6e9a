"""Types of the binding of the C kernels; what each function takes is said in the .pxi files."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def build_info() -> dict[str, Any]: ...
def unit(a: Array, last_axis: bool = True) -> Array: ...

class Call:
    def __init__(
        self,
        query: Array,
        key: Array,
        value: Array,
        score: int,
        activation: int,
        score_vector: Array | None,
        scale: float,
        softcap: float,
        mask: Array | None,
        bias: Array | None,
        key_lengths: Array | None,
        causal: int,
        left: int,
        right: int,
        seeds: Array | None,
        drop_below: int,
        keep_scale: float,
        key_panels: Array | None,
        memory_rows: Array | None,
        tk: int,
        alpha: Array | None = None,
        position_rows: Array | None = None,
    ) -> None: ...
    def use_rows(self, weights: int, gradient: int, owner: object) -> None: ...
    def forward(
        self,
        context: Array,
        weights: Array | None,
        lse: Array | None,
        row_max: Array | None,
        row_sum: Array | None,
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
        delta: Array,
        d_query: Array,
        d_key: Array,
        d_value: Array,
        d_bias: Array | None,
        d_vector_parts: Array | None,
        d_vector: Array | None,
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
        d_vector_parts: Array | None,
        d_vector: Array | None,
        d_alpha: Array | None,
        value: Array | None = None,
    ) -> bool: ...

def panel_width(dtype_like: Array) -> int: ...
def panel_elements(key: Array, score: int, tk: int) -> int: ...
def pack_keys(
    key: Array, score: int, activation: int, score_vector: Array | None, first: int, last: int, panels: Array
) -> None: ...
def gemm_packed_elements(like: Array, k: int, n: int) -> int: ...
def gemm_pack(w: Array, transposed: bool, packed: Array) -> None: ...
def gemm(x: Array, packed: Array, y: Array, bias: Array | None = None, relu: bool = False) -> None: ...
def gemm_tn(x: Array, dy: Array, dw: Array, db: Array | None = None, accumulate: bool = False) -> None: ...
def map_array(function: int, x: Array, y: Array) -> None: ...
def softmax(x: Array, mask: Array | None, y: Array, rows: int, columns: int) -> None: ...
def softmax_vjp(y: Array, dy: Array, dx: Array, rows: int, columns: int) -> None: ...
def normalize(x: Array, y: Array, inverse_norm: Array, rows: int, columns: int) -> None: ...
def normalize_vjp(y: Array, inverse_norm: Array, dy: Array, dx: Array, rows: int, columns: int) -> None: ...
def mix64(x: int) -> int: ...
def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array: ...
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
) -> None: ...
def add_scaled(x: Array, scale: float, y: Array) -> None: ...
def square_sum(x: Array, start: float) -> float: ...
def gather(table: Array, ids: Array, y: Array) -> None: ...
def scatter(dy: Array, ids: Array, skip: int, table: Array) -> None: ...
def layer_norm(x: Array, gain: Array, offset: Array, epsilon: float, y: Array, mean: Array, inverse: Array) -> None: ...
def layer_norm_vjp(
    x: Array, gain: Array, mean: Array, inverse: Array, dy: Array, dx: Array, d_gain: Array, d_offset: Array
) -> None: ...
def dropout(x: Array, seeds: Array, drop_below: int, keep_scale: float, y: Array) -> None: ...
def query_gradient(
    score: int,
    activation: int,
    scale: float,
    query: Array,
    key: Array,
    value: Array,
    score_vector: Array | None,
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
        batch: int,
        steps: int,
        reverse: bool,
        sequences: tuple[Array, Array, Array] | None,
        h_first: Array | None,
        c_first: Array | None,
        h_last: Array,
        c_last: Array | None,
        gates: Array,
        aux: Array | None,
        before: Array | None,
        y: Array | None,
        inside: Array | None = None,
    ) -> None: ...
    def backward(
        self,
        w_hidden_transposed: Array,
        batch: int,
        steps: int,
        reverse: bool,
        sequences: tuple[Array, Array, Array] | None,
        dy: Array | None,
        dh_last: Array | None,
        dc_last: Array | None,
        dh_first: Array,
        dc_first: Array | None,
        gates: Array,
        aux: Array,
        before: Array,
        c_first: Array | None,
    ) -> None: ...

def entmax(x: Array, mask: Array | None, y: Array, alpha: float, rows: int, columns: int) -> None: ...
def entmax_vjp(
    y: Array, dy: Array, dx: Array, d_alpha: Array | None, alpha: float, rows: int, columns: int
) -> None: ...
def relu_back(y: Array, d: Array) -> None: ...
def largest(x: Array, values: Array, ids: Array) -> None: ...
def rotary(x: Array, cosines: Array, sines: Array, interleaved: bool, inverse: bool, y: Array) -> None: ...

class Steps:
    def __init__(
        self,
        scale: float,
        sigmoid: bool,
        query: Array,
        key: Array,
        value: Array,
        rows: Array | None,
        first: Array,
        last: Array,
        mask: Array | None,
        vector: Array | None,
        history: Array | None,
        filters: Array | None,
        feature_weights: Array | None,
        factor: Array | None,
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
    ) -> None: ...

class Monotonic:
    def __init__(
        self,
        query: Array,
        key: Array,
        vector: Array,
        offset: Array,
        chunk: int,
        chunk_query: Array | None,
        chunk_key: Array | None,
        chunk_vector: Array | None,
        panels: Array | None,
        chunk_panels: Array | None,
        value: Array,
        rows: Array | None,
        lengths: Array,
        mask: Array | None,
        seeds: Array | None,
        step: int,
        noise: float,
        previous: Array | None,
        start: Array | None,
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

_C_API: object
