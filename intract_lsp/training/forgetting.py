"""A file is forgotten: what is just learning from it ends, before the adapters that have seen it are deleted."""

from __future__ import annotations

import os
from collections.abc import Collection
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path

from intract_lsp.errors import AdapterError, TrainingError
from intract_lsp.index.folder import folder_key, inside
from intract_lsp.training.attempt import SPEC_FILE
from intract_lsp.training.exclusion import Exclusion
from intract_lsp.training.leftovers import drop, resumable
from intract_lsp.training.runs import Runs
from intract_lsp.training.spec import RunSpec, read_spec
from intract_lsp.training.supervisor import Supervisor

END_SECONDS = 60.0
"""How long a cancelled run is waited for: its process may be amid of a long computation."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What has become of the runs that would have learnt from a file."""

    ended: tuple[str, ...]
    elsewhere: tuple[str, ...]
    """Those of other programs, which go on."""

    @property
    def sentence(self) -> str:
        """For the user; empty where there was none."""
        said = []
        if self.ended:
            said.append(f"Cancelled, since it learns from it: {', '.join(self.ended)}.")
        if self.elsewhere:
            said.append(
                f"Another program's run may be learning from it: {', '.join(self.elsewhere)}. Cancel it there, then "
                "forget the file again."
            )
        return " ".join(said)


def locate(path: str, folder: Path | None, trained: Collection[str]) -> tuple[Path, str]:
    """Return the folder that a file or folder is in, and its path there with ``/``, however that is spelt.

    Without a ``folder`` it is the innermost one around the path that was ``trained`` on, by ``folder_key``, or else the
    present one. Raises ``AdapterError`` for a path outside.
    """
    place = Path(os.path.normpath((folder or Path()).absolute() / path))
    if folder is None:
        folder = next((each for each in place.parents if folder_key(each) in trained), Path.cwd())
    known = inside(folder, str(place))
    if known is None:
        raise AdapterError(f"{path} is no file or folder inside {folder}: name one, or the folder with --dir.")
    return folder, known


def end_runs(supervisor: Supervisor, runs: Runs, workspace: str, path: str) -> Ended:
    """End the runs on a folder that are to learn from a file or folder inside it, also those that were interrupted.

    Waits until they have ended. Raises ``TrainingError`` where the record cannot be written.
    """

    def learns(spec: RunSpec | None) -> bool:
        return spec is not None and spec.workspace == workspace and not Exclusion(spec.data.exclude).names(path)

    own = [status.run for status in supervisor.statuses() if not status.state.is_over]
    ended = [run for run in own if learns(supervisor.spec_of(run)) and supervisor.cancel(run)]
    for run in ended:
        _await(supervisor, run)
    for spec in resumable(runs, [workspace]):
        if learns(spec):
            drop(runs, spec.id, Path(spec.folder))
            ended.append(spec.id)
    others = [row for row in runs.unfinished() if row.workspace == workspace and row.id not in own]
    return Ended(tuple(ended), tuple(row.id for row in others if learns(_spec(Path(row.folder)))))


def _await(supervisor: Supervisor, run: str) -> None:
    try:
        supervisor.end_of(run).result(END_SECONDS)
    except (NotYet, CancelledError):
        return  # without its spec it does not go on, whenever it ends


def _spec(folder: Path) -> RunSpec | None:
    try:
        return read_spec(folder / SPEC_FILE)
    except TrainingError:
        return None
