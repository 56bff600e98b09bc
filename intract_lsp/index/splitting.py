"""Where a long text is cut: at the outermost statement or paragraph that begins near the wished size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tree_sitter import Node

TARGET_CHARACTERS = 1200
MOST_CHARACTERS = 2000
MOST_LINES = 60

_LOOKED_INTO_ROWS = 8
"""A node with fewer rows is not cut if that can be helped, so nothing below it needs to be known."""

_DEEPEST = 24

_HEADING = re.compile(r" {0,3}(#{1,6})(?:\s|$)")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_PARAGRAPH = 10
_IN_FENCE = 20


@dataclass(frozen=True, slots=True)
class Room:
    """How much a piece may hold."""

    target: int
    """Characters, line ends included, at which a longer text is cut."""
    characters: int
    """Characters that a piece has at most."""
    lines: int

    def less(self, lines: Sequence[str]) -> Room:
        """Return what is left where ``lines`` stand above each piece."""
        taken = sum(len(line) + 1 for line in lines)
        left = self.characters - taken
        return Room(max(self.target - taken, left // 2), left, self.lines - len(lines))


WHOLE = Room(TARGET_CHARACTERS, MOST_CHARACTERS, MOST_LINES)


def split(lines: Sequence[str], cuts: Mapping[int, int], room: Room, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the ends of pieces of ``lines`` that fit the room and make up all of them, in order.

    ``cuts`` has the depth at which something begins, by index counted from ``start``: the shallowest cut in the second
    half of a piece is taken, the last of several. A line longer than the room is a piece by itself.
    """
    first = 0
    while first < len(lines):
        target, most = _reach(lines, first, room)
        if most == len(lines):
            yield first, most
            return
        earliest = first + max(1, (target - first) // 2)
        candidates = [index for index in range(earliest, target + 1) if start + index in cuts]
        candidates = candidates or [index for index in range(target + 1, most + 1) if start + index in cuts]
        cut = min(candidates, key=lambda index: (cuts[start + index], -index)) if candidates else max(target, first + 1)
        yield first, cut
        first = cut


def _reach(lines: Sequence[str], first: int, room: Room) -> tuple[int, int]:
    """Return the ends of the pieces from ``first`` on that have the wished and the greatest size."""
    size, end, target = 0, first, first
    while end < len(lines) and end - first < room.lines:
        size += len(lines[end]) + 1
        if size > room.characters + 1 and end > first:
            break
        end += 1
        if size <= room.target:
            target = end
    return target, end


def statement_cuts(nodes: Iterable[Node], comments: frozenset[str]) -> dict[int, int]:
    """Return the rows at which the parts of long syntax nodes begin, with how deep they lie."""
    cuts: dict[int, int] = {}
    waiting = [(node, 0) for node in nodes]
    while waiting:
        node, depth = waiting.pop()
        if node.end_point.row - node.start_point.row < _LOOKED_INTO_ROWS or depth > _DEEPEST:
            continue
        comment_end = last_row = -1
        for child in node.named_children:
            row = child.start_point.row
            # A comment and what it stands above stay together, and what shares a line with something before it
            # does not begin there.
            if row not in (comment_end, last_row) and depth < cuts.get(row, _DEEPEST + 1):
                cuts[row] = depth
            last_row = child.end_point.row
            if child.type in comments:
                comment_end = last_row if child.end_point.column == 0 else last_row + 1
            else:
                waiting.append((child, depth + 1))
    return cuts


def indentation_cuts(lines: Sequence[str]) -> dict[int, int]:
    """Return the lines behind blank ones with their indentation: the best guess without a grammar."""
    cuts: dict[int, int] = {}
    blank = True
    for row, line in enumerate(lines):
        text = line.lstrip()
        if text and blank:
            cuts[row] = len(line) - len(text)
        blank = not text
    return cuts


def prose_cuts(lines: Sequence[str]) -> dict[int, int]:
    """Return the lines at which headings (1 to 6 deep) and paragraphs begin."""
    cuts: dict[int, int] = {}
    fence, blank = "", True
    for row, line in enumerate(lines):
        opened = _FENCE.match(line)
        heading = _HEADING.match(line) if not fence else None
        if heading:
            cuts[row] = len(heading.group(1))
        elif blank and line.strip():
            cuts[row] = _IN_FENCE if fence else _PARAGRAPH
        if opened:
            fence = "" if fence == opened.group(1) else fence or opened.group(1)
        blank = not line.strip()
    return cuts
