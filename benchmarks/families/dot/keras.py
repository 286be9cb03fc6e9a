"""``keras.layers.Attention``; it knows no heads: batch and heads are folded into one axis, which costs nothing."""

from typing import Any

import keras
import numpy as np

from ...case import Arrays, Case, Run
from ..attention import keras as shared


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in data.items()}
    layer = keras.layers.Attention(use_scale=True, score_mode="dot", dtype="float32")
    return shared.run(case, flat, layer, np.float32(flat["query"].shape[-1] ** -0.5))


def collect(case: Case, result: Any) -> Arrays:
    arrays = shared.collect(case, result)
    heads = case.sizes["B"], case.sizes["H"]
    return {name: array.reshape(*heads, *array.shape[1:]) for name, array in arrays.items()}
