"""What is not committed yet: lines that git says differ from the last commit, and files that it does not know."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

log = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds for each of the two questions to git; what it had said by then is used."""
MOST_CHANGES = 1_000
"""More are no work in progress but a generated or vendored tree."""
MOST_BYTES = 16 << 20
"""Of git's answer."""

_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ESCAPE = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
_ESCAPED = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))

# Nothing that the repository's own configuration names is run: no fsmonitor, no external diff, no text conversion.
_GIT = ("git", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.quotepath=off")
_DIFF = (
    *(*_GIT, "diff", "--unified=0", "--inter-hunk-context=0", "--relative", "--no-color", "--no-renames"),
    *("--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--diff-filter=AM", "--src-prefix=a/"),
    *("--dst-prefix=b/", "HEAD", "--"),
)
_UNTRACKED = (*_GIT, "ls-files", "-z", "--others", "--exclude-standard")
_OF_ANOTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_EXTERNAL_DIFF")


@dataclass(frozen=True)
class ChangedLines:
    """Lines of a file on disk that are not committed."""

    path: str
    """Relative to the folder that was asked about, with ``/``. Bytes that are no UTF-8 are surrogates."""
    start_line: int
    """From 0."""
    end_line: int | None
    """The line behind the last one; the first one where lines were only removed; ``None`` where the file is new."""


def uncommitted(root: Path) -> list[ChangedLines]:
    """Return what is not committed below a folder, at most `MOST_CHANGES`; nothing without git, repository or commit.

    Starts two processes and reads every changed file: for a thread of the background. Knows the ignore rules of git
    and none of ours, so the paths have to pass the policy before anything is read from them.
    """
    found: list[ChangedLines] = []
    for changes in (_hunks(_ask(_DIFF, root)), _untracked(_ask(_UNTRACKED, root))):
        for change in changes:
            if len(found) == MOST_CHANGES:
                log.info("more than %d uncommitted changes; the others are left out", MOST_CHANGES)
                return found
            found.append(change)
    return found


def _ask(command: tuple[str, ...], root: Path) -> bytes:
    """Return what git answers, cut off at `MOST_BYTES` or after `TIMEOUT`; nothing where it cannot."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        log.debug("git cannot be asked (error %s)", error.errno)
        return b""
    with process:
        assert process.stdout is not None
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.daemon = True
        timer.start()
        try:
            answer = process.stdout.read(MOST_BYTES)
        finally:
            timer.cancel()
            process.kill()
    if len(answer) == MOST_BYTES:
        log.info("the answer of git was cut off at %d bytes", MOST_BYTES)
    return answer


def _hunks(patch: bytes) -> Iterator[ChangedLines]:
    """Read a patch without context lines; its text is passed over by the counts, as it may look like anything."""
    lines = iter(patch.split(b"\n"))
    path = ""
    for line in lines:
        if line.startswith(b"+++ "):
            path = _path(line[4:])
        elif (hunk := _HUNK.match(line)) is not None:
            removed, added = (1 if count is None else int(count) for count in hunk.group(1, 3))
            start = int(hunk[2]) - 1 if added else int(hunk[2])
            yield ChangedLines(path, start, start + added)
            # A note on a missing last line end is not counted; it stands in a file's last hunk, where it does no harm.
            deque(islice(lines, removed + added), maxlen=0)


def _untracked(names: bytes) -> Iterator[ChangedLines]:
    # What stands behind the last null was cut off.
    yield from (ChangedLines(os.fsdecode(name), 0, None) for name in names.split(b"\0")[:-1])


def _path(name: bytes) -> str:
    name = name.rstrip(b"\t")  # behind a name with spaces
    if name.startswith(b'"'):
        name = _ESCAPE.sub(_unescaped, name[1:-1])
    return os.fsdecode(name.removeprefix(b"b/"))


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = escape[1]
    return bytes([int(code, 8) if len(code) == 3 else _ESCAPED[code[0]]])
