"""The buffer against the plain meaning of the protocol: positions and edits on one string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.text import Place, PositionEncoding, TextBuffer, split_lines

TEXTS = st.text(alphabet=st.sampled_from("ab \t\r\n\x0c\u2028\x85éß漢😋\ud83d"), max_size=40)
ENCODINGS = st.sampled_from(list(PositionEncoding))


def offset(text: str, line: int, units: int, encoding: PositionEncoding) -> int:
    """Walk the text character by character, as the protocol describes a position."""
    index = 0
    while line and index < len(text):
        if text.startswith("\r\n", index):
            index += 2
        elif text[index] in "\r\n":
            index += 1
        else:
            index += 1
            continue
        line -= 1
    if line:
        return len(text)
    while index < len(text) and text[index] not in "\r\n":
        size = len(text[index].encode(encoding.value + ("-le" if encoding.value != "utf-8" else ""), "surrogatepass"))
        size //= {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding.value]
        if units < size:
            break
        units -= size
        index += 1
    return index


def index_of(buffer: TextBuffer, place: Place) -> int:
    return sum(map(len, split_lines(buffer.text)[: place.line])) + place.column


@given(TEXTS, ENCODINGS, st.integers(0, 12), st.integers(0, 12))
def test_a_position_means_what_the_protocol_says(text: str, encoding: PositionEncoding, line: int, units: int) -> None:
    buffer = TextBuffer(text, encoding)
    place = buffer.place(line, units)
    assert index_of(buffer, place) == offset(text, line, units, encoding)


@given(TEXTS, ENCODINGS, st.lists(st.tuples(*[st.integers(0, 8)] * 4, TEXTS), max_size=6))
def test_edits_leave_the_text_that_a_plain_string_would_have(text, encoding, edits) -> None:  # type: ignore[no-untyped-def]
    buffer = TextBuffer(text, encoding)
    for line, units, end_line, end_units, new in edits:
        start, end = sorted([offset(text, line, units, encoding), offset(text, end_line, end_units, encoding)])
        buffer.replace(buffer.place(line, units), buffer.place(end_line, end_units), new)
        text = text[:start] + new + text[end:]
        assert buffer.text == text
        assert [buffer.line(i) for i in range(buffer.line_count)] == [line.rstrip("\r\n") for line in split_lines(text)]


@given(TEXTS, ENCODINGS, st.integers(0, 8), st.integers(0, 12))
def test_units_are_the_way_back(text: str, encoding: PositionEncoding, line: int, units: int) -> None:
    buffer = TextBuffer(text, encoding)
    place = buffer.place(line, units)
    assert buffer.place(place.line, buffer.units(place)) == place


@given(TEXTS, st.integers(0, 8), st.integers(0, 12))
def test_before_and_behind_are_the_text_where_nothing_is_cut(text: str, line: int, units: int) -> None:
    buffer = TextBuffer(text, PositionEncoding.UTF32)
    place = buffer.place(line, units)
    assert buffer.before(place, 1000) + buffer.behind(place, 1000) == text


def test_the_window_before_a_place_in_a_large_document_starts_where_it_did_a_line_ago() -> None:
    buffer = TextBuffer("some text\n" * 5000, PositionEncoding.UTF16)
    starts = [4600 - len(split_lines(buffer.before(Place(4600 + n, 0), 4000))) + 1 + n for n in range(50)]
    assert len(set(starts)) == 1
    assert len(buffer.before(Place(4600, 0), 4000)) >= 4000


def test_a_line_of_a_megabyte_is_cut() -> None:
    buffer = TextBuffer("x" * 1_000_000 + "\nend", PositionEncoding.UTF16)
    assert len(buffer.before(Place(0, 900_000), 4000)) == 4000
    assert len(buffer.behind(Place(0, 900_000), 4000)) == 4000


@pytest.mark.parametrize(("line", "character", "inside"), [(0, 0, True), (1, 99, True), (2, 0, False), (-1, 0, False)])
def test_contains(line: int, character: int, inside: bool) -> None:
    assert TextBuffer("a\nb", PositionEncoding.UTF16).contains(line, character) is inside
