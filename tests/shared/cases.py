"""The case table: one list of attention problems that tests of numbers, gradients, bits and accuracy share.

Cases of benchmarks are described in the same terms (``described`` in `benchmarks.families`), so that their arrays are
made here, their results judged by the same twin, and what is timed tested: `tests/attention/test_timed.py`.

`make(case)` builds the arrays; `options(problem)` are the keyword arguments of `fastattn.attention`, and
`twin_options(problem)` those of the float64 twin.
"""

import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from fastattn import scores
from fastattn._reference.scores import ScoreSpec
from fastattn.normalizers import Entmax
from fastattn.scores.ours import classes

SIZES = (1, 2, 5, 6, 7, 15, 16, 17, 30, 31, 33, 63, 64, 65, 100, 130, 513, 600, 1100)
WIDTHS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100)
PLAIN = ("dot", "scaled_dot", "cosine")
OWN = {kind.name: kind for kind in classes() if kind.formula_vjp is not None}  # with a kernel and a twin of their own
SCORES = (*PLAIN, "general", "additive", "concat", "location", *OWN)


@dataclass(frozen=True)
class AttentionCase:
    """One problem. mask and bias are shapes; a score's own options follow its name."""

    name: str
    batch: tuple = (2,)
    key_heads: int | None = None
    tq: int = 5
    tk: int = 17
    dk: int = 8
    dq: int | None = None
    dv: int = 8
    da: int = 16
    score: str = "scaled_dot"
    given: str = "qkb"
    activation: str = "tanh"
    softcap: float | None = None
    mask: tuple | None = None
    bias: tuple | None = None
    bias_holes: bool = False
    key_lengths: tuple | int | None = None
    causal: str | bool | None = None
    window: tuple | None = None
    scale: float | None = None
    dropout: float = 0.0
    seed: int | tuple | None = None
    dtype: str = "float32"
    spread: float = 1.0
    one_sided: bool = False  # v is positive and about 1
    whole: bool = False  # query and key are whole numbers, of which many are equal
    normalizer: str = "softmax"
    alpha: float | tuple | None = None  # of entmax


@dataclass(frozen=True)
class AttentionArrays:
    """The arrays of a case, with cotangents for its three outputs."""

    case: AttentionCase
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    score: ScoreSpec
    d_context: np.ndarray
    d_weights: np.ndarray
    d_lse: np.ndarray
    rest: dict = field(default_factory=dict)

    @property
    def arrays(self):
        return self.query, self.key, self.value


def parameter_shapes(case):
    """Shape and fan-in of each parameter of the case's score."""
    dq, dk, da = query_width(case), case.dk, case.da
    if case.score == "general":
        return {"w": ((dq, dk), dq)}
    if case.score == "location":
        return {"w": ((dq, case.tk + 3), dq)}
    if case.score == "concat":
        return {"w": ((dq + dk, da), dq + dk), "v": ((da,), da)}
    if case.score == "additive":
        every = {"w_query": ((dq, da), dq), "w_key": ((dk, da), dk), "b": ((da,), 4)}
        wanted = {"w_query": "q", "w_key": "k", "b": "b"}
        return {"v": ((da,), da), **{name: s for name, s in every.items() if wanted[name] in case.given}}
    return {}


def query_width(case):
    """Width of the query: that of the key unless the case says otherwise."""
    return case.dk if case.dq is None else case.dq


def make(case, rng=None, cotangents=("d_context", "d_weights", "d_lse")):
    """The arrays of a case; without rng they follow from its name alone. Cotangents that are not named are None."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode())) if rng is None else rng

    def draw(*shape, spread=1.0):
        return (rng.standard_normal(shape) * spread).astype(case.dtype)

    batch, rest = case.batch, {}
    key_batch = batch if case.key_heads is None else (batch[0], case.key_heads)
    query = draw(*batch, case.tq, query_width(case), spread=case.spread)
    key = draw(*key_batch, case.tk, case.dk, spread=case.spread)
    if case.whole:
        query, key = np.rint(query), np.rint(key)
    value = draw(*key_batch, case.tk, case.dv)
    shapes = parameter_shapes(case)
    parameters = {name: draw(*shape, spread=max(1, fan) ** -0.5) for name, (shape, fan) in shapes.items()}
    own = {}
    if case.score in OWN:
        kind = OWN[case.score]
        for name, drawn in (kind.examples or ({},))[0].items():
            parameters[name] = drawn(rng, query_width(case), case.dk, np.dtype(case.dtype))
        scale = scores.create(case.score, **parameters).default_scale(case.dk)
        own = {"scale": scale, "formula": kind.formula, "formula_vjp": kind.formula_vjp}
    if case.one_sided:
        parameters["v"] = (1 + 0.1 * rng.random(case.da)).astype(case.dtype)
    if case.mask is not None:
        rest["mask"] = rng.random(case.mask) < 0.7
    if case.bias is not None:
        rest["bias"] = draw(*case.bias)
        if case.bias_holes:
            rest["bias"][rng.random(case.bias) < 0.3] = -np.inf
    for name in ("key_lengths", "causal", "window", "scale", "seed"):
        given = getattr(case, name)
        if given is not None:
            rest[name] = given
    if "key_lengths" in rest:
        rest["key_lengths"] = np.array(case.key_lengths, dtype=np.int64)
    if isinstance(case.seed, tuple):
        rest["seed"] = np.array(case.seed, dtype=np.uint64)
    if case.dropout:
        rest["dropout"] = case.dropout
    if case.normalizer != "softmax":
        rest["normalizer"] = case.normalizer if case.alpha is None else Entmax(alpha=case.alpha)
    shapes = {"d_context": (case.tq, case.dv), "d_weights": (case.tq, case.tk), "d_lse": (case.tq,)}
    return AttentionArrays(
        case,
        query,
        key,
        value,
        ScoreSpec(case.score, parameters, case.activation, case.softcap, **own),
        *(draw(*batch, *shape) if name in cotangents else None for name, shape in shapes.items()),
        rest,
    )


def library_score(spec):
    """The object of `fastattn.scores` for a spec, or a name where a name says it all."""
    if spec.name in OWN:
        return scores.create(spec.name, **spec.parameters, softcap=spec.softcap)
    if spec.name in PLAIN:
        kinds = {"dot": scores.Dot, "scaled_dot": scores.ScaledDot, "cosine": scores.Cosine}
        return spec.name if spec.softcap is None else kinds[spec.name](softcap=spec.softcap)
    p = spec.parameters
    if spec.name == "general":
        return scores.General(p["w"], softcap=spec.softcap)
    if spec.name == "location":
        return scores.Location(p["w"], softcap=spec.softcap)
    if spec.name == "concat":
        return scores.Concat(p["w"], p["v"], activation=spec.activation, softcap=spec.softcap)
    given = {name: p[name] for name in ("w_query", "w_key", "b") if name in p}
    return scores.Additive(p["v"], **given, activation=spec.activation, softcap=spec.softcap)


def options(problem):
    """Keyword arguments of `fastattn.attention`."""
    return {"score": library_score(problem.score), **problem.rest}


def twin_options(problem):
    """Keyword arguments of the twin."""
    return {"score": problem.score, **problem.rest}


def _sizes(*families):
    """Every key count with these families, the other sizes cycling through the awkward ones."""
    for i, tk in enumerate(SIZES):
        tq = SIZES[(7 * i + 3) % 11]
        dk, dv, da = (WIDTHS[(5 * i + k) % len(WIDTHS)] for k in (0, 4, 8))
        for family in families:
            kind = {"dot": {}, "additive": {"da": da, "score": "additive"}}.get(family, {"score": family})
            yield AttentionCase(f"{family}-{tk}-keys", tq=tq, tk=tk, dk=dk, dv=dv, **kind)
    for i, width in enumerate(WIDTHS):
        other = WIDTHS[(3 * i + 2) % len(WIDTHS)]
        for family in families:
            kind = {"dk": width, "dv": other, **({} if family == "dot" else {"score": family})}
            if family == "additive":
                kind |= {"dk": other, "dv": width, "da": width}
            yield AttentionCase(f"{family}-width-{width}", tq=7, tk=33, **kind)


def _scores(*scores):
    for score in scores:
        wide = 11 if score in ("general", "additive", "concat", "location") else None
        yield AttentionCase(f"{score}-2d", batch=(), tq=3, tk=19, dv=5, dq=wide, score=score)
        yield AttentionCase(f"{score}-3d", batch=(3,), tq=6, tk=40, dv=20, dq=wide, score=score)
        yield AttentionCase(f"{score}-4d", batch=(2, 3), tq=9, tk=23, dv=4, dq=wide, score=score)
        yield AttentionCase(f"{score}-grouped", batch=(2, 6), key_heads=2, tq=7, tk=21, dv=9, dq=wide, score=score)
        yield AttentionCase(f"{score}-one-key-head", batch=(2, 3), key_heads=1, tq=4, tk=9, dq=wide, score=score)
        yield AttentionCase(f"{score}-softcap", tq=6, tk=35, dq=wide, score=score, softcap=1.5, spread=1.5)
        yield AttentionCase(f"{score}-scale", tq=6, tk=35, dq=wide, score=score, scale=0.31)
        yield AttentionCase(f"{score}-negative-scale", tq=6, tk=35, dq=wide, score=score, scale=-0.8)
        yield AttentionCase(
            f"{score}-everything",
            batch=(2, 4),
            key_heads=2,
            tq=13,
            tk=37,
            dv=12,
            dq=wide,
            score=score,
            softcap=3.0,
            mask=(2, 1, 13, 37),
            bias=(1, 4, 1, 37),
            bias_holes=True,
            key_lengths=(37, 29),
            causal="bottom_right",
            window=(30, None),
            scale=0.5,
            dropout=0.2,
            seed=11,
        )


def _additive():
    for given in ("", "q", "k", "b", "qk"):
        widths = {"dq": 12 if "q" in given else 16, "dk": 9 if "k" in given else 16}
        yield AttentionCase(f"additive-given-{given or 'v'}", score="additive", given=given, **widths)
    for activation in ("sigmoid", "relu"):
        yield AttentionCase(f"additive-{activation}", tq=6, tk=65, score="additive", activation=activation, da=33)
        yield AttentionCase(f"concat-{activation}", tq=6, tk=31, score="concat", activation=activation, dq=5)


def _options():
    for score in ("scaled_dot", "additive"):

        def case(name, score=score, **fields):
            return AttentionCase(f"{score}-{name}", score=score, **{"batch": (2, 3), "tq": 6, "tk": 70, **fields})

        for mask in ((70,), (1, 70), (6, 70), (6, 1), (3, 6, 70), (2, 1, 1, 70), (2, 1, 6, 70), (2, 3, 6, 70)):
            yield case(f"mask-{'x'.join(map(str, mask))}", mask=mask)
        for bias in ((70,), (1,), (6, 1), (6, 70), (3, 1, 70), (2, 1, 1, 70), (1, 3, 6, 1), (2, 3, 6, 70)):
            yield case(f"bias-{'x'.join(map(str, bias))}", bias=bias, bias_holes=len(bias) > 2)
        yield case("mask-3d", batch=(2,), mask=(2, 1, 70), bias=(1, 6, 70))
        yield case("mask-2d", batch=(), mask=(6, 70), bias=(70,))
        yield case("lengths", batch=(5,), key_lengths=(0, 1, 33, 69, 70))
        yield case("lengths-4d", key_lengths=(64, 7))
        yield case("length-2d", batch=(), key_lengths=(31,))
        yield case("length-2d-scalar", batch=(), key_lengths=31)
        for tq in (1, 6, 70, 90):
            yield case(f"causal-top-left-{tq}", batch=(2,), tq=tq, causal="top_left")
            yield case(f"causal-bottom-right-{tq}", batch=(2,), tq=tq, causal="bottom_right")
        yield case("causal-true", batch=(2,), tq=70, causal=True)
        yield case("causal-bottom-right-lengths", tq=40, causal="bottom_right", key_lengths=(52, 21))
        yield case("causal-long", batch=(1,), tq=600, tk=600, causal=True, da=4)
        for left, right in ((0, 0), (3, 2), (None, 1), (20, None), (1, 100)):
            yield case(f"window-{left}-{right}", batch=(2,), tq=33, window=(left, right))
        yield case("window-causal", batch=(2,), tq=70, window=(9, 4), causal=True)
        yield case("window-bottom-right", tq=20, window=(9, 4), causal="bottom_right", key_lengths=(40, 70))
        yield case("window-far", batch=(1,), tq=600, tk=600, window=(20, 20), da=4)
        yield case("dropout-int", dropout=0.3, seed=2**40 + 5)
        yield case("dropout-negative-int", dropout=0.5, seed=-3)
        yield case("dropout-array", dropout=0.1, seed=(2**63 + 9, 17))
        yield case("dropout-most", dropout=0.95, seed=5)
        yield case("dropout-long", batch=(2,), tk=600, dropout=0.25, seed=3)
        yield case("dropout-2d", batch=(), dropout=0.25, seed=3)
        for axis in ("batch", "tq", "tk", "dv"):
            yield case(f"no-{axis}", **{axis: (0, 3) if axis == "batch" else 0})
        yield case("no-heads", batch=(2, 0))
        for spread in (0.05, 6.0):
            yield case(f"spread-{spread}", spread=spread)
    # Sums of many terms of one sign, and arguments at both ends: where a rearranged formula loses its digits.
    for da, spread in ((16, 0.001), (128, 0.05), (512, 0.001), (512, 0.05), (128, 1.0), (512, 5.0)):
        for activation in ("tanh", "sigmoid") if da < 512 else ("tanh",):
            name = f"additive-{activation}-one-sided-{da}-spread-{spread}"
            fields = {"dk": da, "da": da, "given": "", "tk": 65, "batch": (1,)}
            yield AttentionCase(name, score="additive", activation=activation, spread=spread, one_sided=True, **fields)
    for spread in (0.001, 5.0, 20.0):
        yield AttentionCase(f"additive-sigmoid-spread-{spread}", score="additive", activation="sigmoid", spread=spread)
    yield AttentionCase("scaled_dot-no-width", dk=0)
    yield AttentionCase("scaled_dot-large-scores", tq=20, tk=120, dk=64, spread=20.0)
    yield AttentionCase("scaled_dot-bias-3d", batch=(3,), bias=(3, 5, 17), bias_holes=True)


_OURS = [score for score in SCORES if score not in OWN]
SINGLE = (
    *_sizes("dot", "additive"), *_scores(*_OURS), *_additive(), *_options(),
    *_sizes(*OWN), *_scores(*OWN),
    *(AttentionCase(f"{score}-whole", tq=7, tk=40, score=score, whole=True) for score in OWN),
)  # fmt: skip
_STEPS = 2
DOUBLE = tuple(replace(case, name=f"{case.name}-float64", dtype="float64") for case in SINGLE[::_STEPS])
CASES = (*SINGLE, *DOUBLE)
BY_NAME = {case.name: case for case in CASES}
# Small enough to differentiate numerically, one of each kind.
SMALL = tuple(
    replace(case, name=f"{case.name}-small", dtype="float64", tq=min(case.tq, 4), tk=7)
    for case in SINGLE
    if case.name.endswith(("-2d", "-grouped", "-softcap", "-scale", "-sigmoid", "-given-v", "-given-b"))
    and case.mask is None
    and case.key_lengths is None
) + tuple(
    AttentionCase(
        f"{score}-options-small",
        batch=(2, 2),
        key_heads=1,
        tq=3,
        tk=7,
        dk=4,
        dv=3,
        da=5,
        score=score,
        softcap=2.0,
        mask=(2, 1, 3, 7),
        bias=(2, 3, 1),
        key_lengths=(7, 4),
        causal="bottom_right",
        dropout=0.25,
        seed=4,
        dtype="float64",
    )
    for score in SCORES
)


# Sparse normalizers: what concerns the scores and their options again, with each.
_SPARSE_OPTIONS = (
    "mask-6x1", "mask-2x1x6x70", "bias-1", "bias-70", "bias-2x3x6x70", "bias-3x1x70", "mask-2d", "lengths",
    "causal-top-left-90", "causal-bottom-right-lengths", "causal-long", "window-3-2", "window-far", "dropout-int",
    "dropout-array", "no-batch", "no-tq", "no-tk", "no-dv", "no-heads", "spread-0.05", "spread-6.0",
)  # fmt: skip
_SPARSE_NAMES = {
    *(
        f"{score}-{kind}"
        for score in SCORES
        for kind in ("3d", "grouped", "softcap", "negative-scale", "everything", "whole")
    ),
    *(f"{family}-{tk}-keys" for family in ("dot", "additive", *OWN) for tk in SIZES if tk != 1100),
    *(f"{score}-{option}" for score in ("scaled_dot", "additive") for option in _SPARSE_OPTIONS),
    "scaled_dot-no-width",
    "scaled_dot-large-scores",
}


def _sparse():
    for number, case in enumerate(case for case in SINGLE if case.name in _SPARSE_NAMES):
        for offset, (name, alpha) in enumerate((("sparsemax", None), ("entmax15", None), ("entmax", 1.25))):
            if alpha is not None and number % 3:
                continue
            heads = case.batch[1] if len(case.batch) > 1 else 0
            if alpha is not None and heads > 1:
                alpha = tuple(np.linspace(1.0, 2.0, heads))
            dtype = ("float32", "float64")[(number + offset) % 4 == 3]
            yield replace(case, name=f"{case.name}-{name}-{dtype}", normalizer=name, alpha=alpha, dtype=dtype)


SPARSE = tuple(_sparse())
SPARSE_SMALL = tuple(
    replace(case, name=f"{case.name}-{name}", normalizer=name, alpha=alpha)
    for number, case in enumerate(SMALL)
    for name, alpha in (("sparsemax", None), ("entmax15", None), ("entmax", 1.3))
    if (number + len(name)) % 2 == 0 or case.name.endswith("options-small")
)
