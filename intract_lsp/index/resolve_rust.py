"""Which files a path in Rust means."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from intract_lsp.index.imports import Import
from intract_lsp.index.workspace_paths import WorkspacePaths, ancestors, under


def resolve_rust(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    """Yield the files of the modules on an imported path, in this crate or in another of the workspace."""
    first, *rest = imported.module.split("::")
    own = _rust_module_folder(importing_path)
    if first == "crate":
        yield from _rust_file(paths, _crate_root(paths, importing_path), rest, imported)
    elif first in ("self", "super"):
        base = posixpath.dirname(own) if first == "super" else own
        while rest and rest[0] == "super":
            base, rest = posixpath.dirname(base), rest[1:]
        yield from _rust_file(paths, base, rest, imported)
    else:
        for crate in _crates(paths, first):
            yield from _rust_file(paths, crate, rest, imported)
        yield from _rust_file(paths, own, [first, *rest], imported)


def _rust_file(paths: WorkspacePaths, base: str, names: list[str], imported: Import) -> Iterator[str]:
    """Yield the file of the deepest module that is one: what follows its name is defined in it."""
    for one in imported.names:
        yield from _rust_exact(paths, under(base, "/".join([*names, one.name])))
    for length in range(len(names), 0, -1):
        found = list(_rust_exact(paths, under(base, "/".join(names[:length]))))
        if found:
            yield from found
            return
    yield from (path for path in (under(base, "lib.rs"), under(base, "main.rs")) if path in paths.files)
    yield from _rust_exact(paths, base)


def _rust_exact(paths: WorkspacePaths, base: str) -> Iterator[str]:
    yield from (path for path in (f"{base}.rs", under(base, "mod.rs")) if path in paths.files)


def _crate_root(paths: WorkspacePaths, importing_path: str) -> str:
    folders = list(ancestors(posixpath.dirname(importing_path)))
    for folder in folders:
        if under(folder, "lib.rs") in paths.files or under(folder, "main.rs") in paths.files:
            return folder
    return next((folder for folder in folders if posixpath.basename(folder) == "src"), folders[0])


def _rust_module_folder(path: str) -> str:
    folder, name = posixpath.split(path)
    return folder if name in ("mod.rs", "lib.rs", "main.rs") else under(folder, name.removesuffix(".rs"))


def _crates(paths: WorkspacePaths, name: str) -> Iterator[str]:
    for path in paths.by_name.get("lib.rs", ()):
        crate = path.split("/")[-3] if path.count("/") >= 2 else ""
        if crate.replace("-", "_") == name:
            yield posixpath.dirname(path)
