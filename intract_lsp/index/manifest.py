"""What the index holds of each file: the truth that decides which files are read again and which rows are whole.

A *recipe* names all that decides what rows a file gives (versions of chunker, table and embedder). Each workspace
folder has one *generation* of rows a recipe. A new recipe is built beside the old one, which answers until then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass

from sqlite_utils import Database

from intract_lsp.errors import IndexingError
from intract_lsp.state import StateDatabase

_VARIABLES = 500
"""Parameters of one statement; older SQLite libraries take no more than 999."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of a file as it was indexed."""

    path: str
    """Relative to the workspace folder, with ``/``."""
    content_hash: str
    """Of the file's text as it was read; empty where its content is of no use."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When the file was last written, in nanoseconds."""
    chunks: int
    """Rows in the store; none where nothing of the file is kept."""
    indexed_at: float
    """Seconds since 1970."""

    def is_unchanged(self, size: int, mtime_ns: int) -> bool:
        """Return whether a file of this size and time need not be read again."""
        return (size, mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """A definition in a file, so that the symbol table is there at a warm start without reading files.

    The fields are the columns of the table, in its order.
    """

    name: str
    qualified: str
    """With the names of what it stands in, such as ``Parser.parse``."""
    kind: str
    start_line: int
    """From 0."""
    end_line: int
    """The line behind the last one."""
    signature: str


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file as it goes into the manifest."""

    record: FileRecord
    symbols: tuple[SymbolRow, ...] = ()


class Manifest:
    """The manifest of one generation: a workspace folder's files under one recipe. One thread at a time.

    Whatever writes raises ``IndexingError`` where the database cannot be written; nothing of the change is kept then.
    """

    def __init__(self, state: StateDatabase, root: str, recipe: str) -> None:
        self._database: Database = state.database
        self._root = root
        with self._transaction():
            self._execute("INSERT OR IGNORE INTO generations (root, recipe) VALUES (?, ?)", (root, recipe))
            found = self._execute("SELECT id FROM generations WHERE root = ? AND recipe = ?", (root, recipe))
        self._generation: int = found[0][0]

    @property
    def complete(self) -> bool:
        """Whether the folder has been indexed as a whole since the recipe changed."""
        return bool(self._execute("SELECT complete FROM generations WHERE id = ?", (self._generation,))[0][0])

    def mark_complete(self) -> None:
        """Make this generation the folder's active one and forget all others, in one transaction."""
        with self._transaction():
            self._execute("UPDATE generations SET complete = 1 WHERE id = ?", (self._generation,))
            self._execute("DELETE FROM generations WHERE root = ? AND id <> ?", (self._root, self._generation))

    def files(self) -> dict[str, FileRecord]:
        """Return the records of all files by path."""
        sql = "SELECT path, content_hash, size, mtime_ns, chunks, indexed_at FROM files WHERE generation = ?"
        return {row[0]: FileRecord(*row) for row in self._database.execute(sql, (self._generation,))}

    def records(self, paths: Collection[str]) -> dict[str, FileRecord]:
        """Return the records of those of some files that are known, by path."""
        found: dict[str, FileRecord] = {}
        for batch in _batches(paths):
            sql = (
                "SELECT path, content_hash, size, mtime_ns, chunks, indexed_at FROM files "
                f"WHERE generation = ? AND path IN ({_marks(batch)})"
            )
            rows = self._database.execute(sql, (self._generation, *batch))
            found |= {row[0]: FileRecord(*row) for row in rows}
        return found

    def paths_below(self, paths: Collection[str]) -> set[str]:
        """Return the files that are known by one of some paths, or that lie below a directory of such a path."""
        # "0" follows "/" in the order of bytes in which SQLite compares.
        sql = "SELECT path FROM files WHERE generation = ? AND (path = ? OR (path > ? AND path < ?))"
        found: set[str] = set()
        for path in paths:
            rows = self._database.execute(sql, (self._generation, path, path + "/", path + "0"))
            found.update(row[0] for row in rows)
        return found

    def put(self, files: Iterable[IndexedFile]) -> None:
        """Record files with their symbols in place of what was known of them, in one transaction."""
        with self._transaction():
            for file in files:
                record = file.record
                self._execute("DELETE FROM files WHERE generation = ? AND path = ?", (self._generation, record.path))
                self._execute(
                    "INSERT INTO files (generation, path, content_hash, size, mtime_ns, chunks, indexed_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        self._generation,
                        *(record.path, record.content_hash, record.size, record.mtime_ns),
                        *(record.chunks, record.indexed_at),
                    ),
                )
                number = self._execute("SELECT last_insert_rowid()")[0][0]
                self._database.conn.executemany(
                    "INSERT INTO symbols VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    ((number, position, *astuple(row)) for position, row in enumerate(file.symbols)),
                )

    def touch(self, path: str, size: int, mtime_ns: int) -> None:
        """Record that a file was written anew with the content it had."""
        sql = "UPDATE files SET size = ?, mtime_ns = ? WHERE generation = ? AND path = ?"
        with self._transaction():
            self._execute(sql, (size, mtime_ns, self._generation, path))

    def forget(self, paths: Collection[str]) -> None:
        """Drop files and their symbols, in one transaction; paths that are not known do no harm."""
        with self._transaction():
            for batch in _batches(paths):
                sql = f"DELETE FROM files WHERE generation = ? AND path IN ({_marks(batch)})"
                self._execute(sql, (self._generation, *batch))

    def symbols(self) -> Iterator[tuple[str, SymbolRow]]:
        """Yield each definition with its file's path: by path, and in a file in the order in which they were put."""
        sql = (
            "SELECT path, name, qualified, kind, start_line, end_line, signature FROM symbols "
            "JOIN files ON files.id = symbols.file WHERE generation = ? ORDER BY path, position"
        )
        for path, *values in self._database.execute(sql, (self._generation,)):
            yield path, SymbolRow(*values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._database.atomic():
                yield
        except sqlite3.Error as error:
            raise IndexingError(
                f"The manifest of the index cannot be written ({error}): free space on the disk and make sure that "
                "the directory of the state database is writable."
            ) from error

    def _execute(self, sql: str, parameters: tuple[str | int | float, ...] = ()) -> list[tuple[int, ...]]:
        return self._database.execute(sql, parameters).fetchall()


def active_recipe(state: StateDatabase, root: str) -> str | None:
    """Return the recipe of the folder's complete generation: the one to search while another is built."""
    found = state.database.execute("SELECT recipe FROM generations WHERE root = ? AND complete = 1", (root,)).fetchone()
    return None if found is None else str(found[0])


def _batches(paths: Collection[str]) -> Iterator[list[str]]:
    waiting = sorted(paths)
    for start in range(0, len(waiting), _VARIABLES):
        yield waiting[start : start + _VARIABLES]


def _marks(batch: list[str]) -> str:
    return ", ".join("?" * len(batch))
