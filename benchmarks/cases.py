"""The case table: what is timed, at which size, and how many times faster than the best peer it must be.

A target of 2.0 means that the fastest peer needs at least twice our time. Targets are per thread count; a thread count
without a target is measured and shown, not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

FORWARD = "forward"
BOTH = "forward+backward"
TRAIN = "training step"


@dataclass(frozen=True)
class Case:
    """One operation at one size.

    Attributes
    ----------
    name
        Identifier on the command line and in the JSON.
    title
        What a reader of the table sees.
    family
        ``additive``, ``dot``, ``sparse``, ``gemm``, ``gru``, ``lstm``, ``steps``, ``bahdanau`` or ``transformer``:
        selects inputs, reference and peers.
    direction
        ``forward`` or ``forward+backward``. The latter returns the output and the gradient of every array input.
        ``training step`` is a loss, all gradients, clipping by their norm, and one step of Adam.
    sizes
        ``B, Tq, Tk, Da, Dv`` (additive), ``B, H, Tq, Tk, D`` (dot, sparse), ``M, N, K`` (gemm), ``B, T, D, H`` (gru,
        lstm), ``B, S, T, D, W, C, K, N`` (steps: batch, keys, steps, width of queries and memory, width of additive
        scores, filters, their size, reach of a window), ``V, E, H, B, S, T`` (bahdanau: vocabulary, embedding, hidden,
        batch, source and target positions) or ``V, D, H, F, N, B, S, T, K`` (transformer: vocabulary, width, heads,
        width of the feed-forward networks, layers of both stacks, batch, source and target positions, beam).
    smoke
        Sizes of the run that only shows that everything works.
    causal
        Dot only, with ``Tq == Tk``.
    normalizer
        ``softmax``; of the family ``sparse``, which has dot scores, ``sparsemax`` or ``entmax15``.
    mechanism
        Of the family ``steps``, the attention's name in `fastattn.create`.
    targets
        Best peer time / our time to reach, by number of threads.
    """

    name: str
    title: str
    family: str
    direction: str
    sizes: Mapping[str, int]
    smoke: Mapping[str, int]
    causal: bool = False
    targets: Mapping[int, float] = field(default_factory=dict)
    normalizer: str = "softmax"
    mechanism: str = ""

    @property
    def backward(self) -> bool:
        return self.direction == BOTH

    def small(self) -> Case:
        """The same case at its smoke size, without targets."""
        return replace(self, title=f"{self.name} (smoke)", sizes=self.smoke, targets={})


def _both_threads(target: float) -> dict[int, float]:
    return {1: target, 2: target}


def _additive(name: str, title: str, direction: str, sizes: tuple[int, ...], target: float) -> Case:
    keys = ("B", "Tq", "Tk", "Da", "Dv")
    smoke = (3, 1, 7, 16, 24) if sizes[1] == 1 else (2, 9, 11, 16, 24)
    return Case(
        name,
        title,
        "additive",
        direction,
        dict(zip(keys, sizes, strict=True)),
        dict(zip(keys, smoke, strict=True)),
        targets=_both_threads(target),
    )


def _dot(
    name: str, title: str, direction: str, sizes: tuple[int, ...], targets: Mapping[int, float], causal: bool = False
) -> Case:
    keys = ("B", "H", "Tq", "Tk", "D")
    smoke = (2, 2, 1, 19, 16) if sizes[2] == 1 else (2, 2, 13, 13, 16)
    return Case(
        name,
        title,
        "dot",
        direction,
        dict(zip(keys, sizes, strict=True)),
        dict(zip(keys, smoke, strict=True)),
        causal,
        targets,
    )


def _sparse(name: str, title: str, direction: str, sizes: tuple[int, ...], target: float) -> Case:
    normalizer = name.partition("_")[0]
    case = _dot(name, f"{normalizer} {title}", direction, sizes, _both_threads(target))
    return replace(case, family="sparse", normalizer=normalizer)


def _gemm(rows: int, target: float) -> Case:
    title = f"packed GEMM, {rows} row{'s' if rows > 1 else ''} of 512 to 1536"
    return Case(
        f"gemm_m{rows}",
        title,
        "gemm",
        FORWARD,
        {"M": rows, "N": 1536, "K": 512},
        {"M": rows, "N": 48, "K": 32},
        targets=_both_threads(target),
    )


def _bahdanau(name: str, title: str, direction: str, sizes: tuple[int, ...], target: float) -> Case:
    keys = ("V", "E", "H", "B", "S", "T")
    return Case(
        name,
        title,
        "bahdanau",
        direction,
        dict(zip(keys, sizes, strict=True)),
        dict(zip(keys, (23, 8, 12, 3, 5, 4), strict=True)),
        targets=_both_threads(target),
    )


def _transformer(name: str, title: str, direction: str, targets: Mapping[int, float]) -> Case:
    keys = ("V", "D", "H", "F", "N", "B", "S", "T", "K")
    return Case(
        name,
        f"{title}, 6+6 layers, D512 V8000 B32 T20",
        "transformer",
        direction,
        dict(zip(keys, (8000, 512, 8, 2048, 6, 32, 20, 20, 5), strict=True)),
        dict(zip(keys, (23, 16, 2, 24, 2, 3, 5, 4, 3), strict=True)),
        targets=targets,
    )


def _steps(mechanism: str, direction: str, target: float) -> Case:
    keys = ("B", "S", "T", "D", "W", "C", "K", "N")
    return Case(
        f"{mechanism}_{'grad' if direction == BOTH else 'fwd'}",
        f"{mechanism}, 20 decoder steps, B16 Tk200 D512 Da256",
        "steps",
        direction,
        dict(zip(keys, (16, 200, 20, 512, 256, 10, 31, 10), strict=True)),
        dict(zip(keys, (3, 9, 4, 12, 16, 3, 5, 2), strict=True)),
        targets=_both_threads(target),
        mechanism=mechanism,
    )


def _recurrent(name: str, direction: str, batch: int, target: float) -> Case:
    family = name.partition("_")[0]
    return Case(
        name,
        f"{family.upper()} layer, B{batch} T30 256 to 512",
        family,
        direction,
        {"B": batch, "T": 30, "D": 256, "H": 512},
        {"B": min(batch, 3), "T": 5, "D": 12, "H": 24},
        targets=_both_threads(target),
    )


_ATTEND = (16, 100, 100, 256, 256)
_STEP = (32, 1, 30, 256, 512)
_LONG = (1, 8, 2048, 2048, 64)
_CAUSAL = (4, 8, 512, 512, 64)
_SENTENCE = (64, 4, 30, 30, 64)
_SHORT = (32, 8, 32, 32, 64)
_DECODE = (32, 8, 1, 512, 64)
_PARAGRAPH = (4, 8, 256, 256, 64)
_TINY = (1, 1, 1, 8, 16)
_LARGE = (8000, 256, 512, 64, 15, 15)
_WORDS = (10000, 128, 256, 32, 15, 15)
_LETTERS = (45, 128, 256, 64, 8, 8)

CASES: tuple[Case, ...] = (
    _additive("additive_fwd", "additive, B16 T100 Da256", FORWARD, _ATTEND, 12.0),
    _additive("additive_grad", "additive, B16 T100 Da256", BOTH, _ATTEND, 9.0),
    _additive("additive_step", "additive decoder step, B32 Tk30 Da256 Dv512", FORWARD, _STEP, 2.0),
    _dot("dot_long_fwd", "dot, B1 H8 T2048 D64", FORWARD, _LONG, _both_threads(1.12)),
    _dot("dot_causal_fwd", "dot causal, B4 H8 T512 D64", FORWARD, _CAUSAL, _both_threads(1.9), causal=True),
    _dot("dot_sentence_fwd", "dot, B64 H4 T30 D64", FORWARD, _SENTENCE, _both_threads(2.0)),
    _dot("dot_short_fwd", "dot, B32 H8 T32 D64", FORWARD, _SHORT, _both_threads(1.6)),
    _dot("dot_long_grad", "dot, B1 H8 T2048 D64", BOTH, _LONG, _both_threads(1.12)),
    _dot("dot_causal_grad", "dot causal, B4 H8 T512 D64", BOTH, _CAUSAL, _both_threads(1.8), causal=True),
    _dot("dot_sentence_grad", "dot, B64 H4 T30 D64", BOTH, _SENTENCE, _both_threads(2.0)),
    _dot("decode_fwd", "dot decoder step, B32 H8 Tk512 D64", FORWARD, _DECODE, {1: 1.3, 2: 1.0}),
    _dot("decode_grad", "dot decoder step, B32 H8 Tk512 D64", BOTH, _DECODE, {1: 6.0, 2: 4.0}),
    _sparse("sparsemax_fwd", "dot, B4 H8 T256 D64", FORWARD, _PARAGRAPH, 1.5),
    _sparse("sparsemax_grad", "dot, B4 H8 T256 D64", BOTH, _PARAGRAPH, 1.5),
    _sparse("sparsemax_step", "dot decoder step, B32 H8 Tk512 D64", FORWARD, _DECODE, 1.5),
    _sparse("entmax15_fwd", "dot, B4 H8 T256 D64", FORWARD, _PARAGRAPH, 1.5),
    _sparse("entmax15_grad", "dot, B4 H8 T256 D64", BOTH, _PARAGRAPH, 1.5),
    _dot("smallest", "smallest call, Tk8 D16", FORWARD, _TINY, _both_threads(1.0)),
    _gemm(1, 1.0),
    _gemm(8, 1.3),
    _gemm(16, 1.2),
    _gemm(32, 1.1),
    _gemm(64, 1.0),
    _steps("bahdanau", FORWARD, 3.0),
    _steps("bahdanau", BOTH, 3.0),
    _steps("location_sensitive", FORWARD, 3.0),
    _steps("location_sensitive", BOTH, 3.0),
    _steps("coverage", FORWARD, 3.0),
    _steps("coverage", BOTH, 3.0),
    _steps("monotonic", FORWARD, 3.0),
    _steps("monotonic", BOTH, 3.0),
    _steps("mocha", FORWARD, 3.0),
    _steps("mocha", BOTH, 3.0),
    *(
        _steps(mechanism, direction, 1.5)
        for mechanism in ("local_m", "local_p", "general", "cosine", "l2", "linear", "multihead")
        for direction in (FORWARD, BOTH)
    ),
    _recurrent("gru_fwd", FORWARD, 64, 1.15),
    _recurrent("gru_grad", BOTH, 64, 1.15),
    _recurrent("gru_single", FORWARD, 1, 2.0),
    _recurrent("lstm_fwd", FORWARD, 64, 0.95),
    _recurrent("lstm_grad", BOTH, 64, 0.95),
    _bahdanau("train_large", "Bahdanau training step, V8000 E256 H512 B64 T15", TRAIN, _LARGE, 1.2),
    _bahdanau("train_words", "Bahdanau training step, V10000 E128 H256 B32 T15", TRAIN, _WORDS, 1.25),
    _bahdanau("train_letters", "Bahdanau training step, V45 E128 H256 B64 T8", TRAIN, _LETTERS, 1.3),
    _bahdanau("greedy_letters_b1", "Bahdanau greedy step, V45 B1", FORWARD, (*_LETTERS[:3], 1, 8, 1), 2.5),
    _bahdanau("greedy_letters_b32", "Bahdanau greedy step, V45 B32", FORWARD, (*_LETTERS[:3], 32, 8, 1), 1.5),
    _bahdanau("greedy_words_b1", "Bahdanau greedy step, V10000 B1", FORWARD, (*_WORDS[:3], 1, 15, 1), 1.5),
    _bahdanau("greedy_words_b32", "Bahdanau greedy step, V10000 B32", FORWARD, (*_WORDS[:3], 32, 15, 1), 1.3),
    _transformer("transformer_train", "Transformer training step", TRAIN, _both_threads(1.25)),
    _transformer("transformer_beam", "Transformer beam search of 5", FORWARD, _both_threads(1.0)),
)

# Seconds that `import fastattn` may add to `import numpy` in a fresh process.
IMPORT_LIMIT = 0.15


def select(names: Iterable[str] | None = None) -> list[Case]:
    """Cases by exact name or by prefix, in table order; all when no name is given.

    Raises
    ------
    ValueError
        When a name matches no case.
    """
    if not names:
        return list(CASES)
    wanted = list(names)
    for name in wanted:
        if not any(case.name.startswith(name) for case in CASES):
            raise ValueError(f"no case is called {name!r}; there are {', '.join(case.name for case in CASES)}")
    exact = {case.name for case in CASES} & set(wanted)
    prefixes = tuple(name for name in wanted if name not in exact)
    return [case for case in CASES if case.name in exact or (prefixes and case.name.startswith(prefixes))]
