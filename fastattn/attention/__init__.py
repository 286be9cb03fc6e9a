"""Attention as functions of arrays, and memories that are prepared once for many of them."""

from fastattn.attention.functional import AttentionOutput, Gradients, attention, attention_vjp
from fastattn.attention.memory import Memory, prepare
from fastattn.attention.residuals import Residuals
from fastattn.attention.stateless import attention_backward, attention_forward

__all__ = [
    "AttentionOutput",
    "Gradients",
    "Memory",
    "Residuals",
    "attention",
    "attention_backward",
    "attention_forward",
    "attention_vjp",
    "prepare",
]
