"""One attempt at a run: its process, and what that has said so far."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from intract_lsp.errors import TrainingError
from intract_lsp.training.child_process import ChildProcess
from intract_lsp.training.events import Event, Finished, Step, decode
from intract_lsp.training.spec import RunSpec

log = logging.getLogger(__name__)

SPEC_FILE = "spec.json"
"""As ``RunSpec.write`` names it."""

COMMITS_FILE = "commits.json"
"""The cut and the newest commit that a run works from, as a list of two."""

KEPT = (SPEC_FILE, COMMITS_FILE, "run.log", "report.json", "report.html")
"""What stays in a run's directory when the run is over."""

MOST_COMPLAINTS = 5
"""Lines that are no events, after which no more of them are logged."""


class Attempt:
    """A process at work on a run. Of one thread."""

    def __init__(
        self,
        spec: RunSpec,
        command: Callable[[Path], Sequence[str]],
        on_line: Callable[[Attempt, str | None], None],
        restarts: int,
        step: int = 0,
    ) -> None:
        """Start the process; ``on_line`` is called on a thread of its own, see ``ChildProcess``. Raises ``OSError``."""
        self.spec = spec
        self.restarts = restarts
        """How often it was begun again before without having got further."""
        self.step = step
        """The furthest step that it has come to, earlier attempts counted."""
        self.pausable = False
        """Whether it may be held: on a CPU, once it has said anything. Before that it might not notice that its parent
        is gone while it is held, see ``parent``."""
        self.cancelled = False
        self.kill_at: float | None = None
        """When, on the monotonic clock, the process is killed unless it has ended."""
        self.finished: Finished | None = None
        self.got_further = False
        """Whether it has come to a step that no earlier attempt has come to."""
        self._garbage = 0
        self._killed_before = oom_kills()
        folder = Path(spec.folder)
        self.log_file = folder / "run.log"
        # Not in the run's own directory: `python -m` would import what lies there.
        self.child = ChildProcess(
            command(folder / SPEC_FILE), folder.parent, self.log_file, lambda text: on_line(self, text)
        )

    def read(self, text: str) -> Event | None:
        """Return the event that a line stands for; a line that is none is logged by its size."""
        self.pausable = self.spec.trainer.device == "cpu"
        try:
            event = decode(text)
        except TrainingError:
            self._garbage += 1
            if self._garbage <= MOST_COMPLAINTS:
                log.warning("run %s wrote a line of %d characters that is no event", self.spec.id, len(text))
            return None
        if isinstance(event, Step) and event.step > self.step:
            self.got_further, self.step = True, event.step
        if isinstance(event, Finished):
            self.finished = event
        return event

    def ran_out_of_memory(self, status: int) -> bool:
        """Return whether the system has ended the process, which left this status, since memory had run out."""
        return sys.platform == "linux" and status == -signal.SIGKILL and oom_kills() > self._killed_before


def oom_kills() -> int:
    """Return how many processes Linux has ended since memory had run out; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def tidy(folder: Path, *, keep: bool) -> None:
    """Remove what a run has left in its directory; with ``keep``, all but what people may want to look at."""
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if path.name in KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
