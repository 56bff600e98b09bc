"""The process of a run: ``python -m intract_lsp.training.child SPEC.json``.

Standard output holds events alone, one JSON object a line; the log goes to standard error, which the parent keeps as
the run's own. On SIGTERM, or when its parent is gone, it writes a checkpoint, says so and ends with status 0.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from traceback import format_tb
from typing import TextIO

import psutil
from filelock import FileLock, Timeout

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import IntractError
from intract_lsp.logs import FORMAT
from intract_lsp.paths import default_paths
from intract_lsp.training.events import Event, Finished, Stage, encode
from intract_lsp.training.parent import watch_parent
from intract_lsp.training.spec import RunSpec, read_spec

log = logging.getLogger(__name__)

END_SECONDS = 30.0
"""How long a run may take to end when its parent is gone before the process ends itself."""

LOCK_SECONDS = 20.0
"""How long a process of the same run that is just ending is waited for."""

NICENESS = 19


def main() -> int:
    """Do the run that the first argument names; return the exit status."""
    # Whatever a library prints must not look like an event.
    stream, sys.stdout = sys.stdout, sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=FORMAT)
    logging.getLogger("intract_lsp").setLevel(logging.INFO)
    events = _Events(stream)
    token = CancelToken()

    def parent_is_gone() -> None:
        token.cancel()
        ending = threading.Timer(END_SECONDS, os._exit, (1,))
        ending.daemon = True
        ending.start()

    watch_parent(parent_is_gone)
    signal.signal(signal.SIGTERM, lambda number, frame: token.cancel())
    _stand_back()
    events.send(Stage("data", "Starting", 0.0))
    try:
        spec = read_spec(Path(sys.argv[1]))
        finished = _alone(spec, events, token)
    except IntractError as error:
        finished = Finished("failed", str(error))
    except Exception as error:  # noqa: BLE001 - reported to the parent, and to the log
        # Where, but not with which words: an error's message may quote the project.
        log.error("the run failed: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__)))
        finished = Finished("failed", f"The run failed unexpectedly ({type(error).__name__}): see its log, run.log.")
    events.send(finished)
    return 0


class _Events:
    """The stream of events; the trainer's come from another thread than the process's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Write an event. A parent that is gone hears nothing, which ends the run anyway."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            print(encode(event), file=self._stream, flush=True)


def _alone(spec: RunSpec, events: _Events, token: CancelToken) -> Finished:
    """Do the run, unless another process does it."""
    try:
        with FileLock(Path(spec.folder) / "run.lock", timeout=LOCK_SECONDS):
            paths = default_paths()
            # The copy of the project in the run's directory is no part of a repository that happens to lie around it.
            ceilings = [spec.folder, os.environ.get("GIT_CEILING_DIRECTORIES", "")]
            os.environ["GIT_CEILING_DIRECTORIES"] = os.pathsep.join(filter(None, ceilings))
            # numba reads this when it is imported.
            os.environ.setdefault("NUMBA_CACHE_DIR", str(paths.cache / "kernels"))
            # Imported here: it brings torch, and the parent hears of a spec that cannot be read long before.
            from intract_lsp.training.pipeline import Run

            return Run(spec, paths, events.send, token).carry_out()
    except Timeout:
        return Finished("failed", "Another process is at work on this run: end it, or wait until it has ended.")


def _stand_back() -> None:
    """Leave processor, disk and memory to what the user waits for."""
    own = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError):
        own.nice(getattr(psutil, "IDLE_PRIORITY_CLASS", NICENESS))  # Windows has classes and no numbers
    if sys.platform == "linux":
        with contextlib.suppress(psutil.Error, OSError):
            own.ionice(psutil.IOPRIO_CLASS_IDLE)
        # Where memory runs out, this process is the one to end.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Threads of libraries must not keep the process, or abort it, when everything has been said.
    os._exit(status)
