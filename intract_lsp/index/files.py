"""Which files of a workspace folder are used: listed, or asked for by path.

A listing and a question about one path apply the same rules, so that a file that changes is treated as in a listing.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from intract_lsp.errors import IndexingError
from intract_lsp.index.git_files import ignored_by_git, listed_by_git
from intract_lsp.index.ignore import IgnoreTree, git_ignore_tree
from intract_lsp.index.policy import BUILD_FOLDERS, Refusal, refuse_folder, refuse_path, refuse_size
from intract_lsp.index.source import is_inside

OWN_IGNORE_FILE = ".intractignore"
"""In the syntax of ``.gitignore``; it leaves files out and cannot bring back what git ignores."""

_LOOKS_PER_FILE = 20
"""How many names a walk looks at for each file that it may list: a home folder is not searched to its end."""


class Way(Enum):
    """How the files of a folder were found."""

    GIT = "git"
    WALK = "walk"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as it stood when it was listed."""

    path: str
    """Relative to the folder, with ``/``."""
    size: int
    """Bytes."""
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder that may be read."""

    files: tuple[ListedFile, ...]
    """By path."""
    way: Way
    capped: bool
    """Whether there are more; then these are the ones nearest to the root."""
    refused: Mapping[Refusal, int]
    """How many names were left out and why; a folder counts once, and what git ignores is not counted."""


def list_files(root: Path, cap: int) -> Listing:
    """List at most ``cap`` files of a folder, by their names alone: none is opened.

    Raises ``IndexingError`` if the folder is not there, or no longer when the listing ends.
    """
    _require(root)
    refused: Counter[Refusal] = Counter()
    names = listed_by_git(root)
    way = Way.WALK if names is None else Way.GIT
    tree = _Tree(root, way)
    walk = _Walk(root, tree, cap * _LOOKS_PER_FILE, refused)
    files: list[ListedFile] = []
    capped = False
    for path in walk.paths() if names is None else sorted(names, key=_near):
        entry = tree.look(path)
        if isinstance(entry, Refusal):
            refused[entry] += 1
        elif len(files) == cap:
            capped = True
            break
        else:
            files.append(entry)
    # Deleting every row because a disk was unplugged half-way would be worse than no listing.
    _require(root)
    files.sort(key=lambda file: file.path)
    return Listing(tuple(files), way, capped or walk.looks == 0, MappingProxyType(dict(refused)))


class FilePolicy:
    """The rules of one workspace folder, for paths that come one by one. Keeps nothing: rules are read at each call."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def admits(self, path: str) -> Refusal | None:
        """Return why a file is left out, ``None`` if it is used. Costs a process under git: ask for many at once."""
        return self.refused((path,)).get(path)

    def refused(self, paths: Iterable[str]) -> dict[str, Refusal]:
        """Return those of some paths (relative to the folder, with ``/``) that are left out, each with the reason."""
        asked = tuple(dict.fromkeys(paths))
        refused = self._refused_by(_Tree(self._root, Way.GIT), asked)
        ignored = ignored_by_git(self._root, [path for path in asked if path not in refused])
        if ignored is None:
            return self._refused_by(_Tree(self._root, Way.WALK), asked)
        return refused | dict.fromkeys(ignored, Refusal.IGNORED)

    def _refused_by(self, tree: _Tree, paths: Iterable[str]) -> dict[str, Refusal]:
        found = ((path, tree.look(path) if is_inside(path) else Refusal.OUTSIDE) for path in paths)
        return {path: entry for path, entry in found if isinstance(entry, Refusal)}


class _Tree:
    """What the folders of a root say about what lies in them, each looked at once."""

    def __init__(self, root: Path, way: Way) -> None:
        self._root = root
        self._walks = way is Way.WALK
        self._own = IgnoreTree(root, (OWN_IGNORE_FILE,))
        self._git = git_ignore_tree(root) if way is Way.WALK else None
        self._folders: dict[str, Refusal | None] = {"": None}

    def look(self, path: str) -> ListedFile | Refusal:
        """Return a file as it stands, or why it is left out; under git, git's ignore files are not asked."""
        refusal = refuse_path(path) or self.refuses_folder(path.rpartition("/")[0]) or self._ignores(path, False)
        if refusal:
            return refusal
        try:
            found = os.lstat(f"{self._root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return Refusal.VANISHED
        except OSError:
            return Refusal.UNREADABLE
        if stat.S_ISLNK(found.st_mode):
            return Refusal.SYMLINK
        if not stat.S_ISREG(found.st_mode):
            return Refusal.NOT_A_FILE
        return refuse_size(path, found.st_size) or ListedFile(path, found.st_size, found.st_mtime_ns)

    def refuses_folder(self, path: str) -> Refusal | None:
        """Return why everything in a folder is left out."""
        if path not in self._folders:
            outer, _, name = path.rpartition("/")
            self._folders[path] = self.refuses_folder(outer) or self._refuses_one_folder(path, name)
        return self._folders[path]

    def _refuses_one_folder(self, path: str, name: str) -> Refusal | None:
        if refusal := refuse_folder(name):
            return refusal
        if self._walks and name.lower() in BUILD_FOLDERS:
            return Refusal.BUILD_OUTPUT
        if (self._root / path).is_symlink():
            return Refusal.SYMLINK
        if os.path.lexists(self._root / path / "pyvenv.cfg"):
            # A virtual environment, whatever it is called.
            return Refusal.VENDORED
        return self._ignores(path, True)

    def _ignores(self, path: str, is_folder: bool) -> Refusal | None:
        if self._own.excludes(path, is_folder):
            return Refusal.INTRACTIGNORE
        return Refusal.IGNORED if self._git is not None and self._git.excludes(path, is_folder) else None


class _Walk:
    """A walk through the folders that are used, nearest to the root first."""

    def __init__(self, root: Path, tree: _Tree, looks: int, refused: Counter[Refusal]) -> None:
        self._root = root
        self._tree = tree
        self._refused = refused
        self.looks = looks
        """How many more names are looked at; the walk ends at 0."""

    def paths(self) -> Iterator[str]:
        """Yield the path of each name that is no folder."""
        folders = deque([""])
        while folders:
            folder = folders.popleft()
            try:
                with os.scandir(self._root / folder) as entries:
                    names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            except OSError:
                self._refused[Refusal.UNREADABLE] += 1
                continue
            for name, is_folder in names:
                if self.looks == 0:
                    return
                self.looks -= 1
                path = f"{folder}/{name}" if folder else name
                if not is_folder:
                    yield path
                elif refusal := self._tree.refuses_folder(path):
                    self._refused[refusal] += 1
                else:
                    folders.append(path)


def _near(path: str) -> tuple[int, list[str]]:
    parts = path.split("/")
    return len(parts), parts


def _require(root: Path) -> None:
    if not root.is_dir():
        raise IndexingError(f"The workspace folder {root} is not there: open it again, or another one.")
