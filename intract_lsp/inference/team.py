"""Threads that run one compiled function together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


class Team:
    """The calling thread and some more, which end when nobody holds the team any longer.

    The function must release the interpreter's lock, since the threads wait for each other inside it.
    """

    def __init__(self, most: int) -> None:
        """Have ``most`` threads at hand; ``size`` says how many take part. ``RuntimeError``: there are not so many."""
        self.size = most
        self.most = most
        self._others = ThreadPoolExecutor(max(1, most - 1), "intract-team")
        # All of them are begun now: one that could not be begun later would leave the others waiting for it.
        here = Barrier(most)
        try:
            for _ in range(most - 1):
                self._others.submit(here.wait)
            here.wait()
        except BaseException:
            here.abort()
            raise

    def run(self, function: Callable[[int], None]) -> None:
        """Call ``function`` with 0 to ``size - 1``, each on a thread of its own; return when all have."""
        others = [self._others.submit(function, number) for number in range(1, self.size)]
        function(0)
        for other in others:
            other.result()
