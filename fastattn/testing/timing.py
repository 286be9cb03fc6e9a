"""What is timed of a plugin: each thing that it provides, in float32, beside the same call of something built in.

That is the variant or score "general", or softmax.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn import normalizers, scores, variants
from fastattn.attention import attention, attention_vjp
from fastattn.errors import PluginError, describe_file
from fastattn.plugin.records import NormalizerRecord, Record, ScoreRecord, VariantRecord
from fastattn.testing.kit import check, records_of
from fastattn.testing.normalizer_checks import NormalizerSubject
from fastattn.testing.score_checks import ScoreSubject
from fastattn.testing.variant_subject import VariantSubject

__all__ = ["Timed", "benchmarks_of", "measure"]

BATCH, QUERIES, KEYS, WIDTH = 16, 30, 50, 64
# Checks whose failure means that a result is wrong, so that its time would say nothing.
_NEEDED = ("can_be_made", "formula", "masks", "gradients", "steps_against_all_at_once", "weights_agree_with_context")


class Timed:
    """One call to be timed.

    Attributes
    ----------
    name : str
        ``"variant NAME: CALL"`` or ``"score NAME: CALL"``.
    run : callable
        The call.
    peer : callable
        The same call of what is built in.
    """

    def __init__(
        self, record: Record, options: Any, call: str, run: Callable[[], Any], peer: Callable[[], Any]
    ) -> None:
        self.record, self.options = record, options
        kind = type(record).__name__.removesuffix("Record").lower()
        self.name = f"{kind} {record.name}: {call}"
        self.run, self.peer = run, peer

    def __str__(self) -> str:
        return self.name

    def check(self) -> None:
        """Raise a PluginError unless what is timed is right."""
        failed = set(check(type(self.record), self.record, options=self.options).failed) & set(_NEEDED)
        if failed:
            names = ", ".join(sorted(failed))
            hint = "repair it: a wrong result has no time."
            raise PluginError(describe_file(self.record.name, f"is wrong: {names}", hint))


def benchmarks_of(plugin: Any) -> list[Timed]:
    """Return what there is to time of a plugin: variants, scores and normalizers, each with its first example.

    Parameters
    ----------
    plugin : str or object
        The name of an installed plugin, or a module or object with hooks.
    """
    cases = []
    for record in records_of(plugin):
        options = (record.examples or ({},))[0]
        if isinstance(record, VariantRecord):
            own, peer = _variant_calls(record, options), _variant_calls(variants.record("general"), {})
        elif isinstance(record, ScoreRecord):
            general = scores.record("general")
            own, peer = _score_calls(record, options), _score_calls(general, general.examples[0])
        elif isinstance(record, NormalizerRecord):
            own, peer = _normalizer_calls(record, options), _normalizer_calls(normalizers.record("softmax"), {})
        else:
            continue
        cases += [Timed(record, options, call, own[call], peer[call]) for call in own]
    return cases


def _arrays() -> Any:
    rng = np.random.default_rng(0)
    shapes = (QUERIES, KEYS, KEYS)
    return [rng.normal(size=(BATCH, n, WIDTH)).astype(np.float32) * np.float32(0.3) for n in shapes]


def _variant_calls(record: Record, options: Any) -> dict[str, Callable[[], Any]]:
    subject = VariantSubject(record, options)
    query = 0 if options.get("query_width") == 0 else WIDTH
    variant = subject.make(query, WIDTH, np.dtype(np.float32), 0)
    queries, memory, _ = _arrays()
    queries = np.ascontiguousarray(queries[..., :query])
    prepared = variant.prepare(memory)
    state = variant.start(prepared)
    first = np.ascontiguousarray(queries[:, 0])

    def gradients() -> None:
        output, backward = variant.vjp(queries, variant.prepare(memory))
        backward(np.asarray(output))

    return {
        "prepare": lambda: variant.prepare(memory),
        "step": lambda: variant.step(first, prepared, state),
        "forward": lambda: variant.forward(queries, prepared),
        "gradients": gradients,
    }


def _score_calls(record: Record, options: Any) -> dict[str, Callable[[], Any]]:
    score = ScoreSubject(record, options).make(WIDTH, WIDTH, np.dtype(np.float32), 0)
    query, key, value = _arrays()

    def gradients() -> None:
        output, backward = attention_vjp(query, key, value, score=score)
        backward(np.asarray(output))

    return {"forward": lambda: attention(query, key, value, score=score), "gradients": gradients}


def _normalizer_calls(record: Record, options: Any) -> dict[str, Callable[[], Any]]:
    normalizer = NormalizerSubject(record, options).make(np.dtype(np.float32))
    query, key, value = _arrays()

    def gradients() -> None:
        output, backward = attention_vjp(query, key, value, normalizer=normalizer)
        backward(np.asarray(output))

    return {"forward": lambda: attention(query, key, value, normalizer=normalizer), "gradients": gradients}


def measure(case: Timed, rounds: int = 7, seconds: float = 0.05) -> tuple[float, float]:
    """Return the median times of a case and of its peer, in seconds, measured in turn."""
    calls, counts, found = (case.run, case.peer), [], ([], [])  # type: ignore[var-annotated]
    for call in calls:
        call()
        begin = time.perf_counter()
        call()
        counts.append(max(1, int(seconds / max(time.perf_counter() - begin, 1e-7))))
    for _ in range(rounds):
        for call, count, times in zip(calls, counts, found):
            begin = time.perf_counter()
            for _ in range(count):
                call()
            times.append((time.perf_counter() - begin) / count)
    return statistics.median(found[0]), statistics.median(found[1])
