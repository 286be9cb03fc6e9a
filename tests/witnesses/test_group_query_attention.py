"""ONNX Runtime's operator GroupQueryAttention: grouped heads, a window, a cap, a bias and lengths at the same time.

The node cases of the ONNX operator Attention (`tests/verify/test_onnx.py`) have these mostly one by one. Here they
meet in a prompt, and in a step of generation after it, with a cache whose samples have lengths of their own.
"""

import itertools

import numpy as np
import pytest
from witnesses.onnx_models import evaluate

import fastattn
from fastattn.positions import Rotary

BATCH, STEPS, HEADS, KEY_HEADS, WIDTH = 5, 11, 6, 2, 16
INPUTS = (
    "query", "key", "value", "past_key", "past_value", "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache",
    "position_ids", "attention_bias",
)  # fmt: skip
OUTPUTS = ("output", "present_key", "present_value")
LENGTHS = np.array([12, 1, 6, 9, 4])  # of the cache with the new key
# A score and a context are sums of 16 and of at most 12 products of size 3 at most; ours and theirs.
ROOM = 2 * 3 * (16 + 12) * np.finfo(np.float32).eps
features = pytest.mark.parametrize(
    ("window", "cap", "biased", "rotary"),
    list(itertools.product([None, 3], [0.0, 1.5], [False, True], [None, "half", "interleaved"])),
)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def heads(x):
    """(B, T, H D) -> (B, H, T, D)."""
    return x.reshape(*x.shape[:2], -1, WIDTH).swapaxes(1, 2)


def theirs(feeds, window, cap, rotary):
    """The operator's output, as (B, H, T, D)."""
    feeds = dict.fromkeys(INPUTS) | feeds
    if rotary:
        angles = np.arange(STEPS + 1)[:, None] * 10000.0 ** (-np.arange(0, WIDTH, 2) / WIDTH)
        feeds |= {"cos_cache": np.cos(angles).astype(np.float32), "sin_cache": np.sin(angles).astype(np.float32)}
    attributes = {"do_rotary": 1, "rotary_interleaved": int(rotary == "interleaved")} if rotary else {}
    attributes |= {"num_heads": HEADS, "kv_num_heads": KEY_HEADS, "softcap": cap}
    return heads(evaluate("GroupQueryAttention", feeds, OUTPUTS, local_window_size=window or -1, **attributes)[0])


def ours(query, key, value, lengths, window, cap, bias):
    score = fastattn.scores.ScaledDot(softcap=cap or None)
    near = None if window is None else (window - 1, 0)  # a window of n has the query's own key, and n - 1 before it
    alignment = "bottom_right" if query.shape[2] == 1 else "top_left"
    return fastattn.attention(
        query, key, value, score=score, causal=alignment, key_lengths=lengths, window=near, bias=bias
    )


@features
def test_prompts(window, cap, biased, rotary):
    rng = np.random.default_rng(5)
    lengths = np.minimum(LENGTHS, STEPS)
    feeds = {name: normal(rng, BATCH, STEPS, n * WIDTH) for name, n in zip(INPUTS, (HEADS, KEY_HEADS, KEY_HEADS))}
    bias = normal(rng, 1, HEADS, STEPS, STEPS) if biased else None
    query, key, value = map(heads, feeds.values())
    feeds |= {"seqlens_k": (lengths - 1).astype(np.int32), "total_sequence_length": np.array(STEPS, np.int32)}
    right = theirs({**feeds, "attention_bias": bias}, window, cap, rotary)
    if rotary:
        query, key = (Rotary(WIDTH, layout=rotary).turn(x) for x in (query, key))
    found = ours(query, key, value, lengths, window, cap, bias)
    for b, n in enumerate(lengths):
        np.testing.assert_allclose(found[b, :, :n], right[b, :, :n], rtol=0, atol=ROOM)


@features
def test_a_step_with_a_cache(window, cap, biased, rotary):
    rng = np.random.default_rng(6)
    feeds = {name: normal(rng, BATCH, 1, n * WIDTH) for name, n in zip(INPUTS, (HEADS, KEY_HEADS, KEY_HEADS))}
    query, new_key, new_value = map(heads, feeds.values())
    past_key, past_value = (normal(rng, BATCH, KEY_HEADS, STEPS, WIDTH) for _ in range(2))
    bias = normal(rng, 1, HEADS, 1, STEPS + 1) if biased else None
    feeds |= {"past_key": past_key, "past_value": past_value, "attention_bias": bias}
    feeds |= {"seqlens_k": (LENGTHS - 1).astype(np.int32), "total_sequence_length": np.array(STEPS + 1, np.int32)}
    right = theirs(feeds, window, cap, rotary)
    key, value = (np.full((BATCH, KEY_HEADS, STEPS + 1, WIDTH), np.nan, np.float32) for _ in range(2))
    for b, last in enumerate(LENGTHS - 1):
        one = slice(b, b + 1)
        if rotary:
            turn = Rotary(WIDTH, layout=rotary).turn
            query[one], new_key[one] = turn(query[one], last), turn(new_key[one], last)
        key[b, :, :last], key[b, :, last] = past_key[b, :, :last], new_key[b, :, 0]
        value[b, :, :last], value[b, :, last] = past_value[b, :, :last], new_value[b, :, 0]
    found = ours(query, key, value, LENGTHS, window, cap, bias)
    np.testing.assert_allclose(found, right, rtol=0, atol=ROOM)
