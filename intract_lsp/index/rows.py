"""Chunks as rows of an Arrow table and back: the columns of the store, in one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from intract_lsp.errors import IndexingError
from intract_lsp.index.bm25 import Postings, impacts
from intract_lsp.index.chunk import SourceChunk
from intract_lsp.index.columns import KINDS, ChunkColumns, pack
from intract_lsp.index.corpus import Part, StoredFile
from intract_lsp.index.terms import code_terms, term_id

ROWS_READ_AT_ONCE = 4096
"""Bounds the memory that reading a table takes beyond what is kept."""


@dataclass(frozen=True)
class FileChunks:
    """What takes the place of a file's rows."""

    content_hash: str
    """Of the file that the chunks were cut from."""
    chunks: Sequence[SourceChunk]
    """In the order of the file; empty takes the file out of the store."""


SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("ordinal", pa.int32()),  # the chunk's place in its file; a row's key together with the path
        ("content_hash", pa.string()),
        ("start_line", pa.int32()),
        ("end_line", pa.int32()),
        ("kind", pa.string()),
        ("language", pa.string()),
        ("symbol", pa.string()),
        ("text", pa.binary()),
        ("length", pa.int32()),  # terms, repetitions counted
        ("terms", pa.list_(pa.uint32())),  # the distinct ones
        ("counts", pa.list_(pa.uint8())),  # how often each occurs, 255 at most
    ]
)
"""The columns of the table."""


def record_batch(files: Mapping[str, FileChunks]) -> pa.RecordBatch:
    """Return the rows of files by path. Raises ``IndexingError`` for a path that no text can hold."""
    rows = [row for path, file in files.items() for row in _rows_of(path, file)]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _rows_of(path: str, file: FileChunks) -> Iterable[tuple[object, ...]]:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise IndexingError(f"The file {path!a} is not indexed: rename it so that its name is valid UTF-8.") from error
    in_path = code_terms(path)
    for ordinal, chunk in enumerate(file.chunks):
        # The path's words count once in each chunk: imports name files by them.
        counts = Counter(in_path)
        counts.update(code_terms(chunk.text))
        yield (
            *(path, ordinal, file.content_hash, chunk.start_line, chunk.end_line, chunk.kind.value, chunk.language),
            chunk.symbol.encode("utf-8", "replace").decode(),
            pack(chunk.text),
            sum(counts.values()),
            np.fromiter(map(term_id, counts), np.uint32, len(counts)),
            np.fromiter((min(count, 255) for count in counts.values()), np.uint8, len(counts)),
        )


def part_of_batches(batches: Iterable[pa.RecordBatch]) -> tuple[Part | None, dict[str, StoredFile]]:
    """Return the searchable part that rows make up, in any order but each file complete, and the files in it."""
    read, terms, levels, sizes = [], [], [], []
    keys: list[tuple[str, int]] = []
    # A file whose rows are not of one content is whole under no hash: the manifest will not know it.
    hashes: dict[str, set[str]] = {}
    for batch in batches:
        columns = _columns(batch)
        read.append(columns)
        keys += zip(columns.paths, batch["ordinal"].to_pylist(), strict=True)
        for path, content_hash in zip(columns.paths, batch["content_hash"].to_pylist(), strict=True):
            hashes.setdefault(path, set()).add(content_hash)
        size = np.diff(batch["terms"].offsets.to_numpy())
        terms.append(batch["terms"].flatten().to_numpy())
        levels.append(impacts(batch["counts"].flatten().to_numpy(), np.repeat(batch["length"].to_numpy(), size)))
        sizes.append(size)
    if not keys:
        return None, {}
    order = sorted(range(len(keys)), key=keys.__getitem__)
    number = np.empty(len(keys), np.int32)
    number[order] = np.arange(len(keys), dtype=np.int32)
    numbers = np.repeat(number, np.concatenate(sizes))
    postings = Postings.build(np.concatenate(terms), numbers, np.concatenate(levels), len(keys))
    together = ChunkColumns.gather([(columns, range(len(columns))) for columns in read])
    part = Part.build(ChunkColumns.gather([(together, order)]), postings)
    return part, {path: StoredFile(" ".join(sorted(hashes[path])), len(rows)) for path, rows in part.spans.items()}


def _columns(batch: pa.RecordBatch) -> ChunkColumns:
    kinds = {kind.value: number for number, kind in enumerate(KINDS)}
    texts = batch["text"]
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return ChunkColumns(
        batch["path"].to_pylist(),
        batch["start_line"].to_numpy(),
        batch["end_line"].to_numpy(),
        np.array([kinds[kind] for kind in batch["kind"].to_pylist()], np.uint8),
        batch["language"].to_pylist(),
        batch["symbol"].to_pylist(),
        data.to_pybytes()[bounds[0] : bounds[-1]] if data is not None else b"",
        bounds - bounds[0],
    )
