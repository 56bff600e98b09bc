"""Run a program of ours, read its lines as they come, and kill it when the work is cancelled."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from intract_lsp.completion.generation import CancelToken
from intract_lsp.models.progress import PullCancelled

POLL_SECONDS = 0.1
"""How long a cancel may go unnoticed while the program is silent."""
GRACE_SECONDS = 5.0
"""How long a program whose input was closed may take to end before it is killed."""


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
