"""Places in the newest code that a run is measured at, as evaluation items; nothing of them is trained on."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from intract_lsp.completion.context import MIN_PREFIX_CHARACTERS, comment_mark
from intract_lsp.evaluation.items import Item
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.keywords import KEYWORDS
from intract_lsp.training.corpus import Piece
from intract_lsp.training.dedupe import SIMILARITY
from intract_lsp.training.git_objects import Added
from intract_lsp.training.spans import Holes

SET = "held-out"
"""The name of the collection."""

MOST_OF_A_FILE = 0.2
"""Of the places may lie in one file, as far as there are others."""

LEAST_OF_A_FILE = 10
"""Places that any file may have."""

SETTINGS = frozenset({"toml", "yaml"})
"""Languages of files that are measured at only where there is too little code: half of what they hold is prose."""

NEIGHBOURS = 6
"""Added lines on either side by which a place is known again in what is trained on: moved code is not new."""

FEW_FILES = 6
"""With fewer files, their runs of added lines are shared out between the halves, and not the files."""

_TRIGGERS = ("newline", "midline", "midident")
"""Where the cursor stands: where the line's code begins, behind a word or sign, inside a name."""

_WORD = re.compile(r"[A-Za-z_]\w*")
_INSIDE = re.compile(r"(?<=[\s([{,.=:<>+\-*/|&!\"'])(?=\w)")


@dataclass(frozen=True)
class HeldOut:
    """A file with lines that are kept apart."""

    pieces: tuple[Piece, ...]
    """As the file reads now."""
    added: tuple[Added, ...] | None
    """The lines; ``None`` for the whole file, as where there is no history."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Lines of a piece that were added together."""

    holes: Holes
    start: int
    end: int
    pure: bool | None
    number: int
    """Among those of its file."""
    names: Mapping[str, int]
    """How often each word is in the file."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A line that a place may be made of; texts are not copied before it is taken."""

    run: _Run
    line: int

    @property
    def path(self) -> str:
        return self.run.holes.piece.path

    @property
    def language(self) -> str:
        return self.run.holes.piece.language

    @property
    def order(self) -> bytes:
        return digest(_name(self.run.holes.piece, self.line))

    @property
    def around(self) -> str:
        """Added text about it, by which it is looked for in what is trained on."""
        first, last = max(self.run.start, self.line - NEIGHBOURS), min(self.run.end, self.line + NEIGHBOURS + 1)
        return "\n".join(self.run.holes.piece.lines[first:last])


def places(
    files: Iterable[HeldOut], most: int, share_known: Callable[[str], float], grammars: Grammars
) -> tuple[list[Item], list[Item]]:
    """Return at most ``most`` places in two halves: one to steer the training by, one that is looked at once.

    ``share_known`` says which share of a text can be found in what is trained on. Each half has files of its own, where
    there are enough of them, and about as much of each language. The same files give the same places.
    """
    found = sorted((place for file in files for place in _of_file(file, grammars)), key=lambda place: place.order)
    cap = max(LEAST_OF_A_FILE, int(most * MOST_OF_A_FILE))
    taken: list[_Place] = []
    spare: list[_Place] = []
    counts: Counter[str] = Counter()
    for place in found:
        if len(taken) == most:
            break
        if share_known(place.around) >= SIMILARITY:
            continue
        is_code = place.language not in SETTINGS
        (taken if is_code and counts[place.path] < cap else spare).append(place)
        counts[place.path] += 1
    taken += spare[: most - len(taken)]
    return _halves(taken)


def _halves(taken: Sequence[_Place]) -> tuple[list[Item], list[Item]]:
    by_run = len({place.path for place in taken}) < FEW_FILES
    units: dict[str, list[_Place]] = {}
    for place in taken:
        units.setdefault(f"{place.path}\0{place.run.number}" if by_run else place.path, []).append(place)
    sizes = Counter(place.language for place in taken)
    halves: tuple[list[_Place], list[_Place]] = [], []
    counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()

    def order(pair: tuple[str, list[_Place]]) -> tuple[int, str, int, bytes]:
        name, members = pair
        language = members[0].language
        return -sizes[language], language, -len(members), digest(name)

    # Language by language, the largest first, each to the half that has less of the language: some languages are far
    # easier to guess than others, and what is learnt of one half should show at the other.
    for _, members in sorted(units.items(), key=order):
        language = members[0].language
        half = min((0, 1), key=lambda number: (counts[number][language], len(halves[number]), -number))
        halves[half].extend(members)
        counts[half][language] += len(members)
    validation, test = (sorted(half, key=lambda place: place.order) for half in halves)
    return [_item(place) for place in validation], [_item(place) for place in test]


def _of_file(file: HeldOut, grammars: Grammars) -> Iterator[_Place]:
    names: Counter[str] = Counter(name for piece in file.pieces for name in _WORD.findall(piece.text))
    for piece in file.pieces:
        holes = Holes(piece, grammars)
        # Serving asks for nothing at a file's very beginning.
        first = next((number + 1 for number, line in enumerate(piece.lines) if _has_text(line)), len(piece.lines))
        added = file.added if file.added is not None else (Added(0, piece.first_line + len(piece.lines), False),)
        for number, lines in enumerate(added):
            start = max(0, lines.start - piece.first_line)
            end = min(len(piece.lines), lines.end - piece.first_line)
            run = _Run(holes, start, end, None if file.added is None else lines.pure, number, names)
            for line in range(max(start, first), end):
                if is_telling(piece.lines[line], piece.language):
                    yield _Place(run, line)


def _item(place: _Place) -> Item:
    """Return the place; what is missing ends before the end of the lines that were added with it."""
    run, line = place.run, place.line
    piece = run.holes.piece
    own, start = piece.lines[line], piece.starts[line]
    name = _name(piece, line)
    # Not by what places are chosen by: of many lines those come first whose digest begins with a small number.
    column, trigger = cursor_column(own, digest(f"{name} cursor"))
    cursor, line_end = start + column, start + len(own)
    block_end = run.holes.block_at(cursor)
    if block_end is None or bisect_right(piece.starts, block_end) > run.end:
        block_end = line_end
    truth = piece.text[cursor:line_end]
    used = Counter(_WORD.findall(own))
    # A name that the cursor stands in counts whole.
    names = {match[0] for match in _WORD.finditer(own) if match.end() > column and len(match[0]) > 2}
    words = names - KEYWORDS.get(piece.language, frozenset())
    return Item(
        task_id=f"{SET}/{name}:{column + 1}",
        path=piece.path,
        prefix=piece.text[:cursor],
        suffix=piece.text[block_end:],
        truth_line=truth,
        truth_block=piece.text[cursor:block_end],
        set=SET,
        trigger=trigger,
        crossfile=any(run.names[word] == used[word] for word in words),
        pure_insertion=run.pure,
    )


def cursor_column(line: str, chance: bytes) -> tuple[int, str]:
    """Return where the cursor stands on a line and how that is called, by ``chance``, 3 bytes or more."""
    indent = len(line) - len(line.lstrip())
    words = [match.start() for match in _INSIDE.finditer(line, indent + 1) if line[match.start() :].strip()]
    trigger = _TRIGGERS[(0, 0, 1, 1, 2)[chance[0] % 5]]
    if trigger == "midline" and words:
        return words[chance[1] % len(words)], trigger
    names = [match for match in _WORD.finditer(line) if len(match[0]) > 2]
    inside = [match.start() + 1 + chance[1] % min(4, len(match[0]) - 1) for match in names]
    if trigger == "midident" and inside:
        return inside[chance[2] % len(inside)], trigger
    return indent, "newline"


def _has_text(line: str) -> bool:
    return len(line.strip()) >= MIN_PREFIX_CHARACTERS


def is_telling(line: str, language: str) -> bool:
    """Return whether a line is code, and enough of it that writing it for the user is of any use."""
    shown = line.strip()
    if len(shown) < 4 or not _WORD.search(shown):
        return False
    return not shown.startswith((comment_mark(language), "/*", "* ", "*/", "<!--", '"""', "'''"))


def _name(piece: Piece, line: int) -> str:
    return f"{piece.path}:{piece.first_line + line + 1}"


def digest(text: str) -> bytes:
    """Return what puts texts in an order by chance that is the same each time."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
