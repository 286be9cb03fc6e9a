"""Every entry of the gallery in docs/functions.md is what its paper says: a formula in plain NumPy, and its slopes."""

import importlib.util
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from gradcheck import check_directions

import fastattn
from fastattn import jit

# The folder is not on the path: beside it are sources of a package that may be tested as installed.
spec = importlib.util.spec_from_file_location("benchmarks", Path(__file__).parents[2] / "benchmarks" / "__init__.py")
sys.modules.setdefault("benchmarks", importlib.util.module_from_spec(spec))

from benchmarks.functions import gallery  # noqa: E402

HEADS, LENGTH, SIDE = 4, 64, 8
QUERIES, KEYS = np.arange(LENGTH)[:, None], np.arange(LENGTH)


def dot(q, k):
    return np.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])


def softmax(scores, shown=True):
    e = np.where(shown, np.exp(scores - np.max(scores, axis=-1, keepdims=True, where=shown, initial=-np.inf)), 0)
    return e / e.sum(axis=-1, keepdims=True)


def of_heads(x):
    return x[:, None, None]


def with_bias(bias):
    """Softmax of q . k / sqrt(D) and a bias of parameters, (B, H, Tq, Tk) or less."""
    return lambda q, k, **parameters: softmax(dot(q, k) + bias(**parameters))


def with_mask(shown):
    """Softmax of q . k / sqrt(D) over the keys j for which shown(b, h, i, j)."""

    def weights(q, k, **parameters):
        places = np.ndindex(2, HEADS, LENGTH, LENGTH)
        allowed = np.array([shown(*place) for place in places]).reshape(2, HEADS, LENGTH, LENGTH)
        return softmax(dot(q, k), allowed)

    return weights


def of_pairs(feature):
    """Softmax of a sum over features."""
    return lambda q, k, **parameters: softmax(feature(q[:, :, :, None], k[:, :, None], **parameters).sum(axis=-1))


def bucket(far):
    """Raffel et al. 2020, one direction, 32 buckets up to a distance of 128: half of them exact, then by logarithms."""
    far = max(far, 0)
    return far if far < 16 else min(31, 16 + math.floor(math.log(far / 16) / math.log(128 / 16) * 16))


def of_t5(table):
    return table[[[bucket(i - j) for j in range(LENGTH)] for i in range(LENGTH)]].transpose(2, 0, 1)


def of_swin(table):
    rows, columns = np.divmod(np.arange(LENGTH), SIDE)
    return table[:, rows[:, None] - rows + SIDE - 1, columns[:, None] - columns + SIDE - 1]


def cosine(q, k, t):
    units = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    return softmax(of_heads(np.exp(np.minimum(t, math.log(1 / 0.01)))) * np.einsum("bhid,bhjd->bhij", *units))


def in_a_row(q, k, sink):
    """gpt-oss: softmax of the row with one more score, of which no value is added."""
    scores = dot(q, k)
    more = np.broadcast_to(of_heads(sink), (*scores.shape[:3], 1))
    return softmax(np.concatenate([scores, more], axis=-1))[..., :-1]


def taylor(q, k):
    positive = 1 + dot(q, k) + dot(q, k) ** 2 / 2
    return positive / positive.sum(axis=-1, keepdims=True)


def first_key(q, k, strength):
    scores = dot(q, k)
    scores[..., 0] = strength[:, None]
    return softmax(scores)


def forgetting(q, k, gates):
    return softmax(dot(q, k) + gates[..., :, None] - gates[..., None, :], np.tri(LENGTH, dtype=bool))


def behind(last, keys):
    return np.where(keys < last, last - keys, 0)


def near(i, j, far):
    return max(abs(i // SIDE - j // SIDE), abs(i % SIDE - j % SIDE)) <= far


# Weights of q and k, (B, H, T, D), and of the trained parameters: as papers define them, not as the page does.
FORMULAS = {
    "alibi": with_bias(lambda slopes: -of_heads(slopes) * np.abs(QUERIES - KEYS)),
    "softcap": lambda q, k: softmax(20 * np.tanh(dot(q, k) / 20)),
    "local": with_mask(lambda b, h, i, j: i - 8 <= j <= i + 8),
    "causal": with_mask(lambda b, h, i, j: j <= i),
    "additive": of_pairs(lambda q, k, v: v * np.tanh(q + k)),
    "with_sink": in_a_row,
    "sigmoid": lambda q, k: 1 / (1 + np.exp(-(dot(q, k) - math.log(LENGTH)))),
    "taylor": taylor,
    "t5": with_bias(of_t5),
    "relative": with_bias(lambda table: table[:, QUERIES - KEYS + LENGTH - 1]),
    "swin": with_bias(of_swin),
    "kerple": with_bias(lambda r1, r2: -of_heads(r1) * np.log(1 + of_heads(r2) * np.abs(QUERIES - KEYS))),
    "gaussian": with_bias(lambda centre, sigma: -((KEYS - centre[..., None]) ** 2) / (2 * sigma[..., None] ** 2)),
    "temperature": lambda q, k, t: softmax(dot(q, k) * of_heads(np.exp(t))),
    "scaled_cosine": cosine,
    "clipped": lambda q, k: softmax(10 * np.tanh(dot(q, k))),
    "pairs": with_bias(lambda z: z),
    "forgetting": forgetting,
    "gated": with_bias(lambda gate: np.log(1 / (1 + np.exp(-gate)))[:, None, None]),
    "diagonal": with_bias(lambda: np.exp(-((QUERIES / LENGTH - KEYS / LENGTH) ** 2) / (2 * 0.2**2)) - 1),
    "looking_back": with_bias(lambda strength: -of_heads(strength) * behind(QUERIES // 2, KEYS)),
    "sink": first_key,
    "prefix": with_mask(lambda b, h, i, j: j < (8, 16)[b] or j <= i),
    "document": with_mask(lambda b, h, i, j: j <= i and i // 16 == j // 16),
    "dilated": with_mask(lambda b, h, i, j: (i - j) % (1, 2, 4, 8)[h] == 0),
    "everywhere": with_mask(lambda b, h, i, j: abs(i - j) <= 4 or i % 16 == 0 or j % 16 == 0),
    "streaming": with_mask(lambda b, h, i, j: j <= i and (j < 4 or j > i - 16)),
    "neighbours": with_mask(lambda b, h, i, j: near(i, j, 2)),
    "l2": of_pairs(lambda q, k: -np.square(q - k)),
    "laplace": of_pairs(lambda q, k: -np.abs(q - k) / 2),
    "bilinear": of_pairs(lambda q, k, w: q * w * k),
}  # fmt: skip

ENTRIES = gallery.entries()
MAKERS = {
    "score_mod": jit.as_score_mod, "mask": jit.as_mask_mod, "score": jit.as_pairwise_score,
    "normalizer": jit.as_row_function,
}  # fmt: skip


def drawn(options, rng):
    """Options with other numbers in float64 in place of the trained parameters, and these: zeros may have any sign."""
    found, trained = dict(options), {}
    for kind, make in MAKERS.items():
        if kind in options and not isinstance(options[kind], str):
            function = make(options[kind])
            for name in function.trained:
                begun = function.parameters[name].astype(float)
                shape = begun.shape
                trained[name] = begun * rng.uniform(0.5, 1.5, shape) if begun.any() else rng.normal(size=shape)
                function = function.replaced(name, trained[name])
            found[kind] = function
    return found, trained


def test_every_function_of_the_page_is_in_the_gallery_and_has_a_formula():
    written = r"^(?:>>> @\w+_\w+\n\.\.\. def (\w+)|>>> (\w+) = \w+_\w+\(lambda)"
    defined = ["".join(names) for names in re.findall(written, gallery.PAGE.read_text(), re.MULTILINE)]
    assert sorted(defined) == sorted(ENTRIES) == sorted(FORMULAS)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_what_its_paper_says(name):
    rng = np.random.default_rng(0)
    q, k, v, d_context = (rng.normal(size=(2, HEADS, LENGTH, 16)) for _ in range(4))
    options, trained = drawn(ENTRIES[name], rng)

    def context():
        return np.einsum("bhij,bhjd->bhid", FORMULAS[name](q, k, **trained), v)

    found, backward = fastattn.attention_vjp(q, k, v, **options)
    assert np.abs(found - context()).max() < 1e-11
    gradients = backward(d_context)
    of_functions = {**(gradients.score or {}), **(gradients.normalizer or {})}
    assert of_functions.keys() == trained.keys()
    arrays = {"query": q, "key": k, **trained}
    check_directions(
        lambda: (context() * d_context).sum(), arrays,
        {"query": gradients.query, "key": gradients.key, **of_functions}, rng, step=1e-6,
    )  # fmt: skip
