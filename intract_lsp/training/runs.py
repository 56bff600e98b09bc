"""The record of fine-tuning runs: what was asked, how far it came, which process does it, and what came of it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import psutil

from intract_lsp.errors import TrainingError
from intract_lsp.training.spec import RunSpec

if TYPE_CHECKING:  # the database's library takes a third of a second, which the server's start need not wait for
    from intract_lsp.state import StateDatabase


class RunState(str, Enum):
    """How far a run has come."""

    QUEUED = "queued"
    """Another run has to end first."""
    RUNNING = "running"
    """Its process prepares the data or trains."""
    EVALUATING = "evaluating"
    """Its process measures what came of it."""
    SUCCEEDED = "succeeded"
    """There is an adapter, which nobody has put in place: too little to measure it on."""
    PROMOTED = "promoted"
    """Its adapter serves, or has served."""
    REJECTED = "rejected"
    """Its adapter is no gain."""
    FAILED = "failed"
    STOPPED = "stopped"
    """It was cancelled, or its program was ended."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of the run by itself."""
        return self not in (RunState.QUEUED, RunState.RUNNING, RunState.EVALUATING)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as recorded."""

    id: str
    workspace: str
    folder: str
    """The run's own directory."""
    state: RunState
    message: str
    """For people: why the state is what it is, if there is anything to say."""
    created: float
    """Seconds since 1970, by the clock of that moment: for people."""
    ended: float | None
    pid: int
    """Of the process that answers for it: who queued it, then the one that does it."""
    pid_started: float
    """When that process began, as psutil says it, so that another one with the same number is not taken for it."""
    result: Mapping[str, Any]
    """What ``Finished`` said, or nothing."""


class Runs:
    """The table of runs. One thread at a time.

    Raises ``TrainingError`` where the database cannot be read or written; nothing of a change is kept then.
    """

    def __init__(self, state: StateDatabase, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock

    def close(self) -> None:
        """Close the database."""
        self._state.close()

    def add(self, spec: RunSpec, pid: int) -> None:
        """Record a run as queued behind those before it by process ``pid``. Raises ``TrainingError`` if it is known."""
        if self.get(spec.id) is not None:
            raise TrainingError(f"There is a run {spec.id} already: start another one.")
        values = (spec.id, spec.workspace, RunState.QUEUED.value, "", self._clock(), pid, started(pid))
        with self._transaction():
            self._state.database.execute(
                "INSERT INTO runs (id, workspace, state, message, created, pid, pid_started, spec, result) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, '{}')",
                (*values, json.dumps(asdict(spec))),
            )

    def update(
        self,
        run: str,
        state: RunState,
        message: str = "",
        *,
        pid: int | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a run's new state, with the process that answers for it from now on and what came of it, if given."""
        sets: dict[str, Any] = {"state": state.value, "message": message}
        sets["ended"] = self._clock() if state.is_over else None
        if pid is not None:
            sets |= {"pid": pid, "pid_started": started(pid)}
        if result is not None:
            sets["result"] = json.dumps(dict(result))
        columns = ", ".join(f"{column} = ?" for column in sets)
        with self._transaction():
            self._state.database.execute(f"UPDATE runs SET {columns} WHERE id = ?", (*sets.values(), run))

    def get(self, run: str) -> RunRow | None:
        """Return a run, or ``None``."""
        return next(self._rows("WHERE id = ?", run), None)

    def latest(self, workspace: str | None = None) -> RunRow | None:
        """Return the run that was queued last, of one workspace folder if given."""
        return next(iter(self.all(workspace)), None)

    def all(self, workspace: str | None = None, most: int = 100) -> list[RunRow]:
        """Return the runs, of one workspace folder if given; the newest first."""
        if workspace is None:
            return list(self._rows("ORDER BY rowid DESC LIMIT ?", most))
        return list(self._rows("WHERE workspace = ? ORDER BY rowid DESC LIMIT ?", workspace, most))

    def unfinished(self) -> list[RunRow]:
        """Return the runs that wait or are carried out, in the order in which they were queued."""
        open_states = [state.value for state in RunState if not state.is_over]
        marks = ", ".join("?" * len(open_states))
        return list(self._rows(f"WHERE state IN ({marks}) ORDER BY rowid", *open_states))

    def stopped(self) -> list[RunRow]:
        """Return the runs that were cancelled or left behind, in the order in which they were queued."""
        return list(self._rows("WHERE state = ? ORDER BY rowid", RunState.STOPPED.value))

    def _rows(self, where: str, *values: str | int) -> Iterator[RunRow]:
        sql = f"SELECT id, workspace, spec, state, message, created, ended, pid, pid_started, result FROM runs {where}"
        try:
            rows = self._state.database.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise TrainingError(f"The record of runs cannot be read ({error}): try again.") from error
        for row in rows:
            id_, workspace, spec, state, message, created, ended, pid, pid_started, result = row
            folder = str(json.loads(spec)["folder"])
            told = (RunState(state), message, created, ended, pid, pid_started, json.loads(result))
            yield RunRow(id_, workspace, folder, *told)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._state.database.atomic():
                yield
        except sqlite3.Error as error:
            raise TrainingError(
                f"The record of runs cannot be written ({error}): free space on the disk and make sure that "
                "the directory of the state database is writable."
            ) from error


def started(pid: int) -> float:
    """Return when a process began, in seconds since 1970; 0 for one that is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0
