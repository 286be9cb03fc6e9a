"""User-written scores called as the kernels call them, through their addresses, and examples of them."""

import ctypes
import math

import numpy as np

import fastattn

POINTER, INTEGER = ctypes.c_void_p, ctypes.c_int64
FORWARD = ctypes.CFUNCTYPE(None, POINTER, *[INTEGER] * 5, POINTER)
BACKWARD = ctypes.CFUNCTYPE(None, POINTER, POINTER, *[INTEGER] * 5, POINTER, POINTER)
SLOPED = ctypes.CFUNCTYPE(None, POINTER, POINTER, *[INTEGER] * 5, POINTER)
TILE = ctypes.CFUNCTYPE(None, POINTER, INTEGER, INTEGER, POINTER, *[INTEGER] * 3, POINTER, INTEGER, POINTER)
TILE_BACKWARD = ctypes.CFUNCTYPE(
    None, POINTER, INTEGER, POINTER, POINTER, *[INTEGER] * 4, POINTER, POINTER, POINTER, POINTER
)
B, H, TQ, TK = 2, 3, 4, 70


def address(array):
    return array.ctypes.data


def sums(compiled):
    """Zeros for the gradients of parameters, and the pointers to them."""
    made = [np.zeros(size) for size in compiled.gradients]
    return made, np.array([address(one) if one.size else 0 for one in made] or [0], np.int64)


def forward(bound, score):
    """Modified scores, by one call for each row."""
    compiled = bound.compiled(score.dtype, *score.shape)
    call, found = FORWARD(compiled.forward), score.copy()
    for place in np.ndindex(score.shape[:3]):
        call(address(found[place]), score.shape[3], *place, 0, compiled.parameters)
    return found


def backward(bound, score, d):
    """The gradients of scores and of parameters, by one call for each row."""
    compiled = bound.compiled(score.dtype, *score.shape)
    call, found = BACKWARD(compiled.backward), d.copy()
    totals, pointers = sums(compiled)
    for place in np.ndindex(score.shape[:3]):
        arrays = address(score[place]), address(found[place])
        call(*arrays, score.shape[3], *place, 0, compiled.parameters, address(pointers))
    return found, bound.gradients([one if one.size else None for one in totals])


def sloped(bound, score):
    """Modified scores and their slopes, by one call for each row."""
    compiled = bound.compiled(score.dtype, *score.shape)
    call, found, slopes = SLOPED(compiled.sloped), score.copy(), np.empty_like(score)
    for place in np.ndindex(score.shape[:3]):
        call(address(found[place]), address(slopes[place]), score.shape[3], *place, 0, compiled.parameters)
    return found, slopes


def problem(dtype, seed=0):
    """Scores and gradients, some of which are 0; there the scores are NaN in what a backward pass is given."""
    rng = np.random.default_rng(seed)
    score = rng.normal(scale=2, size=(B, H, TQ, TK)).astype(dtype)
    score[..., 5::9] = 0
    d = rng.normal(size=score.shape).astype(dtype)
    d[..., ::7] = 0
    return score, d


def places(score):
    """The arguments b, h, i and j of all scores."""
    return np.ogrid[tuple(slice(size) for size in score.shape)]


class Erf:
    """A function of arrays with the name that SciPy's has."""

    __name__ = "erf"

    def __call__(self, x):
        return np.vectorize(math.erf)(x) if isinstance(x, np.ndarray) else x.__array_ufunc__(self, "__call__", x)


erf = Erf()


# Modifiers of the literature and others, that between them use every operation.


@fastattn.score_mod(check=True)
def plain(score, b, h, i, j):
    return score


@fastattn.score_mod(check=True)
def softcap(score, b, h, i, j, cap):
    return cap * np.tanh(score / cap)


@fastattn.score_mod(check=True)
def alibi(score, b, h, i, j, slopes):
    return score - slopes[h] * abs(i - j)


@fastattn.score_mod(check=True)
def relative(score, b, h, i, j, table):
    return score + table[h, i - j + table.shape[1] // 2]


@fastattn.score_mod(check=True)
def buckets(score, b, h, i, j, table):
    apart = np.maximum(j - i, 0)
    far = 8 + (np.log(np.maximum(apart, 8) / 8) / np.log(16) * 8).astype(int)
    return score + table[h, np.where(apart < 8, apart, np.minimum(far, 15))]


@fastattn.score_mod(check=True)
def temperature(score, b, h, i, j, t):
    return score / t[h]


@fastattn.score_mod(check=True)
def gaussian_window(score, b, h, i, j, width):
    return score - np.square((i - j) / width)


@fastattn.score_mod(check=True)
def decay(score, b, h, i, j, rate):
    return score - rate[h] * np.log1p(abs(i - j))


@fastattn.score_mod(check=True)
def sink(score, b, h, i, j, strength):
    return np.where(j == 0, score + strength[h], score)


@fastattn.score_mod(check=True)
def plane(score, b, h, i, j, rows, columns):
    return score + rows[h, i // 8 - j // 8 + 8] + columns[h, i % 8 - j % 8 + 7]


@fastattn.score_mod(check=True)
def pair_bias(score, b, h, i, j, table):
    return score + table[b, h, i, j]


@fastattn.score_mod(check=True)
def clipped(score, b, h, i, j, c=5.0):
    return np.clip(score, -c, c) + 0.1 * np.clip(score, None, 0.5)


@fastattn.score_mod(check=True)
def key_gate(score, b, h, i, j, gate):
    return score * (1 / (1 + np.exp(-gate[b, j])))


@fastattn.score_mod(check=True)
def monotonic(score, b, h, i, j, penalty):
    return score - penalty * np.maximum(j - i, 0) ** 2


@fastattn.score_mod(check=True)
def documents(score, b, h, i, j, document, apart):
    return np.where(document[b, i] == document[b, j], score, score - apart[document[b, j] % 2])


@fastattn.score_mod(check=True)
def waves(score, b, h, i, j, w):
    return score * np.cos(w[h] * (i - j)) + np.sin(score)


@fastattn.score_mod(check=True)
def powers(score, b, h, i, j, p):
    return np.abs(score) ** p[h] + 0.01 * score**3 + np.sqrt(np.abs(score) + 1) + 1 / (2 + score**2) + 2.0**-score


@fastattn.score_mod(check=True)
def logarithms(score, b, h, i, j):
    return np.logaddexp(score, 0) + np.log(np.abs(score) + 0.5) + np.log2(2 + score * score) + np.log10(score**2 + 1)


@fastattn.score_mod(check=True)
def bounded(score, b, h, i, j):
    return np.arctan(score) + erf(score / 2)


@fastattn.score_mod(check=True)
def choices(score, b, h, i, j):
    inside = np.logical_and(score > -1, ~(score >= 1)) | (np.sign(score) == 0)
    kept = np.where(inside ^ (i != j), np.minimum(score, 1.5), np.expm1(score / 4))
    return np.where(np.isnan(kept), 0, kept) + np.floor(score) + np.ceil(score) * 0.5 + score % 1.5 + score // 2


@fastattn.score_mod(check=True)
def elsewhere(score, b, h, i, j):
    return np.where(score > 0, np.log(score), 0.0)


@fastattn.score_mod(check=True)
def twice(score, b, h, i, j, table):
    return score * table[j % 5] + table[(i + j) % 5]


@fastattn.score_mod(check=True)
def constant(score, b, h, i, j, table):
    return table[h] * 1.0


@fastattn.score_mod(check=True)
def flags(score, b, h, i, j, seen):
    return np.where(seen[b, j], score, -score) + h.astype(float) + (score > 0).astype(int)


def bound(rng=None):
    """Each of them with parameters."""
    rng = np.random.default_rng(1) if rng is None else rng
    return [
        plain(),
        softcap(cap=np.array(3.0)),
        alibi(slopes=2.0 ** -np.arange(1, H + 1)),
        relative(table=rng.normal(size=(H, 2 * TK + 1))),
        buckets(table=rng.normal(size=(H, 16))),
        temperature(t=rng.uniform(0.5, 2, H)),
        gaussian_window(width=np.array(9.0)),
        decay(rate=rng.uniform(0.1, 1, H)),
        sink(strength=rng.normal(size=H)),
        plane(rows=rng.normal(size=(H, 17)), columns=rng.normal(size=(H, 15))),
        pair_bias(table=rng.normal(size=(B, H, TQ, TK))),
        clipped(),
        key_gate(gate=rng.normal(size=(B, TK))),
        monotonic(penalty=np.array(0.01)),
        documents(document=rng.integers(0, 4, (B, TK)), apart=rng.normal(size=2)),
        waves(w=rng.uniform(0.1, 1, H)),
        powers(p=rng.uniform(1.2, 2.2, H)),
        logarithms(),
        bounded(),
        choices(),
        elsewhere(),
        twice(table=rng.normal(size=5)),
        constant(table=rng.normal(size=H)),
        flags(seen=rng.integers(0, 2, (B, TK)).astype(bool)),
    ]


@fastattn.pairwise_score(check=True)
def additive(q, k, v):
    return v * np.tanh(q + k)


@fastattn.pairwise_score(check=True)
def l1(q, k, w):
    return -w * abs(q - k)


@fastattn.pairwise_score(check=True)
def l2(q, k):
    return -((q - k) ** 2)


@fastattn.pairwise_score(check=True)
def laplace(q, k, scale):
    return -abs(q - k) / scale


@fastattn.pairwise_score(check=True)
def bilinear(q, k, w, offset):
    return w * q * k + offset * q


def pairwise(width, rng=None):
    """Pairwise scores with parameters."""
    rng = np.random.default_rng(1) if rng is None else rng
    return [
        additive(v=rng.normal(size=width)),
        l1(w=rng.uniform(0.5, 1, width)),
        l2(),
        laplace(scale=np.array(1.5)),
        bilinear(w=rng.normal(size=width), offset=np.array(0.5)),
    ]
