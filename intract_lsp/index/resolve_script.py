"""Which files an import of JavaScript or TypeScript means."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from intract_lsp.index.imports import Import
from intract_lsp.index.workspace_paths import WorkspacePaths, ancestors, under

_SCRIPT_SUFFIXES = (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mts", ".cts", ".mjs", ".cjs", ".vue", ".svelte")
_SCRIPT_WRITTEN = re.compile(r"\.[cm]?jsx?$")


def resolve_script(paths: WorkspacePaths, imported: Import, importing_path: str) -> Iterator[str]:
    """Yield the files that a relative path, a path below ``@/`` or a package of the workspace may mean."""
    folder = posixpath.dirname(importing_path)
    module = imported.module.partition("?")[0]
    if module.startswith("."):
        base = posixpath.normpath(posixpath.join(folder, module))
        yield from _script_file(paths, "" if base == "." else base)
    elif module.startswith(("@/", "~/", "#/")):
        for root in ancestors(folder):
            yield from _script_file(paths, under(under(root, "src"), module[2:]))
            yield from _script_file(paths, under(root, module[2:]))
    else:
        yield from _script_file(paths, under("src", module))
        yield from _script_file(paths, module)
        # A package of the same repository, by the name of its folder.
        name = module.rpartition("/")[2]
        for package in paths.folders_by_name.get(name, ()) if module.startswith("@") else ():
            if f"{package}/package.json" in paths.files:
                yield from _script_file(paths, under(package, "src"))
                yield from _script_file(paths, package)


def _script_file(paths: WorkspacePaths, base: str) -> Iterator[str]:
    if base in paths.files:
        yield base
    written = _SCRIPT_WRITTEN.search(base)
    stem = base[: written.start()] if written else base
    for suffix in _SCRIPT_SUFFIXES:
        for path in (base + suffix, stem + suffix, under(base, f"index{suffix}")):
            if path in paths.files:
                yield path
