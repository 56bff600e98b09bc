"""Suggestions accepted by the word and by the line, typed through, taken back, dismissed; each Neovim, echo engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Neovim

FIRST = ["first = 1", "second = 2"]


@pytest.fixture
def typed(neovim: Neovim, source: Path) -> Neovim:
    """A Neovim that shows ``echo(third)`` behind ``third``."""
    neovim.open(source)
    neovim.keys("Gothird")
    neovim.wait_ghost("echo(third)")
    return neovim


def accepted(neovim: Neovim) -> int:
    return int(neovim.execute("intract.status")["accepted"])


def test_words_are_accepted_one_by_one_and_the_rest_stays(typed: Neovim) -> None:
    before = accepted(typed)
    rest = "echo(third)"
    for word in ("echo", "(", "third"):
        typed.keys("<C-l>")
        rest = rest.removeprefix(word)
        line = "third" + "echo(third)".removesuffix(rest)
        typed.wait_lines([*FIRST, line])
        assert typed.wait_ghost(rest) == (2, len(line), rest)
        assert accepted(typed) == before
    typed.keys("<C-l>")
    typed.wait_lines([*FIRST, "thirdecho(third)"])
    typed.wait(lambda: accepted(typed) == before + 1 or None, "the acceptance of the last word")


def test_words_typed_ahead_are_all_accepted(typed: Neovim) -> None:
    typed.keys("<C-l>")
    typed.wait_lines([*FIRST, "thirdecho"])
    # At once, before any answer for the new place.
    typed.keys("<C-l><C-l><Tab>")
    typed.wait_lines([*FIRST, "thirdecho(third)"])


def test_the_rest_of_a_word_is_accepted_whole(typed: Neovim) -> None:
    typed.keys("<C-l>")
    typed.wait_ghost("(third)")
    typed.keys("<Tab>")
    typed.wait_lines([*FIRST, "thirdecho(third)"])
    typed.wait_no_ghost()


def test_something_else_typed_takes_the_rest_away(typed: Neovim) -> None:
    typed.keys("<C-l>")
    typed.wait_ghost("(third)")
    typed.keys(" + other")
    typed.wait_ghost("echo(other)")
    assert typed.lines == [*FIRST, "thirdecho + other"]


def test_a_line_is_accepted(typed: Neovim) -> None:
    typed.keys("<C-j>")
    typed.wait_lines([*FIRST, "thirdecho(third)"])


def test_keys_without_a_suggestion_do_what_they_always_did(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    # CTRL-J begins a line, CTRL-E takes the character below the cursor.
    neovim.keys("ggO<C-e><C-j>x<Esc>")
    neovim.wait_lines(["f", "x", *FIRST])


def test_typed_through_text_shortens_the_ghost_without_a_request(typed: Neovim) -> None:
    answered = typed.execute("intract.status")["answered"]
    for count in range(1, 5):
        typed.keys("echo("[count - 1])
        typed.wait_lines([*FIRST, "third" + "echo("[:count]])
        assert typed.wait_ghost("echo(third)"[count:]) == (2, 5 + count, "echo(third)"[count:])
    if typed.is_own_client:
        # Longer than the plugin pauses before it asks: that it does not ask shows in time only.
        typed.lua("vim.wait(100, function() return false end)")
        assert typed.execute("intract.status")["answered"] == answered
    typed.keys("<Tab>")
    typed.wait_lines([*FIRST, "thirdecho(third)"])


def test_deleting_what_was_typed_asks_again(typed: Neovim) -> None:
    typed.keys("<BS>")
    assert typed.wait_ghost("echo(thir)") == (2, 4, "echo(thir)")


def test_undo_takes_the_suggestion_back_and_leaves_what_was_typed(typed: Neovim) -> None:
    typed.keys("<Tab>")
    typed.wait_lines([*FIRST, "thirdecho(third)"])
    typed.keys("<Esc>u")
    typed.wait_lines([*FIRST, "third"])
    typed.keys("u")
    typed.wait_lines(FIRST)


def test_a_dismissed_suggestion_comes_back_with_the_next_key(typed: Neovim) -> None:
    typed.keys("<C-e>")
    typed.wait_no_ghost()
    assert typed.lines == [*FIRST, "third"]
    typed.keys("s")
    typed.wait_ghost("echo(thirds)")


def test_a_suggestion_can_be_asked_for(typed: Neovim) -> None:
    typed.keys("<C-e>")
    typed.wait_no_ghost()
    typed.keys("<M-s>")
    typed.wait_ghost("echo(third)")
    typed.keys("<Tab>")
    typed.wait_lines([*FIRST, "thirdecho(third)"])


def test_closing_brackets_behind_the_cursor_stay_behind_it(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Gocall()<Left>second")
    neovim.wait_ghost("echo(second)")
    neovim.keys("<C-l>")
    neovim.wait_lines([*FIRST, "call(secondecho)"])
    assert neovim.wait_ghost("(second)") == (2, 15, "(second)")
    neovim.keys("<Tab>")
    neovim.wait_lines([*FIRST, "call(secondecho(second))"])


def test_words_of_other_scripts_are_whole(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Go'👩‍💻' + größe")
    line = "'👩‍💻' + größe"
    assert neovim.wait_ghost("echo(größe)") == (2, len(line.encode()), "echo(größe)")
    neovim.keys("<C-l><C-l>")
    neovim.wait_lines([*FIRST, line + "echo("])
    neovim.wait_ghost("größe)")
    neovim.keys("<C-l>")
    neovim.wait_lines([*FIRST, line + "echo(größe"])


def test_two_buffers_have_suggestions_of_their_own(typed: Neovim, tmp_path: Path) -> None:
    other = tmp_path / "work" / "beside.py"
    other.write_text("alpha = 1\n", encoding="utf-8")
    typed.keys("<C-o>:hide edit " + str(other) + "<CR>")
    typed.wait(lambda: typed.api.current.buffer.name.endswith("beside.py") or None, "the other buffer")
    typed.wait_no_ghost()
    typed.wait(lambda: typed.attached == 1 or None, "the server to attach")
    typed.keys("<Esc>Gobeta")
    typed.wait_ghost("echo(beta)")
    typed.keys("<Tab>")
    typed.wait_lines(["alpha = 1", "betaecho(beta)"])
    typed.keys("<Esc>:hide buffer #<CR>")
    typed.wait_lines([*FIRST, "third"])
    typed.keys("A")
    assert typed.wait_ghost("echo(third)") == (2, 5, "echo(third)")
