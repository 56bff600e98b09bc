"""Where the user was before this session: the lines around what is not committed yet."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from intract_lsp.index.git_changes import ChangedLines, uncommitted
from intract_lsp.index.recent import WINDOW_LINES, LiveKind, LiveSnippet
from intract_lsp.index.source import read_source

MOST = 12
MOST_OF_A_FILE = 3
"""Snippets."""


def unfinished(root: Path, files: Collection[str]) -> tuple[LiveSnippet, ...]:
    """Return snippets of what is not committed in a folder's ``files``, of the file that was written last first.

    Starts git and reads files: for a thread of the background.
    """
    changes: dict[str, list[ChangedLines]] = {}
    for change in uncommitted(root):
        if change.path in files:
            changes.setdefault(change.path, []).append(change)
    written = {path: when for path in changes if (when := _written(root / path)) is not None}
    newest = sorted(written, key=lambda path: (-written[path], path))
    now = time.time()
    found = (one for path in newest for one in _snippets(root, path, changes[path], max(0.0, now - written[path])))
    return tuple(islice(found, MOST))


def _snippets(root: Path, path: str, changes: list[ChangedLines], age: float) -> Iterator[LiveSnippet]:
    text = read_source(root, path)
    if not isinstance(text, str):
        return
    lines = text.splitlines()
    for change in changes[:MOST_OF_A_FILE]:
        end = len(lines) if change.end_line is None else change.end_line
        room = max(0, WINDOW_LINES - (end - change.start_line)) // 2
        start = max(0, change.start_line - room)
        window = "\n".join(lines[start : start + WINDOW_LINES])
        yield LiveSnippet((root / path).as_uri(), start, window, LiveKind.EDITED, age)


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
