"""Fine-tuning from VS Code: a real run of the real server, on a random model of two layers and a small repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from programs import program

if TYPE_CHECKING:
    from window import Window

pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).resolve().parent
UNIT = HERE.parents[1] / "unit"
SECONDS = 400.0
"""For a whole run beside whatever else the machine does; alone it takes half a minute."""

MAKE = """
import sys
from pathlib import Path

sys.path[:0] = sys.argv[3:]
from tiny_models import write_model
from tiny_project import write_project

write_model(Path(sys.argv[1]))
write_project(Path(sys.argv[2]), modules=16, functions=8)
"""


@pytest.fixture
def project(window: Window, tmp_path: Path) -> Window:
    """The window on a project, with a server that has a model to train."""
    model, project = tmp_path / "tiny", tmp_path / "books"
    places = [str(UNIT / "inference"), str(UNIT / "training")]
    subprocess.run([sys.executable, "-c", MAKE, str(model), str(project), *places], check=True, timeout=SECONDS)
    window.configure(
        server__path=program(tmp_path, f'"{HERE / "trainable_server.py"}"'),
        model__name=str(model),
        model__threads=1,
        training__steps=24,
        training__batch_size=4,
        training__context_length=256,
        training__learning_rate=0.01,
        training__held_out=84,
    )
    window.load(project)
    window.wait_ready()
    window.ask("closeAll")
    return window


def start(code: Window, minutes: str) -> None:
    """Answer what is asked before a run."""
    code.start("intract.startFineTune")
    code.choose("LoRA")
    code.wait(lambda: code.texts(".quick-input-title:has-text('time')") or None, "the question for minutes")
    code.answer("-3")
    code.wait(lambda: "Write a number" in " ".join(code.texts(".quick-input-message")) or None, "the objection")
    for _ in range(2):
        code.press("Backspace")
    code.answer(minutes)
    code.press("Enter")
    code.wait_said(r"Fine-tuning .* on books \(lora\) begins")
    code.ask("clearMessages")


def test_fine_tuning_is_started_watched_cancelled_and_reported(project: Window) -> None:
    code = project
    start(code, "5")
    code.wait_status(r"Intract training \d+%")
    code.start("intract.cancelFineTune")
    code.confirm("Cancel Run")
    code.wait_said("Cancelled; nothing has changed")
    code.wait_status("Intract")
    code.ask("clearMessages")

    start(code, "")
    code.run("workbench.view.extension.intract")
    code.wait_status(r"Intract training [1-9]\d%", SECONDS)
    code.run("notifications.showList")
    code.wait_said("step", SECONDS)
    assert "Cancel" in code.texts(".notifications-center .monaco-button")
    code.screenshot("training")
    code.run("notifications.hideList")
    code.wait_said("Fine-tuning on books: Promoted", SECONDS)
    code.wait_status("Intract")
    code.ask("clearMessages")

    code.run("intract.openReport")
    code.wait_panel("edit similarity")
    code.screenshot("report")
    code.start("intract.showFineTune")
    code.wait_said("Promoted")
    code.ask("closeAll")

    def rows() -> list[str]:
        return code.texts(".pane-body .monaco-list-row")

    active = code.wait(lambda: [row for row in rows() if "active" in row] or None, "the adapter in use")
    assert "loss" in active[0]
    assert any("promoted" in row for row in rows()) and any("stopped" in row for row in rows())
    code.screenshot("adapters")
    code.run("intract.rollBackAdapter")
    code.wait_said("serves now")
    code.wait(lambda: None if any("active" in row for row in rows()) else True, "no adapter in use")
    code.ask("clearMessages")
    code.start("intract.removeAdapter")
    code.choose("tiny")
    code.confirm("Remove")
    code.wait_said("is removed")
