"""The extension in a real VS Code, with the engine that suggests ``echo(LAST_WORD)``; one window for all tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from window import Window

pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).resolve().parent
NOTEBOOK = {"cells": [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": []}]}


def test_tab_accepts_the_ghost_text_into_the_file(code: Window) -> None:
    path = code.open("accept.py", "first = 1\n")
    code.type("second = first")
    code.wait_ghost("echo(first)")
    code.screenshot("ghost-text")
    code.press("Tab")
    code.save(path, "first = 1\nsecond = firstecho(first)")
    code.wait_no_ghost()
    code.run("intract.showStatus")
    assert re.search(r"Suggestions accepted\s+[1-9]", code.wait_panel("Suggestions accepted"))


def test_a_word_a_line_and_what_is_typed_on(code: Window) -> None:
    path = code.open("parts.py", "")
    code.type("first")
    code.wait_ghost("echo(first)")
    code.press("Control+ArrowRight")
    code.wait_ghost("(first)")
    code.press("Alt+End")
    code.wait_no_ghost()
    code.save(path, "firstecho(first)")
    code.press("Enter")
    code.type("second")
    code.wait_ghost("echo(second)")
    code.type("ech")
    code.wait_ghost("o(second)")
    code.press("Tab")
    code.save(path, "firstecho(first)\nsecondecho(second)")


def test_escape_takes_the_ghost_text_away_and_tab_indents_then(code: Window) -> None:
    path = code.open("escape.py", "")
    code.type("third")
    code.wait_ghost("echo(third)")
    code.press("Escape")
    code.wait_no_ghost()
    code.press("Tab")
    code.save(path, "third   ")


def test_our_commands_do_what_vs_codes_own_keys_do(code: Window) -> None:
    path = code.open("commands.py", "")
    code.type("word")
    code.wait_ghost("echo(word)")
    code.run("intract.nextSuggestion")
    code.run("intract.previousSuggestion")
    code.wait_ghost("echo(word)")
    code.run("intract.acceptWord")
    code.wait_ghost("(word)")
    code.run("intract.acceptLine")
    code.wait_no_ghost()
    code.press("Enter")
    code.type("again")
    code.wait_ghost("echo(again)")
    code.press("Escape")
    code.wait_no_ghost()
    code.run("intract.suggest")
    code.wait_ghost("echo(again)")
    code.press("Tab")
    code.save(path, "wordecho(word)\nagainecho(again)")


def test_the_palette_offers_our_commands_and_runs_them(code: Window) -> None:
    code.press("F1")
    code.answer("Intract: Why No")
    title = "Intract: Why No Suggestion?"
    code.wait(lambda: title in code.choices() or None, "the command in the palette")
    code.choose(title)
    code.wait_panel("Ask again")


def test_every_command_of_the_manifest_is_registered(code: Window) -> None:
    manifest = json.loads((HERE.parents[2] / "editors" / "vscode" / "package.json").read_text(encoding="utf-8"))
    declared = {entry["command"] for entry in manifest["contributes"]["commands"]}
    registered = set(code.ask("commands"))
    assert declared <= registered
    # Also what the server announced, through the language client.
    assert {"intract.why", "intract.fineTune", "intract.accepted"} <= registered


def test_an_unsaved_document_gets_suggestions(code: Window) -> None:
    code.run("workbench.action.files.newUntitledFile")
    code.wait(lambda: code.texts(".tab.active[data-resource-name^='Untitled']") or None, "the new document")
    code.focus_editor()
    code.type("fourth")
    code.wait_ghost("echo(fourth)")


def test_a_cell_of_a_notebook_gets_suggestions(code: Window) -> None:
    path = code.work / "cells.ipynb"
    metadata = {"language_info": {"name": "python"}}
    path.write_text(
        json.dumps({**NOTEBOOK, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8"
    )
    code.ask("openNotebook", path=str(path))
    code.wait(lambda: code.texts(".notebookOverlay .cell-editor-container .view-lines") or None, "the cell")
    code.do("click", selector=".notebookOverlay .cell-editor-container .view-lines")
    code.focus_editor()
    code.type("cell")
    code.wait_ghost("echo(cell)")
    code.screenshot("notebook")
    code.press("Tab")
    code.wait_text("cellecho(cell)")


def test_pause_and_go_on(code: Window) -> None:
    code.open("pause.py", "")
    code.run("intract.toggleSuggestions")
    code.wait_status("Intract: paused")
    code.focus_editor()
    code.type("fifth")
    code.run("intract.whyNoSuggestion")
    code.wait_panel("Ask again")

    def told() -> bool | None:
        # The request for what was typed may have come after the question.
        code.click_panel("Ask again")
        return any("switched off" in text for text in code.do("frames")) or None

    code.wait(told, "the reason")
    assert not code.ghost()
    code.screenshot("why-no-suggestion")
    code.click_panel("Switch suggestions on")
    code.wait_status("Intract")


def test_a_language_is_switched_off_and_on(code: Window) -> None:
    code.open("language.py", "")
    code.run("intract.toggleLanguage")
    code.wait_status("Intract: off for python")
    code.focus_editor()
    code.type("sixth")
    code.open("second.py", "")
    code.wait_status("Intract: off for python")
    assert not code.ghost()
    code.run("intract.toggleLanguage")
    code.wait_status("Intract")
    code.focus_editor()
    code.type(" seventh")
    code.wait_ghost("echo(seventh)")


def test_the_menu_and_the_models(code: Window) -> None:
    code.do("click", selector='.statusbar-item[id$="intract.status"]')
    code.wait(lambda: any("Why no suggestion" in choice for choice in code.choices()) or None, "the menu")
    code.screenshot("menu")
    code.choose("Choose model")
    code.wait(lambda: any("qwen2.5-coder-0.5b" in choice for choice in code.choices()) or None, "the models")
    code.wait(lambda: "GiB of memory" in " ".join(code.texts(".quick-input-list-entry")) or None, "what models cost")
    code.screenshot("models")
    code.press("Escape")


def test_the_index_is_searched_and_shown(code: Window) -> None:
    code.open("needle.py", "def find_the_needle(haystack):\n    return haystack.index('needle')\n")
    code.ask("closeAll")
    code.run("intract.showIndex")
    code.wait_panel("Refresh")

    def found() -> bool | None:
        code.ask("closeAll")
        code.start("intract.searchIndex")
        code.answer("find the needle")
        code.press("Enter")
        code.wait(lambda: code.choices() or code.said() or None, "results")
        return any("needle.py" in choice for choice in code.choices()) or None

    code.wait(found, "the file to be in the index")
    code.choose("needle.py:1")
    code.wait(lambda: code.texts('.tab.active[data-resource-name="needle.py"]') or None, "the file to open")
