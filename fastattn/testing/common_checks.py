"""What a score function, a normalizer and a variant are checked for in the same words: functions of a `Subject`."""

import numpy as np

from fastattn.testing.arrays import digest, in_a_child, same, strided, threads
from fastattn.testing.subject import Subject

__all__ = ["any_number_of_threads", "any_strides", "forked_child", "large_scores", "repeated_runs"]


def repeated_runs(s: Subject) -> None:
    """The same call gives the same bits, with a second object made alike too."""
    p, other = s.problem(), s.problem()
    d = p.cotangents()
    first = p.everything(*d)
    for what, q in (("a second call", p), ("a second object", other)):
        same(q.everything(*d), first, what)


def any_number_of_threads(s: Subject) -> None:
    """1 to 16 threads give the same bits."""
    p = s.problem(**s.several)
    d, found = p.cotangents(), []
    for number in (1, 2, 3, 16):
        with threads(number):
            found.append(p.everything(*d))
    for number, one in zip((2, 3, 16), found[1:]):
        same(one, found[0], f"with {number} threads, against one")


def any_strides(s: Subject) -> None:
    """Arrays of any strides give the same bits."""
    p = s.problem()
    d = p.cotangents()
    wanted, found = p.everything(*d), p.changed(strided).everything(*map(strided, d))
    for what in wanted:
        same(found[what], wanted[what], f"{what} of strided arrays")


def forked_child(s: Subject) -> None:
    """A forked child computes the same bits."""
    p = s.problem(**s.several)
    d = p.cotangents()
    assert in_a_child(lambda: p.everything(*d)) == digest(p.everything(*d)), "a forked child has other bits"


def large_scores(s: Subject) -> None:
    """Large inputs give finite contexts and weights."""
    output = s.problem(size=1e4).forward()
    assert np.isfinite(output.context).all() and np.isfinite(output.weights).all(), "large inputs overflow"
