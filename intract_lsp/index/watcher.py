"""A workspace folder, watched: what changes on disk, and what the client tells of, comes out in batches."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from traceback import format_tb
from typing import Protocol

from watchdog.events import (
    DirDeletedEvent,
    DirModifiedEvent,
    DirMovedEvent,
    FileClosedNoWriteEvent,
    FileOpenedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserverVFS

from intract_lsp.index.pending import LIMITS, Batch, Gathered, Pace, PendingChanges, folds_case, is_folder, settle

log = logging.getLogger(__name__)

_UNINTERESTING = (FileOpenedEvent, FileClosedNoWriteEvent, DirModifiedEvent)


class _Source(Protocol):
    def close(self) -> None: ...


class WorkspaceWatcher:
    """Tells of changes below a folder, in batches; two threads and no work while nothing happens.

    The first batch asks for a rescan and comes when the watches are in place, and so does one whenever they had to be
    set up anew, so that nothing is missed between a listing and the watches. ``on_batch`` runs on the watcher's thread.

    ``ignored`` is asked on several threads whether a path can be passed over; directories end with ``/`` and are then
    passed over with everything below. It has to be quick, by name alone, and to stay the same; ``.git`` is always
    ignored. ``on_notice`` is given a sentence for the user where the folder can only be polled.
    """

    def __init__(
        self,
        root: Path,
        on_batch: Callable[[Batch], None],
        ignored: Callable[[str], bool],
        on_notice: Callable[[str], None],
        pace: Pace = Pace(),  # noqa: B008 - a constant
    ) -> None:
        self._root = os.path.realpath(root)
        self._on_batch = on_batch
        self._ignored_by_name = ignored
        self._on_notice = on_notice
        self._pace = pace
        self._pending = PendingChanges(pace)
        self._thread = threading.Thread(target=self._run, name="intract-watcher", daemon=True)
        self._source: _Source | None = None
        self._missing = False
        self._must_poll = False
        self._folds_case = False

    def start(self) -> None:
        """Begin to watch, on a thread; returns at once, also where the folder is large or missing."""
        self._thread.start()

    def stop(self) -> None:
        """End the watching and wait for the threads; a batch in delivery is finished. Not for ``on_batch`` to call."""
        self._pending.close()
        if self._thread.is_alive():
            self._thread.join()

    def note(self, paths: Iterable[str]) -> None:
        """Take changes from elsewhere, such as the client: paths relative to the folder, with ``/``. Any thread.

        Which of them were written and which removed is looked up on the disk. Paths that leave the folder are dropped.
        """
        inside = [path for path in paths if _is_inside(path) and not self._passed_over(path)]
        if inside:
            self._pending.touch(inside)

    def _run(self) -> None:
        self._watch()
        while (gathered := self._pending.take(self._pace.again if self._source is None else None)) is not None:
            self._follow(gathered)
        self._unwatch()

    def _follow(self, gathered: Gathered) -> None:
        if self._source is None:
            self._watch()
        elif gathered.vanished or not is_folder(self._root):
            self._unwatch()
            self._miss()
        elif gathered.limit:
            self._must_poll = True
            self._unwatch()
            self._watch()
        else:
            batch = settle(self._root, gathered, self._ignored, self._pace.most, self._folds_case)
            if batch != Batch():
                self._deliver(batch)

    def _watch(self) -> None:
        """Set watches up and ask for a rescan; where the folder cannot be watched, say so."""
        try:
            self._source = self._open()
        except OSError as error:
            if not self._missing:
                log.warning("a workspace folder cannot be watched (error %s)", error.errno)
            self._miss()
            return
        self._missing = False
        self._folds_case = folds_case(self._root)
        self._pending.rescan()

    def _unwatch(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()
            self._pending.drop()

    def _miss(self) -> None:
        if not self._missing:
            self._missing = True
            self._deliver(Batch(vanished=True))

    def _open(self) -> _Source:
        if not self._must_poll:
            try:
                return self._open_native()
            except OSError as error:
                if error.errno not in LIMITS:
                    raise
                self._must_poll = True
        observer = PollingObserverVFS(os.lstat, self._entries, polling_interval=self._pace.poll)
        source = _Observed(observer, self._root, self._passed_over, self._pending)
        log.warning("the system grants no more watches; a workspace folder is polled every %g s", self._pace.poll)
        self._on_notice(
            "The system cannot watch that many folders, so changes made outside the editor are seen only every "
            f"{self._pace.poll:g} seconds; raise its limit (on Linux fs.inotify.max_user_watches and "
            "fs.inotify.max_user_instances) to see them at once."
        )
        return source

    def _open_native(self) -> _Source:
        if sys.platform == "linux":
            from intract_lsp.index.inotify import FolderWatches

            return FolderWatches(self._root, self._ignored, self._pending)
        else:  # noqa: RET505 - the type checker knows a branch of another system by its else
            return _Observed(Observer(), self._root, self._passed_over, self._pending)

    def _entries(self, folder: str | None) -> Iterator[os.DirEntry[str]]:
        """Read a directory for polling, without what is ignored."""
        folder = self._root if folder is None else folder
        with os.scandir(folder) as entries:
            for entry in entries:
                path = _relative(entry.path, self._root) or ""
                if not self._ignored(path + "/" if entry.is_dir(follow_symlinks=False) else path):
                    yield entry

    def _ignored(self, path: str) -> bool:
        return path.rstrip("/").rpartition("/")[2] == ".git" or self._ignored_by_name(path)

    def _passed_over(self, path: str) -> bool:
        end = path.find("/")
        while end >= 0:
            if self._ignored(path[: end + 1]):
                return True
            end = path.find("/", end + 1)
        return not path.endswith("/") and self._ignored(path)

    def _deliver(self, batch: Batch) -> None:
        try:
            self._on_batch(batch)
        except Exception as error:  # noqa: BLE001 - reported; the watching has to go on
            trace = "".join(format_tb(error.__traceback__))
            log.error("taking a batch of changes failed: %s\n%s", type(error).__name__, trace)


class _Observed(FileSystemEventHandler):
    """A folder under one of watchdog's recursive observers; ends with ``close``. Raises `OSError` where it cannot."""

    def __init__(
        self, observer: BaseObserver, root: str, passed_over: Callable[[str], bool], pending: PendingChanges
    ) -> None:
        self._observer = observer
        self._root = root
        self._passed_over = passed_over
        self._pending = pending
        observer.schedule(self, root, recursive=True)
        try:
            observer.start()
        except BaseException:
            observer.stop()
            raise

    def close(self) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, _UNINTERESTING):
            return
        if isinstance(event, DirDeletedEvent | DirMovedEvent) and os.fsdecode(event.src_path) == self._root:
            self._pending.vanish()
            return
        for told in (event.src_path, event.dest_path):
            path = _relative(os.fsdecode(told), self._root)
            if path and not self._passed_over(path + "/" if event.is_directory else path):
                was_folder = isinstance(event, DirDeletedEvent | DirMovedEvent) and told is event.src_path
                self._pending.touch((path,), folder_gone=was_folder)


def _relative(path: str, root: str) -> str | None:
    """Return a path as it is told to others, ``None`` for what is not below the folder."""
    above = root if root.endswith(os.sep) else root + os.sep
    return path[len(above) :].replace(os.sep, "/") if path.startswith(above) else None


def _is_inside(path: str) -> bool:
    return "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))
