"""What the index keeps of a file: chunks and symbols, without those that show any of a secret."""

from __future__ import annotations

from dataclasses import dataclass

from intract_lsp.index.chunk import SourceChunk
from intract_lsp.index.chunker import CHUNKER_VERSION, chunks
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.manifest import SymbolRow
from intract_lsp.index.parsed import ParsedText, parse_file
from intract_lsp.index.policy import TEXT_RULES_VERSION
from intract_lsp.index.secrets import RULES_VERSION, has_secret, secret_lines
from intract_lsp.index.symbols import SYMBOLS_VERSION, Definition, definitions_of

RULES = f"chunks={CHUNKER_VERSION} symbols={SYMBOLS_VERSION} secrets={RULES_VERSION} texts={TEXT_RULES_VERSION}"
"""Versions of all that decides what is kept of a file with a given text."""

_TELLING = 8
"""Characters of a line from which on it is recognised as a part of another one."""


@dataclass(frozen=True, slots=True)
class Extract:
    """What is kept of a file, in the order of its lines."""

    chunks: tuple[SourceChunk, ...]
    symbols: tuple[SymbolRow, ...]


def extract(path: str, text: str, grammars: Grammars) -> Extract:
    """Return what is kept of a file; nothing is raised, whatever the text.

    ``path`` is relative to the workspace folder, with ``/``; its name decides the language.
    """
    pieces: list[SourceChunk] = []
    symbols: list[SymbolRow] = []
    for source in parse_file(path, text, grammars):
        secrets = _Secrets(source)
        pieces += [one for one in chunks(source) if not secrets.show(one.start_line, one.end_line, one.text)]
        if not source.is_prose:
            defined = definitions_of(source)
            symbols += [_row(one) for one in defined if not secrets.show(one.start_line, one.end_line, one.signature)]
    return Extract(tuple(pieces), tuple(symbols))


class _Secrets:
    """The secrets of one source: the cells of a notebook are searched as they read, not as JSON."""

    def __init__(self, source: ParsedText) -> None:
        lines = secret_lines("\n".join(source.lines))
        self._numbers = sorted(number + source.first_line for number in lines)
        self._texts = [source.lines[number].strip() for number in lines]

    def show(self, start: int, end: int, text: str) -> bool:
        """Return whether lines of the file, or a text made from them, show any of a secret.

        The text is looked at, too, as it may hold more than these lines: headers of classes, or a type's methods from
        elsewhere in the file. Such lines may be cut off, and the rules do not recognise half a secret.
        """
        if not self._numbers:
            return False
        if any(start <= number < end for number in self._numbers) or has_secret(text):
            return True
        shown = [line for part in text.splitlines() if len(line := part.strip()) >= _TELLING]
        return any(line in secret or secret in line for line in shown for secret in self._texts if secret)


def _row(found: Definition) -> SymbolRow:
    return SymbolRow(
        _storable(found.name),
        _storable(found.qualified),
        found.kind.value,
        found.start_line,
        found.end_line,
        _storable(found.signature),
    )


def _storable(text: str) -> str:
    """Return a text without lone surrogates, which the JSON of a notebook may hold and a database cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
