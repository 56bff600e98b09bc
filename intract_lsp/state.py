"""The state database: what must outlive the process and belong together, in one SQLite file.

Its schema is a list of numbered migrations that is only ever added to; ``PRAGMA user_version`` counts those applied.
Several processes may have it open: readers never wait (write-ahead log), writers wait for each other.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from sqlite_utils import Database

from intract_lsp.errors import IntractError

BUSY_SECONDS = 10.0
"""How long a writer waits for another process before it gives up."""

MIGRATIONS = (
    # 1: the manifest of the index
    """
    CREATE TABLE generations (
        id INTEGER PRIMARY KEY, root TEXT NOT NULL, recipe TEXT NOT NULL, complete INTEGER NOT NULL DEFAULT 0,
        UNIQUE (root, recipe)
    );
    CREATE TABLE files (
        id INTEGER PRIMARY KEY, generation INTEGER NOT NULL REFERENCES generations ON DELETE CASCADE,
        path TEXT NOT NULL, content_hash TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        chunks INTEGER NOT NULL, indexed_at REAL NOT NULL,
        UNIQUE (generation, path)
    );
    CREATE TABLE symbols (
        file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, position INTEGER NOT NULL,
        name TEXT NOT NULL, qualified TEXT NOT NULL, kind TEXT NOT NULL,
        start_line INTEGER NOT NULL, end_line INTEGER NOT NULL, signature TEXT NOT NULL,
        PRIMARY KEY (file, position)
    ) WITHOUT ROWID;
    """,
    # 2: fine-tuning runs and the adapters that came of them
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
        created REAL NOT NULL, ended REAL, pid INTEGER NOT NULL, pid_started REAL NOT NULL,
        spec TEXT NOT NULL, result TEXT NOT NULL
    );
    CREATE TABLE adapters (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, base TEXT NOT NULL, base_name TEXT NOT NULL,
        kind TEXT NOT NULL, status TEXT NOT NULL, run TEXT NOT NULL, created REAL NOT NULL
    );
    CREATE TABLE active_adapters (
        id INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT NOT NULL, base TEXT NOT NULL,
        adapter TEXT NOT NULL REFERENCES adapters ON DELETE CASCADE, since REAL NOT NULL, ended REAL
    );
    CREATE INDEX active_adapters_place ON active_adapters (workspace, base);
    CREATE TABLE adapter_files (
        adapter TEXT NOT NULL REFERENCES adapters ON DELETE CASCADE, path TEXT NOT NULL, blob TEXT NOT NULL,
        PRIMARY KEY (adapter, path, blob)
    ) WITHOUT ROWID;
    """,
    # 3: what adapters in service, and what stood before them, were worth to the user
    """
    CREATE TABLE trial_blocks (
        id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL REFERENCES active_adapters ON DELETE CASCADE,
        held INTEGER NOT NULL, share REAL NOT NULL, seen INTEGER NOT NULL, kept INTEGER NOT NULL
    );
    CREATE INDEX trial_blocks_place ON trial_blocks (place);
    """,
)
"""SQL scripts in the order in which they are applied. One that was released is never changed again."""


@dataclass(frozen=True, eq=False)
class StateDatabase:
    """An open state database. One thread at a time may use it."""

    database: Database
    moved_aside: Path | None
    """Where a file that was no usable database has gone, so that the user can be told once."""

    def close(self) -> None:
        """Close the file."""
        self.database.close()


def open_state(path: Path) -> StateDatabase:
    """Open the state database, creating it or bringing its schema up to date.

    A file that is no database is moved aside and a new one begun. Raises ``IntractError`` where a later version of
    intract-lsp has written the file, where it cannot be written, or where another process keeps it locked.
    """
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=BUSY_SECONDS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that start together must neither migrate twice nor move each other's new file aside.
        with lock:
            try:
                return StateDatabase(_open(path), None)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                broken = _move_aside(path)
                return StateDatabase(_open(path), broken)
    except (OSError, Timeout, sqlite3.Error) as error:
        raise IntractError(
            f"The state database {path} cannot be used ({error}): make its directory writable, end other programs "
            "that use it, or set INTRACT_HOME to another directory."
        ) from error


def _open(path: Path) -> Database:
    # The server opens the database in one thread and works on it in another.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        database = Database(connection, execute_plugins=False)
        database.enable_wal()
        # After a power cut the last transactions may be missing, but none is half there.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return database


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    with closing(connection.execute("PRAGMA user_version")) as cursor:
        version: int = cursor.fetchone()[0]
    if version > len(MIGRATIONS):
        raise IntractError(
            f"The state database {path} was written by a later version of intract-lsp: update intract-lsp, or set "
            "INTRACT_HOME to another directory."
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        # One transaction a migration, its number included; a script that fails or is killed leaves nothing behind.
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _move_aside(path: Path) -> Path:
    """Rename the file and what SQLite keeps beside it; return its new name."""
    number = 1
    while (broken := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(broken.with_name(broken.name + suffix))
    path.replace(broken)
    return broken
