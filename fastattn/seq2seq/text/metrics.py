"""How good outputs are: edit distance, error rates, and BLEU and chrF by the package sacrebleu."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastattn._optional import need
from fastattn._strings import items, strings
from fastattn.errors import ShapeError, describe
from fastattn.variants.protocol.checks import check_choice

__all__ = ["ErrorCounts", "Score", "bleu", "chrf", "count_errors", "edit_distance", "group_references"]

Tokens = Sequence[str] | Sequence[int]
# Of each output one reference or several.
References = Iterable[Iterable[str]]


def edit_distance(left: Sequence[object], right: Sequence[object]) -> int:
    """Return the least number of insertions, deletions and substitutions that turn one sequence into the other.

    ::

        d(i, 0) = i,  d(0, j) = j,  d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + (left_i != right_j))

    Notes
    -----
    Work of len(left) x len(right), without what both begin and end with; memory of one row. Wagner and Fischer 1974,
    "The string-to-string correction problem".

    Examples
    --------
    >>> from fastattn.seq2seq.text.metrics import edit_distance
    >>> edit_distance("K AE T S".split(), "K AH T".split())
    2
    """
    hint = "pass lists of tokens, or two texts to be compared by characters."
    left = left if isinstance(left, str) else list(items("left", "a sequence of tokens", left, hint))
    right = right if isinstance(right, str) else list(items("right", "a sequence of tokens", right, hint))
    first, last_left, last_right = 0, len(left), len(right)
    while first < min(last_left, last_right) and left[first] == right[first]:
        first += 1
    while first < min(last_left, last_right) and left[last_left - 1] == right[last_right - 1]:
        last_left, last_right = last_left - 1, last_right - 1
    row = list(range(last_right - first + 1))
    for i, token in enumerate(left[first:last_left], 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(right[first:last_right], 1):
            best = diagonal if token == other else 1 + min(diagonal, row[j], row[j - 1])
            diagonal, row[j] = row[j], best
    return row[-1]


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of a corpus.

    Attributes
    ----------
    edits : int
        Edit distances from the closest reference, summed.
    tokens : int
        Lengths of these references, summed.
    wrong : int
        Outputs that are none of their references.
    count : int
        Outputs.
    """

    edits: int
    tokens: int
    wrong: int
    count: int

    @property
    def rate(self) -> float:
        """Errors per reference token, in percent: the WER if tokens are words, the PER if they are phones.

        References without any token count as one token, so that a rate is always finite.
        """
        return _percent(self.edits, max(self.tokens, 1))

    @property
    def sequence_rate(self) -> float:
        """Share of outputs that are wrong, in percent: the WER of pronunciations, one output for a word."""
        return _percent(self.wrong, self.count)

    @property
    def accuracy(self) -> float:
        """Share of outputs that are right, in percent."""
        return _percent(self.count - self.wrong, self.count)


def count_errors(outputs: Iterable[Tokens], references: Iterable[Iterable[Tokens]]) -> ErrorCounts:
    """Count the errors of outputs, each against one reference or several.

    Parameters
    ----------
    outputs : iterable of token sequences
    references : iterable of iterables of token sequences
        For each output what it may be, at least one; the closest counts, of equally close ones the longest.

    Returns
    -------
    ErrorCounts

    Raises
    ------
    ShapeError
        If there are not as many references as outputs, or an output has none.
    DTypeError
        If an output or a reference is a text: split it first.

    Examples
    --------
    >>> from fastattn.seq2seq.text.metrics import count_errors
    >>> errors = count_errors(["a b c".split(), ["x"]], [["a b".split(), "a b c d".split()], [["x"]]])
    >>> errors, errors.rate, errors.accuracy
    (ErrorCounts(edits=1, tokens=5, wrong=1, count=2), 20.0, 50.0)
    """
    hint = "split texts, and put [] around a reference that is alone."

    def tokens_of(name: str, sequence: object) -> list[object]:
        return list(items(name, "a list of tokens", sequence, hint))

    found = [tokens_of("outputs", output) for output in items("outputs", "lists of tokens", outputs, hint)]
    all_possible = [
        [tokens_of("references", reference) for reference in items("references", "lists of tokens", possible, hint)]
        for possible in items("references", "several for each output", references, hint)
    ]
    _check_counts(found, all_possible)
    edits = tokens = wrong = 0
    for number, (output, possible) in enumerate(zip(found, all_possible)):
        if not possible:
            hint = "give every output at least one reference."
            raise ShapeError(describe("references", "at least one", f"none for output {number}", hint))
        distance, length = min((edit_distance(output, reference), -len(reference)) for reference in possible)
        edits, tokens, wrong = edits + distance, tokens - length, wrong + (distance > 0)
    return ErrorCounts(edits, tokens, wrong, len(found))


def group_references(sources: Iterable[str], targets: Iterable[str]) -> dict[str, list[str]]:
    """Return the targets of every source, without repetitions, in the order in which they come.

    For lists of pronunciations, where a word with several has a line for each and counts once.

    Examples
    --------
    >>> from fastattn.seq2seq.text.metrics import group_references
    >>> group_references(["read", "a", "read"], ["R IY D", "AH", "R EH D"])
    {'read': ['R IY D', 'R EH D'], 'a': ['AH']}
    """
    groups: dict[str, dict[str, None]] = {}
    sources, targets = list(strings("sources", sources)), list(strings("targets", targets))
    if len(sources) != len(targets):
        hint = "give one target for every source."
        raise ShapeError(describe("targets", f"{len(sources)} texts, as many as sources", len(targets), hint))
    for source, target in zip(sources, targets):
        groups.setdefault(source, {})[target] = None
    return {source: list(found) for source, found in groups.items()}


@dataclass(frozen=True)
class Score:
    """A score with what one must know to compare it: the signature of sacrebleu."""

    name: str
    value: float
    signature: str

    def __str__(self) -> str:
        return f"{self.name} {self.value:.2f} ({self.signature})"


def bleu(outputs: Iterable[str], references: References, *, tokenize: str = "13a", lowercase: bool = False) -> Score:
    """Return the BLEU of a corpus (Papineni et al. 2002, Post 2018).

    Parameters
    ----------
    outputs : iterable of str
    references : iterable of iterables of str
        For each output one reference or several, the same number for all.
    tokenize : str
        "13a", "none" for texts that are tokenized already, or another tokenizer of sacrebleu.
    lowercase : bool

    Returns
    -------
    Score
        From 0 to 100.

    Raises
    ------
    MissingPackageError
        If sacrebleu is not installed.
    """
    metrics = need("sacrebleu.metrics", "eval", "BLEU")
    check_choice("tokenize", tokenize, ("13a", *sorted(metrics.BLEU.TOKENIZERS)))
    # force: sacrebleu would warn of tokenized text, which "none" is for.
    return _score(metrics.BLEU(tokenize=tokenize, lowercase=lowercase, force=True), outputs, references)


def chrf(outputs: Iterable[str], references: References) -> Score:
    """Return the chrF2 of a corpus (Popovic 2015); parameters as of `bleu`."""
    return _score(need("sacrebleu.metrics", "eval", "chrF").CHRF(), outputs, references)


def check_texts(outputs: Iterable[str], references: References) -> tuple[list[str], list[list[str]]]:
    """Return outputs and the references of each as lists, or raise."""
    hint = "give a list of references for each output, [] around one alone."
    texts = list(strings("outputs", outputs))
    several = enumerate(items("references", "several for each output", references, hint))
    possible = [list(strings(f"references[{place}]", each, hint)) for place, each in several]
    _check_counts(texts, possible)
    return texts, possible


def _score(metric: object, outputs: Iterable[str], references: References) -> Score:
    texts, possible = check_texts(outputs, references)
    counts = {len(each) for each in possible}
    if len(counts) != 1 or not min(counts):
        hint = "give one more of those that have fewer."
        got = f"{sorted(counts)} of them" if counts else "no output"
        raise ShapeError(describe("references", "the same number of references for every output", got, hint))
    streams = [list(stream) for stream in zip(*possible)]
    found = metric.corpus_score(texts, streams)  # type: ignore[attr-defined]
    return Score(found.name, float(found.score), str(metric.get_signature()))  # type: ignore[attr-defined]


def _check_counts(outputs: Sequence[object], references: Sequence[object]) -> None:
    if len(outputs) != len(references):
        hint = "give one entry of references for every output."
        raise ShapeError(describe("references", f"{len(outputs)} entries", len(references), hint))


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
