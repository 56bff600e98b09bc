"""The runs of one program: what each was asked to do, how it stands, and a future of its end."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from intract_lsp.training.progress import RunStatus
from intract_lsp.training.runs import RunState
from intract_lsp.training.spec import RunSpec


class KnownRuns:
    """May be used from any thread; one alone changes how a run stands."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._specs: dict[str, RunSpec] = {}
        self._statuses: dict[str, RunStatus] = {}
        self._ends: dict[str, Future[RunStatus]] = {}

    def add(self, spec: RunSpec) -> None:
        """Take up a run, which waits to begin."""
        with self._guard:
            self._statuses[spec.id] = RunStatus(spec.id, spec.workspace, RunState.QUEUED, "Waiting to begin.")
            self._ends[spec.id] = Future()
            self._specs[spec.id] = spec

    def spec(self, run: str) -> RunSpec | None:
        """Return what a run was asked to do."""
        with self._guard:
            return self._specs.get(run)

    def all(self) -> tuple[RunStatus, ...]:
        """Return how the runs stand, oldest first."""
        with self._guard:
            return tuple(self._statuses.values())

    def status(self, run: str | None) -> RunStatus | None:
        """Return how a run stands; without an id, the one that is at work, or the newest."""
        statuses = self.all()
        if run is not None:
            return next((status for status in statuses if status.run == run), None)
        at_work = [status for status in statuses if not status.state.is_over]
        return at_work[0] if at_work else statuses[-1] if statuses else None

    def now(self, run: str) -> RunStatus:
        """Return how a run stands that is known."""
        with self._guard:
            return self._statuses[run]

    def end(self, run: str) -> Future[RunStatus]:
        """Return a future that gets the last status of a run; cancelled by ``give_up``."""
        with self._guard:
            return self._ends[run]

    def put(self, status: RunStatus) -> bool:
        """Say how a run stands now; return whether that is news."""
        with self._guard:
            is_news = self._statuses[status.run] != status
            self._statuses[status.run] = status
        return is_news

    def change(self, run: str, **changes: Any) -> RunStatus | None:
        """Change fields of a run's status; return it where that is news."""
        status = replace(self.now(run), **changes)
        return status if self.put(status) else None

    def conclude(self, run: str) -> None:
        """Let those know who wait for a run's end."""
        end = self.end(run)
        if end.set_running_or_notify_cancel():
            end.set_result(self.now(run))

    def give_up(self) -> None:
        """Let those know who wait for the end of runs that this program will not see."""
        with self._guard:
            ends = list(self._ends.values())
        for end in ends:
            end.cancel()
