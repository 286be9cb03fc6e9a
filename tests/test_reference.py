"""The twin itself: its gradients against central differences, and its masks and dropout against plain loops."""

import dataclasses
import math

import numpy as np
import pytest
from cases import SMALL, make, twin_options

from fastattn import _reference


def _loss(problem, arrays):
    parameters = {name[2:]: x for name, x in arrays.items() if name.startswith("p.")}
    spec = dataclasses.replace(problem.score, parameters=parameters)
    rest = {**problem.rest, "score": spec}
    if "bias" in rest:
        rest["bias"] = arrays["bias"]
    context, weights, lse = _reference.attention(arrays["query"], arrays["key"], arrays["value"], **rest)
    finite = np.where(np.isfinite(lse), lse * problem.d_lse, 0.0)
    return (context * problem.d_context).sum() + (weights * problem.d_weights).sum() + finite.sum()


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_gradients_along_random_directions(case):
    """One direction for each input: the derivative of the loss along it is the gradient's product with it."""
    problem = make(case)
    arrays = {"query": problem.query, "key": problem.key, "value": problem.value}
    arrays.update({f"p.{name}": p for name, p in problem.score.parameters.items()})
    if "bias" in problem.rest:
        arrays["bias"] = problem.rest["bias"]
    gradients = _reference.attention_vjp(
        *problem.arrays,
        **twin_options(problem),
        d_context=problem.d_context,
        d_weights=problem.d_weights,
        d_lse=problem.d_lse,
    )
    found = {"query": gradients.query, "key": gradients.key, "value": gradients.value, "bias": gradients.bias}
    found.update({f"p.{name}": g for name, g in gradients.score.items()})
    rng = np.random.default_rng(0)
    for name, x in arrays.items():
        for _ in range(3):
            direction = rng.standard_normal(x.shape)
            ends = [_loss(problem, {**arrays, name: x + sign * 1e-5 * direction}) for sign in (1, -1)]
            expected = (found[name] * direction).sum()
            assert abs((ends[0] - ends[1]) / 2e-5 - expected) <= 1e-7 * (1 + np.abs(found[name]).sum()), name


@pytest.mark.parametrize("causal", [None, "top_left", "bottom_right"])
@pytest.mark.parametrize("window", [None, (2, 1), (None, 0), (3, None)])
@pytest.mark.parametrize("lengths", [None, (9, 4, 0)])
def test_allowed_keys_against_a_loop(causal, window, lengths):
    shape = (3, 2, 5, 9)
    rng = np.random.default_rng(1)
    mask = rng.random(shape) < 0.8
    found = _reference.allowed_keys(shape, mask=mask, key_lengths=lengths, causal=causal, window=window)
    for b, h, i, j in np.ndindex(shape):
        length = 9 if lengths is None else lengths[b]
        position = i + (length - 5 if causal == "bottom_right" else 0)
        expected = bool(mask[b, h, i, j]) and j < length and (causal is None or j <= position)
        if window is not None:
            left, right = window
            expected &= left is None or j >= position - left
            expected &= right is None or j <= position + right
        assert found[b, h, i, j] == expected


def test_softmax_of_plain_numbers():
    weights = _reference.softmax([[0.0, math.log(3)], [5.0, 5.0]], [[True, True], [False, False]])
    assert np.allclose(weights, [[0.25, 0.75], [0, 0]], rtol=1e-15)


def _dropped(seed, head, row, key, p):
    """The specification in Python integers."""
    m32, m64 = 2**32 - 1, 2**64 - 1
    mix = _reference.mix64
    row_key = mix((mix((seed + 0x632BE59BD9B4E019 * (head + 1)) & m64) + row) & m64)
    u = key ^ (row_key & m32)
    u = ((u ^ (u >> 16)) * 0x7FEB352D) & m32
    u = (u + (row_key >> 32)) & m32
    u = ((u ^ (u >> 15)) * 0x846CA68B) & m32
    return (u ^ (u >> 16)) < math.floor(p * 2**32)


def test_dropout_against_the_specification():
    seeds = np.array([2**64 - 1, 12], np.uint64)
    kept = _reference.dropout_mask(seeds, 2, 3, 4, 40, 0.4)
    for b, h, i, j in np.ndindex(kept.shape):
        assert kept[b, h, i, j] != _dropped(int(seeds[b]), h, i, j, 0.4)
    spread = _reference.sample_seeds(7, 3)
    assert spread == [_reference.mix64((_reference.mix64(7) + b) % 2**64) for b in range(3)]
    # The published first output of this generator from state 0.
    assert _reference.mix64(0) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_everywhere(p):
    kept = _reference.dropout_mask(3, 2, 2, 60, 500, p)
    dropped = 1 - kept.mean(axis=(0, 1))
    sigma = math.sqrt(p * (1 - p))
    assert abs(dropped.mean() - p) < 5 * sigma / math.sqrt(kept.size)
    # Six standard deviations: rows and columns are 560 chances, each of 2e-9.
    assert np.abs(kept.mean(axis=(0, 1, 3)) - (1 - p)).max() < 6 * sigma / math.sqrt(2000)
    assert np.abs(kept.mean(axis=(0, 1, 2)) - (1 - p)).max() < 6 * sigma / math.sqrt(240)
    neighbours = (kept[..., 1:] == kept[..., :-1]).mean()
    assert abs(neighbours - (p * p + (1 - p) ** 2)) < 6 * 0.5 / math.sqrt(kept.size)


def test_a_mask_depends_on_the_sample_not_on_its_place():
    whole = _reference.dropout_mask(np.array([5, 9, 5], np.uint64), 3, 2, 3, 20, 0.5)
    assert np.array_equal(whole[0], whole[2]) and not np.array_equal(whole[0], whole[1])
