"""Changes on disk on their way to the index: gathered until they pause, then told apart by what is on the disk."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RULE_FILES = frozenset({".gitignore", ".intractignore"})
"""A change of one of these changes what is listed, so that everything is listed again."""

LIMITS = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""The system grants no more watches or instances."""


@dataclass(frozen=True)
class Batch:
    """What happened in a workspace folder since the last batch; ``removed`` comes before ``changed``.

    Paths are relative to the folder, with ``/``. A name that is not valid UTF-8 holds surrogates.
    """

    changed: frozenset[str] = frozenset()
    """Files that are new or were written."""
    removed: frozenset[str] = frozenset()
    """What is no longer there: each a file, or a directory with everything below it."""
    rescan: bool = False
    """Too much happened to tell, or events were lost: list the folder and compare. The sets are then empty."""
    vanished: bool = False
    """The folder itself is gone or cannot be read. It comes back with a batch that asks for a rescan."""


@dataclass(frozen=True)
class Pace:
    """How changes are gathered, and how often the folder is looked at where nothing tells of them."""

    quiet: float = 0.2
    """Seconds without a change after which a batch is complete."""
    longest: float = 1.0
    """Seconds after the first change at which a batch is complete anyhow."""
    most: int = 1_000
    """Paths in a batch; more are a rescan."""
    poll: float = 30.0
    """Seconds between two looks at the whole folder, where the system grants no watches."""
    again: float = 5.0
    """Seconds between two looks for a folder that is not there."""


@dataclass
class Gathered:
    """What was told and not yet looked at."""

    touched: set[str] = field(default_factory=set)
    """Something happened to these, whatever it was."""
    gone: set[str] = field(default_factory=set)
    """Directories that were removed or moved away, whatever stands in their place by now."""
    rescan: bool = False
    vanished: bool = False
    limit: bool = False
    """The system grants no more watches."""

    def __bool__(self) -> bool:
        return bool(self.touched or self.gone or self.rescan or self.vanished or self.limit)


class PendingChanges:
    """Changes of one folder, told on any thread and taken on one, when they pause."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._condition = threading.Condition()
        self._gathered = Gathered()
        self._closed = False
        self._first = 0.0
        self._last = 0.0

    def touch(self, paths: Iterable[str], folder_gone: bool = False) -> None:
        """Something happened to these paths; with ``folder_gone`` they are directories that were there before."""
        with self._telling() as found:
            if not found.rescan:
                found.touched.update(paths)
                if folder_gone:
                    found.gone.update(paths)
                if len(found.touched) > self._pace.most:
                    _drop_paths(found)

    def rescan(self) -> None:
        """Events were lost."""
        with self._telling() as found:
            _drop_paths(found)

    def vanish(self) -> None:
        """The folder itself is gone."""
        with self._telling() as found:
            found.vanished = True

    def limit(self) -> None:
        """The system grants no more watches."""
        with self._telling() as found:
            found.limit = True

    def drop(self) -> None:
        """Forget what was told: the watches that told it are gone, and everything will be listed again."""
        with self._condition:
            self._gathered = Gathered()

    def close(self) -> None:
        """End the waiting; what was gathered is dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def take(self, timeout: float | None) -> Gathered | None:
        """Wait until changes pause and return them; nothing gathered after ``timeout`` seconds, ``None`` at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or bool(self._gathered), timeout)
            while self._gathered and not self._closed and (left := self._due() - time.monotonic()) > 0:
                self._condition.wait(left)
            if self._closed:
                return None
            gathered, self._gathered = self._gathered, Gathered()
            return gathered

    def _due(self) -> float:
        return min(self._last + self._pace.quiet, self._first + self._pace.longest)

    @contextmanager
    def _telling(self) -> Iterator[Gathered]:
        with self._condition:
            fresh = not self._gathered
            yield self._gathered
            self._last = time.monotonic()
            if fresh:
                self._first = self._last
                self._condition.notify_all()


def settle(root: str, gathered: Gathered, ignored: Callable[[str], bool], most: int, folds_case: bool) -> Batch:
    """Tell by the disk as it is now what became of the paths that something happened to.

    ``folds_case`` is whether the disk takes names for the same that differ in case; what was told in another spelling
    than the disk's is then a removal of that spelling and a change of the disk's.
    """
    if gathered.rescan or any(path.rpartition("/")[2] in RULE_FILES for path in gathered.touched):
        return Batch(rescan=True)
    changed: set[str] = set()
    removed = set(gathered.gone)
    spelling = _Spelling(root) if folds_case else None
    for path in gathered.touched:
        actual = spelling.of(path) if spelling else path
        mode = _mode(f"{root}/{actual}") if actual is not None else 0
        if actual != path or not mode:
            removed.add(path)
        if actual is None:
            continue
        if stat.S_ISDIR(mode) and not ignored(actual + "/"):
            changed.update(_files_below(root, actual, ignored))
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            changed.add(actual)
        if len(changed) + len(removed) > most:
            return Batch(rescan=True)
    return Batch(frozenset(changed), frozenset(removed))


def read_folder(root: str, folder: str) -> tuple[list[str], list[str]]:
    """Return the paths of the directories and of what else is in a directory (``""`` is the root).

    Symbolic links are no directories, so that none leads out or into a loop. One that cannot be read is empty.
    """
    folders: list[str] = []
    files: list[str] = []
    above = f"{folder}/" if folder else ""
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else files).append(above + entry.name)
    except OSError:  # what was read before it vanished is told anyhow
        pass
    return folders, files


def _files_below(root: str, start: str, ignored: Callable[[str], bool]) -> Iterator[str]:
    waiting = [start]
    while waiting:
        folders, files = read_folder(root, waiting.pop())
        waiting += [folder for folder in folders if not ignored(folder + "/")]
        yield from (file for file in files if not ignored(file))


def is_folder(path: str) -> bool:
    """Return whether there is a directory that may be looked at; a link to one is none."""
    return stat.S_ISDIR(_mode(path))


def folds_case(root: str) -> bool:
    """Return whether the disk finds an entry of the folder in upper and lower case alike."""
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                swapped = entry.name.swapcase()
                if swapped != entry.name:
                    return Path(entry.path).samefile(f"{root}/{swapped}")
    except OSError:
        pass
    return False


class _Spelling:
    """Paths as the disk spells them, each directory read once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: dict[str, dict[str, str]] = {}

    def of(self, path: str) -> str | None:
        """Return the disk's spelling of a path, ``None`` where there is nothing."""
        folder = ""
        for part in path.split("/"):
            name = self._names_in(folder).get(_folded(part))
            if name is None:
                return None
            folder = f"{folder}/{name}" if folder else name
        return folder

    def _names_in(self, folder: str) -> dict[str, str]:
        known = self._names.get(folder)
        if known is None:
            try:
                with os.scandir(f"{self._root}/{folder}") as entries:
                    known = {_folded(entry.name): entry.name for entry in entries}
            except OSError:
                known = {}
            self._names[folder] = known
        return known


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _mode(path: str) -> int:
    """Return a file's mode, 0 where it is not there or may not be looked at."""
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):  # ValueError: a path with a null character, or with a lone surrogate
        return 0


def _drop_paths(found: Gathered) -> None:
    found.rescan = True
    found.touched.clear()
    found.gone.clear()
