"""Outputs against references, by the metrics that a configuration or a command names."""

from collections.abc import Iterable

from fastattn._optional import need
from fastattn._strings import strings
from fastattn.errors import ArgumentError, describe, did_you_mean
from fastattn.seq2seq.text.metrics import References, Score, bleu, check_texts, chrf, count_errors
from fastattn.seq2seq.text.vocabulary import Vocabulary

__all__ = ["HIGHER_IS_BETTER", "METRICS", "evaluate", "require"]

HIGHER_IS_BETTER = {"loss": False, "bleu": True, "chrf": True, "wer": False, "per": False, "accuracy": True}

METRICS = ("bleu", "chrf", "wer", "per", "accuracy")


def require(metrics: Iterable[str]) -> None:
    """Raise a MissingPackageError if a package that a metric needs is not installed: before the work, not after it."""
    for name in metrics:
        if name in ("bleu", "chrf"):
            need("sacrebleu.metrics", "eval", "BLEU and chrF")


def evaluate(
    outputs: Iterable[str],
    references: References,
    vocabulary: Vocabulary,
    metrics: Iterable[str] = METRICS,
) -> dict[str, Score]:
    """Return the metrics of a corpus, in percent.

    Parameters
    ----------
    outputs : iterable of str
    references : iterable of iterables of str
        For each output one reference or several; BLEU and chrF want the same number for all.
    vocabulary : Vocabulary
        Of the targets: it says what a token is.
    metrics : iterable of str
        "bleu", "chrf": see `fastattn.seq2seq.metrics`; "wer": edits per word, split at white space; "per": edits per
        token of the vocabulary (phoneme, character, piece); "accuracy": share of outputs that equal a reference. The
        word error rate of pronunciations, where an output is that of one word, is 100 minus the accuracy.

    Returns
    -------
    dict of str to Score
        In the order asked for.

    Examples
    --------
    >>> from fastattn.seq2seq import Vocabulary
    >>> from fastattn.seq2seq.search.evaluation import evaluate
    >>> scores = evaluate(["a b", "c"], [["a b"], ["c d"]], Vocabulary([]), ["wer", "accuracy"])
    >>> [(name, round(score.value, 2)) for name, score in scores.items()]
    [('wer', 25.0), ('accuracy', 50.0)]
    """
    outputs, references = check_texts(outputs, references)
    found = {}
    for name in strings("metrics", metrics, f"give some of {', '.join(METRICS)} as a list."):
        if name == "bleu":
            found[name] = bleu(outputs, references)
        elif name == "chrf":
            found[name] = chrf(outputs, references)
        elif name in METRICS:
            split = vocabulary.split if name == "per" else str.split
            counts = count_errors(
                [split(output) for output in outputs], [[split(text) for text in possible] for possible in references]
            )
            value = counts.accuracy if name == "accuracy" else counts.rate
            unit = f"kind:{vocabulary.kind}" if name == "per" else "split:whitespace"
            found[name] = Score(name.upper() if name != "accuracy" else "accuracy", value, f"{unit}|n:{counts.count}")
        else:
            expected = f"some of {', '.join(METRICS)}"
            raise ArgumentError(describe("metrics", expected, repr(name), did_you_mean(name, METRICS)))
    return found
