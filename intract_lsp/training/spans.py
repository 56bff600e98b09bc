"""Where a text is given a hole: from a cursor to what ought to come there. Pure; the same seed draws the same holes.

The mixture is Refact's (half of the holes end with their line, nearly half with a block) with the syntactic blocks of
Mellum (2510.05788) and AST-FIM (2506.00204), and few enough empty holes to teach silence without teaching to be silent.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from intract_lsp.index.grammars import Grammars
from intract_lsp.training.corpus import Piece
from intract_lsp.training.sample import SampleKind

if TYPE_CHECKING:
    from tree_sitter import Node

MIXTURE: Mapping[SampleKind, float] = MappingProxyType(
    {
        SampleKind.LINE: 0.45,
        SampleKind.BLOCK: 0.30,
        SampleKind.INLINE: 0.10,
        SampleKind.RANDOM: 0.05,
        SampleKind.EMPTY: 0.05,
        SampleKind.TYPED: 0.05,
    }
)
"""Shares of the kinds of holes; a text without a syntax tree has lines in the place of blocks."""

MOST_LINES = 32
"""Of a hole."""

MOST_CHARACTERS = 700
"""Of a hole."""

LONGEST_TYPED = 12
"""Characters of a line that is said to be typed already."""

LINE_START_SHARE = 0.5
"""Of the holes up to a line's end: the cursor stands where the line's code begins, as after pressing Enter."""

SEVERAL_LINES_SHARE = 0.7
"""Of the blocks: those of several lines, where there are any."""

_WORD_START = re.compile(r"(?<=[\s([{,.=:<>+\-*/|&!\"'])(?=\w)")
"""Where a cursor may stand inside a line: where a word begins, behind a blank or a sign."""

_NAME = re.compile(r"[A-Za-z_]\w{2,}")
_CLOSERS_ALONE = re.compile(r"[\s)\]}>\"'`;,:{]*\Z")
_PAIRS: Mapping[str, str] = MappingProxyType({"(": ")", "[": "]", "{": "}"})


@dataclass(frozen=True, slots=True)
class Hole:
    """A part of a piece's text that is missing, from the cursor on."""

    start: int
    end: int
    """The same where nothing is missing."""
    kind: SampleKind


class Holes:
    """The holes that one piece may be given."""

    def __init__(self, piece: Piece, grammars: Grammars) -> None:
        self.piece = piece
        found = set(_spans(piece, grammars))
        self.blocks: tuple[tuple[int, int], ...] = tuple(sorted({(start, end) for start, end, _ in found}))
        """Statements and bodies of several statements, from their first character to the end of their last line."""
        self._statements = tuple(sorted((start, end) for start, end, is_body in found if not is_body))

    def draw(self, kind: SampleKind, line: int, chance: random.Random) -> Hole | None:
        """Return a hole of a kind in or around a line (from 0), ``None`` where there is no such one."""
        text, start = self.piece.text, self.piece.starts[line]
        own = self.piece.lines[line]
        end = start + len(own)
        indent = start + len(own) - len(own.lstrip())
        if kind is SampleKind.EMPTY:
            return Hole(end, end, kind) if own.strip() else None
        if kind is SampleKind.RANDOM:
            first = chance.randint(start, end)
            hole = Hole(first, min(len(text), first + chance.randint(1, MOST_CHARACTERS // 4)), kind)
        elif kind is SampleKind.BLOCK:
            return self._block(line, chance)
        elif kind is SampleKind.INLINE:
            return _inside(own, start, chance)
        elif kind is SampleKind.TYPED:
            hole = Hole(min(indent + chance.randint(1, LONGEST_TYPED), end), end, kind)
        else:
            hole = Hole(_cursor(own, start, chance), end, kind)
        return hole if text[hole.start : hole.end].strip() else None

    def block_at(self, cursor: int) -> int | None:
        """Return the end of the largest statement that begins on the cursor's line, not behind the cursor, and ends on
        a line further down; ``None`` where there is none.
        """
        starts = self.piece.starts
        line = bisect_right(starts, cursor) - 1
        found = [end for start, end in self._statements if starts[line] <= start <= cursor and end > cursor]
        last = max(found, default=0)
        return last if bisect_right(starts, last) - 1 > line else None

    def _block(self, line: int, chance: random.Random) -> Hole | None:
        starts = self.piece.starts
        low, high = starts[line], starts[line] + len(self.piece.lines[line])
        around = [(start, end) for start, end in self.blocks if start <= high and end >= low]
        if not around:
            return None
        several = [span for span in around if "\n" in self.piece.text[span[0] : span[1]]]
        start, end = chance.choice(several if several and chance.random() < SEVERAL_LINES_SHARE else around)
        if chance.random() >= LINE_START_SHARE:
            first = bisect_right(starts, start) - 1
            cursor = _cursor(self.piece.lines[first], starts[first], chance)
            start = cursor if start <= cursor < end else start
        return Hole(start, end, SampleKind.BLOCK)


def _cursor(line: str, start: int, chance: random.Random) -> int:
    """Return where in the text a cursor stands on a line: where its code begins, or at a word of it."""
    indent = len(line) - len(line.lstrip())
    words = [match.start() for match in _WORD_START.finditer(line, indent + 1)]
    return start + (indent if not words or chance.random() < LINE_START_SHARE else chance.choice(words))


def _inside(line: str, start: int, chance: random.Random) -> Hole | None:
    """Return a hole within a line: what stands between brackets, behind an equals sign, or the rest of a name."""
    found: list[tuple[int, int]] = []
    stack: list[int] = []
    for number, character in enumerate(line):
        if character in _PAIRS:
            stack.append(number)
        elif stack and character == _PAIRS[line[stack[-1]]]:
            opened = stack.pop()
            # Behind the hole editors have put the closing brackets, and code seldom goes on.
            if number - opened > 2 and _CLOSERS_ALONE.match(line, number):
                found.append((opened + 1, number))
    equals = line.find("= ")
    tail = len(line.rstrip()) - len(line.rstrip().rstrip(";,{"))
    if equals > 0 and tail:
        found.append((equals + 2, len(line.rstrip()) - tail))
    names = [(match.start() + chance.randint(1, len(match[0]) - 1), match.end()) for match in _NAME.finditer(line)]
    choices = [span for span in (found, names) if span]
    if not choices:
        return None
    first, last = chance.choice(chance.choice(choices))
    return Hole(start + first, start + last, SampleKind.INLINE) if line[first:last].strip() else None


def _spans(piece: Piece, grammars: Grammars) -> Iterator[tuple[int, int, bool]]:
    """Yield nodes that begin with their line's code and end with a line, and whether each is a body of statements."""
    data = piece.text.encode("utf-8", "replace")
    tree = grammars.parse(grammars.grammar(piece.language, data), data)
    if tree is None:
        return
    offsets = _Offsets(piece.text, data)
    pending: list[Node] = list(tree.root_node.children)
    while pending:
        node = pending.pop()
        if node.is_error or node.is_missing:
            continue
        several = node.end_point.row > node.start_point.row
        children = node.children if several else []
        named = [child for child in children if child.is_named]
        is_body = len(named) > 1 and named[1].start_point.row > named[0].start_point.row
        if node.is_named and not (is_body and named[0].start_byte == node.start_byte):
            yield from _whole_lines(piece, offsets, node, node, False)
        if is_body:
            yield from _whole_lines(piece, offsets, named[0], named[-1], True)
        pending += children


def _whole_lines(
    piece: Piece, offsets: _Offsets, first: Node, last: Node, is_body: bool
) -> Iterator[tuple[int, int, bool]]:
    """Yield the span from a node to another, up to its last line's end, if nothing but it stands on its lines."""
    too_large = last.end_byte - first.start_byte > 4 * MOST_CHARACTERS
    if too_large or last.end_point.row - first.start_point.row >= MOST_LINES:
        return
    text, starts = piece.text, piece.starts
    start, end = offsets.at(first.start_byte), offsets.at(last.end_byte)
    while end > start and text[end - 1].isspace():
        end -= 1
    first_line, last_line = bisect_right(starts, start) - 1, bisect_right(starts, max(start, end - 1)) - 1
    line_end = starts[last_line] + len(piece.lines[last_line])
    alone = not text[starts[first_line] : start].strip() and not text[end:line_end].strip(" \t;,")
    if alone and 4 <= line_end - start <= MOST_CHARACTERS:
        yield start, line_end, is_body


class _Offsets:
    """From offsets into a text's UTF-8 bytes to offsets into the text."""

    def __init__(self, text: str, data: bytes) -> None:
        self._plain = len(text) == len(data)
        self._data = data
        self._byte = self._character = 0

    def at(self, byte: int) -> int:
        """Return the character that begins at a byte."""
        if self._plain:
            return byte
        # Offsets come in no order, but mostly near each other.
        if byte >= self._byte:
            self._character += len(self._data[self._byte : byte].decode("utf-8", "ignore"))
        else:
            self._character -= len(self._data[byte : self._byte].decode("utf-8", "ignore"))
        self._byte = byte
        return self._character
