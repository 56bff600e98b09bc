"""Real Neovims with a terminal of 80 by 24, driven over their own protocol."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pynvim
import pytest
from screen import CELLS, screen_svg

HERE = Path(__file__).resolve().parent
NEOVIMS = HERE.parents[1] / ".cache" / "nvim"
VERSIONS = ("0.10", "0.11", "0.12")
"""0.12 is the one whose own client shows suggestions."""

POLL_SECONDS = 0.02

Found = TypeVar("Found")


def neovim_executable(version: str) -> Path:
    """Return the program; without it no test here means anything."""
    executable = NEOVIMS / version / "nvim"
    if not executable.exists():
        pytest.fail(f"The editor tests need Neovim in {executable.parent}: run scripts/install-nvim.", pytrace=False)
    return executable


class Neovim:
    """One Neovim with one server."""

    def __init__(self, version: str, home: Path, server: list[str], options: dict[str, Any]) -> None:
        environment = {
            "HOME": home,
            "INTRACT_HOME": home / "intract",
            "TEST_SERVER_COMMAND": json.dumps(server),
            "TEST_SERVER_OPTIONS": json.dumps(options),
            **{f"XDG_{name}_HOME": home / name.lower() for name in ("CONFIG", "DATA", "STATE", "CACHE")},
        }
        setting = [f"{name}={value}" for name, value in environment.items()]
        editor = [str(neovim_executable(version)), "--embed", "--clean", "-u", str(HERE / "init.lua")]
        self.version = version
        self.api = pynvim.attach("child", argv=["env", *setting, *editor])
        self.api.ui_attach(80, 24, rgb=True)
        self._left = False

    @property
    def is_own_client(self) -> bool:
        """Whether suggestions are asked for and drawn by the plugin and not by Neovim."""
        return self.version != "0.12"

    def open(self, path: Path) -> None:
        """Edit a file and wait until the server is attached to it."""
        self.api.command(f"edit {path}")
        self.wait(lambda: self.attached == 1 or None, "the server to attach")

    @property
    def attached(self) -> int:
        """Number of servers of ours that are attached to the current buffer."""
        return int(self.lua("return #vim.lsp.get_clients({ bufnr = 0, name = 'intract' })"))

    def lua(self, code: str, *arguments: Any) -> Any:
        return self.api.exec_lua(code, *arguments)

    def keys(self, keys: str) -> None:
        """Press keys, written as in mappings."""
        self.api.input(keys)

    def ghost(self) -> tuple[int, int, str] | None:
        """Return the ghost text with its line (from 0) and byte column, or nothing where none is shown."""
        marks = self.lua(
            """
            local marks = {}
            for _, name in ipairs({ 'nvim.lsp.inline_completion', 'intract.suggestion' }) do
              local namespace = vim.api.nvim_create_namespace(name)
              vim.list_extend(marks, vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true }))
            end
            return marks
            """
        )
        if not marks:
            return None
        assert len(marks) == 1, f"more than one suggestion is shown: {marks}"
        ((_, row, column, details),) = marks
        lines = [details.get("virt_text", []), *details.get("virt_lines", [])]
        return row, column, "\n".join("".join(text for text, _ in line) for line in lines)

    def wait_ghost(self, text: str | None = None, seconds: float = 20) -> tuple[int, int, str]:
        """Wait for ghost text, for this one where it is given."""

        def shown() -> tuple[int, int, str] | None:
            ghost = self.ghost()
            return ghost if ghost and ghost[2] and text in (None, ghost[2]) else None

        return self.wait(shown, f"ghost text {text or ''}", seconds)

    def wait_no_ghost(self) -> None:
        self.wait(lambda: self.ghost() is None or None, "the ghost text to go")

    def wait_lines(self, lines: list[str]) -> None:
        """Wait until this is the buffer's text."""
        self.wait(lambda: self.lines == lines or None, f"the text {lines}")

    def wait_written(self, path: Path, content: bytes) -> None:
        """Write the buffer and expect these bytes on disk."""
        self.api.command("write")
        assert path.read_bytes() == content

    @property
    def lines(self) -> list[str]:
        return list(self.api.current.buffer[:])

    @property
    def cursor(self) -> tuple[int, int]:
        """Line from 1, byte column from 0."""
        row, column = self.api.current.window.cursor
        return row, column

    @property
    def messages(self) -> str:
        """What the user was told so far."""
        return str(self.api.command_output("messages"))

    def page(self, command: str) -> str:
        """Run a command, wait for its floating window, return its text and close it."""
        before = int(self.api.current.window.handle)
        self.api.command(command)
        window = "return vim.api.nvim_win_get_config(0).relative ~= '' and vim.api.nvim_get_current_win() or nil"
        self.wait(lambda: self.lua(window), f"the window of {command}")
        text = "\n".join(self.lines)
        self.keys("q")
        self.wait(lambda: self.api.current.window.handle == before or None, "the window to close")
        return text

    def picture(self, path: Path) -> None:
        """Keep a picture of the screen."""
        self.lua("vim.api.nvim__inspect_cell(1, 0, 0)")  # from the first time on Neovim notes what it draws
        self.api.command("redraw!")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(screen_svg(self.lua(CELLS)), encoding="utf-8")

    def execute(self, command: str, argument: dict[str, Any] | None = None) -> Any:
        """Run one of the server's commands and return its result."""
        reply = self._request(command, argument)
        assert reply and not reply.get("err"), f"{command} was answered {reply}"
        return reply["result"]

    def wait(self, look: Callable[[], Found | None], what: str, seconds: float = 20) -> Found:
        """Look again and again until there is something; fail with the editor's own messages."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._go_on()
            found = look()
            if found is not None:
                return found
            time.sleep(POLL_SECONDS)
        pytest.fail(
            f"waited {seconds} s for {what}; line {self.api.current.line!r}, cursor {self.cursor}, "
            f"ghost {self.ghost()}, messages {self.messages!r}, "
            f"the server's last answer {self._request('intract.why', None)}"
        )

    def _go_on(self) -> None:
        """Fail where a message waits for Enter: every other call would wait with it."""
        if self.api.request("nvim_get_mode")["blocking"]:
            self.keys("<CR>")
            pytest.fail(f"Neovim waits for Enter; messages {self.messages!r}")

    def _request(self, command: str, argument: dict[str, Any] | None) -> Any:
        """Return the server's reply to a command, or nothing where no server is attached."""
        return self.lua(
            """
            local command, argument = ...
            local client = vim.lsp.get_clients({ bufnr = 0, name = 'intract' })[1]
            local params = { command = command, arguments = { argument } }
            if not client then
              return nil
            end
            if vim.fn.has('nvim-0.11') == 0 then
              return client.request_sync('workspace/executeCommand', params, 20000, 0)
            end
            return client:request_sync('workspace/executeCommand', params, 20000, 0)
            """,
            command,
            argument or {"uri": None},
        )

    def reset(self) -> None:
        """Close all files, and have the server forget what it suggested."""
        self.keys("<C-\\><C-n>")
        self.wait(lambda: self.api.funcs.mode() == "n" or None, "normal mode")
        self.lua("if vim.lsp.get_clients({ name = 'intract' })[1] then vim.cmd('silent Intract clear-cache') end")
        self.api.command("silent! only! | silent! %bwipeout! | set completeopt&")
        self.api.command("messages clear")

    def quit(self) -> None:
        """Leave Neovim without writing, as often as one likes."""
        if self._left:
            return
        self._left = True
        # It is gone before it can answer.
        with contextlib.suppress(OSError, EOFError):
            self.api.command("qall!")
        self.api.close()


def server_command(*arguments: str) -> list[str]:
    """Return our own server's command line."""
    return [sys.executable, "-m", "intract_lsp", "serve", *arguments]


StartNeovim = Callable[..., Neovim]


@pytest.fixture
def start_neovim(tmp_path: Path) -> Iterator[StartNeovim]:
    """Return a function that starts Neovim with a server: its arguments after ``serve``, and its settings."""
    started: list[Neovim] = []

    def start(*arguments: str, version: str = "0.12", server: list[str] | None = None, **options: Any) -> Neovim:
        command = server or server_command(*arguments)
        started.append(Neovim(version, tmp_path / "home", command, options))
        return started[-1]

    yield start
    for neovim in started:
        neovim.quit()


@pytest.fixture(scope="session", params=VERSIONS)
def echo_neovim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neovim]:
    """A Neovim of each version with the engine that suggests ``echo(LAST_WORD)``; starting one takes seconds."""
    home = tmp_path_factory.mktemp("home")
    neovim = Neovim(request.param, home, server_command("--engine", "echo"), {})
    yield neovim
    neovim.quit()


@pytest.fixture
def neovim(echo_neovim: Neovim) -> Neovim:
    """That Neovim without any file."""
    echo_neovim.reset()
    return echo_neovim


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of two lines to type in."""
    path = tmp_path / "work" / "source.py"
    path.parent.mkdir()
    path.write_text("first = 1\nsecond = 2\n", encoding="utf-8")
    return path
