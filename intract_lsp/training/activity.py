"""When a completion was last asked for, in whatever program of this machine: a run gives way to all of them."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

TOLD_EVERY = 1.0
"""Seconds between two times that other programs are told."""


class Activity:
    """May be used from any thread, and with the same file from several programs: its time of change tells the others.

    Seconds are those of the monotonic clock; the clock on the wall counts only for what lies before this object.
    """

    def __init__(self, file: Path) -> None:
        """Nothing is touched yet. Where the file cannot be written, others are not told."""
        self._file = file
        self._guard = threading.Lock()
        self._at = self._told_at = float("-inf")
        self._seen: int | None = None

    def note(self) -> None:
        """Take note that a completion was asked for here."""
        with self._guard:
            self._at = now = time.monotonic()
            if now - self._told_at < TOLD_EVERY:
                return
            self._told_at = now
            with contextlib.suppress(OSError):
                self._file.touch()

    def at(self) -> float:
        """Return when one was last asked for, as far as is known; negative infinity for never."""
        with self._guard:
            try:
                changed = self._file.stat().st_mtime_ns
            except OSError:
                return self._at
            if changed != self._seen:
                age = max(0.0, time.time() - changed / 1e9) if self._seen is None else 0.0
                self._at = max(self._at, time.monotonic() - age)
                self._seen = changed
            return self._at
