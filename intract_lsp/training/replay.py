"""Samples of code that no project owns, against forgetting: from the standard library of the running interpreter.

It is on every machine that this program runs on, and open models have seen it: what they make of it ought to stay.
The files that the guard measures at are left out.
"""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from intract_lsp.index.grammars import Grammars
from intract_lsp.training.corpus import Admitted, Piece, admit
from intract_lsp.training.drawing import Drawer, Wanted
from intract_lsp.training.guard import GUARD_MODULES
from intract_lsp.training.sample import Sample
from intract_lsp.training.samples import Renderer

MOST_FILES = 60
"""Drawn of some two hundred modules."""

LARGEST_FILE = 100_000
"""Bytes; a few modules are far larger than the others."""

_PACKAGES = ("", "asyncio", "collections", "concurrent/futures", "email", "http", "importlib", "json", "logging")
"""Folders whose modules are like other people's code; tests, tables of encodings and the like are not."""


def replayed(
    wanted: Wanted, renderer: Renderer, grammars: Grammars, seed: str, library: Path | None = None
) -> list[Sample]:
    """Return samples of the standard library, ``library`` or the running interpreter's; none where its sources lack.

    They show no other files, and no file of the project is noted for them.
    """
    pieces = list(_pieces(library or Path(sysconfig.get_path("stdlib")), grammars, seed))
    drawn = Drawer(pieces, renderer, grammars, seed).draw(wanted) if pieces else []
    return [replace(sample, path="", blob="") for sample in drawn]


def _pieces(library: Path, grammars: Grammars, seed: str) -> Iterator[Piece]:
    names = [
        (f"{package}/{path.name}" if package else path.name, path)
        for package in _PACKAGES
        for path in sorted((library / package).glob("[a-z]*.py"))
        if package or path.name not in GUARD_MODULES
    ]
    chance = random.Random(seed)
    for name, path in chance.sample(names, min(MOST_FILES, len(names))):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        found = admit(name, "", content, grammars) if len(content) <= LARGEST_FILE else None
        if isinstance(found, Admitted):
            yield from found.pieces
