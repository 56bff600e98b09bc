"""What is looked for: the terms of the lines around the cursor's line, and the lines that continue most like it. Pure.

Nothing here looks at the cursor's own line: what is found, and with it the prompt, stays while a line is typed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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

LINES_KNOWN = 1 << 14
"""Whose terms are remembered: at the next line that is typed most of a document is as it was."""

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
            terms for line in islice(_with_text(reversed(above)), COMPARED_LINES) if (terms := _terms_of_line(line))
        ]
        self._any = frozenset[str]().union(*self._terms)
        self._weights = [math.exp(-COMPARED_DECAY * distance) for distance in range(len(self._terms))]

    @property
    def most(self) -> float:
        """The likeness of lines that are these very lines; 0 where there are none with text."""
        return sum(
            weight * min(len(terms), MOST_TERMS) for weight, terms in zip(self._weights, self._terms, strict=True)
        )

    def excerpt(self, lines: Sequence[str]) -> Excerpt:
        """Return the part of a chunk around the line whose surroundings resemble the lines above the cursor's most.

        The window that RepoCoder (Zhang et al., EMNLP 2023) calls a continuation: a person who wrote these lines before
        went on below them. The lines' order counts, and one line more or less between them is allowed for.
        """
        numbers, alike = [], []
        for number, line in enumerate(lines):
            if found := _terms_of_line(line):
                numbers.append(number)
                alike.append(None if self._any.isdisjoint(found) else [_alike(wanted, found) for wanted in self._terms])
        best, last = self._best(alike)
        at = numbers[last] if best else 0
        start = max(0, min(at - LINES_BEFORE, len(lines) - EXCERPT_LINES))
        return Excerpt(start, min(len(lines), start + EXCERPT_LINES), best)

    def _best(self, alike: Sequence[list[float] | None]) -> tuple[float, int]:
        """Return the greatest likeness of the lines above any line's end, and the first line that has it.

        ``alike`` has for each line how much it is like each one above the cursor's; ``None`` = not at all.
        """
        best, at = 0.0, 0
        # Where no like line stands near there is nothing to add up.
        steps = range(len(self._terms) + 1)
        near = {row + step for row, found in enumerate(alike) if found for step in steps}
        for last in sorted(near.intersection(range(len(alike)))):
            likeness = 0.0
            for distance, weight in enumerate(self._weights[: last + 2]):
                here = last - distance
                most = 0.0
                if here >= 0 and (found := alike[here]):
                    most = found[distance]
                if here >= 1 and (found := alike[here - 1]):
                    most = max(most, found[distance] * SHIFTED)
                if distance and (found := alike[here + 1]):
                    most = max(most, found[distance] * SHIFTED)
                likeness += weight * most
            if likeness > best:
                best, at = likeness, last
        return best, at


@lru_cache(LINES_KNOWN)
def _terms_of_line(line: str) -> frozenset[str]:
    return frozenset(code_terms(line))


def _alike(wanted: frozenset[str], found: frozenset[str]) -> float:
    """Jaccard similarity, counted up to `MOST_TERMS` times."""
    common = len(wanted & found)
    return common / (len(wanted) + len(found) - common) * min(len(wanted), MOST_TERMS) if common else 0.0


def _with_text(lines: Iterable[str]) -> Iterable[str]:
    return (line for line in lines if line.strip())
