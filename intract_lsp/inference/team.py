"""Threads that run one compiled function together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Team:
    """The calling thread and some more. The function must release the interpreter's lock, since the threads wait for
    each other inside it."""

    def __init__(self, most: int) -> None:
        """Have ``most`` threads at hand; ``size`` says how many take part."""
        self.size = most
        self.most = most
        self._others = ThreadPoolExecutor(max(1, most - 1), "intract-team")

    def run(self, function: Callable[[int], None]) -> None:
        """Call ``function`` with 0 to ``size - 1``, each on a thread of its own; return when all have."""
        others = [self._others.submit(function, number) for number in range(1, self.size)]
        function(0)
        for other in others:
            other.result()

    def dismiss(self) -> None:
        """Let the threads go."""
        self._others.shutdown(wait=False)
