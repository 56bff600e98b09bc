"""How many threads a model on the CPU may use: one for each core that other programs leave free.

Threads that share a core with another program hold up all the others at every layer: beside one process that burns one
of two cores, two threads take five times as long as on a quiet machine, one thread less than twice as long.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable

import psutil

INTERVAL = 0.25
"""Seconds over which the load is averaged: short enough to notice a compiler within one suggestion."""

_LEAVES = 0.45
"""Cores that others may use beyond a whole number before another one is left to them."""

_RETURNS = 0.25
"""The same before it is taken back: less, so that the number does not swing."""


_NOT_WORK = ("idle", "iowait", "steal", "guest", "guest_nice")
"""Kinds of processor time that are no work of this machine's processes, or are counted as user time already."""


class ThreadCount:
    """Follows the load that other processes put on the machine."""

    def __init__(
        self,
        cores: int,
        total_seconds: Callable[[], float] | None = None,
        own_seconds: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``total_seconds`` is the processor time spent on this process's cores so far, by anyone."""
        self._cores = cores
        self._total = total_seconds or spent_seconds
        self._own = own_seconds
        self._clock = clock
        self._since = clock(), self._total(), own_seconds()
        self.wanted = cores
        """Threads to compute with now, from 1 to the number of cores."""
        self.others = 0.0
        """Cores' worth of work that other processes did in the last interval."""

    def look(self) -> int:
        """Return ``wanted``, which is reconsidered where the interval is over; meant to be called at every step."""
        now = self._clock()
        if now - self._since[0] >= INTERVAL:
            before, total, own = self._since
            self._since = now, self._total(), self._own()
            spent = (self._since[1] - total) - (self._since[2] - own)
            self.others = max(0.0, spent / (now - before))
            self.wanted = max(self._beside(_RETURNS), min(self.wanted, self._beside(_LEAVES)))
        return self.wanted

    def _beside(self, tolerance: float) -> int:
        return max(1, self._cores - max(0, math.ceil(self.others - tolerance)))


def allowed_cores() -> set[int] | None:
    """Return the logical cores that this process may run on, ``None`` where the system does not say."""
    # Elsewhere a process is rarely held to some of the cores.
    return os.sched_getaffinity(0) if sys.platform == "linux" else None


def physical_cores() -> int:
    """Return the number of physical cores this process may use, at least one."""
    allowed = allowed_cores()
    count = psutil.cpu_count() or 1 if allowed is None else len(allowed)
    return max(1, min(psutil.cpu_count(logical=False) or count, count))


def spent_seconds() -> float:
    """Return the processor time spent by anyone on the cores this process may use, in seconds since the start."""
    allowed = allowed_cores()
    times = psutil.cpu_times(percpu=True)
    return sum(
        sum(core) - sum(getattr(core, kind, 0.0) for kind in _NOT_WORK)
        for number, core in enumerate(times)
        if allowed is None or number in allowed
    )


def on_battery() -> bool:
    """Return whether the machine runs on its battery; a machine without one does not."""
    read = getattr(psutil, "sensors_battery", lambda: None)
    battery = read()
    return battery is not None and battery.power_plugged is False
