"""Runs whose program was killed: marked by whoever gets the machine's lock next, and gone on with where they can be."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from intract_lsp.errors import TrainingError
from intract_lsp.training.attempt import SPEC_FILE, tidy
from intract_lsp.training.child_process import end_orphan, is_alive
from intract_lsp.training.runs import RunRow, Runs, RunState
from intract_lsp.training.schedule import head_seen
from intract_lsp.training.spec import RunSpec, read_spec

log = logging.getLogger(__name__)

RESUMABLE_SECONDS = 3 * 86_400.0
"""Older than that, a run does not go on: the project has changed."""

LEFT = "Its program was ended; it goes on when its folder is opened again."
CANCELLED = "Cancelled; nothing has changed."
TOO_OLD = "It was interrupted too long ago to go on: start another one."


def mark_left(runs: Runs, own: Collection[str], grace: float) -> None:
    """Mark what killed programs have left behind, and end its processes, which may take ``grace`` seconds each.

    The caller holds the machine's lock and runs nothing: no run but its ``own``, which wait, is at work by right.
    """
    for row in runs.unfinished():
        if row.id in own:
            continue
        if row.state is RunState.QUEUED:
            if is_alive(row.pid, row.pid_started):
                continue
        else:
            end_orphan(row.pid, row.pid_started, grace)
        log.info("run %s was left behind", row.id)
        folder = Path(row.folder)
        if (folder / SPEC_FILE).is_file():
            runs.update(row.id, RunState.STOPPED, LEFT)
        else:
            # It was being cancelled.
            drop(runs, row.id, folder, row.result)


def traces(folder: Path) -> dict[str, str]:
    """Return what is recorded of a run that is cancelled, from its directory: the newest commit that it has seen."""
    head = head_seen(folder)
    return {} if head is None else {"head": head}


def drop(runs: Runs, run: str, folder: Path, known: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Leave nothing of a run but its record, with what is ``known`` of it: it was cancelled."""
    runs.update(run, RunState.STOPPED, CANCELLED, result={**known, **traces(folder)})
    tidy(folder, keep=False)


def resumable(runs: Runs, workspaces: Collection[str], now: float | None = None) -> list[RunSpec]:
    """Return the runs of these folders that were left behind and can go on; those that cannot are marked as failed.

    A run that was cancelled has no spec any more.
    """
    found = []
    for row in runs.stopped():
        if row.workspace not in workspaces or not (Path(row.folder) / SPEC_FILE).is_file():
            continue
        spec = _spec(runs, row)
        if spec is None:
            continue
        if (time.time() if now is None else now) - row.created > RESUMABLE_SECONDS:
            tidy(Path(spec.folder), keep=True)
            (Path(spec.folder) / SPEC_FILE).unlink(missing_ok=True)
            runs.update(row.id, RunState.FAILED, TOO_OLD)
        else:
            found.append(spec)
    return found


def _spec(runs: Runs, row: RunRow) -> RunSpec | None:
    try:
        return read_spec(Path(row.folder) / SPEC_FILE)
    except TrainingError as error:
        runs.update(row.id, RunState.FAILED, str(error))
        return None
