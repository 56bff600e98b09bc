"""The real 0.5B model in VS Code, from an extension that was just installed; its files are those of this machine."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from code_server import SERVER
from programs import program

from intract_lsp.models import fetch
from intract_lsp.paths import default_paths

if TYPE_CHECKING:
    from window import Window

pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).resolve().parent
MODEL = "qwen2.5-coder-0.5b"
SECONDS = 200.0
"""For the model to be ready, and for a suggestion on a machine that does much else."""
DEADLINE_MS = 120_000
KEYS = 200
KEY_MS = 60
EVERY = 20
ACCEPTED = 3

SHOWN = '''"""Averages of measurements."""

from __future__ import annotations


def mean(values: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def variance(values: list[float]) -> float:
    """Return the mean of the squared distances from the mean."""
    centre = mean(values)
    '''
"""What stands in the file before the first suggestion."""
TYPED = "return sum("

TEXT = """def mean(values):
    total = sum(values)
    return total / len(values)

def variance(values):
    centre = mean(values)
    squares = [(value - centre) ** 2 for value in values]
    return sum(squares) / len(squares)

def deviation(values):
    return variance(values) ** 0.5
"""
PICTURE = {"x": 0, "y": 36, "width": 1200, "height": 664}


@pytest.fixture(scope="module")
def model() -> Path:
    """The model's directory on this machine."""
    found = fetch.cached(MODEL, default_paths())
    if found is None:
        pytest.fail(f"This test needs the model: run `intract-lsp models pull {MODEL}`.", pytrace=False)
    return found.directory


@pytest.fixture
def fresh(window: Window, model: Path) -> Window:
    """The window of a machine that has a model and no server, with nothing open."""
    # Without a deadline: what counts here is the way, not the speed, and others may keep the processor busy.
    settings = {"server.python": sys.executable, "model.name": str(model), "completion.deadline_ms": DEADLINE_MS}
    window.code.write_settings({f"intract.{name}": value for name, value in settings.items()})
    window.load()
    return window


def test_from_the_extension_to_text_on_the_disk(fresh: Window, model: Path) -> None:
    assert "which is not on this machine yet" in fresh.wait_said("Intract needs its server")
    fresh.wait_status("Intract: no server")
    fresh.screenshot("first-minutes-1-no-server")
    fresh.click_message("Install")
    fresh.wait_status("Intract: installing")
    fresh.screenshot("first-minutes-2-installing")
    fresh.wait_ready(model.name, SECONDS)
    assert "/server/bin/intract-lsp (own) serve" in fresh.code.extension_log()
    fresh.ask("closeAll")
    # In the way of a picture.
    fresh.run("workbench.action.closeSidebar")
    path = fresh.open("averages.py", SHOWN)
    fresh.type(TYPED, delay=KEY_MS)
    ghost = fresh.wait_ghost(seconds=SECONDS)
    assert len(ghost) >= 3
    fresh.wait_status("Intract", SECONDS)
    assert not fresh.said()
    fresh.screenshot("completion", PICTURE)
    # What is shown may have grown meanwhile.
    ghost = fresh.ghost()
    fresh.press("Tab")
    fresh.save(path, SHOWN + TYPED + ghost)
    fresh.screenshot("first-minutes-3-accepted")
    fresh.run("intract.showStatus")
    assert re.search(r"Suggestions accepted\s+[1-9]", fresh.wait_panel("Suggestions accepted"))


@pytest.fixture
def recorded(window: Window, model: Path, tmp_path: Path) -> Path:
    """The window with the real model, and the file that the server's answers are written down in."""
    record = tmp_path / "answers.jsonl"
    server = program(tmp_path, f'"{HERE / "recording_server.py"}" "{record}" "{SERVER}"')
    window.configure(
        server__path=server,
        server__arguments=[],
        model__name=str(model),
        completion__deadline_ms=DEADLINE_MS,
        index__enabled=False,
    )
    window.ensure_work()
    window.wait_ready(model.name, SECONDS)
    return record


def test_two_hundred_keys_leave_nothing_stale_and_nothing_twice(window: Window, recorded: Path) -> None:
    assert len(TEXT) >= KEYS
    path = window.open("typed.py", "")
    logged = len(window.code.server_log()), len(window.code.extension_log())
    shown, accepted = 0, 0
    for end in range(EVERY, KEYS + 1, EVERY):
        there = TEXT[:end]
        window.type(there[-EVERY:], delay=KEY_MS)
        ghost = stop(window, there, recorded)
        shown += bool(ghost)
        if ghost and not ghost[0].isspace() and accepted < ACCEPTED:
            accepted += 1
            accept_and_undo(window, there, ghost)
    print(f"ghost text at {shown} of {KEYS // EVERY} stops, {accepted} accepted")
    assert shown and accepted
    window.press("Escape")
    window.save(path, TEXT[:KEYS])
    new = window.code.server_log()[logged[0] :] + window.code.extension_log()[logged[1] :]
    assert not re.findall(r".* ERROR .*|.*\[error\].*|Traceback", new)


def stop(window: Window, there: str, record: Path) -> str:
    """Expect nothing stale right after the last key, nor once the answer is there; return the ghost text then."""
    seen = window.do("look")
    window.wait_text(there)
    expect_fresh(seen, there, record)
    window.wait(lambda: answered(there, record) or None, "an answer", SECONDS)
    window.wait_status("Intract", SECONDS)
    window.ask("settle")
    seen = window.do("look")
    expect_fresh(seen, there, record)
    ghost: str = seen["ghost"]
    return ghost


def accept_and_undo(window: Window, there: str, ghost: str) -> None:
    """Expect the ghost text in the document once."""
    window.press("Tab")
    window.wait_text(there + ghost)
    window.run("undo")
    window.wait_text(there)


def answers(record: Path) -> list[Any]:
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()] if record.exists() else []


def answered(there: str, record: Path) -> bool:
    """Return whether the server has answered at the end of the text that is there."""
    last = there.split("\n")
    here = {"line": len(last) - 1, "character": len(last[-1])}
    return any(answer["position"] == here for answer in answers(record))


def expect_fresh(seen: dict[str, str], there: str, record: Path) -> None:
    """Expect no ghost text, or one that goes on with what was typed as the server has said."""
    if not seen["ghost"]:
        return
    last = there.split("\n")[-1]
    assert seen["line"] == last + seen["ghost"].split("\n")[0], (seen, last)
    lines = there.split("\n")
    offers = set()
    for answer in answers(record):
        start = answer["range"]["start"] if answer["text"] else {"line": len(lines)}
        if start["line"] < len(lines):
            above = "".join(line + "\n" for line in lines[: start["line"]])
            offers.add(above + lines[start["line"]][: start["character"]] + answer["text"])
    assert there + seen["ghost"] in offers, (seen, there)
