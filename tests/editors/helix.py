"""A real Helix in a terminal of 80 by 24: keys go in, what it draws comes out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = ROOT / ".cache" / "helix" / "hx"
SECONDS = 20.0
"""How long anything may take before a test fails."""

ESCAPE = "\x1b"
_SEQUENCES = re.compile(
    rb"\x1b(?:\[[0-9:;?>=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[()][A-Z0-9]|[=>78])"
)

Found = TypeVar("Found")


def documented_languages() -> str:
    """Return the ``languages.toml`` that editors/README.md shows."""
    text = (ROOT / "editors" / "README.md").read_text(encoding="utf-8")
    section = text.partition("### Helix\n")[2].partition("\n### ")[0]
    return section.partition("```toml\n")[2].partition("```")[0]


class Helix:
    """One Helix with one file; the server of the documented set-up answers with the engine that needs no model."""

    def __init__(self, home: Path, file: Path, languages: str) -> None:
        self.home = home
        settings, programs = home / "config" / "helix", home / "bin"
        for directory in (settings, programs):
            directory.mkdir(parents=True)
        (settings / "languages.toml").write_text(languages, encoding="utf-8")
        (settings / "config.toml").write_text("", encoding="utf-8")
        server = programs / "intract-lsp"
        server.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m intract_lsp "$@" --engine echo\n', encoding="utf-8")
        server.chmod(0o755)
        self._log = home / "helix.log"
        environment = {
            **os.environ,
            "HOME": str(home),
            "INTRACT_HOME": str(home / "intract"),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
            **{f"XDG_{name.upper()}_HOME": str(home / name) for name in ("config", "cache", "data", "state")},
        }
        self._terminal, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            # At this detail Helix logs what the server sends.
            [EXECUTABLE, "-vv", "--log", self._log, file],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=environment,
            cwd=file.parent,
            start_new_session=True,
        )
        os.close(inside)
        self._drawn = b""

    @property
    def log(self) -> str:
        """What Helix logged so far, the messages between it and the server among it."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    @property
    def drawn(self) -> str:
        """What was drawn since the last keys, without colours and places; what stayed the same is not drawn again."""
        return _SEQUENCES.sub(b"", self._drawn).decode("utf-8", errors="replace")

    def keys(self, keys: str) -> None:
        """Press keys, as a terminal sends them."""
        self._drawn = b""
        os.write(self._terminal, keys.encode())

    def wait_ready(self) -> None:
        """Wait until the server has its model."""
        self.wait(lambda: re.search(r'"state": ?"ready"', self.log), "the server to be ready")

    def wait_drawn(self, text: str) -> None:
        """Wait until a text has been drawn since the last keys."""
        self.wait(lambda: text in self.drawn or None, f"{text!r} on the screen")

    def wait(self, look: Callable[[], Found | None], what: str) -> Found:
        """Look again whenever something was drawn, or a moment has passed, until there is something."""
        end = time.monotonic() + SECONDS
        while (found := look()) is None:
            assert time.monotonic() < end, f"waited {SECONDS} s for {what}; drawn {self.drawn!r}\n{self.log[-3000:]}"
            assert self._process.poll() is None, f"Helix ended while waiting for {what}; drawn {self.drawn!r}"
            self._read(0.05)
        return found

    def save_and_quit(self) -> None:
        """Leave insert mode, write the file and wait until Helix is gone."""
        self.keys(ESCAPE)
        self.wait_drawn("NOR")
        self.keys(":wq\r")
        end = time.monotonic() + SECONDS
        while self._process.poll() is None:
            assert time.monotonic() < end, f"Helix does not end; drawn {self.drawn!r}"
            self._read(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _read(self, seconds: float) -> None:
        readable, _, _ = select.select([self._terminal], [], [], seconds)
        if readable:
            try:
                self._drawn += os.read(self._terminal, 65536)
            except OSError:  # the other end is closed, which is how a terminal ends on Linux
                time.sleep(seconds)
