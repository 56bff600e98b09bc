"""When a run begins by itself: the user has been away for a while, and enough has been committed since the last one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from intract_lsp.training.attempt import COMMITS_FILE
from intract_lsp.training.runs import RunRow

IDLE_SECONDS = 300.0
"""Without a completion before a run may begin."""

LOOK_SECONDS = 60.0
"""Between two looks."""

_GIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision depends on."""

    idle_seconds: float
    """Since a completion was last asked for, or since the start."""
    on_mains: bool
    at_work: bool
    """Whether a run waits or is at work already."""


def may_begin(moment: Moment) -> bool:
    """Return whether a run would be in nobody's way."""
    return moment.idle_seconds >= IDLE_SECONDS and moment.on_mains and not moment.at_work


def head_seen(folder: Path) -> str | None:
    """Return the newest commit that a run has seen, by its directory; ``None`` before that is known, or afterwards.

    It is empty for a run without git.
    """
    try:
        _, head = json.loads((folder / COMMITS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    return str(head)


def last_head(runs: Iterable[RunRow]) -> str | None:
    """Return the newest commit that the newest of these runs has seen, the newest run first; see ``head_seen``.

    Of a cancelled one the record says it, so that what the user did not want does not begin again by itself.
    """
    seen = (str(run.result["head"]) if "head" in run.result else head_seen(Path(run.folder)) for run in runs)
    return next((head for head in seen if head is not None), None)


def changed_lines(folder: Path, since: str) -> int:
    """Return how many lines of a folder were added by commits that came after ``since``; 0 where git does not say."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
    command = ["git", "-C", str(folder), "diff", "--numstat", "--no-renames", f"{since}..HEAD", "--", "."]
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, timeout=_GIT_SECONDS, env=environment, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    counts = (line.partition(b"\t")[0] for line in done.stdout.splitlines())
    return sum(int(count) for count in counts if count.isdigit())
