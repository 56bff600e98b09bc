"""Processes that burn a core each, for the benches of a busy machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import psutil

BURN = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""Ends with the bench, however that ends."""


class Burners:
    """Processes that burn a core each while they are let."""

    def __init__(self, count: int) -> None:
        self._processes = [psutil.Popen([sys.executable, "-c", BURN]) for _ in range(count)]
        for process in self._processes:
            process.suspend()

    @contextlib.contextmanager
    def burning(self) -> Iterator[None]:
        """Let them run for a while."""
        for process in self._processes:
            process.resume()
        try:
            yield
        finally:
            for process in self._processes:
                process.suspend()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
