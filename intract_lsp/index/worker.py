"""The thread that keeps the index of all workspace folders: others leave messages, and search what it holds.

Nothing that is slow to import is imported before there is a folder, and then on the thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from traceback import format_tb
from typing import TYPE_CHECKING, TypeVar

from intract_lsp.allocator import return_freed_memory
from intract_lsp.errors import IndexingError
from intract_lsp.index.folder import folder_key
from intract_lsp.index.pending import Batch
from intract_lsp.index.status import IndexedFolder, IndexState, IndexStatus

if TYPE_CHECKING:
    from intract_lsp.index.workspace_folder import WorkspaceFolder

__all__ = ["IndexState", "IndexStatus", "IndexWorker", "IndexedFolder"]

log = logging.getLogger(__name__)

BUSY_LOOK_SECONDS = 0.01
"""Between two looks whether a completion is still pending, while there is work."""

LONGEST_WAIT = 0.5
"""Seconds after which a slice is done though completions are pending: a saved file is to be found within a second."""

STATUS_SECONDS = 0.2
"""Between two statuses while there is work."""

NICENESS = 10

_AT_REST = frozenset({IndexState.IDLE, IndexState.FAILED})

_Told = TypeVar("_Told")


@dataclass
class _Orders:
    """What others asked for since it was last looked at."""

    roots: tuple[Path, ...] | None = None
    max_files: int | None = None
    batches: list[tuple[Path, Batch]] = field(default_factory=list)
    noted: set[Path] = field(default_factory=set)
    reindex: list[Future[None]] = field(default_factory=list)
    settled: list[Future[None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self != _Orders()


class IndexWorker:
    """The index on a thread of its own; every public method may be called from any thread and returns at once."""

    def __init__(
        self, cache: Path, state: Path, max_files: int, busy: Callable[[], bool], *, watch: bool = True
    ) -> None:
        """Keep the tables under ``cache`` and the manifest in the state database ``state``.

        ``busy`` is asked between slices of work whether a completion is pending, which then goes first. Without
        ``watch``, each folder is listed once, and its files are looked at again only where they are noted.
        """
        self._cache = cache
        self._state = state
        self._max_files = max_files
        self._busy = busy
        self._watch = watch
        self._wake = threading.Condition()
        self._orders = _Orders()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="intract-index", daemon=True)
        self._open: dict[Path, WorkspaceFolder] = {}
        """The folders in the order of the client; of the thread alone, as is all below."""
        self._settling: list[Future[None]] = []
        self._reindexing: list[Future[None]] = []
        self._refused = ""
        """Why a folder is not indexed anew."""
        self._told_at = 0.0
        self._statuses: tuple[IndexStatus, ...] = ()
        self._searched: tuple[IndexedFolder, ...] = ()
        self.on_status: Callable[[tuple[IndexStatus, ...]], None] = lambda statuses: None
        """Called on the worker's thread, some five times a second while there is work, and with the last state."""
        self.on_notice: Callable[[str], None] = lambda sentence: None
        """Given a sentence that the user should see once, on one of the index's threads."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """End the thread and the watching; wait ``timeout`` seconds at most and return whether they ended."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def set_folders(self, roots: Sequence[Path], max_files: int | None = None) -> None:
        """Index these folders and no others; the index of one that is left out stays on disk.

        ``max_files`` of each are indexed at most; without a number, as many as before.
        """
        with self._ordering() as orders:
            orders.roots = tuple(roots)
            orders.max_files = max_files or orders.max_files

    def note(self, paths: Iterable[Path]) -> None:
        """Something happened to these files or directories (absolute paths); those in no folder are passed over."""
        with self._ordering() as orders:
            orders.noted.update(paths)

    def reindex(self) -> Future[None]:
        """Drop all that is indexed and build it anew; fails with ``IndexingError`` where it cannot."""
        with self._ordering() as orders:
            return self._waiting(orders.reindex)

    def settled(self) -> Future[None]:
        """Return a future that is done when all folders are indexed, or failed, and all that was told is worked off.

        What the watchers have not told yet is not waited for.
        """
        with self._ordering() as orders:
            return self._waiting(orders.settled)

    def statuses(self) -> tuple[IndexStatus, ...]:
        """Return where the index stands, a folder each."""
        return self._statuses

    def folders(self) -> tuple[IndexedFolder, ...]:
        """Return what can be searched."""
        return self._searched

    @contextlib.contextmanager
    def _ordering(self) -> Iterator[_Orders]:
        with self._wake:
            yield self._orders
            self._wake.notify_all()

    def _waiting(self, futures: list[Future[None]]) -> Future[None]:
        """Add a future to those of an order; the caller holds the lock."""
        future: Future[None] = Future()
        if self._stopping:
            future.cancel()
        else:
            futures.append(future)
        return future

    def _run(self) -> None:
        _lower_priority()
        while (orders := self._take(self._due())) is not None:
            try:
                self._obey(orders)
                self._work()
                self._report()
            except Exception as error:  # noqa: BLE001 - reported; the thread has to go on
                _log(error)
                self._tell(self.on_notice, f"The index failed unexpectedly ({type(error).__name__}): see the log.")
        for future in (*self._settling, *self._reindexing):
            future.cancel()
        for folder in self._open.values():
            folder.close()

    def _take(self, due: float | None) -> _Orders | None:
        """Wait for something to do, until ``due`` at the latest; ``None`` at the end."""
        with self._wake:
            while not self._orders and not self._stopping:
                left = None if due is None else due - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._wake.wait(left)
            orders, self._orders = self._orders, _Orders()
            self._settling += orders.settled
            self._reindexing += orders.reindex
            return None if self._stopping else orders

    def _due(self) -> float | None:
        return min((due for folder in self._open.values() if (due := folder.due()) is not None), default=None)

    def _obey(self, orders: _Orders) -> None:
        if orders.max_files not in (None, self._max_files):
            self._max_files = orders.max_files
            self._set_folders(())  # each is opened anew, with the new limit
        if orders.roots is not None:
            self._set_folders(orders.roots)
        for root, batch in orders.batches:
            if root in self._open:
                self._open[root].take(batch)
        if orders.noted:
            for root, folder in self._open.items():
                folder.take_paths(_relative(orders.noted, root))
        if orders.reindex:
            for folder in self._open.values():
                try:
                    folder.start_over()
                except IndexingError as error:
                    self._refused = str(error)

    def _set_folders(self, roots: tuple[Path, ...]) -> None:
        wanted = {folder_key(root): root for root in reversed(roots)}
        kept = [root for root in dict.fromkeys(roots) if root in wanted.values()]
        for root in self._open.keys() - kept:
            self._open.pop(root).close()
        before, self._open = self._open, {}
        for root in kept:
            self._open[root] = before.get(root) or self._new_folder(root)
        if not kept and before:
            return_freed_memory()

    def _new_folder(self, root: Path) -> WorkspaceFolder:
        from intract_lsp.index.workspace_folder import FolderSetup, WorkspaceFolder

        setup = FolderSetup(
            cache=self._cache,
            state=self._state,
            max_files=self._max_files,
            watch=self._watch,
            on_batch=self._on_batch,
            on_notice=lambda sentence: self._tell(self.on_notice, sentence),
        )
        return WorkspaceFolder(root, setup)

    def _on_batch(self, root: Path, batch: Batch) -> None:
        """Called on a watcher's thread."""
        with self._ordering() as orders:
            orders.batches.append((root, batch))

    def _work(self) -> None:
        """Do one slice of the work that is due longest, and what was worked on last after the others."""
        due = [(at, folder) for folder in self._open.values() if (at := folder.due()) is not None]
        if not due:
            return
        at, folder = min(due, key=lambda one: (one[0], one[1].worked_at))
        if at <= time.monotonic():
            # Where somebody types without a pause, slices are done all the same, and whole.
            folder.work(self._is_busy if self._give_way() else lambda: False)

    def _give_way(self) -> bool:
        """Let a pending completion go first, but not for ever; return whether none is pending any more."""
        end = time.monotonic() + LONGEST_WAIT
        while self._is_busy() and not self._stopping:
            if time.monotonic() >= end:
                return False
            with self._wake:
                self._wake.wait_for(lambda: self._stopping, BUSY_LOOK_SECONDS)
        return True

    def _is_busy(self) -> bool:
        try:
            return self._busy()
        except Exception as error:  # noqa: BLE001 - reported; work that is never done would be tried for ever
            _log(error)
            return False

    def _report(self) -> None:
        """Tell how things stand, and those who wait for the end that it has come."""
        folders = tuple(self._open.values())
        self._searched = tuple(folder.searched for folder in folders if folder.searched is not None)
        at_rest = all(folder.state in _AT_REST for folder in folders)
        now = time.monotonic()
        if at_rest or now - self._told_at >= STATUS_SECONDS:
            statuses = tuple(folder.status() for folder in folders)
            if statuses != self._statuses:
                self._told_at, self._statuses = now, statuses
                self._tell(self.on_status, statuses)
        if at_rest:
            self._resolve()

    def _resolve(self) -> None:
        settling, self._settling = self._settling, []
        reindexing, self._reindexing = self._reindexing, []
        refused, self._refused = self._refused, ""
        failed = [status.message for status in self._statuses if status.state is IndexState.FAILED]
        sentence = refused or next(iter(failed), "")
        for future in (*settling, *reindexing):
            if not future.set_running_or_notify_cancel():
                continue
            if sentence and future in reindexing:
                future.set_exception(IndexingError(sentence))
            else:
                future.set_result(None)

    def _tell(self, listener: Callable[[_Told], None], told: _Told) -> None:
        try:
            listener(told)
        except Exception as error:  # noqa: BLE001 - reported
            _log(error)


def _relative(paths: Iterable[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths if path != root and path.is_relative_to(root)]


def _log(error: Exception) -> None:
    log.error("the index failed: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__)))


def _lower_priority() -> None:
    """Give completions the processor, where a thread has a priority of its own; what it starts has the same."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, max(os.getpriority(os.PRIO_PROCESS, thread), NICENESS))
