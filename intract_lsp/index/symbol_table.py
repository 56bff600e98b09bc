"""Every definition of a workspace folder by name and by file, in memory."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from intract_lsp.index.manifest import SymbolRow
from intract_lsp.index.resolve import ImportResolver


@dataclass(frozen=True, slots=True)
class Symbol:
    """Something that is defined in a file."""

    path: str
    """Relative to the workspace folder, with ``/``."""
    name: str
    qualified: str
    """With the names of what it stands in, such as ``Parser.parse``."""
    kind: str
    """A value of `DefinitionKind`."""
    start_line: int
    """From 0."""
    end_line: int
    """The line behind the last one."""
    signature: str
    """What a model needs to see to use it: at most about 25 lines."""


@dataclass(frozen=True, slots=True)
class _FileSymbols:
    """One file's symbols in columns; an object for each would take twice the memory."""

    names: tuple[str, ...]
    containers: tuple[str, ...]
    """What stands before each name, such as ``Parser.``."""
    kinds: tuple[str, ...]
    numbers: array[int]
    """First line, line behind the last one, and where the signature ends in `signatures`, of each in turn."""
    signatures: bytes
    """End to end, in UTF-8."""

    @classmethod
    def of(cls, rows: Sequence[SymbolRow]) -> _FileSymbols:
        numbers = array("i")
        signatures = bytearray()
        for row in rows:
            signatures += row.signature.encode()
            numbers.extend((row.start_line, row.end_line, len(signatures)))
        return cls(
            tuple(sys.intern(row.name) for row in rows),
            tuple(sys.intern(row.qualified.removesuffix(row.name)) for row in rows),
            tuple(sys.intern(row.kind) for row in rows),
            numbers,
            bytes(signatures),
        )

    def symbol(self, path: str, at: int) -> Symbol:
        start_line, end_line, end = self.numbers[3 * at : 3 * at + 3]
        begin = self.numbers[3 * at - 1] if at else 0
        name = self.names[at]
        return Symbol(
            path,
            name,
            self.containers[at] + name,
            self.kinds[at],
            start_line,
            end_line,
            self.signatures[begin:end].decode(),
        )


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """One state of the table; nothing in it is ever changed."""

    files: Mapping[str, _FileSymbols]
    paths: Mapping[str, tuple[str, ...]]
    """The files that define a name, sorted."""
    count: int


class SymbolTable:
    """All definitions of a folder. One thread changes it; any thread may ask meanwhile, each time of one state."""

    def __init__(self) -> None:
        # Replaced as a whole and never changed in place.
        self._snapshot = _Snapshot({}, {}, 0)
        self._resolver = ImportResolver(())
        self._resolved: frozenset[str] = frozenset()

    @property
    def files(self) -> Collection[str]:
        """The paths of all indexed files, also of those without definitions."""
        return self._snapshot.files.keys()

    @property
    def symbol_count(self) -> int:
        """Definitions in all files."""
        return self._snapshot.count

    @property
    def resolver(self) -> ImportResolver:
        """From imports to files, as they were when `renew_resolver` was last called."""
        return self._resolver

    def defining(self, name: str) -> Sequence[Symbol]:
        """Return the definitions of a name, by path and line."""
        snapshot = self._snapshot
        found: list[Symbol] = []
        for path in snapshot.paths.get(name, ()):
            file = snapshot.files[path]
            found += (file.symbol(path, at) for at, other in enumerate(file.names) if other == name)
        return found

    def of_file(self, path: str) -> Sequence[Symbol]:
        """Return what a file defines, in its order; nothing for a file that is not known."""
        file = self._snapshot.files.get(path)
        return [] if file is None else [file.symbol(path, at) for at in range(len(file.names))]

    def replace(self, gone: Collection[str], added: Mapping[str, Sequence[SymbolRow]]) -> None:
        """Take files away, and put others in the place of what was known of them, in one step."""
        self._replace(gone, {path: _FileSymbols.of(rows) for path, rows in added.items()})

    def load(self, files: Iterable[str], rows: Iterable[tuple[str, SymbolRow]]) -> None:
        """Hold these files with these definitions and nothing else; ``rows`` come with their paths, file by file."""
        nothing = _FileSymbols.of(())
        loaded = dict.fromkeys(files, nothing)
        for path, group in groupby(rows, key=itemgetter(0)):
            loaded[path] = _FileSymbols.of([row for _, row in group])
        self._replace(self.files - loaded.keys(), loaded)
        self.renew_resolver()

    def renew_resolver(self) -> None:
        """Have imports resolved to the present files; for the thread that changes the table, once changes pause.

        Takes 50 ms for 20,000 files where the set of files has changed, which no reader should have to wait for.
        """
        files = self._snapshot.files.keys()
        if files != self._resolved:
            self._resolver = ImportResolver(files)
            self._resolved = frozenset(files)

    def _replace(self, gone: Collection[str], new: Mapping[str, _FileSymbols]) -> None:
        before = self._snapshot
        files = dict(before.files)
        replaced = [(path, old) for path in {*gone, *new} if (old := files.pop(path, None)) is not None]
        files.update(new)
        lost, won = _paths_by_name(replaced), _paths_by_name(new.items())
        paths = dict(before.paths)
        for name in lost.keys() | won.keys():
            kept = {*paths.get(name, ())} - lost.get(name, set()) | won.get(name, set())
            if kept:
                paths[name] = tuple(sorted(kept))
            else:
                del paths[name]
        count = before.count - sum(len(old.names) for _, old in replaced) + sum(len(one.names) for one in new.values())
        self._snapshot = _Snapshot(files, paths, count)


def _paths_by_name(files: Iterable[tuple[str, _FileSymbols]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path, file in files:
        for name in file.names:
            found.setdefault(name, set()).add(path)
    return found
