"""The runs of one program that wait to begin, and the lock of the machine, which the one at work holds.

Whoever holds that lock knows every other run that is recorded as running to be left behind by a program that was
killed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from intract_lsp.errors import IntractError
from intract_lsp.training.leftovers import LEFT, mark_left, resumable
from intract_lsp.training.runs import Runs, RunState
from intract_lsp.training.spec import RunSpec

OTHER_AT_WORK = "Another program trains on this machine: this run begins when that has ended."
OTHER_FIRST = "Another program's run comes first: this one begins when that has ended."


class RunQueue:
    """One thread's. Methods that say nothing else raise ``TrainingError`` where the record of runs cannot be used."""

    def __init__(self, lock: Path, runs: Callable[[], Runs], grace: float) -> None:
        """``lock`` is the machine's lock file, ``runs`` returns the record of runs.

        The process of a run that was left behind is given ``grace`` seconds to end.
        """
        self._lock = FileLock(lock)
        self._runs = runs
        self._grace = grace
        self._waiting: list[RunSpec] = []

    @property
    def waiting(self) -> Sequence[RunSpec]:
        """The runs that wait, the next one first."""
        return tuple(self._waiting)

    def add(self, spec: RunSpec) -> None:
        """Record a run, which waits from now on. Raises ``OSError`` where its directory cannot be written, too."""
        Path(spec.folder).mkdir(parents=True, exist_ok=True)
        spec.write()
        self._runs().add(spec, os.getpid())
        self._waiting.append(spec)

    def remove(self, run: str) -> RunSpec | None:
        """Have a run wait no more, and return it; ``None`` where it does not wait."""
        found = next((spec for spec in self._waiting if spec.id == run), None)
        if found is not None:
            self._waiting.remove(found)
        return found

    def take(self) -> RunSpec | str:
        """Return the run that is to begin, which waits no more, the machine held; or why the next one has to wait.

        Some run waits, and none of this program is at work.
        """
        if not self._hold():
            return OTHER_AT_WORK
        self._mark_left()
        first = next((row.id for row in self._runs().unfinished()), None)
        if first is not None and first not in [spec.id for spec in self._waiting]:
            self.release()
            return OTHER_FIRST
        return self._waiting.pop(0)

    def take_up(self, workspaces: Sequence[str], meet: Callable[[RunSpec], None]) -> list[RunSpec]:
        """Mark what killed programs have left behind; the runs of these folders that can go on wait, and are returned.

        ``meet`` is given each of them before it waits. Nothing is done while another program holds the machine; no run
        of this one is at work.
        """
        if not self._hold():
            return []
        try:
            self._mark_left()
            found = resumable(self._runs(), workspaces)
            for spec in found:
                meet(spec)
                self._runs().update(spec.id, RunState.QUEUED, pid=os.getpid())
                self._waiting.append(spec)
            return found
        finally:
            self.release()

    def release(self) -> None:
        """Let other programs have the machine."""
        self._lock.release()

    def give_up(self) -> None:
        """Leave all that waits to whoever opens its folder next, and the machine to others. Raises nothing."""
        for spec in self._waiting:
            with contextlib.suppress(IntractError):
                self._runs().update(spec.id, RunState.STOPPED, LEFT)
        self._waiting.clear()
        self._lock.release(force=True)

    def _hold(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def _mark_left(self) -> None:
        mark_left(self._runs(), [spec.id for spec in self._waiting], self._grace)
