"""A window of VS Code as a user sees it: what is shown, keys and clicks."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from browser import HERE, Browser
from code_server import SERVER, CodeServer

ARTEFACTS = HERE.parents[2] / ".cache" / "artefacts" / "vscode"
POLL_SECONDS = 0.05
START_SECONDS = 200.0
PATIENCE = 120.0
"""Seconds to wait for something that takes a moment on a machine with nothing else to do."""
EDITOR = ".editor-group-container.active .monaco-editor, .notebookOverlay .cell-editor-container .monaco-editor"
ITEM = '.statusbar-item[id$="intract.status"]'
MESSAGES = ".notification-list-item-message"

Found = TypeVar("Found")


class Window:
    """The window in front, with the folder ``work`` in it at first."""

    def __init__(self, code: CodeServer, browser: Browser, work: Path) -> None:
        self.code = code
        self.work = work
        self._browser = browser
        self.port = ""
        """Of the bridge in the window in front."""
        self.shows = Path()
        """The folder or the workspace file that was opened last."""

    def do(self, action: str, **arguments: Any) -> Any:
        """Have the browser do something; see driver.mjs."""
        return self._browser.do(action, **arguments)

    def ask(self, action: str, **arguments: Any) -> Any:
        """Ask VS Code itself; see bridge.cjs."""
        body = json.dumps({"do": action, **arguments}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", data=body)
        with urllib.request.urlopen(request, timeout=START_SECONDS) as reply:
            answer = json.loads(reply.read())
        assert "error" not in answer, f"{action} {arguments}: {answer['error']}"
        return answer.get("result")

    def ensure_work(self) -> None:
        """Have the folder ``work`` open, and nothing else."""
        if self.shows != self.work:
            self.load()
        self.ask("closeAll")

    def load(self, folder: Path | None = None, *, workspace: Path | None = None) -> None:
        """Open a folder, or a workspace file, in the page in front."""
        self.shows = workspace or folder or self.work
        what = f"{'workspace' if workspace else 'folder'}={self.shows}"
        self.code.bridge_file.unlink(missing_ok=True)
        self.wait(lambda: self.code.answers() or None, "VS Code to answer", START_SECONDS)
        self.do("goto", url=self.code.url(what))
        self.wait(lambda: self.code.bridge_file.exists() or None, "the extensions to start", START_SECONDS)
        self.port = self.code.bridge_file.read_text(encoding="utf-8")
        self.wait(lambda: self.status() or None, "the extension's status", START_SECONDS)

    def configure(self, *, trust: bool = False, **settings: Any) -> None:
        """Make these the settings of our section, ``__`` for ``.``, and wait until extensions have heard of it.

        Without ``server__path`` the server is the one that the tests belong to, and without ``server__arguments`` it
        runs the engine that suggests ``echo(LAST_WORD)``.
        """
        defaults = {"server__path": str(SERVER), "server__arguments": ["--engine", "echo"]}
        ours = {"intract." + name.replace("__", "."): value for name, value in {**defaults, **settings}.items()}
        written_by_command = "intract.completion.disabled_languages"
        if self.port:
            self.ask("forget", name=written_by_command)
        self.code.write_settings(ours, **{"security.workspace.trust.enabled": trust})
        if self.port:
            names = sorted({*ours, written_by_command})
            expected = {name: ours.get(name) for name in names}
            self.wait(lambda: self.ask("settings", names=names) == expected or None, f"the settings {expected}")
            self.ask("settle")

    # What is shown

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that fit."""
        found: list[str] = self.do("texts", selector=selector)
        return found

    def ghost(self) -> str:
        """Return the ghost text that is shown."""
        ghost: str = self.do("look")["ghost"]
        return ghost

    def text(self) -> str:
        """Return the whole text of the editor that is active, ghost text not included."""
        text: str = (self.ask("editor") or {"text": ""})["text"]
        return text

    def status(self) -> str:
        """Return what our item of the status bar says."""
        return next((text.strip() for text in self.texts(ITEM)), "")

    def labels(self) -> list[str]:
        """Return what screen readers are told of our item."""
        found: list[str] = self.do("labels", selector=f"{ITEM} a")
        return found

    def said(self) -> list[str]:
        """Return the messages at the corner, or in their list where that is open."""
        return self.texts(MESSAGES)

    def choices(self) -> list[str]:
        """Return the labels of the list that is open."""
        return self.texts(".quick-input-list:visible .quick-input-list-entry .label-name")

    # What a user does

    def open(self, name: str, content: str) -> Path:
        """Make a file in the folder and open it, with the keyboard at its end."""
        path = self.work / name
        path.write_text(content, encoding="utf-8")
        self.show(path)
        return path

    def show(self, path: Path) -> None:
        """Open a file, with the keyboard at its end."""
        self.ask("open", path=str(path))
        tab = f'.tab.active[data-resource-name="{path.name}"]'
        self.wait(lambda: self.texts(tab) or None, f"the tab of {path.name}")
        self.focus_editor()

    def focus_editor(self) -> None:
        """Put the keyboard into the active editor, where its cursor is."""

        def there() -> bool | None:
            if self.do("focused", selector=EDITOR):
                return True
            self.run("workbench.action.focusActiveEditorGroup")
            return None

        self.wait(there, "the keyboard in the editor")
        self.do("idle")

    def press(self, key: str) -> None:
        """Press one key, as playwright names them."""
        self.do("press", key=key)

    def type(self, text: str, delay: int = 30) -> None:
        """Type a text, a key each so many milliseconds."""
        self.do("type", text=text, delay=delay)

    def answer(self, text: str) -> None:
        """Type into the box that asks something."""
        box = ".quick-input-widget"
        self.wait(lambda: self.do("focused", selector=box) or None, "a box to type into")
        self.type(text, delay=0)

    def run(self, command: str, *arguments: Any) -> None:
        """Run one of VS Code's commands, or of ours, to its end."""
        self.ask("run", command=command, args=arguments)

    def start(self, command: str) -> None:
        """Begin a command that asks the user something or never ends by itself."""
        self.ask("start", command=command, args=[])

    def choose(self, text: str) -> None:
        """Choose an entry of the list that is open."""
        self.wait(lambda: any(text in choice for choice in self.choices()) or None, f"the choice {text}")
        self.do("click", selector=".quick-input-list .quick-input-list-entry", text=text)

    def confirm(self, button: str) -> None:
        """Click on a button of the dialog that is open."""
        self.do("click", selector=".monaco-dialog-box .monaco-button", text=button)

    def click_message(self, button: str) -> None:
        """Click on a button of a message at the corner."""
        self.do("click", selector=".notifications-toasts .monaco-button", text=button)

    def click_panel(self, link: str) -> None:
        """Click on a link in a webview."""
        self.wait(lambda: self.do("clickInFrame", text=link) or None, f"the link {link}")

    def save(self, path: Path, content: str) -> None:
        """Save with the keyboard, and wait for these characters on the disk."""
        self.press("Control+s")
        self.wait(lambda: path.read_text(encoding="utf-8") == content or None, f"{path.name} to be {content!r}")

    def screenshot(self, name: str, clip: dict[str, int] | None = None) -> None:
        """Keep a picture of the window."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.do("screenshot", path=str(ARTEFACTS / f"{name}.png"), clip=clip)

    # What is waited for

    def wait_ghost(self, text: str | None = None, seconds: float = PATIENCE) -> str:
        """Wait for ghost text, for this one where it is given."""

        def shown() -> str | None:
            ghost = self.ghost()
            return ghost if ghost and text in (None, ghost) else None

        return self.wait(shown, f"ghost text {text or ''}", seconds)

    def wait_text(self, text: str) -> None:
        """Wait until this is the editor's text; extensions are told of keys a moment later."""
        self.wait(lambda: self.text() == text or None, f"the text {text!r}")

    def wait_no_ghost(self) -> None:
        """Wait until no ghost text is shown."""
        self.wait(lambda: None if self.ghost() else True, "the ghost text to go")

    def wait_status(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait until our item of the status bar fits a pattern."""
        return self.wait(lambda: s if re.fullmatch(pattern, s := self.status()) else None, f"status {pattern}", seconds)

    def wait_ready(self, model: str = "echo", seconds: float = PATIENCE) -> None:
        """Wait until the server and this model are ready, by what screen readers are told of our item."""
        self.wait(lambda: any(f"{model} is ready" in one for one in self.labels()) or None, "readiness", seconds)

    def wait_said(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait for a message; one that has gone from the corner by itself is still in the list."""
        end = time.monotonic() + seconds / 2

        def said() -> str | None:
            if time.monotonic() > end:
                self.run("notifications.showList")
            return next((text for text in self.said() if re.search(pattern, text)), None)

        return self.wait(said, f"the message {pattern}", seconds)

    def wait_panel(self, pattern: str) -> str:
        """Wait for a webview that says this."""
        return self.wait(
            lambda: next((text for text in self.do("frames") if re.search(pattern, text)), None), f"a panel {pattern}"
        )

    def _why(self) -> object:
        """Return what the server says of its last answer, or why it cannot say so."""
        try:
            return self.ask("execute", command="intract.why")
        except (AssertionError, OSError) as error:
            return error

    def wait(self, look: Callable[[], Found | None], what: str, seconds: float = PATIENCE) -> Found:
        """Look again and again until there is something; fail with a picture and the logs."""
        end = time.monotonic() + seconds
        while True:
            found = look()
            if found is not None:
                return found
            if time.monotonic() >= end:
                break
            time.sleep(POLL_SECONDS)
        self.screenshot("failed")
        state = {
            "keyboard in the editor": self.do("focused", selector=EDITOR),
            "last answer": self._why(),
            "status": self.status(),
            "messages": self.said(),
            "ghost text": self.ghost(),
        }
        logs = f"{self.code.extension_log()[-2000:]}\n{self.code.server_log()[-2000:]}"
        pytest.fail(f"waited {seconds} s for {what}; {state}\n{logs}")
