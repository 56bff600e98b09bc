"""The paths of a workspace's files, by the parts of them that imports name."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator


class WorkspacePaths:
    """Files, relative to the workspace folder and with ``/``. Built once for a set of files."""

    def __init__(self, files: Collection[str]) -> None:
        self.files = frozenset(files)
        self.by_name: dict[str, list[str]] = {}
        """Files by the last part of their path."""
        self.folders: dict[str, list[str]] = {}
        """Files by the folder that they are in."""
        self.folders_by_name: dict[str, list[str]] = {}
        """Folders that have files, by the last part of their path."""
        for path in sorted(self.files):
            folder, _, name = path.rpartition("/")
            self.by_name.setdefault(name, []).append(path)
            self.folders.setdefault(folder, []).append(path)
        for folder in self.folders:
            self.folders_by_name.setdefault(folder.rpartition("/")[2], []).append(folder)

    def ending(self, names: list[str]) -> list[str]:
        """Return the files whose paths end with all these parts."""
        if not names:
            return []
        return [path for path in self.by_name.get(names[-1], ()) if shared(path.split("/"), names) == len(names)]

    def folders_ending(self, names: list[str]) -> list[str]:
        """Return the folders whose paths end with all these parts."""
        found = self.folders_by_name.get(names[-1], ())
        return [folder for folder in found if shared(folder.split("/"), names) == len(names)]


def shared(names: list[str], others: list[str]) -> int:
    """Return how many names two paths have in common at their ends."""
    count = 0
    for one, other in zip(reversed(names), reversed(others), strict=False):
        if one != other:
            break
        count += 1
    return count


def nearest(paths: Iterable[str], folder: str) -> list[str]:
    """Sort paths by how many folders they share with one, then by length."""
    own = folder.split("/")

    def key(path: str) -> tuple[int, int, str]:
        names = path.split("/")
        common = len(posixpath.commonprefix([names, own]))
        return -common, len(names), path

    return sorted(dict.fromkeys(paths), key=key)


def ancestors(folder: str) -> Iterator[str]:
    """Yield a folder and those around it, up to the workspace's."""
    while folder:
        yield folder
        folder = posixpath.dirname(folder)
    yield ""


def under(folder: str, name: str) -> str:
    """Return the path of a name in a folder, either of which may be empty."""
    return f"{folder}/{name}" if folder and name else folder or name
