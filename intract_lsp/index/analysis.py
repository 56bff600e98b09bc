"""All that the index wants to know of a file, from one parse."""

from __future__ import annotations

from dataclasses import dataclass, replace

from intract_lsp.index.chunk import SourceChunk
from intract_lsp.index.chunker import chunks
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.imports import Import, find_imports
from intract_lsp.index.parsed import parse_file
from intract_lsp.index.symbols import Definition, definitions_of


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a file holds, each in the order of its lines."""

    chunks: tuple[SourceChunk, ...]
    definitions: tuple[Definition, ...]
    imports: tuple[Import, ...]


def analyse(path: str, text: str, grammars: Grammars) -> Analysis:
    """Return a file's chunks, definitions and imports; nothing is raised, whatever the text.

    ``path`` is relative to the workspace folder, with ``/``; its name decides the language.
    """
    pieces: list[SourceChunk] = []
    defined: list[Definition] = []
    imports: list[Import] = []
    for source in parse_file(path, text, grammars):
        pieces += chunks(source)
        if not source.is_prose:
            defined += definitions_of(source)
            found = find_imports(source.language, "\n".join(source.lines))
            imports += [replace(one, line=one.line + source.first_line) for one in found]
    return Analysis(tuple(pieces), tuple(defined), tuple(imports))
