"""The chunks of a workspace folder on disk: one LanceDB table, and the copy in memory that is searched.

A change of files is one commit of the table, so that a reader sees all of a change or nothing of it, and a process that
is killed leaves the table as it was before or after. Which of the two it is the manifest tells (see `recovery`).
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import lancedb
import pyarrow as pa

from intract_lsp.allocator import return_freed_memory, share_arenas
from intract_lsp.errors import IndexingError
from intract_lsp.index import compaction
from intract_lsp.index.chunk import SourceChunk
from intract_lsp.index.corpus import Corpus, Hit, StoredFile
from intract_lsp.index.rows import ROWS_READ_AT_ONCE, SCHEMA, FileChunks, part_of_batches, record_batch

LAYOUT = 1
"""Version of the table's columns and of how code becomes terms; a table of another one is not opened."""

FRAGMENTS_BEFORE_COMPACTION = 64
"""Each change leaves a small file and a version behind; from so many on, compacting pays."""

OLD_VERSIONS_KEPT = timedelta(minutes=2)
"""Another process that is just reading an old version still finds its files; reading takes a second or two."""

PreparedRows: TypeAlias = pa.RecordBatch
"""A file's rows on their way into the table."""

log = logging.getLogger(__name__)


class ChunkStore:
    """One table of chunks. One thread changes and refreshes it; any thread may search it meanwhile.

    Whatever touches the disk raises ``IndexingError`` where that fails; the search goes on with what it had.
    """

    def __init__(self, directory: Path, recipe: str, *, writable: bool) -> None:
        """Open the table of a recipe, creating it if need be and allowed.

        ``directory`` holds all tables of one workspace folder. ``recipe`` names all that decides what rows a file
        gives. Only one process may have it ``writable`` (see `IndexFolder`). A table that
        cannot be read is begun anew, if that is allowed; see `rebuilt`.
        """
        self.rebuilt = False
        """Whether the table could not be read and was begun anew: its files are to be indexed again."""
        self._name = table_name(recipe)
        self._directory = directory
        self._writable = writable
        self._corpus = Corpus()
        self._table: Any = None
        self._version = 0
        share_arenas()
        # The rows that are searched lie in our memory; LanceDB's own caches would hold them twice.
        session = lancedb.Session(index_cache_size_bytes=1 << 20, metadata_cache_size_bytes=4 << 20)
        with _told("opened"):
            self._database = lancedb.connect(directory, session=session)
        if writable:
            self._open_for_writing()
        else:
            self.refresh()

    @property
    def chunk_count(self) -> int:
        """Chunks that can be found."""
        return self._corpus.chunk_count

    @property
    def files(self) -> Mapping[str, StoredFile]:
        """What is held of each file, by path; for the thread that changes the store."""
        return self._corpus.files

    @property
    def path(self) -> Path:
        """The directory of the table."""
        return self._directory / f"{self._name}.lance"

    def search(
        self,
        weights: Mapping[str, float],
        limit: int,
        without: Collection[str] = (),
        overlay: Corpus | None = None,
    ) -> list[Hit]:
        """Return the best chunks by BM25; see `Corpus.search`. It reads no file."""
        return self._corpus.search(weights, limit, without, overlay)

    def chunks_of(self, path: str) -> list[SourceChunk]:
        """Return a file's chunks in their order; none where the file is not held."""
        return self._corpus.chunks_of(path)

    def replace_files(self, files: Mapping[str, FileChunks]) -> None:
        """Put chunks in the place of what the store holds of some files, by path, in one commit."""
        self.replace_prepared({path: self.prepare(path, file) for path, file in files.items()})

    def prepare(self, path: str, file: FileChunks) -> PreparedRows:
        """Return the rows of a file: most of the work of `replace_prepared`, and nothing is written yet."""
        return record_batch({path: file})

    def replace_prepared(self, files: Mapping[str, PreparedRows]) -> None:
        """Put rows in the place of what the store holds of some files, by path, in one commit."""
        if not files:
            return
        known = self._corpus.files.keys() & files.keys()
        batch = pa.Table.from_batches(files.values())
        with self._commit():
            if not batch.num_rows:
                if known:
                    self._table.delete(_among(known))
            elif not known:
                self._table.add(batch)
            else:
                merge = self._table.merge_insert(["path", "ordinal"]).when_matched_update_all()
                merge = merge.when_not_matched_insert_all().when_not_matched_by_source_delete(_among(known))
                merge.execute(batch)
        self._take_over(known, [rows for rows in files.values() if rows.num_rows])

    def remove(self, paths: Collection[str]) -> None:
        """Drop the rows of files, in one commit; paths that are not known do no harm."""
        known = self._corpus.files.keys() & set(paths)
        if known:
            with self._commit():
                self._table.delete(_among(known))
            self._take_over(known, [])

    def refresh(self) -> bool:
        """Take over what another process, or a commit that was reported as failed, has changed; return whether it has.

        Costs a fraction of a millisecond where nothing has, and reads only the files that have changed.
        """
        with _told("read"):
            if self._table is None:
                if not self.path.is_dir():
                    return False
                self._table = self._database.open_table(self._name)
            self._table.checkout_latest()
            version = self._table.version
            if version == self._version:
                return False
            self._reload()
            self._version = version
        return True

    @property
    def needs_compaction(self) -> bool:
        """Whether so many changes have piled up that `compact` pays."""
        with _told("read"):
            fragments: int = self._table.stats()["fragment_stats"]["num_fragments"]
        return fragments >= FRAGMENTS_BEFORE_COMPACTION

    def compact(self) -> None:
        """Write the table anew as one fragment and drop old versions; what is searched does not change meanwhile.

        It takes time and disk in proportion to the table, and cannot be stopped; call it when nobody waits.
        """
        with self._commit():
            compaction.compact(self._directory, self._name, OLD_VERSIONS_KEPT)
            self._table.checkout_latest()

    def size_on_disk(self) -> int:
        """Return the bytes of all files of the table, old versions included."""
        return sum(_size(file) for file in self.path.rglob("*"))

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as they lie on disk, ordered by path and place in the file: to compare two tables."""
        with _told("read"):
            found: list[dict[str, Any]] = self._table.search().to_arrow().to_pylist()
        return sorted(found, key=lambda row: (row["path"], row["ordinal"]))

    def close(self) -> None:
        """Let go of the table."""
        self._table = None

    def _open_for_writing(self) -> None:
        if self.path.exists():
            try:
                self.refresh()
                return
            except IndexingError as error:
                log.warning("an index table is begun anew: %s", error.__cause__)
                self.rebuilt = True
                self._corpus = Corpus()
                with _told("removed"):
                    shutil.rmtree(self.path)
        with _told("created"):
            self._table = self._database.create_table(self._name, schema=SCHEMA)
            self._version = self._table.version

    def _reload(self) -> None:
        """Compare the files of the table with those in memory, and read the rows of those that differ."""
        if not self._corpus.files:
            self._take_over((), self._table.search().to_batches(ROWS_READ_AT_ONCE))
            return_freed_memory()
            return
        stored: dict[str, StoredFile] = {}
        for batch in self._table.search().select(["path", "content_hash"]).to_batches():
            for path, content_hash in zip(batch["path"].to_pylist(), batch["content_hash"].to_pylist(), strict=True):
                before = stored.get(path)
                stored[path] = StoredFile(content_hash, 1 if before is None else before.chunks + 1)
        known = self._corpus.files
        gone = {path for path, file in known.items() if stored.get(path) != file}
        new = {path for path, file in stored.items() if known.get(path) != file}
        query = self._table.search()
        if len(new) < len(stored):
            query = query.where(_among(new)) if new else None
        self._take_over(gone, () if query is None else query.to_batches(ROWS_READ_AT_ONCE))

    def _take_over(self, gone: Collection[str], batches: Iterable[pa.RecordBatch]) -> None:
        part, files = part_of_batches(batches)
        self._corpus.replace(gone, part, files)

    @contextmanager
    def _commit(self) -> Iterator[None]:
        if not self._writable:
            raise IndexingError("Another server keeps this workspace's index up to date; this one only reads it.")
        with _told("written"):
            yield
            self._version = self._table.version


def table_name(recipe: str) -> str:
    """Return the name of the table of a recipe."""
    key = hashlib.sha256(f"{LAYOUT}\n{recipe}".encode()).hexdigest()
    return f"chunks-{key[:16]}"


def drop_tables(directory: Path, keep: Collection[Path]) -> None:
    """Remove the tables of recipes that are no longer wanted; only for the process that may write."""
    with _told("removed"):
        for table in directory.glob("chunks-*.lance"):
            if table not in keep:
                shutil.rmtree(table)


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except OSError:  # the process that writes has just dropped an old version
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _among(paths: Collection[str]) -> str:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in sorted(paths))
    return f"path IN ({quoted})"


@contextmanager
def _told(deed: str) -> Iterator[None]:
    """Turn a failure of LanceDB or of the disk into a sentence for the user.

    A broken file shows itself as any of OSError, RuntimeError, ValueError, or as a panic of the Rust code, whose class
    cannot be imported.
    """
    try:
        yield
    except IndexingError:
        raise
    except Exception as error:
        raise IndexingError(
            f"The index could not be {deed} ({_first_line(error)}): check that its disk has space left and that its "
            "directory is writable, or run `intract-lsp index` to build it anew."
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
