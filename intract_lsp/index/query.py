"""What is looked for: the terms of the lines around the cursor's line, and the lines that continue most like it. Pure.

Nothing here looks at the cursor's own line: what is found, and with it the prompt, stays while a line is typed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from intract_lsp.index.terms import code_terms

LINES_ABOVE = 15
LINES_BELOW = 3
"""Lines with text around the cursor's line whose terms are looked for."""

DECAY = 0.15
"""A line's weight falls by this power of e with each line between it and the cursor's. Measured on commit replay: with
equal weights, fewer of the lines that are wanted are found."""

BELOW_WEIGHT = 0.5

COMPARED_LINES = 5
"""Lines with text above the cursor's line that are compared with a chunk's, in their order."""

COMPARED_DECAY = 0.35

SHIFTED = 0.8
"""How much a line counts that stands one line off."""

MOST_TERMS = 4
"""A line with more terms than this is no better evidence than one with as many."""

EXCERPT_LINES = 8
LINES_BEFORE = 3
"""Of an excerpt, above the line that resembles the last one above the cursor's."""


def query_weights(above: Sequence[str], below: Sequence[str]) -> dict[str, float]:
    """Return the terms to search for with their weights in (0, 1], the nearest lines' first.

    ``above`` are the lines before the cursor's line and ``below`` those behind it, in the order of the file.
    """
    weights: dict[str, float] = {}
    for distance, line in enumerate(islice(_with_text(reversed(above)), LINES_ABOVE)):
        for term in code_terms(line):
            weights.setdefault(term, math.exp(-DECAY * distance))
    for line in islice(_with_text(below), LINES_BELOW):
        for term in code_terms(line):
            weights[term] = max(weights.get(term, 0.0), BELOW_WEIGHT)
    return weights


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The lines of a chunk that tell most of what may come at the cursor."""

    start: int
    """Index of the first line."""
    end: int
    """Behind the last one."""
    likeness: float
    """How much the text above resembles the one above the cursor's line; 0 for not at all, at most about 11."""


class CursorLines:
    """The lines above a cursor's line, for comparison with chunks."""

    def __init__(self, above: Sequence[str]) -> None:
        self._terms = [
            terms
            for line in islice(_with_text(reversed(above)), COMPARED_LINES)
            if (terms := frozenset(code_terms(line)))
        ]

    @property
    def most(self) -> float:
        """The likeness of lines that are these very lines; 0 where there are none with text."""
        return sum(
            math.exp(-COMPARED_DECAY * distance) * min(len(terms), MOST_TERMS)
            for distance, terms in enumerate(self._terms)
        )

    def excerpt(self, lines: Sequence[str]) -> Excerpt:
        """Return the part of a chunk around the line whose surroundings resemble the lines above the cursor's most.

        The window that RepoCoder (Zhang et al., EMNLP 2023) calls a continuation: a person who wrote these lines before
        went on below them. The lines' order counts, and one line more or less between them is allowed for.
        """
        numbers, terms = [], []
        for number, line in enumerate(lines):
            if found := frozenset(code_terms(line)):
                numbers.append(number)
                terms.append(found)
        alike = [[_alike(wanted, found) for wanted in self._terms] for found in terms]
        best, at = 0.0, 0
        for last in range(len(numbers)):
            likeness = 0.0
            for distance in range(min(len(self._terms), last + 2)):
                first = max(0, last - distance - 1)
                nearby = (
                    alike[row][distance] * (1.0 if row == last - distance else SHIFTED)
                    for row in range(first, min(last, last - distance + 1) + 1)
                )
                likeness += math.exp(-COMPARED_DECAY * distance) * max(nearby)
            if likeness > best:
                best, at = likeness, numbers[last]
        start = max(0, min(at - LINES_BEFORE, len(lines) - EXCERPT_LINES))
        return Excerpt(start, min(len(lines), start + EXCERPT_LINES), best)


def _alike(wanted: frozenset[str], found: frozenset[str]) -> float:
    """Jaccard similarity, counted up to `MOST_TERMS` times."""
    common = len(wanted & found)
    return common / (len(wanted) + len(found) - common) * min(len(wanted), MOST_TERMS) if common else 0.0


def _with_text(lines: Iterable[str]) -> Iterable[str]:
    return (line for line in lines if line.strip())
