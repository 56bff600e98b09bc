"""Suggestions of the real 0.5B model in VS Code; its files come from `intract-lsp models pull`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from intract_lsp.models import fetch
from intract_lsp.paths import default_paths

if TYPE_CHECKING:
    from conftest import VSCode

MODEL = "qwen2.5-coder-0.5b"
SOURCE = Path(__file__).resolve().parents[3] / "intract_lsp" / "paths.py"
COMPLETE_LINE = "        root = Path(home).expanduser().absolute()"
TYPED = "root = Path("
TYPING = """
def mean(values):
    total = sum(values)
    return total / len(values)

def variance(values):
    centre = mean(values)
    squares = [(value - centre) ** 2 for value in values]
    return sum(squares) / len(squares)
"""
KEYS = 200
SECONDS = 120


@pytest.fixture(scope="module")
def real(window: VSCode) -> Iterator[VSCode]:
    """The window with the real model."""
    model = fetch.cached(MODEL, default_paths())
    if model is None:
        pytest.fail(f"This test needs the model: run `intract-lsp models pull {MODEL}`.", pytrace=False)
    # Made once for each machine, in the user's own cache, which VS Code's own home hides.
    copies = window.home / "intract" / "cache" / "int8"
    if not copies.exists():
        copies.parent.mkdir(parents=True, exist_ok=True)
        (default_paths().cache / "int8").mkdir(parents=True, exist_ok=True)
        copies.symlink_to(default_paths().cache / "int8")
    # What counts here is the way, not the speed, and other tests may keep the processor busy.
    window.configure(
        reset=True,
        server__arguments=[],
        model__name=str(model.directory),
        completion__deadline_ms=SECONDS * 1000,
        index__enabled=False,
    )
    window.load()
    window.wait_ready(model.directory.name, SECONDS)
    yield window
    window.configure(reset=True)


def test_ghost_text_of_the_real_model_is_accepted_into_the_file(real: VSCode) -> None:
    original = SOURCE.read_text(encoding="utf-8").split("\n")
    at = original.index(COMPLETE_LINE)
    path = real.open(SOURCE.name, "\n".join(original[:at]) + "\n" + "        ")
    real.type(TYPED, delay=60)
    ghost = real.wait_ghost(seconds=SECONDS).replace("\xa0", " ")
    real.screenshot("real-model")
    real.press("Tab")
    real.save(path, "\n".join(original[:at]) + "\n        " + TYPED + ghost)
    real.command("Intract: Show Status")
    assert re.search(r"Suggestions accepted\s+[1-9]", real.wait_panel("Suggestions accepted"))


def test_two_hundred_keys_leave_no_stale_ghost_text(real: VSCode) -> None:
    text = (TYPING.strip() + "\n" + TYPING.strip())[:KEYS]
    real.close_editors()
    path = real.open("typing.py", "")
    stops = real.do("typing", text=text, delay=60, every=20, pause=1500)
    assert len(stops) == KEYS // 20
    shown = 0
    for stop in stops:
        line = text[: stop["typed"]].split("\n")[-1]
        if not stop["ghost"]:
            continue
        shown += 1
        # The line with the cursor is what was typed, and then the ghost text: nothing of an earlier one.
        assert any(
            row.startswith(line) and "".join(stop["ghost"]).split("\n")[0][:3] in row for row in stop["lines"]
        ), stop
    assert shown, stops[-1]
    print(f"ghost text at {shown} of {len(stops)} stops")
    real.press("Escape")
    real.save(path, text)
    errors = [line for line in real.server_log().splitlines() if " ERROR " in line]
    assert not errors, errors
