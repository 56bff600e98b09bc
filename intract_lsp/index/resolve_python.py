"""Which files a Python import means."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

from intract_lsp.index.imports import Import
from intract_lsp.index.workspace_paths import WorkspacePaths, nearest, under

_SOURCE_ROOTS = frozenset({"", "src", "lib", "python"})


def resolve_python(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    """Yield the modules imported and those that hold the names imported from a package, likeliest first."""
    folder = posixpath.dirname(importing_path)
    parts = [part for part in imported.module.split(".") if part]
    if imported.level:
        levels = folder.split("/") if folder else []
        if imported.level - 1 > len(levels):
            return
        bases = ["/".join([*levels[: len(levels) - imported.level + 1], *parts])]
    else:
        bases = list(_python_packages(paths, parts, folder))
    for base in bases:
        for one in imported.names:
            if one.name != "*":
                yield from _python_module(paths, under(base, one.name))
        yield from _python_module(paths, base)


def _python_packages(paths: WorkspacePaths, parts: list[str], folder: str) -> Iterable[str]:
    """Return where an absolute module may lie: below folders that are not packages themselves."""
    if not parts:
        return []
    suffix = "/".join(parts)
    candidates = [
        *(path.rpartition(".")[0] for ending in (".py", ".pyi") for path in paths.by_name.get(parts[-1] + ending, ())),
        *paths.folders_by_name.get(parts[-1], ()),
    ]
    found = []
    for candidate in candidates:
        if candidate != suffix and not candidate.endswith(f"/{suffix}"):
            continue
        root = candidate[: -len(suffix)].rstrip("/")
        # Else each module named like one of the standard library would be taken for it.
        near = root in _SOURCE_ROOTS or folder == root or folder.startswith(f"{root}/")
        if (len(parts) > 1 or near) and not _is_package(paths, root):
            found.append(candidate)
    return nearest(found, folder)


def _python_module(paths: WorkspacePaths, base: str) -> Iterator[str]:
    for path in (f"{base}.py", f"{base}.pyi", under(base, "__init__.py"), under(base, "__init__.pyi")):
        if path in paths.files:
            yield path


def _is_package(paths: WorkspacePaths, folder: str) -> bool:
    return folder != "" and f"{folder}/__init__.py" in paths.files
