"""Suggestions in Neovim 0.10, 0.11 and 0.12, with the engine that suggests ``echo(LAST_WORD)``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from conftest import VERSIONS

if TYPE_CHECKING:
    from conftest import Neovim, StartNeovim

LATE_SERVER = Path(__file__).resolve().parent / "late_server.py"


def test_tab_accepts_the_ghost_text_and_the_server_hears_of_it(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    before = neovim.execute("intract.status")["accepted"]
    neovim.keys("Gothird = second")
    assert neovim.wait_ghost("echo(second)") == (2, 14, "echo(second)")
    assert neovim.lines[2] == "third = second"
    neovim.keys("<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", "third = secondecho(second)"])
    assert neovim.cursor == (3, 26)
    neovim.wait(lambda: neovim.execute("intract.status")["accepted"] == before + 1 or None, "the acceptance")
    neovim.wait_written(source, b"first = 1\nsecond = 2\nthird = secondecho(second)\n")


def test_nothing_is_offered_right_behind_an_accepted_suggestion(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Gothird")
    neovim.wait_ghost("echo(third)")
    neovim.keys("<Tab>")
    neovim.wait(lambda: neovim.execute("intract.why").get("reason") == "after-accept" or None, "the next request")
    assert neovim.ghost() is None


def test_tab_without_a_suggestion_indents(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Go<Tab>x")
    neovim.wait_lines(["first = 1", "second = 2", "    x"])


def test_leaving_insert_mode_takes_the_ghost_text_away(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    before = neovim.execute("intract.status")["accepted"]
    neovim.keys("Gothird")
    neovim.wait_ghost("echo(third)")
    neovim.keys("<Esc>")
    neovim.wait_no_ghost()
    assert neovim.lines[2] == "third"
    assert neovim.execute("intract.status")["accepted"] == before


def test_accepting_while_typing_the_suggestion_keeps_the_text_whole(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Gothird")
    neovim.wait_ghost("echo(third)")
    # In one go, so that Tab comes before the server could be asked again.
    neovim.keys("ech<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", "thirdecho(third)"])
    assert neovim.cursor == (3, 16)


def test_tab_after_typing_something_else_indents(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Gothird")
    neovim.wait_ghost("echo(third)")
    neovim.keys("xy<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", "thirdxy "])


def test_tab_after_moving_to_another_line_leaves_the_first_line_alone(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Gothird")
    neovim.wait_ghost("echo(third)")
    neovim.keys("<Up><Home><Tab>")
    neovim.wait_lines(["first = 1", "    second = 2", "third"])


def test_text_behind_the_cursor_stays(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Gocall()<Left>second")
    assert neovim.wait_ghost("echo(second)") == (2, 11, "echo(second)")
    neovim.keys("<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", "call(secondecho(second))"])


def test_positions_behind_emoji_and_combining_characters_are_right(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.keys("Go'👩‍💻 e\u0301 𝒳' + second")
    line = "'👩‍💻 e\u0301 𝒳' + second"
    assert neovim.wait_ghost("echo(second)") == (2, len(line.encode()), "echo(second)")
    neovim.keys("<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", line + "echo(second)"])


def test_line_ends_of_a_crlf_file_stay(neovim: Neovim, source: Path) -> None:
    source.write_bytes(b"first = 1\r\nsecond = 2\r\n")
    neovim.open(source)
    neovim.keys("Gothird")
    assert neovim.wait_ghost("echo(third)") == (2, 5, "echo(third)")
    neovim.keys("<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", "thirdecho(third)"])
    neovim.wait_written(source, b"first = 1\r\nsecond = 2\r\nthirdecho(third)\r\n")


def test_ghost_text_follows_the_item_selected_in_the_popup_menu(neovim: Neovim, source: Path) -> None:
    neovim.open(source)
    neovim.api.command("set completeopt=menuone")
    neovim.keys("Gosec<C-n>")
    neovim.wait(lambda: neovim.api.funcs.pumvisible() or None, "the popup menu")
    assert neovim.wait_ghost("echo(second)") == (2, 6, "echo(second)")
    neovim.keys("<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", "secondecho(second)"])


def test_every_kind_of_file_gets_suggestions(neovim: Neovim, source: Path) -> None:
    for name in ("main.rs", "notes.txt", "table.sql"):
        other = source.with_name(name)
        other.write_text("some words\n", encoding="utf-8")
        neovim.open(other)
        neovim.keys("Goother")
        neovim.wait_ghost("echo(other)")
        neovim.keys("<Esc>")
        neovim.wait_no_ghost()
        neovim.api.command("write")


@pytest.mark.parametrize("version", ["0.10", "0.12"])
def test_the_server_ends_with_the_editor(start_neovim: StartNeovim, source: Path, version: str) -> None:
    neovim = start_neovim("--engine", "echo", version=version)
    neovim.open(source)
    children = psutil.Process(neovim.api.funcs.getpid()).children(recursive=True)
    assert any("intract_lsp" in child.cmdline() for child in children)
    neovim.quit()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.parametrize("version", ["0.10", "0.12"])
def test_the_server_is_told_where_the_cursor_rests(start_neovim: StartNeovim, source: Path, version: str) -> None:
    neovim = start_neovim("--engine", "echo", version=version)

    def prepared(count: int) -> int | None:
        return neovim.execute("intract.status")["prepared"] == count or None

    neovim.open(source)
    neovim.wait(lambda: neovim.execute("intract.status")["engine"]["state"] == "ready" or None, "the engine")
    # Where the file begins, and the cursor with it, there is no text to go on.
    neovim.keys("G$")
    neovim.api.command("doautocmd CursorHold")
    neovim.wait(lambda: prepared(1), "the resting cursor's place")
    neovim.keys("o")
    neovim.wait(lambda: prepared(2), "the new line")
    neovim.keys("<Esc>")
    neovim.lua("require('intract.servers').stop(vim.lsp.get_clients()[1])")
    neovim.wait(lambda: neovim.lua("return #vim.lsp.get_clients() == 0") or None, "the server to end")
    neovim.keys("i")
    assert neovim.messages == ""


@pytest.mark.parametrize("late", ["model", "server"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_typed_too_early_gets_its_suggestion(
    start_neovim: StartNeovim, source: Path, tmp_path: Path, version: str, late: str
) -> None:
    go = tmp_path / "go"
    server = [sys.executable, str(LATE_SERVER), str(go), late, "serve", "--engine", "echo"]
    neovim = start_neovim(version=version, server=server)
    neovim.api.command(f"edit {source}")
    if late == "model":
        state = "return require('intract.status').of_buffer(0).state"
        neovim.wait(lambda: neovim.lua(state) == "loading" or None, "the model to be loading")
    neovim.keys("Goearly")
    neovim.wait_lines(["first = 1", "second = 2", "early"])
    assert neovim.ghost() is None
    go.touch()
    neovim.wait_ghost("echo(early)")
    neovim.keys("<Tab>")
    neovim.wait_lines(["first = 1", "second = 2", "earlyecho(early)"])
