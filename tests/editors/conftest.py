"""A real Neovim with a terminal of 80 by 24, driven over its own protocol."""

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

HERE = Path(__file__).resolve().parent
NEOVIM = HERE.parents[1] / ".cache" / "nvim" / "nvim"
POLL_SECONDS = 0.02

Found = TypeVar("Found")


class Neovim:
    """One Neovim with one server."""

    def __init__(self, executable: Path, home: Path, server: list[str], options: dict[str, Any]) -> None:
        environment = {
            "HOME": home,
            "INTRACT_HOME": home / "intract",
            "TEST_SERVER_COMMAND": json.dumps(server),
            "TEST_SERVER_OPTIONS": json.dumps(options or {"completion": {}}),
            **{f"XDG_{name}_HOME": home / name.lower() for name in ("CONFIG", "DATA", "STATE", "CACHE")},
        }
        setting = [f"{name}={value}" for name, value in environment.items()]
        editor = [str(executable), "--embed", "--clean", "-u", str(HERE / "init.lua")]
        self.api = pynvim.attach("child", argv=["env", *setting, *editor])
        self.api.ui_attach(80, 24, rgb=True)
        self._left = False

    def open(self, path: Path) -> None:
        """Edit a file and wait until the server is attached to it."""
        self.api.command(f"edit {path}")
        attached = "return #vim.lsp.get_clients({ bufnr = 0, name = 'intract' }) == 1"
        self.wait(lambda: self.api.exec_lua(attached) or None, "the server to attach")

    def keys(self, keys: str) -> None:
        """Press keys, written as in mappings."""
        self.api.input(keys)

    def ghost(self) -> tuple[int, int, str] | None:
        """Return the ghost text with its line (from 0) and byte column, or nothing where none is shown."""
        marks = self.api.exec_lua(
            """
            local namespace = vim.api.nvim_create_namespace('nvim.lsp.inline_completion')
            return vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })
            """
        )
        if not marks:
            return None
        ((_, row, column, details),) = marks
        lines = [details.get("virt_text", []), *details.get("virt_lines", [])]
        return row, column, "\n".join("".join(text for text, _ in line) for line in lines)

    def wait_ghost(self, text: str | None = None, seconds: float = 20) -> tuple[int, int, str]:
        """Wait for ghost text, for this one where it is given."""

        def shown() -> tuple[int, int, str] | None:
            ghost = self.ghost()
            return ghost if ghost and ghost[2] and text in (None, ghost[2]) else None

        return self.wait(shown, f"ghost text {text or ''}", seconds)

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

    def execute(self, command: str) -> Any:
        """Run one of the server's commands and return its result."""
        reply = self._request(command)
        assert reply and not reply.get("err"), f"{command} was answered {reply}"
        return reply["result"]

    def wait(self, look: Callable[[], Found | None], what: str, seconds: float = 20) -> Found:
        """Look again and again until there is something; fail with the editor's own messages."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = look()
            if found is not None:
                return found
            time.sleep(POLL_SECONDS)
        pytest.fail(
            f"waited {seconds} s for {what}; line {self.api.current.line!r}, cursor {self.cursor}, "
            f"ghost {self.ghost()}, messages {self.api.command_output('messages')!r}, "
            f"the server's last answer {self._request('intract.why')}"
        )

    def _request(self, command: str) -> Any:
        """Return the server's reply to a command, or nothing where no server is attached."""
        return self.api.exec_lua(
            """
            local client = vim.lsp.get_clients({ bufnr = 0, name = 'intract' })[1]
            return client and client:request_sync('workspace/executeCommand', { command = ... }, 20000, 0)
            """,
            command,
        )

    def quit(self) -> None:
        """Leave Neovim without writing, as often as one likes."""
        if self._left:
            return
        self._left = True
        # It is gone before it can answer.
        with contextlib.suppress(OSError, EOFError):
            self.api.command("qall!")
        self.api.close()


@pytest.fixture(scope="session")
def neovim_executable() -> Path:
    if not NEOVIM.exists():
        pytest.fail("The editor tests need Neovim in .cache/nvim: run scripts/install-nvim.", pytrace=False)
    return NEOVIM


@pytest.fixture
def start_neovim(neovim_executable: Path, tmp_path: Path) -> Iterator[Callable[..., Neovim]]:
    """Return a function that starts Neovim with a server: its arguments after ``serve``, and its settings."""
    started: list[Neovim] = []

    def start(*arguments: str, **options: Any) -> Neovim:
        server = [sys.executable, "-m", "intract_lsp", "serve", *arguments]
        started.append(Neovim(neovim_executable, tmp_path / "home", server, options))
        return started[-1]

    yield start
    for neovim in started:
        neovim.quit()


@pytest.fixture
def neovim(start_neovim: Callable[..., Neovim]) -> Neovim:
    """Neovim with the engine that suggests ``echo(LAST_WORD)``."""
    return start_neovim("--engine", "echo")
