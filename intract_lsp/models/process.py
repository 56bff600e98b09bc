"""Work in a process of its own: run a program, read its lines as they come, and kill it when the work is cancelled.

A module of ours that is such a program prints one JSON object a line: ``{"progress": [sentence, fraction]}``, and at
last ``{"done": {...}}`` or ``{"error": sentence}``. ``run_events`` is the parent's side, ``serve_parent`` the child's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import IntractError
from intract_lsp.models.progress import PullCancelled, ReportProgress

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
"""How long a cancel may go unnoticed while the program is silent."""
GRACE_SECONDS = 5.0
"""How long a program whose input was closed may take to end before it is killed."""
STOP_SECONDS = 3.0
"""How long a child of ours may take to stop by itself when its input has closed: not all work can be interrupted."""
LOG_TAIL = 2000
"""Most characters of a child's error output that are kept."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child of ours has ended."""

    done: Mapping[str, Any] | None
    """What it returned; ``None`` where it did not come to that."""
    error: str
    """The sentence that it ended with instead; empty where it died without any."""
    status: int
    errors: str
    """The end of its error output."""


def run_events(
    module: str, request: Mapping[str, Any], report: ReportProgress, token: CancelToken, *, directory: Path
) -> Ended:
    """Run ``module`` as a child in ``directory``, with the request as its argument, and hand on its progress.

    Blocks, and reports from the calling thread. Raises ``PullCancelled`` after the child has ended.
    """
    last: dict[str, Any] = {}

    def on_line(line: str) -> None:
        try:
            event = json.loads(line)
            if "progress" in event:
                sentence, fraction = event["progress"]
            else:
                last.clear()
                last.update(event)
                return
        except (ValueError, TypeError):
            log.warning("%s wrote a line of %d characters that is no event", module, len(line))
            return
        report(sentence, fraction)

    command = [sys.executable, "-m", module, json.dumps(request)]
    with tempfile.TemporaryFile() as errors:
        status = run_lines(command, on_line, token, directory=directory, stderr=errors, ends_with_input=True)
        errors.seek(0)
        tail = errors.read().decode("utf-8", "replace")[-LOG_TAIL:]
    if not last:
        log.error("%s ended with status %d: %s", module, status, tail)
    return Ended(last.get("done"), str(last.get("error", "")), status, tail)


def serve_parent(work: Callable[[dict[str, Any], ReportProgress, CancelToken], Mapping[str, Any]]) -> int:
    """Do the work of a child whose parent is in ``run_events``; return the exit status.

    ``work`` gets the request and returns what is done, or raises ``IntractError``. Its token is cancelled when the
    standard input closes: the parent has ended, or wants no more of this.
    """
    # Whatever a library prints must not look like an event.
    events, sys.stdout = sys.stdout, sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    token, ended = CancelToken(), threading.Event()

    def end_with_input() -> None:
        sys.stdin.read()
        token.cancel()
        # What is unfinished lies where the next child removes it.
        if not ended.wait(STOP_SECONDS):
            os._exit(1)

    def send(event: Mapping[str, Any]) -> None:
        # A parent that is gone hears nothing.
        with contextlib.suppress(OSError):
            print(json.dumps(event), file=events, flush=True)

    threading.Thread(target=end_with_input, name="intract-parent", daemon=True).start()
    try:
        done = work(json.loads(sys.argv[1]), lambda *progress: send({"progress": progress}), token)
    except IntractError as error:
        send({"error": str(error)})
        return 1
    finally:
        ended.set()
    send({"done": done})
    return 0


def run_lines(
    command: Sequence[str],
    on_line: Callable[[str], None],
    token: CancelToken,
    *,
    directory: Path,
    stderr: IO[bytes],
    environment: Mapping[str, str] | None = None,
    ends_with_input: bool = False,
) -> int:
    """Run ``command`` in ``directory``, hand each line of its output to ``on_line``, and return its exit status.

    The program runs in a directory of ours, because ``python -m`` would import a ``pip`` lying in the workspace.
    With ``ends_with_input`` it holds an open standard input and is asked to stop by closing it; otherwise it is
    terminated. Raises ``PullCancelled`` after the program has ended.
    """
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE if ends_with_input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_lines, args=(process.stdout, lines), name="intract-lines", daemon=True)
    reader.start()
    try:
        while True:
            if token.cancelled:
                raise PullCancelled
            try:
                line = lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                return process.wait()
            on_line(line)
    finally:
        _end(process)
        reader.join(GRACE_SECONDS)
        if process.stdout is not None and not reader.is_alive():
            process.stdout.close()


def _read_lines(stream: IO[str] | None, lines: queue.SimpleQueue[str | None]) -> None:
    if stream is not None:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    elif process.poll() is None:
        process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
