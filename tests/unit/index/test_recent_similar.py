from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.index import similar
from intract_lsp.index.similar import OpenDocuments
from intract_lsp.index.terms import COMMON_WORDS


def documents(**files: list[str]) -> OpenDocuments:
    opened = OpenDocuments()
    for path, lines in files.items():
        opened.put(path, 1, lines)
    return opened


FILLER = [f"filler_{number} = other_{number}" for number in range(200)]


def test_the_window_with_the_names_is_found() -> None:
    lines = [*FILLER, "def parse_header(stream):", "    return stream.read_header()", *FILLER]
    (found,) = documents(a=lines).similar(["header = parse_header(stream)"], "", most=4)
    assert found.path == "a" and found.end_line - found.start_line == similar.WINDOW_LINES
    assert found.start_line <= 200 < found.end_line


def test_the_most_similar_come_first_and_the_current_document_not_at_all() -> None:
    opened = documents(
        one=["alpha beta"], two=["alpha beta gamma"], three=["other"], current=["alpha beta gamma delta"]
    )
    found = opened.similar(["alpha beta gamma delta"], "current", most=4)
    assert [(window.path, window.start_line, window.end_line) for window in found] == [("two", 0, 1), ("one", 0, 1)]
    assert [window.score for window in found] == [3 / 4, 2 / 4]
    assert len(opened.similar(["alpha"], "current", most=1)) == 1


def test_keywords_and_long_lines_say_nothing() -> None:
    opened = documents(a=["for self in return: import class"], b=["name " * 300])
    assert opened.similar(["for self in return: import class name"], "", most=4) == []


def test_a_version_is_worked_through_once() -> None:
    opened = documents(a=["alpha"])
    assert opened.is_current("a", 1) and not opened.is_current("a", 2)
    opened.put("a", 1, ["beta"])
    assert opened.similar(["alpha"], "", most=1)
    opened.put("a", 2, ["beta"])
    assert not opened.similar(["alpha"], "", most=1)
    opened.drop("a")
    opened.drop("a")
    assert not opened.is_current("a", 2)


def test_empty_input() -> None:
    opened = documents(a=[], b=[""], c=["x = 1"])
    assert opened.similar([], "", most=4) == []
    assert opened.similar(["name"], "", most=4) == []


def test_documents_are_few_and_long_ones_cut() -> None:
    opened = OpenDocuments()
    opened.put("long", 1, ["filler"] * similar.MOST_LINES + ["name"])
    assert not opened.similar(["name"], "", most=1)
    for number in range(50):
        opened.put(str(number), 1, ["name"])
    assert len(opened.similar(["name"], "", most=100)) == similar.MOST_DOCUMENTS


names = st.sampled_from(["alpha", "beta", "gamma", "delta", "self", "x1", "ünïcode"])
lines = st.lists(names, max_size=4).map(" ".join)


@given(st.lists(lines, max_size=150), st.lists(lines, max_size=10))
def test_it_is_the_plain_jaccard_of_every_window(document: list[str], query_lines: list[str]) -> None:
    query = set(" ".join(query_lines).split()) - COMMON_WORDS
    scores = []
    for start in range(max(1, len(document) - similar.WINDOW_LINES + 1)):
        held = set(" ".join(document[start : start + similar.WINDOW_LINES]).split()) - COMMON_WORDS
        scores.append(len(held & query) / len(held | query) if held & query else 0.0)
    found = documents(a=document).similar(query_lines, "", most=1)
    if max(scores) == 0:
        assert found == []
    else:
        assert [(window.start_line, window.score) for window in found] == [(scores.index(max(scores)), max(scores))]


def test_twenty_documents_take_milliseconds() -> None:
    opened = OpenDocuments()
    lines = [
        f"name_{number % 97} = call_{number % 31}(value_{number}, self.field_{number % 7})" for number in range(2000)
    ]
    for number in range(20):
        opened.put(str(number), 1, lines)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        opened.similar(lines[300:360], "", most=4)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # some 3 ms where nothing else runs
