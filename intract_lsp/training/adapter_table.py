"""The record of adapters in the state database, and of which of them serves in which folder.

In each folder the adapters of a base model that serve or have served are a stack: a promotion puts one on top, a
rollback takes it off. What was taken off stays recorded, with the time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from intract_lsp.errors import AdapterError
from intract_lsp.inference.engine import AdapterKind
from intract_lsp.state import StateDatabase
from intract_lsp.training.hold_back import Block
from intract_lsp.training.provenance import AdapterMeta

_SERVING = (
    "(SELECT adapter FROM active_adapters WHERE id IN "
    "(SELECT MAX(id) FROM active_adapters WHERE ended IS NULL GROUP BY workspace, base))"
)
"""The tops of all stacks."""


class AdapterStatus(str, Enum):
    """What has become of an adapter."""

    CANDIDATE = "candidate"
    """Nobody has decided yet."""
    SHADOW = "shadow"
    """Too little was measured to promote it by itself."""
    ACTIVE = "active"
    """It serves in a folder."""
    RETIRED = "retired"
    """It has served."""
    REJECTED = "rejected"
    """It is no gain."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter as recorded."""

    id: str
    workspace: str
    """Absolute path of the folder that it was trained on."""
    base: str
    """``models.store.weights_fingerprint`` of its base model."""
    base_name: str
    kind: AdapterKind
    status: AdapterStatus
    run: str
    created: float
    """Seconds since 1970, by the clock of that moment: for people."""
    directory: Path


class AdapterTable:
    """The tables of adapters; may be used from any thread. Raises ``AdapterError`` where the database fails."""

    def __init__(self, state: StateDatabase, root: Path, clock: Callable[[], float] = time.time) -> None:
        """``state`` is this object's alone; the adapters' directories are below ``root``."""
        self._state = state
        self._root = root
        self._clock = clock
        self._mutex = threading.Lock()

    def close(self) -> None:
        """Close the database."""
        with self._mutex:
            self._state.close()

    def all(self, workspace: str | None = None) -> tuple[Adapter, ...]:
        """Return the adapters, those trained on one folder if given; the newest first."""
        return self._adapters("WHERE ? IN ('', workspace) ORDER BY rowid DESC", workspace or "")

    def get(self, id_: str) -> Adapter:
        """Return an adapter. Raises ``AdapterError`` where there is none."""
        found = self._adapters("WHERE id = ?", id_)
        if not found:
            raise AdapterError(f"There is no adapter {id_}: `intract-lsp adapters list` shows those that there are.")
        return found[0]

    def stack(self, workspace: str, base: str) -> tuple[Adapter, ...]:
        """Return the adapter that serves in a folder, and below it those that can be rolled back to."""
        places = self._rows(
            "SELECT adapter FROM active_adapters WHERE workspace = ? AND base = ? AND ended IS NULL ORDER BY id DESC",
            (workspace, base),
        )
        return tuple(self.get(str(id_)) for (id_,) in places)

    def place(self, workspace: str, base: str) -> int | None:
        """Return the number of the promotion by which an adapter serves in a folder; ``None`` where none does."""
        sql = "SELECT MAX(id) FROM active_adapters WHERE workspace = ? AND base = ? AND ended IS NULL"
        ((place,),) = self._rows(sql, (workspace, base))
        return None if place is None else int(place)

    def promotion(self, id_: str) -> int | None:
        """Return the number of the newest promotion of an adapter, which may be over; ``None`` where there was none."""
        ((place,),) = self._rows("SELECT MAX(id) FROM active_adapters WHERE adapter = ?", (id_,))
        return None if place is None else int(place)

    def blocks(self, place: int) -> tuple[Block, ...]:
        """Return the blocks of a promotion's trial, in their order."""
        rows = self._rows("SELECT held, share, seen, kept FROM trial_blocks WHERE place = ? ORDER BY id", (place,))
        return tuple(Block(bool(held), float(share), int(seen), int(kept)) for held, share, seen, kept in rows)

    def add_block(self, place: int, block: Block) -> None:
        """Record a block of a promotion's trial; of one that is gone, nothing."""
        values = (block.held, block.share, block.seen, block.kept, place)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO trial_blocks (place, held, share, seen, kept) "
                "SELECT id, ?, ?, ?, ? FROM active_adapters WHERE id = ?",
                values,
            )

    def folders(self, base: str) -> tuple[str, ...]:
        """Return the folders in which an adapter of a base serves."""
        sql = "SELECT DISTINCT workspace FROM active_adapters WHERE base = ? AND ended IS NULL"
        return tuple(str(workspace) for (workspace,) in self._rows(sql, (base,)))

    def saw(self, path: str) -> tuple[Adapter, ...]:
        """Return the adapters that were trained on a file, or on any below a folder; the newest first."""
        # "0" follows "/" in the order of bytes in which SQLite compares.
        where = "WHERE id IN (SELECT adapter FROM adapter_files WHERE path = ? OR (path > ? AND path < ?))"
        return self._adapters(f"{where} ORDER BY rowid DESC", path, path + "/", path + "0")

    def add(self, meta: AdapterMeta, status: AdapterStatus) -> None:
        """Record an adapter with the files that it was trained on."""
        made = meta.provenance
        values = (meta.id, made.workspace, made.base, made.base_name, meta.kind.value, status.value, made.run)
        with self._transaction() as connection:
            connection.execute("INSERT INTO adapters VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, meta.created))
            connection.executemany(
                "INSERT OR IGNORE INTO adapter_files VALUES (?, ?, ?)",
                ((meta.id, path, blob) for path, blob in made.files),
            )

    def push(self, adapter: Adapter, workspace: str) -> None:
        """Put an adapter on top of a folder's stack."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO active_adapters (workspace, base, adapter, since) VALUES (?, ?, ?, ?)",
                (workspace, adapter.base, adapter.id, self._clock()),
            )
            _restate(connection)

    def pop(self, workspace: str, base: str, count: int) -> None:
        """Take so many adapters off a folder's stack."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE active_adapters SET ended = ? WHERE id IN (SELECT id FROM active_adapters "
                "WHERE workspace = ? AND base = ? AND ended IS NULL ORDER BY id DESC LIMIT ?)",
                (self._clock(), workspace, base, count),
            )
            _restate(connection)

    def mark(self, id_: str, status: AdapterStatus) -> None:
        """Record a status, unless the adapter serves."""
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE adapters SET status = ? WHERE id = ? AND id NOT IN {_SERVING}", (status.value, id_)
            )

    def delete(self, ids: Iterable[str]) -> None:
        """Forget adapters, but for those that serve."""
        with self._transaction() as connection:
            sql = f"DELETE FROM adapters WHERE id = ? AND id NOT IN {_SERVING}"
            connection.executemany(sql, ((id_,) for id_ in ids))

    def _adapters(self, where: str, *values: str) -> tuple[Adapter, ...]:
        sql = f"SELECT id, workspace, base, base_name, kind, status, run, created FROM adapters {where}"
        return tuple(
            Adapter(
                *(id_, workspace, base, base_name),
                *(AdapterKind(kind), AdapterStatus(status), run, float(created)),
                self._root / id_,
            )
            for id_, workspace, base, base_name, kind, status, run, created in self._rows(sql, values)
        )

    def _rows(self, sql: str, values: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._mutex:
                return self._state.database.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise AdapterError(f"The record of adapters cannot be read ({error}): try again.") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection: sqlite3.Connection = self._state.database.conn
        with self._mutex:
            try:
                # At once a writer: others may write to the database between what is read and what is written here.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            except BaseException as error:
                connection.rollback()
                if isinstance(error, sqlite3.Error):
                    raise AdapterError(
                        f"The record of adapters cannot be written ({error}): free space on the disk and make sure "
                        "that the directory of the state database is writable."
                    ) from error
                raise


def _restate(connection: sqlite3.Connection) -> None:
    """Bring the adapters' statuses in line with which of them serve."""
    connection.execute(f"UPDATE adapters SET status = 'retired' WHERE status = 'active' AND id NOT IN {_SERVING}")
    connection.execute(f"UPDATE adapters SET status = 'active' WHERE id IN {_SERVING}")
