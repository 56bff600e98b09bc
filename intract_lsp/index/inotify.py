"""Linux' own notifications, one watch a directory.

watchdog's recursive watch also takes every ignored directory, passes over directories for which the system grants no
watch without a word, and holds a renamed file back for half a second. So its reader is used with watches of our own.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from intract_lsp.index.pending import LIMITS, PendingChanges, read_folder

_MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_ONLYDIR
)
_MASK_OF_ROOT = Mask(_MASK | InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF)
_MASK_BELOW = Mask(_MASK | InotifyConstants.IN_DONT_FOLLOW)
_GONE = InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVED_FROM
_COME = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO
_SELF_GONE = InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF


class FolderWatches(WatchCallback):
    """Watches on a folder and on all directories below it that are not ignored; ends with ``close``.

    Raises `OSError` where the folder cannot be watched or the system grants too few watches (``ENOSPC``) or instances
    (``EMFILE``). Watches that are missing later are told as ``limit``.
    """

    def __init__(self, root: str, ignored: Callable[[str], bool], pending: PendingChanges) -> None:
        self._root = root
        self._ignored = ignored
        self._pending = pending
        self._lock = threading.RLock()
        self._folders: dict[WatchDescriptor, str] = {}
        self._watches: dict[str, WatchDescriptor] = {}
        self._closing = False
        self._reader = InotifyFD()
        self._reader.start()
        try:
            with self._lock:
                self._watch_below("")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the watches and end the reader's thread."""
        self._closing = True
        self._reader.stop()
        self._reader.join()

    def on_event(self, event: InotifyEvent) -> None:
        """Called on the reader's thread, which an error would end."""
        if event.mask & _SELF_GONE:
            self._pending.vanish()
            return
        with self._lock:
            folder = self._folders.get(event.wd)
            if folder is None or not event.name:
                return
            name = os.fsdecode(event.name)
            path = f"{folder}/{name}" if folder else name
            if not event.mask & InotifyConstants.IN_ISDIR:
                if not self._ignored(path):
                    self._pending.touch((path,))
                return
            if self._ignored(path + "/"):
                return
            if event.mask & _GONE:
                self._forget_below(path)
            elif event.mask & _COME:
                try:
                    self._watch_below(path)
                except OSError:
                    self._pending.limit()
        self._pending.touch((path,), folder_gone=bool(event.mask & _GONE))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called when a watched directory is no more, or its disk was unmounted."""
        with self._lock:
            folder = self._folders.pop(wd, None)
            if folder is not None and self._watches.get(folder) == wd:
                del self._watches[folder]
        if folder == "" and not self._closing:
            self._pending.vanish()

    def on_queue_overflow(self) -> None:
        """Called when the system dropped events: directories may have come of which nothing was told."""
        with self._lock:
            self._forget_below("")
            try:
                self._watch_below("")
            except OSError:
                self._pending.limit()
        self._pending.rescan()

    def _watch_below(self, start: str) -> None:
        """Watch a directory and all below it; each before it is read, so that none made meanwhile is missed."""
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            if self._watch(folder):
                folders, _ = read_folder(self._root, folder)
                waiting += [path for path in folders if not self._ignored(path + "/")]

    def _watch(self, folder: str) -> bool:
        """Watch one directory; return whether it is. Raises `OSError` for the root, and where no watch is left."""
        if folder in self._watches:
            return True
        path = f"{self._root}/{folder}" if folder else self._root
        try:
            # watchdog gives a refused watch the number -1, and warns of the second one.
            readable = os.access(path, os.R_OK, effective_ids=True)
            mask = _MASK_BELOW if folder else _MASK_OF_ROOT
            callback = CallbackId(id(self))
            wd = self._reader.add_callback(os.fsencode(path), mask, self, callback) if readable else -1
            if wd < 0:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            if not folder or error.errno in LIMITS:
                raise
            return False
        self._folders[WatchDescriptor(wd)] = folder
        self._watches[folder] = WatchDescriptor(wd)
        return True

    def _forget_below(self, start: str) -> None:
        """Remove the watches of a directory and of all below it; of the root's, only those below it."""
        if start not in self._watches:
            return
        below = f"{start}/" if start else ""
        gone = [folder for folder in self._watches if folder and (folder == start or folder.startswith(below))]
        wds = [self._watches.pop(folder) for folder in gone]
        for wd in wds:
            self._folders.pop(wd, None)
        self._reader.remove_callbacks([(wd, CallbackId(id(self))) for wd in wds])
