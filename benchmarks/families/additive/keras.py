"""``keras.layers.AdditiveAttention``."""

import keras

from ...case import Arrays, Case, Run
from ..attention.keras import collect, run

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    return run(case, data, keras.layers.AdditiveAttention(dtype="float32"), data["v"])
