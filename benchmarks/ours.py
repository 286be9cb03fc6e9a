"""fastattn as a contestant, through its public names only."""

from .peers import Library

NAME = "fastattn"


def load(threads: int) -> Library:
    """Import fastattn; ImportError when it is not built."""
    from fastattn import __version__, set_num_threads

    set_num_threads(threads)
    return Library(NAME, __version__, "ours")
