"""A run's process as its parent sees it: started, listened to, paused while the user types, and ended.

The child holds an open standard input whose end tells it that nobody wants its work any more: that reaches it on every
system, whether the parent closes it or dies. A Ctrl-C in a terminal reaches it, too; it leaves that to its parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

log = logging.getLogger(__name__)

REAP_SECONDS = 1.0
"""Until a process that has closed its output is killed."""

LONGEST_LINE = 1 << 20
"""Characters of an event; what is longer is none."""


class ChildProcess:
    """One process. All methods but the constructor may be called after it has ended."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        log_file: Path,
        on_line: Callable[[str | None], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start ``command`` in ``directory``, its error output added to ``log_file``.

        ``on_line`` is called on a thread of this object with each line of its output, and with ``None`` at the end of
        it. Raises ``OSError``.
        """
        with log_file.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, **(environment or {})},
            )
        self.pid = self._process.pid
        self.suspended = False
        self._worked = 0.0
        self._handle = _process(self.pid)
        self._reader = threading.Thread(
            target=_read, args=(self._process.stdout, on_line), name="intract-run-events", daemon=True
        )
        self._reader.start()

    @property
    def worked(self) -> float:
        """The processor seconds that it has used, as far as it could be asked; from any thread."""
        if self._handle is not None:
            with contextlib.suppress(psutil.Error):
                times = self._handle.cpu_times()
                self._worked = times.user + times.system
        return self._worked

    def suspend(self) -> None:
        """Hold it until ``resume``."""
        if self._handle is not None and not self.suspended and self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                self._handle.suspend()
                self.suspended = True

    def resume(self) -> None:
        """Let it go on."""
        if self._handle is not None and self.suspended:
            self.suspended = False
            with contextlib.suppress(psutil.Error):
                self._handle.resume()

    def ask_to_end(self) -> None:
        """Ask it to write a checkpoint and end."""
        # The signal first: it is handled as soon as the process goes on. Elsewhere it would end it at once.
        if sys.platform != "win32":
            self._process.terminate()
        self.resume()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def reap(self) -> int:
        """Return its exit status, negative for a signal's number; one that has not ended within a second is killed."""
        try:
            status = self._process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(OSError):
                    stream.close()
        return status


def end_orphan(pid: int, started: float, grace: float) -> None:
    """End a process that an earlier parent left behind, if it is still the one that began at ``started``."""
    handle = _process(pid)
    if handle is None or abs(handle.create_time() - started) > 1.0:
        return
    log.info("ending a run's process that was left behind: %d", pid)
    with contextlib.suppress(psutil.Error):
        handle.terminate()
        handle.resume()
        try:
            handle.wait(grace)
        except psutil.TimeoutExpired:
            handle.kill()
            handle.wait(grace)


def is_alive(pid: int, started: float) -> bool:
    """Return whether the process that began at ``started`` still runs."""
    handle = _process(pid)
    if handle is None:
        return False
    with contextlib.suppress(psutil.Error):
        return abs(handle.create_time() - started) <= 1.0 and handle.status() != psutil.STATUS_ZOMBIE
    return False


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _read(stream: IO[str] | None, on_line: Callable[[str | None], None]) -> None:
    if stream is not None:
        # A line is read in pieces where it is longer than any event: a broken child must not fill the memory.
        with contextlib.suppress(ValueError):
            while line := stream.readline(LONGEST_LINE):
                on_line(line.rstrip("\n"))
    on_line(None)
