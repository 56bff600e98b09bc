"""Servers and windows that start, fail and end, in a real VS Code; the engine suggests ``echo(LAST_WORD)``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from browser import NODE
from programs import program

if TYPE_CHECKING:
    from window import Window

pytestmark = pytest.mark.timeout(900)

LATE_SERVER = Path(__file__).resolve().parents[1] / "late_server.py"
MOST_ACTIVATION_MS = 150


def servers(code: Window) -> list[psutil.Process]:
    """The language servers that VS Code started, without what they are just about to start themselves."""
    found: dict[int, psutil.Process] = {}
    for process in code.code.processes():
        try:
            if "serve" in process.cmdline() and any("intract" in part for part in process.cmdline()):
                found[process.pid] = process
        except psutil.Error:
            continue
    return [process for process in found.values() if parent(process) not in found]


def wait_servers(code: Window, count: int) -> list[psutil.Process]:
    """Wait until so many run: one that was replaced takes a moment to end."""
    return code.wait(lambda: found if len(found := servers(code)) == count else None, f"{count} servers and no more")


def parent(process: psutil.Process) -> int | None:
    """The id of the process that started it, or nothing once that is gone."""
    try:
        return process.ppid()
    except psutil.Error:
        return None


def late(code: Window, tmp_path: Path, part: str) -> Path:
    """Have a server of which a part waits for the file that is returned."""
    go = tmp_path / "go"
    code.configure(server__path=program(tmp_path, f'"{LATE_SERVER}" "{go}" {part}'))
    return go


@pytest.mark.parametrize(("part", "said"), [("model", "Loading the model"), ("server", "The server is starting")])
def test_what_was_typed_too_early_gets_its_suggestion(code: Window, tmp_path: Path, part: str, said: str) -> None:
    go = late(code, tmp_path, part)
    code.open("early.py", "")
    code.wait(lambda: any(said in label for label in code.labels()) or None, said)
    code.type("early")
    code.wait_text("early")
    assert not code.ghost()
    go.touch()
    code.wait_ghost("echo(early)")


def test_what_was_asked_too_early_gets_its_suggestion(code: Window, tmp_path: Path) -> None:
    go = late(code, tmp_path, "model")
    code.open("asked.py", "asked")
    code.wait(lambda: any("Loading the model" in label for label in code.labels()) or None, "the model to be loading")
    code.run("intract.suggest")
    code.wait(lambda: "Loading the model" in code.texts(".statusbar-item") or None, "the answer in the status bar")
    assert not code.ghost()
    go.touch()
    code.wait_ghost("echo(asked)")


def test_a_setting_of_the_wrong_kind_is_named(code: Window) -> None:
    code.configure(completion__max_line_tokens="many")
    assert "completion.max_line_tokens cannot be 'many'" in code.wait_said("max_line_tokens")
    # What the extension itself reads is checked, too: it goes on without.
    code.configure(server__arguments="--engine echo", model__name="/no/such/model")
    code.wait_status("Intract: model")
    wait_servers(code, 1)


def test_a_missing_server_is_said_with_a_way_out(code: Window) -> None:
    code.configure(server__path="/no/such/intract-lsp")
    assert "names no program" in code.wait_said("intract.server.path")
    assert code.texts(".notifications-toasts .monaco-button")[0] == "Open Settings"
    code.wait_status("Intract")
    code.screenshot("no-server")
    code.run("intract.whyNoSuggestion")
    code.wait_panel("names no program")
    code.configure()
    code.wait_ready()
    code.open("back.py", "")
    code.type("eighth")
    code.wait_ghost("echo(eighth)")


def test_a_server_that_is_too_old_is_said_once_and_used(code: Window, tmp_path: Path) -> None:
    old = "import intract_lsp; intract_lsp.__version__ = '0.0.9'; from intract_lsp.cli import main; main()"
    code.configure(server__path=program(tmp_path, f'-c "{old}"'))
    assert "0.0.9 is older than" in code.wait_said("is older than")
    assert "Install" in code.texts(".notifications-toasts .monaco-button")
    code.wait_ready()
    assert len(code.said()) == 1


def test_a_server_that_ends_is_started_again_and_given_up_after_five_times(code: Window) -> None:
    code.open("crash.py", "")
    wait_servers(code, 1)
    seen: set[int] = set()
    for _ in range(5):
        (server,) = code.wait(lambda: [one for one in servers(code) if one.pid not in seen][:1] or None, "a server")
        seen.add(server.pid)
        server.kill()
    assert "five times" in code.wait_said("five times")
    assert len(code.said()) == 1
    code.screenshot("crash-loop")
    assert not [one for one in servers(code) if one.pid not in seen]
    code.click_message("Restart")
    code.wait_ready()
    code.focus_editor()
    code.type("ninth")
    code.wait_ghost("echo(ninth)")


@pytest.fixture
def second(code: Window) -> Iterator[Window]:
    """A second window on the same folder, in front."""
    first = code.port
    code.do("page", index=1)
    code.load()
    code.wait_ready()
    yield code
    code.do("close")
    code.port = first


def test_two_windows_on_one_folder_do_not_disturb_each_other(code: Window, second: Window) -> None:
    wait_servers(code, 2)
    path = second.open("shared.py", "")
    second.type("eleventh")
    second.wait_ghost("echo(eleventh)")
    second.press("Tab")
    second.save(path, "eleventhecho(eleventh)")
    assert not second.said()
    second.ask("closeAll")


@pytest.fixture
def endless_pip(code: Window, tmp_path: Path) -> Path:
    """The file in which a pip that never ends writes its process id; the server is installed with it."""
    marks = tmp_path / "pip-runs"
    python = tmp_path / "python3"
    script = [
        '[ "$1" = -c ] && exit 0',
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit 0; fi',
        f'echo $$ > "{marks}"; echo "Collecting torch"; sleep 600',
    ]
    python.write_text("\n".join(["#!/bin/sh", *script, ""]), encoding="utf-8")
    python.chmod(0o755)
    code.configure(server__python=str(python))
    code.wait_ready()
    return marks


def test_a_window_that_is_closed_takes_its_server_and_its_installation_along(endless_pip: Path, second: Window) -> None:
    other = {one.pid for one in wait_servers(second, 2)}
    second.start("intract.installServer")
    pip = second.wait(lambda: int(endless_pip.read_text() or 0) if endless_pip.exists() else None, "pip to run")
    assert "Installing the Intract server" in second.wait_said("Collecting torch")
    # Its own server made way; the other window's did not.
    (left,) = wait_servers(second, 1)
    assert left.pid in other
    second.do("close")
    second.wait(lambda: None if psutil.pid_exists(pip) else True, "pip to end with its window")
    second.do("page", index=1)


def node_start_ms() -> float:
    """How long Node itself takes to start, in milliseconds: how fast this machine is just now."""
    took = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([NODE, "-e", "0"], check=True)
        took.append(1000 * (time.monotonic() - began))
    return min(took)


def test_activation_is_quick(code: Window) -> None:
    """In one of at most seven windows: other work on the machine only ever adds time.

    Where Node alone needs more than 50 ms to start, ours may take three times that.
    """
    # In one picture: the list holds only what is in sight, the slowest first.
    code.do("resize", width=1200, height=3000)
    rows = ".runtime-extensions-editor .extension"
    measured = []
    for _ in range(7):
        code.run("workbench.action.showRuntimeExtensions")
        found = code.wait(
            lambda: [row for row in code.texts(rows) if "intract-lsp" in row or "Intract" in row] or None, "our row"
        )
        match = re.search(r"Activation: (\d+)ms", found[0])
        assert match, found
        measured.append(int(match[1]))
        allowed = max(MOST_ACTIVATION_MS, 3 * node_start_ms())
        if measured[-1] <= allowed:
            break
        code.load()
    code.do("resize", width=1200, height=700)
    told = re.findall(r"activated in (\d+) ms", code.code.extension_log())
    print(f"activation {measured} ms by VS Code, {told} by the extension itself; load {os.getloadavg()[0]:.1f}")
    assert measured[-1] <= allowed


def test_several_folders(code: Window, tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(f"{name} = 1\n", encoding="utf-8")
        folders.append({"path": str(tmp_path / name)})
    workspace = tmp_path / "both.code-workspace"
    workspace.write_text(json.dumps({"folders": folders}), encoding="utf-8")

    def opened() -> bool | None:
        # On a busy machine VS Code now and then shows a workspace without its folders, until it is opened again.
        code.load(workspace=workspace)
        return sorted(code.ask("folders")) == ["one", "two"] or None

    code.wait(opened, "both folders to be open")
    code.wait_ready()
    code.show(tmp_path / "two" / "two.py")
    code.type("tenth")
    code.wait_ghost("echo(tenth)")
    code.run("intract.showIndex")

    def both() -> bool | None:
        # The index begins after the first suggestions.
        code.click_panel("Refresh")
        return any(all(str(tmp_path / name) in text for name in ("one", "two")) for text in code.do("frames")) or None

    code.wait(both, "both folders in the index")


def test_an_untrusted_workspace_runs_nothing_of_its_own(code: Window, tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    (folder / ".venv" / "bin").mkdir(parents=True)
    strange = folder / ".venv" / "bin" / "intract-lsp"
    strange.write_text(f'#!/bin/sh\ntouch "{tmp_path}/ran"\n', encoding="utf-8")
    strange.chmod(0o755)
    (folder / ".vscode").mkdir()
    settings = {"intract.server.path": str(strange), "intract.server.arguments": ["--bad"]}
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / ".intract.toml").write_text("[training]\nenabled = true\n", encoding="utf-8")
    (folder / "a.py").write_text("a = 1\n", encoding="utf-8")
    code.configure(trust=True)
    code.load(folder)
    code.wait(lambda: "Restricted Mode" in " ".join(code.texts(".statusbar-item")) or None, "the restricted mode")
    code.wait_ready()
    code.show(folder / "a.py")
    code.type("last")
    code.wait_ghost("echo(last)")
    code.screenshot("restricted-mode")
    assert not (tmp_path / "ran").exists()
    (server,) = wait_servers(code, 1)
    assert "training.enabled=false" in server.cmdline()
    code.start("intract.startFineTune")
    assert "until you trust it" in code.wait_said("Fine-tuning is off")
