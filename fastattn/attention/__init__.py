"""Attention as functions of arrays, and memories that are prepared once for many of them."""

from fastattn.attention.functional import AttentionOutput, Gradients, attention, attention_vjp
from fastattn.attention.memory import Memory, prepare

__all__ = ["AttentionOutput", "Gradients", "Memory", "attention", "attention_vjp", "prepare"]
