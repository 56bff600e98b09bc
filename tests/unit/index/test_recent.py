from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.index import recent
from intract_lsp.index.recent import LiveKind, LiveSnippet, RecentContext
from intract_lsp.text import Place, PositionEncoding, TextBuffer


class Editor:
    """Open documents, each line of which names itself, and a context that is told of what is done to them."""

    def __init__(self, *paths: str, lines: int = 300) -> None:
        self.context = RecentContext()
        self.buffers: dict[str, TextBuffer] = {}
        for path in paths:
            self.open(path, "\n".join(f"{path} line {number}" for number in range(lines)))

    def open(self, path: str, text: str) -> None:
        self.buffers[path] = TextBuffer(text, PositionEncoding.UTF16)
        self.context.opened(path, lambda: self.buffers[path])

    def replace(self, path: str, start: int, end: int, text: str, now: float) -> None:
        """Replace the lines ``start`` to ``end`` but for the last one's end."""
        buffer = self.buffers[path]
        buffer.replace(Place(start, 0), Place(end, len(buffer.line(end))), text)
        self.context.edited(path, start, end, start + text.count("\n"), now)

    def snippets(self, excluding: str = "", now: float = 1000.0) -> list[LiveSnippet]:
        return self.context.snippets(excluding, now)


def covers(snippet: LiveSnippet, text: str) -> bool:
    return text in snippet.text.split("\n")


def test_the_text_is_that_of_now() -> None:
    editor = Editor("a.py", "b.py")
    editor.replace("a.py", 100, 100, "edited = 1", now=10)
    editor.replace("a.py", 103, 103, "edited = 2", now=12)
    (snippet,) = editor.snippets("b.py", now=20)
    assert (snippet.path, snippet.kind, snippet.age_seconds) == ("a.py", LiveKind.EDITED, 8)
    assert covers(snippet, "edited = 1") and covers(snippet, "edited = 2")
    assert snippet.text.count("\n") == recent.WINDOW_LINES - 1
    assert snippet.text.startswith(f"a.py line {snippet.start_line}\n")


def test_the_current_document_is_left_out() -> None:
    editor = Editor("a.py", "b.py")
    editor.replace("a.py", 100, 100, "x = 1", now=10)
    editor.context.copied("a.py", "copied_from_a = some_text", now=11)
    assert editor.snippets("a.py") == []


@pytest.mark.parametrize(
    ("line", "later", "regions"),
    [(102, 5, 1), (103, 5, 1), (104, 5, 2), (102, 31, 2), (100, 31, 1), (160, 1, 2)],
)
def test_edits_close_by_and_soon_are_one_region(line: int, later: float, regions: int) -> None:
    editor = Editor("a.py")
    editor.replace("a.py", 100, 100, "first", now=10)
    editor.replace("a.py", line, line, "second", now=10 + later)
    assert len(editor.context._documents["a.py"].places) == regions


def test_lines_inserted_and_removed_above_move_a_region() -> None:
    editor = Editor("a.py")
    editor.replace("a.py", 200, 200, "marked = True", now=10)
    editor.replace("a.py", 10, 10, "\n" * 50, now=100)
    editor.replace("a.py", 70, 90, "short", now=200)
    edited = [snippet for snippet in editor.snippets() if covers(snippet, "marked = True")]
    assert [snippet.start_line + snippet.text.split("\n").index("marked = True") for snippet in edited] == [230]


def test_a_region_that_grows_keeps_what_was_written_last() -> None:
    editor = Editor("a.py")
    editor.replace("a.py", 100, 100, "new 0", now=0)
    for number in range(1, 100):
        line = 100 + number - 1
        editor.replace("a.py", line, line, f"new {number - 1}\nnew {number}", now=number)
    newest = editor.snippets(now=100)[0]
    assert covers(newest, "new 99") and covers(newest, "new 80")
    assert not covers(newest, "new 70")


def test_a_document_that_is_replaced_is_no_edit() -> None:
    editor = Editor("a.py")
    editor.replace("a.py", 0, 299, "\n".join(f"other {number}" for number in range(250)), now=10)
    assert editor.snippets() == []


def test_visits_follow_each_other_and_edits_win() -> None:
    editor = Editor("a.py", "b.py")
    for line in (50, 55, 60, 200):
        editor.context.visited("a.py", line, now=line)
    assert [place.start for place in editor.context._documents["a.py"].places] == [60, 200]
    editor.replace("b.py", 20, 20, "edit", now=300)
    editor.context.visited("b.py", 21, now=301)
    found = editor.snippets(now=400)
    assert [(snippet.path, snippet.kind) for snippet in found] == [
        ("b.py", LiveKind.EDITED),
        ("a.py", LiveKind.VISITED),
        ("a.py", LiveKind.VISITED),
    ]


def test_copied_text() -> None:
    editor = Editor("a.py")
    editor.context.copied("z.py", "x", now=1)
    editor.context.copied("z.py", "def f(a, b):\r\n    return a\r\n", now=2, start_line=7)
    editor.context.copied("z.py", "def f(a, b):\n    return a", now=4, start_line=7)
    assert editor.snippets(now=5) == [LiveSnippet("z.py", 7, "def f(a, b):\n    return a", LiveKind.COPIED, 1)]
    editor.context.copied("", "line of copied text\n" * 1000, now=6)
    longest = max(len(snippet.text) for snippet in editor.snippets())
    assert 1900 < longest <= recent.LONGEST_SNIPPET


def test_closing_keeps_the_newest_places_until_the_file_changes() -> None:
    editor = Editor("a.py", "b.py")
    for line in (10, 100, 200):
        editor.replace("a.py", line, line, f"edit at {line}", now=line)
    editor.context.closed("a.py")
    editor.buffers.clear()
    found = editor.snippets("b.py", now=300)
    assert [snippet.age_seconds for snippet in found] == [100, 200]
    assert covers(found[0], "edit at 200") and covers(found[1], "edit at 100")
    editor.context.changed_on_disk("a.py")
    assert editor.snippets("b.py") == []


def test_reopening_takes_the_new_text() -> None:
    editor = Editor("a.py")
    editor.replace("a.py", 100, 100, "before", now=1)
    editor.context.closed("a.py")
    editor.open("a.py", "\n".join(["all new"] * 200))
    editor.context.changed_on_disk("a.py")
    (snippet,) = editor.snippets()
    assert set(snippet.text.split("\n")) == {"all new"}


def test_what_was_not_opened_is_nothing() -> None:
    editor = Editor()
    editor.context.edited("x", 1, 1, 1, 1)
    editor.context.visited("x", 1, 1)
    editor.context.closed("x")
    editor.context.changed_on_disk("x")
    assert editor.snippets() == []


def test_it_stays_small() -> None:
    editor = Editor(*(f"{number}.py" for number in range(100)), lines=200)
    for path in editor.buffers:
        for line in range(0, 200, 5):
            editor.context.edited(path, line, line, line, now=line * 100)
            editor.context.visited(path, line, now=line * 100)
    assert len(editor.context._documents) == recent.DOCUMENTS
    assert all(len(document.places) <= recent.PLACES for document in editor.context._documents.values())
    assert len(editor.snippets()) == recent.MOST[LiveKind.EDITED] + recent.MOST[LiveKind.VISITED]


def test_long_lines_are_left_out_and_the_place_is_kept() -> None:
    editor = Editor()
    lines = [f"line {number}" for number in range(100)]
    lines[45] = "x" * 5000
    editor.open("a.js", "\n".join(lines))
    editor.context.edited("a.js", 50, 50, 50, now=1)
    (snippet,) = editor.snippets()
    assert covers(snippet, "line 50") and len(snippet.text) <= recent.LONGEST_SNIPPET
    editor.open("b.js", "y" * 1_000_000)
    editor.context.edited("b.js", 0, 0, 0, now=2)
    assert [snippet.path for snippet in editor.snippets()] == ["a.js"]


edits = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 6), st.integers(0, 8), st.floats(0, 60)), min_size=1, max_size=20
)


@given(edits, st.integers(0, 59))
def test_a_visited_line_is_followed_through_edits_elsewhere(
    steps: list[tuple[int, int, int, float]], line: int
) -> None:
    editor = Editor("a", lines=60)
    editor.context.visited("a", line, now=0)
    marked = editor.buffers["a"].line(line)
    now = 0.0
    for start, more, inserted, gap in steps:
        count = editor.buffers["a"].line_count
        start = min(start, count - 1)
        end = min(start + more, count - 1)
        lines = [editor.buffers["a"].line(number) for number in range(count)]
        if marked in lines[start : end + 1]:
            continue
        now += gap
        editor.replace("a", start, end, "\n".join(["new"] * (inserted + 1)), now)
    places = [place for place in editor.context._documents["a"].places if place.kind is LiveKind.VISITED]
    assert [editor.buffers["a"].line(place.start) for place in places] in ([marked], [])


@given(edits)
def test_whatever_happens_snippets_are_lines_of_the_document(steps: list[tuple[int, int, int, float]]) -> None:
    editor = Editor("a", lines=60)
    now = 0.0
    for start, more, inserted, gap in steps:
        count = editor.buffers["a"].line_count
        start = min(start, count - 1)
        now += gap
        editor.replace("a", start, min(start + more, count - 1), "\n".join(["new"] * (inserted + 1)), now)
        editor.context.visited("a", start, now)
        for snippet in editor.snippets(now=now):
            lines = snippet.text.split("\n")
            assert len(lines) <= recent.WINDOW_LINES and snippet.age_seconds >= 0
            assert lines == [editor.buffers["a"].line(snippet.start_line + offset) for offset in range(len(lines))]


def test_a_keystroke_costs_microseconds() -> None:
    editor = Editor(*(f"{number}.py" for number in range(30)))
    for line in range(0, 300, 10):
        editor.context.edited("3.py", line, line, line + 1, now=line * 100)
    best = min(_seconds_per_edit(editor) for _ in range(5))
    assert best < 100e-6  # some 2 µs where nothing else runs


def _seconds_per_edit(editor: Editor) -> float:
    start = time.perf_counter()
    for number in range(500):
        editor.context.edited("3.py", 150, 150, 150 + number % 2, now=1e6 + number)
    return (time.perf_counter() - start) / 500
