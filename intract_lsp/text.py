"""A document's text as lines, edited in place, with positions in the three encodings of the protocol.

Line ends are ``\\n``, ``\\r\\n`` and ``\\r``, as the protocol says; ``str.splitlines`` (and with it pygls' documents)
also ends lines at form feeds and Unicode separators, after which every position would be off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

WINDOW = 32_768
"""Characters on either side of the cursor that a request copies: more than any usual prompt budget shows."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_LINE_END = re.compile(r"[\r\n]+\Z")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class PositionEncoding(str, Enum):
    """What a position's ``character`` counts."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"

    def units(self, text: str) -> int:
        """Return how many units a text takes; a lone surrogate counts as the one unit that it is."""
        if self is PositionEncoding.UTF32 or text.isascii():
            return len(text)
        if self is PositionEncoding.UTF16:
            return len(text.encode("utf-16-le", "surrogatepass")) // 2
        return len(text.encode("utf-8", "surrogatepass"))

    def to_column(self, line: str, units: int) -> int:
        """Return the index into ``line`` that ``units`` stand for; inside a character it is the character's start."""
        # A character takes at least one unit. Halving measures each part of the line about once, long as it may be.
        low, high = 0, min(max(units, 0), len(line))
        while low < high:
            middle = (low + high + 1) // 2
            size = self.units(line[low:middle])
            if size <= units:
                low, units = middle, units - size
            else:
                high = middle - 1
        return low

    def from_column(self, line: str, column: int) -> int:
        """Return the units before the index ``column`` of ``line``."""
        return self.units(line[:column])


@dataclass(frozen=True, slots=True)
class Place:
    """A line and an index into it, both from 0, in characters."""

    line: int
    column: int


class TextBuffer:
    """The text of one open document. An edit costs what it touches, not the document's length."""

    def __init__(self, text: str, encoding: PositionEncoding) -> None:
        self._encoding = encoding
        self._lines = split_lines(text)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self._lines)

    @property
    def line_count(self) -> int:
        """Number of lines; the empty one behind a final line end counts."""
        return len(self._lines)

    def line(self, index: int) -> str:
        """Return a line without its end."""
        return _LINE_END.sub("", self._lines[index])

    def place(self, line: int, character: int) -> Place:
        """Return the place of a client's position, moved into the document where it lies outside."""
        if line < 0:
            return Place(0, 0)
        if line >= len(self._lines):
            return Place(len(self._lines) - 1, len(self.line(len(self._lines) - 1)))
        return Place(line, self._encoding.to_column(self.line(line), character))

    def contains(self, line: int, character: int) -> bool:
        """Return whether a client's position lies inside the document; behind a line's end counts as its end."""
        return 0 <= line < len(self._lines) and character >= 0

    def units(self, place: Place) -> int:
        """Return a place's column in the client's units."""
        return self._encoding.from_column(self._lines[place.line], place.column)

    def replace(self, start: Place, end: Place, text: str) -> None:
        """Put ``text`` in the place of what lies between two places."""
        if (end.line, end.column) < (start.line, start.column):
            start, end = end, start
        first, last = start.line, end.line + 1
        changed = self._lines[start.line][: start.column] + text + self._lines[end.line][end.column :]
        # A carriage return and a line feed that come to stand side by side are one line end.
        if first > 0 and self._lines[first - 1].endswith("\r") and changed.startswith("\n"):
            first -= 1
            changed = self._lines[first] + changed
        if last < len(self._lines) and not changed.endswith("\n"):
            changed += self._lines[last]
            last += 1
        # Halves of a character that two edits brought side by side are one character to the client.
        if _PAIR.search(changed):
            changed = changed.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        lines = split_lines(changed)
        if last < len(self._lines) and lines[-1] == "":
            lines.pop()
        self._lines[first:last] = lines

    def before(self, place: Place, limit: int) -> str:
        """Return at least ``limit`` characters before a place where there are as many, from a line's start on.

        Starts only at every 256th line, so that the start stays where it is while a large document is edited.
        A line longer than ``limit`` is cut.
        """
        first, size = place.line, place.column
        while first > 0 and size < limit:
            first -= 1
            size += len(self._lines[first])
        first = first // 256 * 256
        parts = [line if len(line) <= limit else line[-limit:] for line in self._lines[first : place.line]]
        own = self._lines[place.line][: place.column]
        return "".join(parts) + (own if len(own) <= limit else own[-limit:])

    def behind(self, place: Place, limit: int) -> str:
        """Return about ``limit`` characters behind a place, up to a line's end where possible."""
        own = self._lines[place.line][place.column :][:limit]
        parts, size = [own], len(own)
        for line in self._lines[place.line + 1 :] if place.line + 1 < len(self._lines) else ():
            if size >= limit:
                break
            parts.append(line[:limit])
            size += len(line)
        return "".join(parts)


def split_lines(text: str) -> list[str]:
    """Split into lines with their ends; a text that ends with a line end has an empty last line."""
    lines = _LINE.findall(text)
    if not lines or lines[-1].endswith(("\n", "\r")):
        lines.append("")
    return lines
