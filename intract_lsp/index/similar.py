"""The part of each open document that uses the same names as the lines at the cursor.

Jaccard similarity of the sets of identifiers in a sliding window, as GitHub Copilot does it for open tabs. Which
windows a name is in does not depend on the query, so a document is worked through once a version; a query then adds up,
for each of its names, the runs of windows that hold it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from intract_lsp.index.terms import COMMON_WORDS

WINDOW_LINES = 40
MOST_DOCUMENTS = 20
MOST_LINES = 10_000
"""Lines of a document that are looked at; from its start."""
LONGEST_LINE = 1_000
"""Characters. A longer line is data or minified and counts as empty."""

_IDENTIFIER = re.compile(r"[^\W\d]\w+")


@dataclass(frozen=True)
class SimilarWindow:
    """Lines of an open document that resemble the query's."""

    path: str
    start_line: int
    """From 0."""
    end_line: int
    """The line behind the last one."""
    score: float
    """Names in both over names in either, in (0, 1]."""


class OpenDocuments:
    """The names in the open documents; the `MOST_DOCUMENTS` told of last. For one thread at a time."""

    def __init__(self) -> None:
        self._documents: OrderedDict[str, tuple[int, _Windows]] = OrderedDict()

    def is_current(self, path: str, version: int) -> bool:
        """Return whether this version of a document is known, so that its lines need not be copied."""
        known = self._documents.get(path)
        return known is not None and known[0] == version

    def put(self, path: str, version: int, lines: Sequence[str]) -> None:
        """Take a version of a document: some 4 ms per 1,000 lines, nothing for a version that is known."""
        if not self.is_current(path, version):
            self._documents[path] = (version, _Windows(lines[:MOST_LINES]))
        self._documents.move_to_end(path)
        while len(self._documents) > MOST_DOCUMENTS:
            self._documents.popitem(last=False)

    def drop(self, path: str) -> None:
        """Forget a document; one that is not known needs no forgetting."""
        self._documents.pop(path, None)

    def similar(self, query_lines: Iterable[str], excluding_path: str, most: int) -> list[SimilarWindow]:
        """Return the best window of each of the ``most`` most similar documents, the best first."""
        query = set().union(*map(_names, query_lines))
        found = []
        for path, (_, windows) in self._documents.items():
            if path != excluding_path:
                start, score = windows.best(query)
                if score > 0:
                    found.append(SimilarWindow(path, start, min(start + WINDOW_LINES, windows.lines), score))
        found.sort(key=lambda window: (-window.score, window.path))
        return found[:most]


class _Windows:
    """For each name in a document the windows that hold it, a window being known by its first line."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = len(lines)
        self._count = max(1, len(lines) - WINDOW_LINES + 1)
        self._runs: dict[str, list[int]] = {}
        """The first window of a run and the one behind its last, alternating and ascending."""
        last_window = self._count - 1
        for number, line in enumerate(lines):
            first, behind = max(0, number - WINDOW_LINES + 1), min(number, last_window) + 1
            for name in _names(line):
                runs = self._runs.get(name)
                if runs is None:
                    self._runs[name] = [first, behind]
                elif runs[-1] >= first:
                    runs[-1] = behind
                else:
                    runs += (first, behind)
        self._sizes = self._held(self._runs.values())

    def best(self, query: set[str]) -> tuple[int, float]:
        """Return the first line and the score of the window that is most like the query."""
        shared = [self._runs[name] for name in query if name in self._runs]
        if not shared:
            return 0, 0.0
        both = self._held(shared)
        scores = both / (len(query) + self._sizes - both)
        best = int(scores.argmax())
        return best, float(scores[best])

    def _held(self, runs: Iterable[list[int]]) -> NDArray[np.int64]:
        """Return how many of the names with these runs each window holds."""
        edges = np.fromiter(chain.from_iterable(runs), dtype=np.int64)
        size = self._count + 1
        steps = np.bincount(edges[::2], minlength=size) - np.bincount(edges[1::2], minlength=size)
        return np.cumsum(steps)[: self._count]


def _names(line: str) -> set[str]:
    return set() if len(line) > LONGEST_LINE else set(_IDENTIFIER.findall(line)) - COMMON_WORDS
