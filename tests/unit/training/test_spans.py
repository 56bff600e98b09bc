from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_projects import module

from intract_lsp.index.grammars import Grammars
from intract_lsp.training.corpus import Piece
from intract_lsp.training.sample import SampleKind
from intract_lsp.training.spans import MIXTURE, MOST_CHARACTERS, MOST_LINES, Hole, Holes

GRAMMARS = Grammars()

PYTHON = '''import os


class Tree:
    """A tree — größer."""

    def __init__(self, left, right):
        self.left = left
        self.right = right

    def height(self, start=0):
        if self.left is None:
            return start
        for child in (self.left, self.right):
            start = max(start, child.height(start + 1))
        return start
'''
SCRIPT = """export function add(a: number, b: number): number {
    const sum = a + b;
    if (sum > 3) {
        console.log("große", sum);
        return sum;
    }
    return 0;
}
"""


def holes(text: str, language: str = "python") -> Holes:
    return Holes(Piece(f"a.{language}", "blob", language, text), GRAMMARS)


def drawn(of: Holes, kind: SampleKind, tries: int = 400) -> list[Hole]:
    chance = random.Random(3)
    found = (of.draw(kind, chance.randrange(len(of.piece.lines)), chance) for _ in range(tries))
    return [hole for hole in found if hole is not None]


def middles(of: Holes, kind: SampleKind) -> set[str]:
    return {of.piece.text[hole.start : hole.end] for hole in drawn(of, kind)}


def test_blocks_are_statements_and_bodies_on_lines_of_their_own() -> None:
    found = holes(PYTHON)
    texts = {PYTHON[start:end] for start, end in found.blocks}
    assert "self.left = left" in texts
    assert "self.left = left\n        self.right = right" in texts
    assert "if self.left is None:\n            return start" in texts
    assert PYTHON[PYTHON.index("def height") :].rstrip("\n") in texts
    assert PYTHON[PYTHON.index("class Tree") :].rstrip("\n") in texts
    # What begins inside a line is no block.
    assert not any(text.startswith(("left", "None", "child.", "in ")) for text in texts)
    texts = {SCRIPT[start:end] for start, end in holes(SCRIPT, "typescript").blocks}
    assert 'console.log("große", sum);\n        return sum;' in texts
    assert "const sum = a + b;" in texts
    assert SCRIPT.rstrip("\n") in texts


def test_a_block_does_not_take_the_beginning_of_the_next_one_along() -> None:
    text = "first(\n    1,\n), second(\n    2,\n)\n"
    assert [text[start:end] for start, end in holes(text).blocks] == [text.rstrip("\n")]
    text = "if (ready(a)) {\n    go(a);\n    stop();\n} else {\n    wait(b);\n}\n"
    texts = {text[start:end] for start, end in holes(text, "javascript").blocks}
    assert texts == {text.rstrip("\n"), "go(a);\n    stop();", "go(a);", "stop();", "wait(b);"}


@pytest.mark.parametrize(("text", "language"), [(PYTHON, "python"), (SCRIPT, "typescript"), (module("m", 9), "python")])
def test_blocks_end_with_a_line_and_are_not_too_long(text: str, language: str) -> None:
    for start, end in holes(text, language).blocks:
        assert text[end : end + 1] in ("", "\n")
        assert not text[text.rfind("\n", 0, start) + 1 : start].strip()
        assert not text[start].isspace() and text[start:end].strip()
        assert end - start <= MOST_CHARACTERS and text[start:end].count("\n") < MOST_LINES


def test_each_kind_is_what_it_is_called() -> None:
    of = holes(PYTHON)
    text = of.piece.text
    for hole in [*drawn(of, SampleKind.LINE), *drawn(of, SampleKind.TYPED)]:
        assert "\n" not in text[hole.start : hole.end] and text[hole.end] == "\n"
    for hole in drawn(of, SampleKind.TYPED):
        line_start = text.rfind("\n", 0, hole.start) + 1
        assert 1 <= len(text[line_start : hole.start].lstrip()) <= 12
    assert {hole.end - hole.start for hole in drawn(of, SampleKind.EMPTY)} == {0}
    assert all(text[hole.end] == "\n" and text[hole.end - 1] != "\n" for hole in drawn(of, SampleKind.EMPTY))
    inline = middles(of, SampleKind.INLINE)
    assert {"start + 1", "self.left, self.right", "self, start=0"} < inline
    assert any(re.fullmatch(r"\w+", middle) for middle in inline)
    assert not any("\n" in middle for middle in inline)
    several = [middle for middle in middles(of, SampleKind.BLOCK) if "\n" in middle]
    assert several
    assert all(0 < len(middle) <= MOST_CHARACTERS for middle in middles(of, SampleKind.RANDOM))
    # Cursors stand at a line's code and inside lines.
    starts = {text[hole.start - 1] for hole in drawn(of, SampleKind.LINE)}
    assert {" ", "\n"} < starts and starts & {"(", "."}


def test_the_largest_block_that_begins_on_the_cursors_line() -> None:
    of = holes(PYTHON)
    line = PYTHON.index("if self.left")
    end = PYTHON.index("return start") + len("return start")
    assert of.block_at(line) == of.block_at(line + 3) == end
    assert of.block_at(PYTHON.index("self.right = right")) is None
    assert of.block_at(0) is None


def test_a_language_without_a_grammar_has_no_blocks() -> None:
    of = holes("key = 1\nother = 2\n", "toml")
    assert of.blocks == () and drawn(of, SampleKind.BLOCK) == []
    assert middles(of, SampleKind.LINE)


def test_the_mixture_is_whole() -> None:
    assert sum(MIXTURE.values()) == pytest.approx(1)
    assert set(MIXTURE) == set(SampleKind) - {SampleKind.TEXT}


@given(
    st.text(alphabet="ab_ (){}[]=.,:;\"'#\n\té😀", max_size=120),
    st.sampled_from(["python", "typescript", "c", "toml"]),
    st.integers(0, 100),
)
@settings(max_examples=150)
def test_any_text_gives_holes_inside_it_and_the_same_ones_again(text: str, language: str, seed: int) -> None:
    for kind in MIXTURE:
        of = holes(text, language)
        line = seed % len(of.piece.lines)
        hole = of.draw(kind, line, random.Random(seed))
        assert hole == holes(text, language).draw(kind, line, random.Random(seed))
        if hole is not None:
            assert 0 <= hole.start <= hole.end <= len(text) and hole.kind is kind
            assert bool(text[hole.start : hole.end].strip()) == (kind is not SampleKind.EMPTY)
