"""How long a run has worked, without the time for which it was stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BEAT = 0.1
"""Seconds between two looks at the clock."""
LONGEST_GAP = 0.5
"""Seconds between two looks from which on the process may have been stopped."""
_LEAST_WORK = 0.2
"""Processor seconds a second: with less the process did not work, with more its threads only came late to the clock."""


class ActiveClock:
    """Counts seconds; those in which the process was stopped (SIGSTOP, a suspended machine) are left out.

    A process is not told that it was stopped, so a thread looks at the clock again and again: a long gap in which the
    process used no processor either was a pause.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.process_time
    ) -> None:
        self._clock = clock
        self._processor = processor
        self._lock = threading.Lock()
        self._last = clock(), processor()
        self._active = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intract-clock", daemon=True)

    def __enter__(self) -> ActiveClock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> float:
        """Return the seconds worked so far."""
        with self._lock:
            now, used = self._clock(), self._processor()
            gap, work = now - self._last[0], used - self._last[1]
            self._last = now, used
            if gap <= LONGEST_GAP or work >= _LEAST_WORK * gap:
                self._active += gap
            else:
                self._active += min(gap, work)
            return self._active

    def _run(self) -> None:
        while not self._ended.wait(_BEAT):
            self.look()
