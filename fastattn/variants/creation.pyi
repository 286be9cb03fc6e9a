# Written by tests/tools/creation_stub.py.
# fmt: off
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np

from fastattn.normalizers.base import Normalizer
from fastattn.positions.base import Positions
from fastattn.variants.coverage import Coverage
from fastattn.variants.gated import GatedAdditive
from fastattn.variants.hard import Hard
from fastattn.variants.heads.additive import AdditiveMultiHead
from fastattn.variants.heads.causal import CausalSelfAttention
from fastattn.variants.heads.multihead import MultiHead
from fastattn.variants.local import LocalM, LocalP
from fastattn.variants.location_sensitive import LocationSensitive
from fastattn.variants.mocha import Mocha
from fastattn.variants.monotonic import Monotonic
from fastattn.variants.neural_coverage import NeuralCoverage
from fastattn.variants.pooling import Pooling
from fastattn.variants.protocol.variant import Variant
from fastattn.variants.soft import Soft

__all__ = ["create"]

@overload
def create(
    name: Literal["dot"], *, query_width: int, memory_width: int, softcap: float | None = ...,
    scale: float | None = ..., normalizer: str | Mapping[str, Any] | Normalizer = ...,
    rng: np.random.Generator | None = ..., dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["scaled_dot"], *, query_width: int, memory_width: int, softcap: float | None = ...,
    scale: float | None = ..., normalizer: str | Mapping[str, Any] | Normalizer = ...,
    rng: np.random.Generator | None = ..., dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["l1"], *, query_width: int, memory_width: int, softcap: float | None = ...,
    scale: float | None = ..., normalizer: str | Mapping[str, Any] | Normalizer = ...,
    rng: np.random.Generator | None = ..., dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["cosine"], *, query_width: int, memory_width: int, softcap: float | None = ...,
    scale: float | None = ..., normalizer: str | Mapping[str, Any] | Normalizer = ...,
    rng: np.random.Generator | None = ..., dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["l2"], *, query_width: int, memory_width: int, scale: float | None = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None = ..., dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["additive"], *, query_width: int, memory_width: int, width: int,
    activation: Literal["tanh", "sigmoid", "relu"] = ..., bias: bool = ..., scale: float | None = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["concat"], *, query_width: int, memory_width: int, width: int,
    activation: Literal["tanh", "sigmoid", "relu"] = ..., scale: float | None = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["gaussian"], *, query_width: int, memory_width: int, scale: float | None = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["general"], *, query_width: int, memory_width: int, scale: float | None = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["linear"], *, query_width: int, memory_width: int, terms: Sequence[str] = ...,
    activation: Literal["linear", "tanh"] = ..., scale: float | None = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["location"], *, query_width: int, memory_width: int, longest: int = ...,
    scale: float | None = ..., normalizer: str | Mapping[str, Any] | Normalizer = ...,
    rng: np.random.Generator | None, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["normed_additive"], *, query_width: int, memory_width: int, width: int,
    activation: Literal["tanh", "sigmoid", "relu"] = ..., bias: bool = ..., scale: float | None = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["gated_additive"], *, query_width: int, memory_width: int, width: int,
    activation: Literal["tanh", "sigmoid", "relu"] = ..., bias: bool = ..., rng: np.random.Generator,
    dtype: Any = ...,
) -> GatedAdditive: ...
@overload
def create(
    name: Literal["bahdanau"], *, query_width: int, memory_width: int, width: int,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator, dtype: Any = ...,
) -> Soft: ...
@overload
def create(
    name: Literal["multihead"], *, query_width: int, memory_width: int, heads: int, key_heads: int | None = ...,
    head_width: int | None = ..., value_width: int | None = ..., output_width: int | None = ..., bias: bool = ...,
    positions: str | Mapping[str, Any] | Positions | None = ..., window: tuple[int | None, int | None] | None = ...,
    sinks: int = ..., normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator,
    dtype: Any = ...,
) -> MultiHead: ...
@overload
def create(
    name: Literal["additive_multihead"], *, query_width: int, memory_width: int, heads: int, width: int,
    head_width: int | None = ..., value_width: int | None = ..., output_width: int | None = ...,
    activation: Literal["tanh", "sigmoid", "relu"] = ..., bias: bool = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator, dtype: Any = ...,
) -> AdditiveMultiHead: ...
@overload
def create(
    name: Literal["causal_self_attention"], *, query_width: int, memory_width: int, heads: int,
    key_heads: int | None = ..., head_width: int | None = ..., output_width: int | None = ..., bias: bool = ...,
    positions: str | Mapping[str, Any] | Positions | None = ..., window: int | None = ..., sinks: int = ...,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator, dtype: Any = ...,
) -> CausalSelfAttention: ...
@overload
def create(
    name: Literal["pooling"], *, query_width: int = ..., memory_width: int, width: int | None,
    normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator | None = ..., dtype: Any = ...,
) -> Pooling: ...
@overload
def create(
    name: Literal["local_m"], *, query_width: int, memory_width: int, window: int = ..., score: str = ...,
    width: int | None = ..., rng: np.random.Generator, dtype: Any = ...,
) -> LocalM: ...
@overload
def create(
    name: Literal["local_p"], *, query_width: int, memory_width: int, window: int = ..., score: str = ...,
    width: int | None = ..., rng: np.random.Generator, dtype: Any = ...,
) -> LocalP: ...
@overload
def create(
    name: Literal["location_sensitive"], *, query_width: int, memory_width: int, width: int, filters: int = ...,
    filter_size: int = ..., smoothing: bool = ..., sharpening: float = ..., window: int | None = ...,
    cumulative: bool = ..., initial: Literal["zeros", "uniform"] = ..., rng: np.random.Generator, dtype: Any = ...,
) -> LocationSensitive: ...
@overload
def create(
    name: Literal["coverage"], *, query_width: int, memory_width: int, width: int, fertility: float | None = ...,
    rng: np.random.Generator, dtype: Any = ...,
) -> Coverage: ...
@overload
def create(
    name: Literal["neural_coverage"], *, query_width: int, memory_width: int, width: int, coverage_width: int = ...,
    rng: np.random.Generator, dtype: Any = ...,
) -> NeuralCoverage: ...
@overload
def create(
    name: Literal["monotonic"], *, query_width: int, memory_width: int, width: int, offset: float = ...,
    noise: float = ..., search: Literal["soft", "hard"] = ..., rng: np.random.Generator, dtype: Any = ...,
) -> Monotonic: ...
@overload
def create(
    name: Literal["mocha"], *, query_width: int, memory_width: int, width: int, chunk: int = ...,
    offset: float = ..., noise: float = ..., search: Literal["soft", "hard"] = ..., rng: np.random.Generator,
    dtype: Any = ...,
) -> Mocha: ...
@overload
def create(
    name: Literal["hard"], *, query_width: int, memory_width: int, score: str = ..., width: int | None = ...,
    training: Literal["gumbel", "reinforce"] = ..., soft_share: float = ..., temperature: float = ...,
    rng: np.random.Generator, dtype: Any = ...,
) -> Hard: ...
@overload
def create(
    name: Literal["luong"], *, query_width: int, memory_width: int, score: str = ..., width: int | None = ...,
    longest: int = ..., normalizer: str | Mapping[str, Any] | Normalizer = ..., rng: np.random.Generator,
    dtype: Any = ...,
) -> Soft: ...
@overload
def create(name: str, **given: Any) -> Variant[Any]: ...
