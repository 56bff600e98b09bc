"""Searching all folders of a workspace for words, as a person does; completions ask in their own way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from intract_lsp.index.chunk import SourceChunk
from intract_lsp.index.status import IndexedFolder
from intract_lsp.index.terms import code_terms


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk that was found, and in which workspace folder."""

    root: Path
    chunk: SourceChunk
    score: float
    """BM25; higher is better."""

    def values(self) -> dict[str, Any]:
        """Return plain JSON values; lines count from 1, as people's do, and the last one is included."""
        return {
            "root": str(self.root),
            "path": self.chunk.path,
            "start_line": self.chunk.start_line + 1,
            "end_line": self.chunk.end_line,
            "symbol": self.chunk.symbol,
            "score": round(self.score, 3),
            "text": self.chunk.text,
        }


def search(folders: Iterable[IndexedFolder], query: str, limit: int) -> list[Found]:
    """Return the best chunks of all folders, the best first; none where no word of the query is known.

    It reads no file; any thread may call it.
    """
    weights = Counter(code_terms(query))
    found = [
        Found(folder.root, hit.chunk, hit.score) for folder in folders for hit in folder.store.search(weights, limit)
    ]
    found.sort(key=lambda one: (-one.score, one.root, one.chunk.path, one.chunk.start_line))
    # A folder inside another one has its chunks in both.
    places = {(one.root / one.chunk.path, one.chunk.start_line): one for one in reversed(found)}
    return list(reversed(places.values()))[:limit]


def folder_of(uri: str, folders: Iterable[IndexedFolder]) -> IndexedFolder | None:
    """Return the innermost folder that a document's address lies in."""
    path = PurePosixPath(unquote(urlsplit(uri).path))
    # An address has a slash before a drive's letter.
    holding = [folder for folder in folders if path.is_relative_to(PurePosixPath("/", folder.root.as_posix()))]
    return max(holding, key=lambda folder: len(folder.root.parts), default=None)
