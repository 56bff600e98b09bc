"""What several filters ask of lines: their indentation, whether they only close a block, what follows the cursor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from intract_lsp.completion.context import CompletionContext

_CLOSING = re.compile(r"\s*(?:[)\]}]+[;,]?|end[)\]};,]*|fi|done|esac|</[\w.:-]+>)\s*")


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """Where a list of lines ends too late."""

    trigger: int
    """Index of the line that decided it."""
    keep: int
    """How many lines to keep."""


def width(line: str, unit: str) -> int:
    """Return the columns of a line's indentation; a tab counts as one ``unit``, or four columns where that is a tab."""
    blank = line[: len(line) - len(line.lstrip(" \t"))]
    return len(blank.expandtabs(columns(unit)))


def columns(unit: str) -> int:
    """Return the columns of one level of indentation."""
    return 4 if "\t" in unit or not unit else len(unit)


def is_closing(line: str) -> bool:
    """Whether a line holds nothing but the end of a block: brackets, ``end`` and its like, or a closing tag."""
    return _CLOSING.fullmatch(line) is not None


def closing_follows(line: str, context: CompletionContext) -> bool:
    """Whether the next line of code below the cursor already closes what the closing ``line`` would."""
    below = context.following_lines[:1]
    if not below or width(below[0], context.indent_unit) != width(line, context.indent_unit):
        return False
    theirs, ours = below[0].strip(), line.strip()
    return theirs[0] == ours[0] if ours[0] in ")]}" else theirs.startswith(ours.rstrip(")]};,"))


def full_line(lines: Sequence[str], index: int, context: CompletionContext) -> str:
    """Return line ``index`` of a suggestion as the document would have it."""
    return context.line_prefix + lines[0] if index == 0 else lines[index]


def length_of(lines: Sequence[str], count: int) -> int:
    """Return the characters of the first ``count`` lines without the blank lines at their end and the last newline."""
    while count and not lines[count - 1].strip():
        count -= 1
    return sum(len(line) + 1 for line in lines[:count]) - 1 if count else 0


def cut(text: str, place: Cut | None) -> str:
    """Return ``text`` up to a cut."""
    if place is None:
        return text
    lines = text.split("\n")
    return text[: length_of(lines, place.keep)]
