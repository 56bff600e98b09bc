"""What the names around a cursor stand for: signatures and fields of the workspace's own definitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from intract_lsp.index.imports import find_imports
from intract_lsp.index.ranking import Candidate, Source
from intract_lsp.index.symbol_table import SymbolTable
from intract_lsp.index.symbols import names_used

LINES_ABOVE = 20
LINES_BELOW = 3
"""Lines around the cursor's whose names are looked up."""

MOST = 6
"""Definitions, those of the nearest names."""

LONGEST = 12
"""Lines of a definition."""

MOST_PLACES = 2
"""A name that is not imported and defined in more files than this could be anything."""


def definitions_in_use(
    symbols: SymbolTable, path: str, language_id: str, above: Sequence[str], below: Sequence[str]
) -> Iterator[Candidate]:
    """Yield the definitions of the names in the lines around a cursor, from other files, the nearest name's first.

    Of several with one name, that of a file which the document imports is taken. Scores are ranks below zero.
    """
    imported: dict[str, tuple[str, frozenset[str]]] = {}
    files: set[str] = set()
    for one in find_imports(language_id, "\n".join(above)):
        meant = symbols.resolver.resolve(one, path)
        files.update(meant)
        imported.update((made_known.alias, (made_known.name, frozenset(meant))) for made_known in one.names)
    seen: set[tuple[str, int]] = set()
    for rank, used in enumerate(names_used(language_id, [*above[-LINES_ABOVE:], *below[:LINES_BELOW]])):
        name, meant_by = imported.get(used, (used, frozenset(files)))
        found = [symbol for symbol in symbols.defining(name) if symbol.path != path]
        near = [symbol for symbol in found if symbol.path in meant_by]
        if not near and (used in imported or len({symbol.path for symbol in found}) <= MOST_PLACES):
            near = found
        if near and (near[0].path, near[0].start_line) not in seen:
            seen.add((near[0].path, near[0].start_line))
            text = "\n".join(near[0].signature.split("\n")[:LONGEST])
            yield Candidate(near[0].path, text, near[0].start_line, Source.SYMBOLS, -float(rank))
            if len(seen) == MOST:
                return
