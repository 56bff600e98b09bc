"""Chunks of a file: definitions below the header lines that they stand in, and the statements between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from intract_lsp.index.chunk import ChunkKind, SourceChunk
from intract_lsp.index.grammars import Grammars, Role
from intract_lsp.index.outline import Item
from intract_lsp.index.parsed import ParsedText, parse_file
from intract_lsp.index.signature import stub
from intract_lsp.index.splitting import (
    MOST_CHARACTERS,
    MOST_LINES,
    TARGET_CHARACTERS,
    WHOLE,
    indentation_cuts,
    prose_cuts,
    split,
    statement_cuts,
)

CHUNKER_VERSION = 1
"""Changes whenever the same file would be cut otherwise: an index built by another version is built anew."""

LONGEST_LINE = 800
"""Characters of a line that a chunk shows: a longer one is data or generated."""

_HEADER_LINES = 3
_HEADER_CHARACTERS = 150
"""What a chunk repeats of a header; with a class and a function there stays room for the longest line."""

_SMALL_ROWS = 3
"""A member of a class, a constant or a type with so few rows is no chunk of its own."""

_JOINED_SECTIONS = TARGET_CHARACTERS // 2

_CLOSING = re.compile(r"\W*(?:(?:[\])}]+[;,]?|#\s*endif|\bend)\s*(?:(?://|/\*|#|--).*)?)?")


def chunk_file(path: str, text: str, grammars: Grammars) -> list[SourceChunk]:
    """Return the chunks of a file in the order of their lines, each at most 2,000 characters and 60 lines.

    Every line of a code file that has a letter or digit is in one of them, its first 800 characters at least; lines
    that only close something may be in none.
    Nothing is raised, whatever the text.
    """
    return [chunk for source in parse_file(path, text, grammars) for chunk in chunks(source)]


def chunks(source: ParsedText) -> list[SourceChunk]:
    """Return the chunks of one source in the order of their lines."""
    if source.is_prose:
        found = list(_prose(source))
    else:
        found = list(_Code(source).chunks())
    return sorted(found, key=lambda chunk: (chunk.start_line, chunk.end_line))


@dataclass(frozen=True, slots=True)
class _Line:
    """A line as a chunk shows it."""

    row: int
    text: str


class _Code:
    """Cuts code up, from the outside in."""

    def __init__(self, source: ParsedText) -> None:
        self._source = source
        self._rows = [_Line(row, line[:LONGEST_LINE].rstrip()) for row, line in enumerate(source.lines)]
        self._comment = source.spec.comment if source.spec else "#"
        if source.tree is not None and source.spec is not None:
            comments = frozenset(type_ for type_, role in source.spec.roles.items() if role is Role.COMMENT)
            self._cuts = statement_cuts([source.tree.root_node], comments)
        else:
            self._cuts = indentation_cuts(source.lines)

    def chunks(self) -> Iterator[SourceChunk]:
        yield from self._level(self._source.items, 0, len(self._rows), ())

    def _level(self, items: Sequence[Item], start: int, end: int, above: tuple[str, ...]) -> Iterator[SourceChunk]:
        """Yield the chunks of the rows from ``start`` to ``end``, in which ``items`` are defined."""
        at = start
        small: list[Item] = []
        for item in items:
            # Definitions that share a line with the one before belong to its chunk.
            if item.start < at or not _stands_alone(item):
                small.append(item)
                continue
            # The header of a namespace says too little by itself.
            before = item.header_end if item.role is Role.NAMESPACE else item.start
            yield from self._between(at, min(before, end), above, small)
            small = []
            at = min(item.end, end)
            if item.role is Role.NAMESPACE:
                yield from self._level(item.members, min(before, at), at, _nested(above, self._header(item)))
            else:
                yield from self._definition(item, at, above)
        yield from self._between(at, end, above, small)

    def _between(self, start: int, end: int, above: tuple[str, ...], items: list[Item]) -> Iterator[SourceChunk]:
        inside = [item for item in items if item.start >= start]
        symbol = inside[0].qualified if len(inside) == 1 else ""
        kind = ChunkKind.DEFINITION if symbol else ChunkKind.CODE
        yield from self._pieces(self._rows[start:end], kind, symbol, above, ())

    def _definition(self, item: Item, end: int, above: tuple[str, ...]) -> Iterator[SourceChunk]:
        lines = self._rows[item.start : end]
        header = self._header(item)
        if item.role in (Role.CLASS, Role.EXTENSION) and _size(lines, above) > TARGET_CHARACTERS:
            members = [
                member
                for member in item.members
                if member.body is not None and member.end - member.header_start > _SMALL_ROWS
            ]
            yield from self._class(item, members, end, above)
        else:
            yield from self._pieces(lines, ChunkKind.DEFINITION, item.qualified, above, header)

    def _class(self, item: Item, members: list[Item], end: int, above: tuple[str, ...]) -> Iterator[SourceChunk]:
        """Yield a class without the longer ones of its members, of which it shows the headers; then these."""
        shown: list[_Line] = []
        own: list[Item] = []
        at = item.start
        for member in members:
            if member.start < max(at, item.header_end) or member.end > end:
                continue
            between = self._rows[at : member.start]
            shown += [] if own and not any(line.text for line in between) else between
            shown += self._stub(member)
            self._cuts.setdefault(member.header_start, self._cuts.get(member.start, 0))
            own.append(member)
            at = member.end
        shown += self._rows[at:end]
        header = self._header(item)
        yield from self._pieces(shown, ChunkKind.DEFINITION, item.qualified, above, header)
        for member in own:
            yield from self._definition(member, member.end, _nested(above, header))

    def _stub(self, item: Item) -> list[_Line]:
        line = self._rows[item.header_start].text
        indent = line[: len(line) - len(line.lstrip())][:_HEADER_CHARACTERS]
        return [_Line(item.header_start, indent + text) for text in stub(item, self._source)]

    def _header(self, item: Item) -> tuple[str, ...]:
        lines = self._rows[item.header_start : item.header_end]
        if len(lines) > _HEADER_LINES:
            lines = lines[:1]
        return tuple(line.text[:_HEADER_CHARACTERS] for line in lines)

    def _pieces(
        self, lines: list[_Line], kind: ChunkKind, symbol: str, above: tuple[str, ...], header: tuple[str, ...]
    ) -> Iterator[SourceChunk]:
        """Yield lines as chunks; from the second on they stand below the header of what is cut."""
        lines = _trimmed(lines)
        if not _tells(lines):
            return
        room = WHOLE.less(above)
        if _size(lines, above) <= MOST_CHARACTERS and len(lines) + len(above) <= MOST_LINES:
            yield self._chunk(lines, kind, symbol, above)
            return
        indent = " " * (len(header[0]) - len(header[0].lstrip())) if header else ""
        again = (*header, f"{indent}    {self._comment} ...") if header else ()
        cuts = {index: self._cuts[line.row] for index, line in enumerate(lines) if line.row in self._cuts}
        for first, last in split([line.text for line in lines], cuts, room.less(again)):
            piece = _trimmed(lines[first:last])
            if _tells(piece):
                yield self._chunk(piece, kind, symbol, above if first == 0 else (*above, *again))

    def _chunk(self, lines: list[_Line], kind: ChunkKind, symbol: str, above: tuple[str, ...]) -> SourceChunk:
        return SourceChunk(
            path=self._source.path,
            start_line=self._source.first_line + lines[0].row,
            end_line=self._source.first_line + lines[-1].row + 1,
            kind=kind,
            language=self._source.language,
            symbol=symbol,
            text="\n".join([*above, *(line.text for line in lines)]),
        )


def _stands_alone(item: Item) -> bool:
    rows = item.end - item.start
    if item.role in (Role.VALUE, Role.TYPE) or (item.role is Role.FUNCTION and item.body is None):
        return rows > _SMALL_ROWS
    return rows > 1


def _nested(above: tuple[str, ...], header: tuple[str, ...]) -> tuple[str, ...]:
    """Return the header lines for what stands inside; where they become many, the innermost."""
    return (*above, *header)[-_HEADER_LINES:]


def _size(lines: Sequence[_Line], above: tuple[str, ...]) -> int:
    return sum(len(line) + 1 for line in above) + sum(len(line.text) + 1 for line in lines) - 1


def _tells(lines: Iterable[_Line]) -> bool:
    return any(_CLOSING.fullmatch(line.text) is None for line in lines)


def _trimmed(lines: list[_Line]) -> list[_Line]:
    first, last = 0, len(lines)
    while first < last and not lines[first].text.strip():
        first += 1
    while first < last and not lines[last - 1].text.strip():
        last -= 1
    return lines[first:last]


def _prose(source: ParsedText) -> Iterator[SourceChunk]:
    lines = [line[:LONGEST_LINE].rstrip() for line in source.lines]
    cuts = prose_cuts(lines)
    for start, end in _sections(lines, cuts):
        for first, last in split(lines[start:end], cuts, WHOLE, start):
            rows = _trimmed([_Line(row, lines[row]) for row in range(start + first, start + last)])
            if not _tells(rows):
                continue
            yield SourceChunk(
                path=source.path,
                start_line=source.first_line + rows[0].row,
                end_line=source.first_line + rows[-1].row + 1,
                kind=ChunkKind.PROSE,
                language=source.language,
                symbol="",
                text="\n".join(row.text for row in rows),
            )


def _sections(lines: Sequence[str], cuts: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the sections between headings, short ones joined with what follows."""
    start, size = 0, 0
    for row, line in enumerate(lines):
        if cuts.get(row, 7) <= 6 and size > _JOINED_SECTIONS:
            yield start, row
            start, size = row, 0
        size += len(line) + 1
    yield start, len(lines)
