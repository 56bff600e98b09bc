"""Which pieces of the workspace stand before a prompt, and in which order. Pure.

Each source (full-text search, symbols, live context) ranks in its own unit, so ranks are fused and not scores:
reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

RANK_CONSTANT = 10
"""What is added to a rank before its reciprocal is taken. The paper's 60 is for lists of a thousand; with lists of some
sixteen it would make the first and the last all but equal."""

CHUNK_TOKENS = 3
"""What the prompt spends on a chunk beside its path and its text: a sentinel and line ends."""

SHOWN_SHARE = 0.75
"""A chunk of which this share of the lines can be read in the prompt anyway tells nothing new. A lower share would drop
the best ones: those that begin like the text above the cursor and show how it went on elsewhere."""

ALIKE_SHARE = 0.5
"""Two chunks that share this part of the shorter one's lines tell the same."""

STAYING = 1.5
"""By how much a chunk that is in the prompt already is preferred: another one has to be clearly better to take its
place, since all that stands behind the exchanged chunk must be computed again."""

HELD_SHARE = 0.6
"""A candidate of which this share of the lines is in a chunk of the last prompt counts as that chunk: a window that
moves along with the cursor stays where it is for a few lines."""

_Key: TypeAlias = tuple[str, int, str]

_MEANINGFUL = re.compile(r"\w\W*\w\W*\w")


class Source(str, Enum):
    """Where a candidate comes from."""

    SYMBOLS = "symbols"
    """Definitions of the names that are used around the cursor."""
    SEARCH = "search"
    """Full-text search."""
    DOCUMENT = "document"
    """The document itself, far from the cursor."""
    LIVE = "live"
    """What the user edited, visited or has open."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A piece of a file that some source proposes."""

    path: str
    """Relative to the workspace folder, with ``/``."""
    text: str
    start_line: int
    """First line, from 0. A text of several places (signatures) has its first one's."""
    source: Source
    score: float
    """In the source's own unit; higher is better."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate that was chosen, with why."""

    candidate: Candidate
    score: float
    """The fused score."""
    sources: tuple[Source, ...]
    """All that proposed these lines, the one that ranked them best first."""
    tokens: int
    """What it costs in the prompt."""


@dataclass(frozen=True, slots=True)
class Selection:
    """How much is chosen."""

    tokens: int
    """Budget for all chunks with their paths."""
    most: int = 8
    """Chunks."""


def select(
    candidates: Iterable[Candidate],
    shown: Collection[str],
    count_tokens: Callable[[str], int],
    selection: Selection,
    present: Sequence[Candidate] = (),
) -> tuple[Ranked, ...]:
    """Choose and order the chunks of a prompt.

    ``shown`` are the lines of the current file that the prompt shows anyway. ``present`` are the chunks of the last
    prompt in their order: those that are chosen again keep it and stand first, so that their keys and values stay.
    Behind them come the new ones, the best last, where it is nearest to the current file. Choosing again with what was
    chosen as ``present`` chooses the same. Candidates may come in any order.
    """
    shown_lines = _meaningful(shown)
    places = {_key(candidate): place for place, candidate in enumerate(present)}
    proposals = [
        (score * (STAYING if _key(candidate) in places else 1.0), score, candidate, sources)
        for candidate, score, sources in _fuse(candidates, present)
    ]
    proposals.sort(key=lambda proposal: (-proposal[0], _key(proposal[2])))
    chosen: list[Ranked] = []
    chosen_lines: list[frozenset[str]] = []
    room = selection.tokens
    for _, score, candidate, sources in proposals:
        if len(chosen) == selection.most:
            break
        lines = _meaningful(candidate.text.splitlines())
        if not lines or len(lines & shown_lines) >= SHOWN_SHARE * len(lines) or _alike(lines, chosen_lines):
            continue
        tokens = count_tokens(f"{candidate.path}\n{candidate.text}") + CHUNK_TOKENS
        if tokens <= room:
            room -= tokens
            chosen.append(Ranked(candidate, score, sources, tokens))
            chosen_lines.append(lines)
    staying = [ranked for ranked in chosen if _key(ranked.candidate) in places]
    staying.sort(key=lambda ranked: places[_key(ranked.candidate)])
    new = [ranked for ranked in chosen if _key(ranked.candidate) not in places]
    return (*staying, *reversed(new))


def _fuse(
    candidates: Iterable[Candidate], present: Sequence[Candidate]
) -> Iterator[tuple[Candidate, float, tuple[Source, ...]]]:
    """Yield each distinct piece once, with the sum over its sources and these, the best first."""
    by_source: dict[Source, list[Candidate]] = {}
    for candidate in candidates:
        by_source.setdefault(candidate.source, []).append(candidate)
    found: dict[_Key, dict[Source, tuple[float, Candidate]]] = {}
    for source in sorted(by_source):
        ranked = sorted(by_source[source], key=lambda candidate: (-candidate.score, _key(candidate)))
        # Ranks are those without what is present, so that these are never worse off for it.
        for rank, candidate in enumerate(ranked):
            held = _held(candidate, present)
            share = 1.0 / (RANK_CONSTANT + rank + 1)
            found.setdefault(_key(held), {}).setdefault(source, (share, held))
    for by in found.values():
        shares = sorted(by.items(), key=lambda item: (-item[1][0], item[0]))
        best = shares[0][1][1]
        yield best, sum(share for _, (share, _) in shares), tuple(source for source, _ in shares)


def _held(candidate: Candidate, present: Sequence[Candidate]) -> Candidate:
    """Return the chunk of the last prompt that holds most of a candidate's lines, unchanged; else the candidate."""
    lines = candidate.text.split("\n")
    for other in present:
        if (other.path, other.source) == (candidate.path, candidate.source):
            others = other.text.split("\n")
            offset = candidate.start_line - other.start_line
            mine = lines[max(0, -offset) : max(0, len(others) - offset)]
            if len(mine) >= HELD_SHARE * len(lines) and mine == others[max(0, offset) : max(0, offset) + len(mine)]:
                return replace(other, score=candidate.score)
    return candidate


def _key(candidate: Candidate) -> _Key:
    return candidate.path, candidate.start_line, candidate.text


def _meaningful(lines: Iterable[str]) -> frozenset[str]:
    """Return the lines, stripped, that say more than a bracket or a keyword of two letters."""
    return frozenset(line.strip() for line in lines if _MEANINGFUL.search(line))


def _alike(lines: frozenset[str], others: Iterable[frozenset[str]]) -> bool:
    return any(len(lines & other) >= ALIKE_SHARE * min(len(lines), len(other)) for other in others)
