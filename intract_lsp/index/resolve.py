"""From an import as written to the workspace's files that it means, by their paths alone.

No configuration of a build tool is read, so this guesses: where several files fit, the nearest to the importing file
come first.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType

from intract_lsp.index.imports import Import
from intract_lsp.index.resolve_python import resolve_python
from intract_lsp.index.resolve_rust import resolve_rust
from intract_lsp.index.resolve_script import resolve_script
from intract_lsp.index.workspace_paths import WorkspacePaths, nearest, shared

MOST_FILES = 20
"""Files returned for one import."""

_GO_LIBRARY = frozenset(
    {
        *("archive", "cmp", "compress", "container", "crypto", "database", "debug", "encoding", "errors", "go"),
        *("hash", "html", "image", "index", "io", "iter", "log", "maps", "math", "mime", "net", "os", "path"),
        *("regexp", "runtime", "slices", "sync", "syscall", "testing", "text", "time", "unicode"),
    }
)
"""First parts of the paths of Go's own packages, which a folder's name alone would be taken for."""


class ImportResolver:
    """The files of a workspace, by the names that imports use. Built once for a set of files."""

    def __init__(self, files: Collection[str]) -> None:
        self._paths = WorkspacePaths(files)

    def resolve(self, imported: Import, importing_path: str) -> list[str]:
        """Return the workspace's files that an import means, at most 20, likeliest first; none for libraries.

        Paths are relative to the workspace folder, with ``/``.
        """
        rule = _RULES.get(imported.language)
        if rule is None:
            return []
        found = dict.fromkeys(rule(self._paths, imported, importing_path))
        found.pop(importing_path, None)
        return list(found)[:MOST_FILES]


def _go(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    parts = imported.module.split("/")
    if len(parts) == 1 or parts[0] in _GO_LIBRARY:
        return
    best = _deepest_folders(paths, parts)
    for folder in nearest(best, posixpath.dirname(importing_path)):
        yield from (path for path in paths.folders[folder] if path.endswith(".go") and not path.endswith("_test.go"))


def _deepest_folders(paths: WorkspacePaths, parts: list[str]) -> list[str]:
    """Return the folders that share most trailing names with ``parts``: all of theirs, or two."""
    best: list[str] = []
    most = 0
    for folder in paths.folders_by_name.get(parts[-1], ()):
        names = folder.split("/")
        common = shared(names, parts)
        if common >= min(2, len(names)) and common >= most:
            best = [folder] if common > most else [*best, folder]
            most = common
    return best


def _java(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    folder = posixpath.dirname(importing_path)
    names = imported.module.split(".")
    for one in imported.names:
        if one.name == "*":
            for package in nearest(paths.folders_ending(names), folder):
                yield from (path for path in paths.folders[package] if path.endswith(".java"))
        else:
            yield from nearest(paths.ending([*names, f"{one.name}.java"]), folder)
    # A static import, or one of a nested class, names a class's member.
    yield from nearest(paths.ending([*names[:-1], f"{names[-1]}.java"]), folder)


def _csharp(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    for folder in nearest(_csharp_folders(paths, imported.module), posixpath.dirname(importing_path)):
        yield from (path for path in paths.folders[folder] if path.endswith(".cs"))


def _csharp_folders(paths: WorkspacePaths, module: str) -> list[str]:
    """Return the folders of a namespace; a project's folder may have several of its names, with their dots."""
    names = module.split(".")
    found = list(paths.folders_by_name.get(module, ()))
    for first in range(len(names)):
        below = names[first:]
        found += [
            folder
            for folder in paths.folders_by_name.get(below[-1], ())
            if shared(folder.split("/"), below) == len(below) and (first == 0 or _project(folder, below, names[:first]))
        ]
    return found


def _c(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    folder = posixpath.dirname(importing_path)
    relative = posixpath.normpath(posixpath.join(folder, imported.module))
    if relative in paths.files:
        yield relative
    names = [part for part in imported.module.split("/") if part not in (".", "..")]
    yield from nearest(paths.ending(names), folder)


def _ruby(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    yield from _beside_or_ending(paths, importing_path, imported.module.removesuffix(".rb") + ".rb")


def _php(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    if imported.level:
        yield from _beside_or_ending(paths, importing_path, imported.module.lstrip("/"))
        return
    folder = posixpath.dirname(importing_path)
    names = imported.module.split("\\") if imported.module else []
    for one in imported.names:
        files = paths.by_name.get(f"{one.name}.php", ())
        most = max((shared(path.split("/")[:-1], names) for path in files), default=0)
        if most or not names:
            yield from nearest((path for path in files if shared(path.split("/")[:-1], names) == most), folder)


def _lua(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    module = imported.module.replace(".", "/")
    for path in (f"{module}.lua", f"{module}/init.lua"):
        yield from _beside_or_ending(paths, importing_path, path)


def _shell(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    # The folder is often a variable, such as $(dirname "$0").
    yield from _beside_or_ending(paths, importing_path, re.sub(r"^.*[$)}`][^/]*/", "", imported.module))


def _beside_or_ending(paths: WorkspacePaths, importing_path: str, path: str) -> Iterator[str]:
    folder = posixpath.dirname(importing_path)
    relative = posixpath.normpath(posixpath.join(folder, path))
    if relative in paths.files:
        yield relative
    yield from nearest(paths.ending([part for part in path.split("/") if part not in ("", ".", "..")]), folder)


def _project(folder: str, below: list[str], before: list[str]) -> bool:
    """Return whether the folder above the names of ``below`` is a project named by those before."""
    above = folder.split("/")[: -len(below)]
    return bool(above) and above[-1] in (".".join(before), before[-1])


_RULES: Mapping[str, Callable[[WorkspacePaths, Import, str], Iterator[str]]] = MappingProxyType(
    {
        "python": resolve_python,
        **dict.fromkeys(("javascript", "javascriptreact", "typescript", "typescriptreact"), resolve_script),
        "go": _go,
        "rust": resolve_rust,
        "java": _java,
        "csharp": _csharp,
        "c": _c,
        "cpp": _c,
        "ruby": _ruby,
        "php": _php,
        "lua": _lua,
        "shellscript": _shell,
    }
)
