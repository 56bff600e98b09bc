"""The real server as a child process, spoken to over stdio as an editor does, one request at a time.

Small and without pygls on this side: what a keystroke takes is measured here, so the client must cost next to nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from intract_lsp.errors import IntractError

LONGEST_WAIT = 600.0
"""Seconds after which a silent server is killed; loading a model for the first time may take minutes."""

FOLDER = "file:///bench"
"""The workspace where none is given: it need not exist, the documents live in the session."""

AUTOMATIC = 2


class ServerSession:
    """One server process from start to stop. Columns are counted in characters (UTF-32)."""

    def __init__(self, settings: Sequence[str], engine: str = "model", workspace: Path | None = None) -> None:
        """Start the process and the session; ``settings`` are SECTION.NAME=VALUE texts."""
        folder = FOLDER if workspace is None else workspace.as_uri()
        options = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "intract_lsp", "serve", "--engine", engine, *options]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the session is
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=-1
        )
        self._ids = 0
        self._versions: dict[str, int] = {}
        self._due = time.monotonic() + LONGEST_WAIT
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        reply = self.call(
            "initialize",
            {
                "processId": None,
                "rootUri": folder,
                "workspaceFolders": [{"uri": folder, "name": "bench"}],
                "capabilities": {
                    "general": {"positionEncodings": ["utf-32"]},
                    "textDocument": {"inlineCompletion": {}},
                },
            },
        )
        assert reply["capabilities"]["positionEncoding"] == "utf-32", "columns are counted in characters here"
        self.notify("initialized", {})

    def wait_ready(self) -> dict[str, Any]:
        """Wait until the model is loaded and nothing runs on it, and return the status.

        The server says so by itself: asking again and again would slow down what is waited for.
        """
        status = self.command("intract.status")
        self._due = time.monotonic() + LONGEST_WAIT
        while status["engine"]["state"] != "ready":
            if status["engine"]["state"] == "failed":
                raise IntractError(f"The server could not load the model: {status['engine']['message']}")
            message = self._receive()
            if message.get("method") == "intract/status":
                status = message["params"]
            else:
                self._serve(message)
        self._due = float("inf")
        return status

    def open(self, uri: str, language: str, text: str) -> None:
        self._versions[uri] = 1
        document = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})

    def insert(self, uri: str, line: int, column: int, text: str) -> None:
        """Insert a text as one incremental change."""
        self._versions[uri] += 1
        place = {"line": line, "character": column}
        change = {"range": {"start": place, "end": place}, "text": text}
        document = {"uri": uri, "version": self._versions[uri]}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})

    def complete(self, uri: str, line: int, column: int) -> str:
        """Ask as an editor does while its user types, and return the text to insert, empty for none."""
        reply = self.call(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": uri},
                "position": {"line": line, "character": column},
                "context": {"triggerKind": AUTOMATIC},
            },
        )
        return str(reply["items"][0]["insertText"]) if reply and reply["items"] else ""

    def close(self, uri: str) -> None:
        del self._versions[uri]
        self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})

    def command(self, name: str, **arguments: object) -> dict[str, Any]:
        reply: dict[str, Any] = self.call("workspace/executeCommand", {"command": name, "arguments": [arguments]})
        return reply

    def configure(self, settings: dict[str, Any]) -> None:
        """Change settings, given by section and name, as an editor does while it runs."""
        self.notify("workspace/didChangeConfiguration", {"settings": {"intract": settings}})

    def cpu_seconds(self) -> float:
        """Return what the process has computed so far, over all its threads."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def resident_mib(self) -> float:
        """Return the process's resident memory."""
        return float(psutil.Process(self._process.pid).memory_info().rss) / (1 << 20)

    def stop(self) -> None:
        """End the session and the process."""
        try:
            self.call("shutdown", None)
            self.notify("exit", None)
            self._process.wait(10)
        except (IntractError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            self._stopped.set()
            self._stderr.close()

    def notify(self, method: str, params: object) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def call(self, method: str, params: object) -> Any:
        """Send a request and return its result. Raises ``IntractError`` for an error, and where the server ended."""
        self._ids += 1
        self._due = time.monotonic() + LONGEST_WAIT
        self._send({"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message and message["id"] == self._ids:
                break
            self._serve(message)
        self._due = float("inf")
        if "error" in message:
            raise IntractError(f"The server answered {method} with an error: {message['error']['message']}")
        return message["result"]

    def _serve(self, message: dict[str, Any]) -> None:
        """Grant what the server asks for, such as to show progress; what it tells needs no answer."""
        if "method" in message and "id" in message:
            self._send({"jsonrpc": "2.0", "id": message["id"], "result": None})

    def _send(self, message: object) -> None:
        body = json.dumps(message).encode()
        stream = self._process.stdin
        assert stream is not None
        try:
            stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            stream.flush()
        except OSError as error:
            raise IntractError(self._last_words()) from error

    def _receive(self) -> dict[str, Any]:
        stream = self._process.stdout
        assert stream is not None
        length = 0
        while header := stream.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = stream.read(length)
        if not length or len(body) < length:
            raise IntractError(self._last_words())
        message: dict[str, Any] = json.loads(body)
        return message

    def _last_words(self) -> str:
        self._process.kill()
        self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return f"The server ended or fell silent. It said last: {lines[-1] if lines else 'nothing'}"

    def _watch(self) -> None:
        """Kill a server that does not answer: reading from it would wait for ever."""
        while not self._stopped.wait(1.0):
            if time.monotonic() > self._due:
                self._process.kill()
                return
