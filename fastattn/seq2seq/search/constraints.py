"""Which tokens a search may choose: allowed ones, forbidden ones, and those of a given beginning."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastattn._arrays import Array, index_array
from fastattn._strings import items
from fastattn.errors import ArgumentError, describe
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.text.vocabulary import BOS, EOS, PAD

__all__ = ["Constraints", "check_numbers"]

_FREE = -1  # in place of the token of a beginning, after its end


class Constraints:
    """What may be chosen at each step, for each of a batch of sources.

    Parameters
    ----------
    model : Model
    limits : int array, shape (B,)
        Most tokens of each target.
    forbid : sequence of int
        Ids that are not chosen; `PAD` and `BOS` never are.
    allow : sequence of int, optional
        The only ids that are chosen, besides `EOS`.
    prefix : sequence of sequences of int, optional
        For each source the ids that its target begins with, whatever else is allowed.
    """

    def __init__(
        self,
        model: Model,
        limits: Array,
        forbid: Sequence[int],
        allow: Sequence[int] | None,
        prefix: Sequence[Sequence[int] | Array] | None,
    ) -> None:
        size = model.projection.w.value.shape[1]
        never = _ids("forbid", forbid, size)
        if EOS in never:
            hint = "the end must stay possible."
            raise ArgumentError(describe("forbid", f"ids other than {EOS}", never.tolist(), hint))
        if allow is not None:
            never = np.append(never, np.setdiff1d(np.arange(size), np.append(_ids("allow", allow, size), EOS)))
        self._never = np.append(never, (PAD, BOS))
        self._prefix = None if prefix is None else _padded(prefix, limits, size)

    def apply(self, log_probabilities: Array, rows: Array, step: int) -> None:
        """Make impossible, in place, what may not be chosen at a step; row i is of source ``rows[i]``.

        The tokens of a beginning keep their log-probabilities. Raises as `check_numbers`.
        """
        check_numbers(log_probabilities[:, EOS])  # they are normalised: with one NaN all of a row are
        forced = np.empty(0, np.int64)
        if self._prefix is not None and step < self._prefix.shape[1]:
            tokens = self._prefix[rows, step]
            forced = np.flatnonzero(tokens != _FREE)
            tokens = tokens[forced]
            kept = log_probabilities[forced, tokens]
        log_probabilities[:, self._never] = -np.inf
        if len(forced):
            log_probabilities[forced] = -np.inf
            log_probabilities[forced, tokens] = kept


def check_numbers(log_probabilities: Array) -> None:
    """Raise if there is a NaN among log-probabilities: no token is more probable than another then."""
    if np.isnan(log_probabilities).any():
        hint = "use a checkpoint from before its training diverged."
        raise ArgumentError(describe("model", "one that gives log-probabilities", "NaN from it", hint))


def _ids(name: str, given: Iterable[int] | Array, size: int) -> Array:
    found = list(items(name, "ids", given, "pass a list of ids."))
    return index_array(name, found, size) if found else np.empty(0, np.int64)


def _padded(prefix: Sequence[Sequence[int] | Array], limits: Array, size: int) -> Array:
    """Return beginnings as an array (B, P), or raise."""
    hint = "pass a list of ids for each source."
    given: list[Any] = list(items("prefix", "lists of ids", prefix, hint))
    rows = [_ids(f"prefix[{b}]", row, size) for b, row in enumerate(given)]
    if len(rows) != len(limits):
        raise ArgumentError(describe("prefix", f"{len(limits)} lists of ids, as many as sources", len(rows), hint))
    found = np.full((len(rows), max(map(len, rows), default=0)), _FREE)
    for b, (row, limit) in enumerate(zip(rows, limits.tolist())):
        if {PAD, BOS, EOS} & set(row.tolist()):
            raise ArgumentError(describe(f"prefix[{b}]", f"ids but {PAD}, {BOS} and {EOS}", row.tolist(), hint))
        if len(row) >= limit:
            got = f"{len(row)} of {limit}"
            raise ArgumentError(describe(f"prefix[{b}]", "fewer tokens than the limit of the target", got, "raise it."))
        found[b, : len(row)] = row
    return found
