"""Where the tables of a workspace folder lie, and which process may write them; how it and its files are named."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

from intract_lsp.errors import IndexingError


class IndexFolder:
    """The directory of a workspace folder's tables. The first process that opens it writes, the others read."""

    def __init__(self, cache: Path, root: Path) -> None:
        """Open the directory for the folder ``root`` under ``cache``; raises ``IndexingError`` if it cannot be made."""
        self.root = folder_key(root)
        """The folder as the manifest names it."""
        self.path = cache / hashlib.sha256(self.root.encode()).hexdigest()[:24]
        """Where the tables lie."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IndexingError(
                f"The index directory {self.path} cannot be made ({error.strerror}): make {cache} writable, or set "
                "INTRACT_HOME to another directory."
            ) from error
        # The system lets go of the lock when the process ends, however it ends.
        self._lock = FileLock(self.path / "writer.lock", timeout=0)
        self.try_to_write()

    @property
    def writable(self) -> bool:
        """Whether this process is the one that writes."""
        return self._lock.is_locked

    def try_to_write(self) -> bool:
        """Become the writer if no other process is; return whether this one is. Worth trying again now and then."""
        if not self._lock.is_locked:
            try:
                self._lock.acquire()
            except (Timeout, OSError):  # taken, or on a disk that cannot be written
                return False
        return True

    def close(self) -> None:
        """Let another process write."""
        self._lock.release()


def folder_key(root: Path) -> str:
    """Return one spelling for all paths that lead to a folder: absolute, without links, case folded where it is."""
    path = os.path.normcase(os.path.realpath(root))
    # A name that is not valid UTF-8 cannot be kept as text.
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def inside(folder: Path, path: str) -> str | None:
    """Return a path inside a folder, relative to it and with ``/``; ``None`` for the folder itself and what is outside.

    A relative one is meant as in the folder. The file may be gone; links are followed as far as they are there.
    """
    given = Path(folder, path)
    for spell in (os.path.normpath, os.path.realpath):
        place, root = Path(spell(given.absolute())), Path(spell(folder.absolute()))
        if place != root and place.is_relative_to(root):
            return place.relative_to(root).as_posix()
    return None
