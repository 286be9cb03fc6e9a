"""Optimizers, clipping and schedules of the learning rate."""

from fastattn.optim.adam import Adam, AdamW
from fastattn.optim.average import WeightAverage
from fastattn.optim.clipping import clip_scale, global_norm
from fastattn.optim.schedules import Constant, Cosine, InverseSquareRoot, OneCycle, ReduceOnPlateau, Schedule

__all__ = [
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "InverseSquareRoot",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "WeightAverage",
    "clip_scale",
    "global_norm",
]
