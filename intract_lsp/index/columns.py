"""Many chunks in little memory: columns in the place of objects, texts compressed and end to end."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intract_lsp.errors import IndexingError
from intract_lsp.index.chunk import ChunkKind, SourceChunk

KINDS = tuple(ChunkKind)


def pack(text: str) -> bytes:
    """Compress a text as it is kept: zlib over UTF-8."""
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpack(packed: bytes) -> str:
    """Return the text that `pack` was given; raises ``IndexingError`` where the bytes were damaged on disk."""
    try:
        return zlib.decompress(packed).decode("utf-8", "surrogatepass")
    except zlib.error as error:
        raise IndexingError("The index is damaged: run `intract-lsp index` to build it anew.") from error


@dataclass(frozen=True, eq=False)
class ChunkColumns:
    """Chunks by row; a chunk is made when it is asked for. Objects instead would take twice the memory."""

    paths: list[str]
    """Each row's path; equal ones are one object."""
    start_lines: NDArray[np.int32]
    end_lines: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    """Indexes into `KINDS`."""
    languages: list[str]
    symbols: list[str]
    """Equal languages and symbols are one object, too."""
    texts: bytes
    """All packed texts."""
    bounds: NDArray[np.int64]
    """Where each text starts, and where the last one ends; shape (rows + 1,)."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> SourceChunk:
        return SourceChunk(
            self.paths[row],
            int(self.start_lines[row]),
            int(self.end_lines[row]),
            KINDS[self.kinds[row]],
            self.languages[row],
            self.symbols[row],
            unpack(self.texts[self.bounds[row] : self.bounds[row + 1]]),
        )

    @classmethod
    def gather(cls, parts: Sequence[tuple[ChunkColumns, Sequence[int]]]) -> ChunkColumns:
        """Return chosen rows of several in one, in the order given."""
        texts, sizes = [], []
        for columns, rows in parts:
            data, bounds = memoryview(columns.texts), columns.bounds.tolist()
            texts += [data[bounds[row] : bounds[row + 1]] for row in rows]
            sizes.append(np.diff(columns.bounds)[rows])
        return cls(
            _same(columns.paths[row] for columns, rows in parts for row in rows),
            np.concatenate([columns.start_lines[rows] for columns, rows in parts]),
            np.concatenate([columns.end_lines[rows] for columns, rows in parts]),
            np.concatenate([columns.kinds[rows] for columns, rows in parts]),
            _same(columns.languages[row] for columns, rows in parts for row in rows),
            _same(columns.symbols[row] for columns, rows in parts for row in rows),
            b"".join(texts),
            np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64),
        )


def _same(texts: Iterable[str]) -> list[str]:
    """Return the texts with one object in the place of equal ones."""
    known: dict[str, str] = {}
    return [known.setdefault(text, text) for text in texts]
