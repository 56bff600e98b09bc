"""What the document itself says elsewhere: lines beyond those that the prompt shows, like the ones above the cursor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from intract_lsp.index.query import CursorLines
from intract_lsp.index.ranking import Candidate, Source

SHOWN_ABOVE = 60
SHOWN_BELOW = 30
"""Lines around the cursor that the prompt shows anyway."""

FARTHEST = 1000
"""Lines above and below that are looked at: as many as the deadline allows."""

BLOCK = 32
"""Lines of which at most one excerpt is taken."""

OVERLAP = 5
"""Lines of the next block that are looked at, too, so that what crosses a border is found."""

LEAST_LIKENESS = 2.5
"""On commit replay, excerpts that resemble the place less made the true lines less likely."""


def elsewhere(path: str, above: Sequence[str], below: Sequence[str], place: CursorLines) -> Iterator[Candidate]:
    """Yield excerpts of a document that the prompt does not show, without lines that seem to hold a secret.

    ``above`` and ``below`` are all lines around the cursor's, ``place`` what they are compared with. Scores are
    likenesses.
    """
    first = max(0, len(above) - FARTHEST)
    yield from _excerpts(path, above[first : max(0, len(above) - SHOWN_ABOVE)], first, place)
    yield from _excerpts(path, below[SHOWN_BELOW:FARTHEST], len(above) + 1 + SHOWN_BELOW, place)


def _excerpts(path: str, lines: Sequence[str], number: int, place: CursorLines) -> Iterator[Candidate]:
    """Yield at most one excerpt a block; ``number`` is the first line's in the document."""
    # Imported on the thread that looks: its detectors take a while.
    from intract_lsp.index.secrets import secret_among

    for start in range(0, len(lines), BLOCK):
        block = lines[start : start + BLOCK + OVERLAP]
        excerpt = place.excerpt(block)
        if excerpt.likeness < LEAST_LIKENESS:
            continue
        first, end = start + excerpt.start, start + excerpt.end
        if not secret_among(lines, first, end):
            text = "\n".join(lines[first:end]).strip("\n")
            yield Candidate(path, text, number + first, Source.DOCUMENT, excerpt.likeness)
