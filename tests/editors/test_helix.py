"""Suggestions in Helix's completion popup, set up as editors/README.md says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helix import EXECUTABLE, Helix, documented_languages


@pytest.fixture
def start_helix(tmp_path: Path) -> Iterator[Callable[..., Helix]]:
    """Return a function that opens a file with this text in Helix, whose server is ready then."""
    if not EXECUTABLE.exists():
        pytest.fail("The editor tests need Helix in .cache/helix: run scripts/install-helix.", pytrace=False)
    started: list[Helix] = []

    def start(text: str, languages: str | None = None) -> Helix:
        file = tmp_path / "workspace" / "a.py"
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
        started.append(Helix(tmp_path / "home", file, documented_languages() if languages is None else languages))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for helix in started:
        helix.kill()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "workspace" / "a.py"


def test_a_suggestion_is_offered_while_typing_and_taken(start_helix: Callable[..., Helix], file: Path) -> None:
    helix = start_helix('größe = "😀"\n')
    helix.keys("A; value = spam")
    helix.wait_drawn("spamecho(spam)")
    helix.keys("\t")
    helix.wait_drawn("intract")
    helix.keys("\r")
    helix.save_and_quit()
    assert file.read_text(encoding="utf-8") == 'größe = "😀"; value = spamecho(spam)\n'


def test_a_bracket_that_helix_closed_is_not_doubled(start_helix: Callable[..., Helix], file: Path) -> None:
    helix = start_helix("x = 1\n")
    helix.keys("oprint(eggs")
    helix.wait_drawn("eggsecho(eggs)")
    helix.keys("\t")
    helix.wait_drawn("intract")
    helix.keys("\r")
    helix.save_and_quit()
    assert file.read_text(encoding="utf-8") == "x = 1\nprint(eggsecho(eggs))\n"


def test_without_the_setting_there_is_no_popup(start_helix: Callable[..., Helix], file: Path) -> None:
    languages = documented_languages()
    switched_off = languages.replace('popup = "auto"', 'popup = "off"')
    assert switched_off != languages
    helix = start_helix("x = 1\n", switched_off)
    helix.keys("A + spam\x18")
    helix.save_and_quit()
    assert file.read_text(encoding="utf-8") == "x = 1 + spam\n"
    assert '"method":"textDocument/didChange"' in helix.log
    assert '"method":"textDocument/completion"' not in helix.log


def test_suggestions_are_switched_off_by_the_command(start_helix: Callable[..., Helix]) -> None:
    helix = start_helix("x = 1\n")
    helix.keys(":lsp-workspace-command intract.toggle\r")
    helix.wait(lambda: '"enabled": false' in helix.log or None, "the status to say so")
