"""What the user is at: the regions edited, the places visited and the text copied lately, of all open documents."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from intract_lsp.text import TextBuffer

WINDOW_LINES = 24
"""Lines of a snippet, and the most that a region of edits spans."""

LONGEST_SNIPPET = 2_000
"""Characters. A longer window loses the lines that are farthest from its place."""

LONGEST_EDIT = 200
"""Lines. A larger edit is a reformatted or replaced document and no place where the user is at work."""

NEAR_LINES = 3
"""An edit this close to a region that was edited just now belongs to it."""

NEAR_SECONDS = 30.0
"""How long a region takes up edits that are near and do not touch it."""

DOCUMENTS = 32
PLACES = 12
"""Places kept of a document, both kinds together."""
PLACES_OF_CLOSED = 2
COPIES = 4


class LiveKind(Enum):
    """How a snippet came to the user's mind."""

    EDITED = "edited"
    COPIED = "copied"
    VISITED = "visited"


MOST = {LiveKind.EDITED: 6, LiveKind.COPIED: 2, LiveKind.VISITED: 4}
"""Snippets of a kind, at most."""


@dataclass(frozen=True)
class LiveSnippet:
    """Some lines of a document as they are now, unsaved text included."""

    path: str
    start_line: int
    """From 0; 0 for copied text whose place is not known."""
    text: str
    """Whole lines with line feeds between them."""
    kind: LiveKind
    age_seconds: float
    """Since the edit, visit or copy."""


@dataclass
class _Place:
    start: int
    end: int
    """Its last line."""
    kind: LiveKind
    time: float
    kept: LiveSnippet | None = None
    """What stood there when the document was closed."""


@dataclass
class _Document:
    buffer_of: Callable[[], TextBuffer] | None
    """``None`` once closed."""
    places: list[_Place] = field(default_factory=list)
    """The newest last."""


@dataclass(frozen=True)
class _Copy:
    path: str
    start_line: int
    text: str
    time: float


class RecentContext:
    """Takes note of edits, visits and copies, and gives the lines around them. For the event loop only.

    Times are seconds of one clock that never goes back; paths are any text that names a document. Holds places and not
    text, but of what was closed or copied: at most `DOCUMENTS` × `PLACES_OF_CLOSED` + `COPIES` snippets. Whether a
    document or a copied text may be used at all (secrets, ignored files) is for the caller to decide, before it tells.
    """

    def __init__(self) -> None:
        self._documents: OrderedDict[str, _Document] = OrderedDict()
        self._copies: deque[_Copy] = deque(maxlen=COPIES)

    def opened(self, path: str, buffer_of: Callable[[], TextBuffer]) -> None:
        """A document is open; ``buffer_of`` gives its text at any time until it is closed."""
        document = self._documents.setdefault(path, _Document(None))
        document.buffer_of = buffer_of
        for place in document.places:
            place.kept = None
        self._documents.move_to_end(path)
        while len(self._documents) > DOCUMENTS:
            self._documents.popitem(last=False)

    def closed(self, path: str) -> None:
        """A document is open no more; what stands at its newest places is kept."""
        document = self._documents.get(path)
        if document is None or document.buffer_of is None:
            return
        buffer = document.buffer_of()
        document.buffer_of = None
        document.places = document.places[-PLACES_OF_CLOSED:]
        for place in document.places:
            place.kept = _window(path, buffer, place, place.time)

    def changed_on_disk(self, path: str) -> None:
        """A file was written or removed: what is kept of it since it was closed is out of date."""
        document = self._documents.get(path)
        if document is not None and document.buffer_of is None:
            del self._documents[path]

    def edited(self, path: str, start: int, end_before: int, end_after: int, now: float) -> None:
        """Lines ``start`` to ``end_before`` became the lines ``start`` to ``end_after``, the last ones included."""
        document = self._documents.get(path)
        if document is None:
            return
        places = document.places
        if end_after != end_before:
            for place in places:
                _shift(place, start, end_before, end_after)
        if end_after - start > LONGEST_EDIT or end_before - start > LONGEST_EDIT:
            return
        for index in range(len(places) - 1, -1, -1):
            place = places[index]
            if place.kind is LiveKind.EDITED and _belongs(place, start, end_after, now):
                if index != len(places) - 1:
                    places.append(places.pop(index))
                break
        else:
            place = _Place(start, end_after, LiveKind.EDITED, now)
            _add(places, place)
        place.time = now
        # A region that grows too long keeps the lines up to the end of the edit: what was written last.
        first, last = min(place.start, start), max(place.end, end_after)
        if last - first >= WINDOW_LINES:
            first = max(first, end_after - WINDOW_LINES + 1)
            last = min(last, first + WINDOW_LINES - 1)
        place.start, place.end = first, last

    def visited(self, path: str, line: int, now: float) -> None:
        """The cursor rests on a line; a visit within half a window of an earlier one takes its place."""
        document = self._documents.get(path)
        if document is None:
            return
        places = document.places
        for index in range(len(places) - 1, -1, -1):
            place = places[index]
            if place.kind is LiveKind.VISITED and abs(place.start - line) <= WINDOW_LINES // 2:
                places.append(places.pop(index))
                place.start = place.end = line
                place.time = now
                return
        _add(places, _Place(line, line, LiveKind.VISITED, now))

    def copied(self, path: str, text: str, now: float, start_line: int = 0) -> None:
        """Text was copied or cut; less than a line of some length tells nothing and is not kept."""
        text = _whole_lines(text.replace("\r\n", "\n").replace("\r", "\n"))
        if len(text.strip()) < 16:
            return
        for copy in [copy for copy in self._copies if copy.text == text]:
            self._copies.remove(copy)
        self._copies.append(_Copy(path, start_line, text, now))

    def snippets(self, excluding_path: str, now: float) -> list[LiveSnippet]:
        """Return the lines around recent places outside one document, the newest first and none twice."""
        found: list[LiveSnippet] = []
        by_kind: dict[LiveKind, list[tuple[float, str, _Place]]] = {LiveKind.EDITED: [], LiveKind.VISITED: []}
        for path, document in self._documents.items():
            if path != excluding_path:
                for place in document.places:
                    by_kind[place.kind].append((place.time, path, place))
        # Edits first: the cursor visits what is edited, and the same lines are wanted once.
        for kind, places in by_kind.items():
            places.sort(key=lambda entry: entry[0], reverse=True)
            taken = 0
            for _, path, place in places:
                if taken == MOST[kind]:
                    break
                snippet = self._snippet(path, place, now)
                if snippet is not None and not any(_overlap(snippet, other) for other in found):
                    found.append(snippet)
                    taken += 1
        copies = [copy for copy in reversed(self._copies) if not copy.path or copy.path != excluding_path][
            : MOST[LiveKind.COPIED]
        ]
        found += [
            LiveSnippet(copy.path, copy.start_line, copy.text, LiveKind.COPIED, now - copy.time) for copy in copies
        ]
        return sorted(found, key=lambda snippet: snippet.age_seconds)

    def _snippet(self, path: str, place: _Place, now: float) -> LiveSnippet | None:
        buffer_of = self._documents[path].buffer_of
        if buffer_of is not None:
            return _window(path, buffer_of(), place, now)
        kept = place.kept
        return kept and LiveSnippet(path, kept.start_line, kept.text, kept.kind, now - place.time)


def _belongs(place: _Place, start: int, end: int, now: float) -> bool:
    reach = NEAR_LINES if now - place.time <= NEAR_SECONDS else 0
    return start <= place.end + reach and end >= place.start - reach


def _shift(place: _Place, start: int, end_before: int, end_after: int) -> None:
    """Move a place along with the lines that it stands on."""
    delta = end_after - end_before
    if place.start > end_before:
        place.start += delta
        place.end += delta
    elif place.end >= start:
        place.start = min(place.start, max(start, end_after))
        place.end = max(place.start, max(place.end, end_before) + delta)


def _add(places: list[_Place], place: _Place) -> None:
    places.append(place)
    if len(places) > PLACES:
        del places[0]


def _window(path: str, buffer: TextBuffer, place: _Place, now: float) -> LiveSnippet | None:
    """Return the lines around a place, ``None`` where there is nothing to show."""
    count = buffer.line_count
    start, end = min(place.start, count - 1), min(place.end, count - 1)
    around = WINDOW_LINES - (end - start + 1)
    first = max(0, min(start - around // 2, count - WINDOW_LINES))
    last = min(count, first + WINDOW_LINES) - 1
    lines = [buffer.line(index) for index in range(first, last + 1)]
    size = sum(len(line) + 1 for line in lines)
    begin, stop = 0, len(lines)
    while begin < stop and (size > LONGEST_SNIPPET or not lines[begin].strip() or not lines[stop - 1].strip()):
        far_above = start - (first + begin) >= (first + stop - 1) - end
        if not lines[begin].strip() or (lines[stop - 1].strip() and far_above):
            size -= len(lines[begin]) + 1
            begin += 1
        else:
            stop -= 1
            size -= len(lines[stop]) + 1
    if begin >= stop:
        return None
    return LiveSnippet(path, first + begin, "\n".join(lines[begin:stop]), place.kind, now - place.time)


def _overlap(one: LiveSnippet, other: LiveSnippet) -> bool:
    """Return whether two snippets share more than a third of a window."""
    if one.path != other.path:
        return False
    first = max(one.start_line, other.start_line)
    last = min(one.start_line + one.text.count("\n"), other.start_line + other.text.count("\n"))
    return last - first + 1 > WINDOW_LINES // 3


def _whole_lines(text: str) -> str:
    """Return as many whole lines of a text's beginning as a snippet may hold."""
    text = text.rstrip()
    return text if len(text) <= LONGEST_SNIPPET else text[: text.rfind("\n", 0, LONGEST_SNIPPET + 1) + 1].rstrip()
