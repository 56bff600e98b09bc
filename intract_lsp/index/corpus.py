"""The chunks of a workspace folder in memory, ready to be searched while they are replaced file by file."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intract_lsp.index.bm25 import Flags, Postings, rarity
from intract_lsp.index.chunk import SourceChunk
from intract_lsp.index.columns import ChunkColumns
from intract_lsp.index.terms import term_id

_GROWTH = 3
"""A part is merged with the one before it once it is more than a third as large."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found."""

    chunk: SourceChunk
    score: float


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the rows of a file are the rows of."""

    content_hash: str
    chunks: int


@dataclass(frozen=True, eq=False)
class Part:
    """Files that came together, never changed; the rows of one file lie side by side."""

    postings: Postings
    chunks: ChunkColumns
    spans: dict[str, range]
    """The rows of each file that is still valid, by path."""
    alive: Flags
    """Which rows belong to them."""

    @classmethod
    def build(cls, chunks: ChunkColumns, postings: Postings) -> Part:
        """Return the part of rows that are sorted by file."""
        spans, start = {}, 0
        for path, rows in itertools.groupby(chunks.paths):
            end = start + sum(1 for _ in rows)
            spans[path] = range(start, end)
            start = end
        return cls(postings, chunks, spans, np.ones(len(chunks), np.bool_))

    @classmethod
    def merge(cls, parts: Sequence[Part]) -> Part:
        """Return one part of what is alive in several."""
        postings = Postings.merge([(part.postings, part.alive) for part in parts])
        chunks = ChunkColumns.gather([(part.chunks, np.flatnonzero(part.alive).tolist()) for part in parts])
        return cls.build(chunks, postings)

    def without(self, paths: Collection[str]) -> Part:
        """Return the part without some files; the arrays that do not change are shared."""
        gone = self.spans.keys() & paths
        if not gone:
            return self
        alive = self.alive.copy()
        for path in gone:
            alive[self.spans[path].start : self.spans[path].stop] = False
        spans = {path: rows for path, rows in self.spans.items() if path not in gone}
        return Part(self.postings, self.chunks, spans, alive)

    @property
    def size(self) -> int:
        """Rows that are alive."""
        return int(np.count_nonzero(self.alive))


class Corpus:
    """All chunks of a folder. One thread changes it; any thread may search it meanwhile, and sees one state."""

    def __init__(self) -> None:
        # Replaced as a whole and never changed in place: a search works on the tuple that it found.
        self._parts: tuple[Part, ...] = ()
        self._files: dict[str, StoredFile] = {}

    @property
    def files(self) -> Mapping[str, StoredFile]:
        """What is held, by path; for the thread that changes it."""
        return self._files

    @property
    def chunk_count(self) -> int:
        """Chunks that can be found."""
        return sum(part.size for part in self._parts)

    def replace(self, gone: Collection[str], added: Part | None, files: Mapping[str, StoredFile]) -> None:
        """Take away the chunks of some paths and add a part, whose files are ``files``, in one step."""
        parts = [part.without(gone) for part in self._parts]
        if added is not None:
            parts.append(added)
        self._parts = _tidied(parts)
        for path in gone:
            self._files.pop(path, None)
        self._files.update(files)

    def chunks_of(self, path: str) -> list[SourceChunk]:
        """Return a file's chunks in their order."""
        for part in self._parts:
            rows = part.spans.get(path)
            if rows is not None:
                return [part.chunks[row] for row in rows]
        return []

    def search(
        self,
        weights: Mapping[str, float],
        limit: int,
        without: Collection[str] = (),
        overlay: Corpus | None = None,
    ) -> list[Hit]:
        """Return the best chunks by BM25, the best first; equal ones by path and line.

        ``weights`` are the terms of the query (see `code_terms`) and how much each counts; a ``Counter`` will do.
        Files in ``without`` are left out, and those that ``overlay`` holds are searched there instead. Nothing is found
        where no term is known.
        """
        sources = [(part, without) for part in self._parts]
        if overlay is not None:
            sources = [(part, {*without, *overlay.files}) for part, _ in sources]
            sources += [(part, without) for part in overlay._parts]
        parts = [part for part, _ in sources]
        if not weights or limit < 1 or not parts:
            return []
        wanted = np.fromiter((term_id(term) for term in weights), np.uint32, len(weights))
        frequencies = np.sum([part.postings.frequencies(wanted) for part in parts], axis=0)
        total = sum(part.size for part in parts)
        factors = np.fromiter(weights.values(), np.float32, len(weights)) * rarity(frequencies, total)
        found: list[tuple[float, str, int, Part]] = []
        for part, hidden in sources:
            scores = part.postings.scores(wanted, factors) * part.alive
            for path in hidden:
                if path in part.spans:
                    scores[part.spans[path].start : part.spans[path].stop] = 0
            # Most chunks score nothing, and picking the best among that many equal ones is slow.
            rows = np.flatnonzero(scores > 0)
            if len(rows) > limit:
                rows = rows[scores[rows] >= np.partition(scores[rows], -limit)[-limit]]
            found += ((-float(scores[row]), part.chunks.paths[row], row, part) for row in rows.tolist())
        # A path is alive in one part only, so that the parts themselves are never compared.
        return [Hit(part.chunks[row], -score) for score, _, row, part in sorted(found)[:limit]]


def _tidied(parts: list[Part]) -> tuple[Part, ...]:
    """Merge small parts and shed dead rows, so that the number of parts grows with the logarithm of the rows."""
    kept = [Part.merge([part]) if part.size < 0.75 * len(part.chunks) else part for part in parts if part.size]
    while len(kept) > 1 and len(kept[-2].chunks) < _GROWTH * len(kept[-1].chunks):
        last = kept.pop()
        kept[-1] = Part.merge([kept[-1], last])
    return tuple(kept)
