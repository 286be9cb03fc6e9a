"""Processes that train together, as threads of one: what a run asks of others, without a transport."""

import threading

import numpy as np

from fastattn.scale import Processes

PATIENCE = 60  # seconds, after which a thread that others have left gives up


class Threads(Processes):
    """One of several threads, each of which is to be a process."""

    def __init__(self, rank, barrier, board):
        self.rank, self.size = rank, barrier.parties
        self._barrier, self._board = barrier, board

    def all_gather(self, array):
        assert array.ndim == 1
        self._board[self.rank] = np.array(array)
        self.barrier()
        found = [one.copy() for one in self._board]
        self.barrier()
        assert len({(one.shape, one.dtype) for one in found}) == 1
        return found

    def barrier(self):
        self._barrier.wait(PATIENCE)


def together(count, work):
    """Call ``work(processes)`` in so many threads; return what each has returned or raised, by rank."""
    barrier, board = threading.Barrier(count), [None] * count
    results = [None] * count

    def run(rank):
        try:
            results[rank] = work(Threads(rank, barrier, board))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
