"""Sizes: ``B`` samples, ``S`` keys, ``T`` steps, ``D`` of queries and memory, ``W`` of additive scores, ``C`` filters,
``K`` their size, ``N`` reach of a window. Option: ``mechanism``, its name in `fastattn.create`.
"""

from ...case import BOTH, FORWARD, Case, maker

_maker = maker("steps", "B S T D W C K N", (3, 9, 4, 12, 16, 3, 5, 2))


def _case(mechanism: str, direction: str, target: float) -> Case:
    name = f"{mechanism}_{'grad' if direction == BOTH else 'fwd'}"
    title = f"{mechanism}, 20 decoder steps, B16 Tk200 D512 Da256"
    return _maker(name, title, direction, (16, 200, 20, 512, 256, 10, 31, 10), target, mechanism=mechanism)


CASES = tuple(
    _case(mechanism, direction, target)
    for target, mechanisms in (
        (3.0, ("bahdanau", "location_sensitive", "coverage", "monotonic", "mocha")),
        (1.5, ("local_m", "local_p", "general", "cosine", "l2", "linear", "multihead")),
    )
    for mechanism in mechanisms
    for direction in (FORWARD, BOTH)
)
