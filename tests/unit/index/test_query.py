"""What is looked for around a cursor, and the part of a chunk that resembles it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.index.query import DECAY, EXCERPT_LINES, LINES_ABOVE, LINES_BEFORE, CursorLines, query_weights

CHUNK = """\
async def fetch(url):
    session = open_session()
    response = session.get(url)
    response.raise_for_status()
    return response.json()


async def fetch_all(urls):
    session = open_session()
    tasks = [session.get(url) for url in urls]
    results = gather(tasks)
    log_statistics(results)
    return results


def close(session):
    session.close()
""".splitlines()


def test_near_lines_weigh_more() -> None:
    weights = query_weights(["far = away", "", "near = by"], [])
    assert weights == {"near": 1.0, "by": 1.0, "far": math.exp(-DECAY), "away": math.exp(-DECAY)}


def test_a_term_has_the_weight_of_its_nearest_line() -> None:
    assert query_weights(["parser = first", "second", "parser = third"], ["parser"])["parser"] == 1.0


def test_lines_below_count_a_little() -> None:
    assert query_weights([], ["", "stream.close()"]) == {"stream": 0.5, "close": 0.5}
    assert query_weights(["padding"] + ["x = 1"] * 10, ["padding"])["padding"] == 0.5


def test_identifiers_are_split_and_keywords_left_out() -> None:
    assert set(query_weights(["return getHTTPHeader(self)"], [])) == {"gethttpheader", "get", "http", "header"}


def test_lines_further_away_do_not_count() -> None:
    above = [f"word{chr(97 + n)} = 1" for n in range(LINES_ABOVE + 1)]
    assert "worda" not in query_weights(above, [])
    assert "wordb" in query_weights(above, [])


def test_no_lines_give_nothing() -> None:
    assert query_weights([], []) == {}
    assert CursorLines([]).excerpt(CHUNK).likeness == 0.0
    empty = CursorLines(["x = y"]).excerpt([])
    assert (empty.start, empty.end, empty.likeness) == (0, 0, 0.0)


def test_the_excerpt_holds_the_line_and_what_follows() -> None:
    found = CursorLines(
        ["", "    session = open_session()", "    tasks = [session.get(url) for url in names]"]
    ).excerpt(CHUNK)
    at = CHUNK.index("    tasks = [session.get(url) for url in urls]")
    assert (found.start, found.end) == (at - LINES_BEFORE, at - LINES_BEFORE + EXCERPT_LINES)
    assert "    log_statistics(results)" in CHUNK[found.start : found.end]


def test_the_order_of_lines_decides_between_equal_ones() -> None:
    chunk = ["begin_first()", "common_call()", *["pass"] * 20, "begin_second()", "common_call()", *["pass"] * 9]
    found = CursorLines(["begin_second()", "common_call()"]).excerpt(chunk)
    assert chunk[found.start : found.end][LINES_BEFORE] == "common_call()"
    assert found.start == chunk.index("begin_second()") + 1 - LINES_BEFORE


def test_a_line_in_between_is_allowed_for() -> None:
    cursor = CursorLines(["alpha_start()", "omega_end()"])
    straight = cursor.excerpt(["alpha_start()", "omega_end()"])
    interrupted = cursor.excerpt(["alpha_start()", "something_else()", "omega_end()"])
    apart = cursor.excerpt(["alpha_start()", *(["something_else()"] * 5), "omega_end()"])
    assert straight.likeness > interrupted.likeness > apart.likeness


def test_more_likeness_is_more() -> None:
    cursor = CursorLines(["session = open_session()", "response = session.get(url)"])
    same = cursor.excerpt(CHUNK[1:4]).likeness
    partly = cursor.excerpt(["response = other.post(url)"]).likeness
    assert same > partly > 0 == cursor.excerpt(["nothing", "of_the_kind()"]).likeness


lines = st.lists(st.text(alphabet="ab_ (\n\t).é", max_size=12), max_size=30)


@given(lines, lines, lines)
def test_laws(above: list[str], below: list[str], chunk: list[str]) -> None:
    weights = query_weights(above, below)
    assert all(0 < weight <= 1 for weight in weights.values())
    assert query_weights(above[-LINES_ABOVE:], below) == weights or any(not line.strip() for line in above)
    found = CursorLines(above).excerpt(chunk)
    assert 0 <= found.start <= found.end <= len(chunk)
    assert found.end - found.start == min(len(chunk), EXCERPT_LINES)
    assert 0 <= found.likeness < 12
