"""A client that writes JSON-RPC itself, so that it can be rude and can count every answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

Found = TypeVar("Found")
Message = dict[str, Any]

SECONDS = 30.0
"""How long anything may take before a test fails: what takes a moment takes ten of them on a busy machine."""

AUTOMATIC, INVOKED = 2, 1
CLIENT = {"textDocument": {"inlineCompletion": {}}, "window": {}, "workspace": {}}


class AnsweredWithError(Exception):
    def __init__(self, error: Message) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.message: str = error["message"]


class RawClient:
    """One server process, or any pair of streams to one."""

    def __init__(self, command: list[str], home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.stderr_file = home / "stderr.txt"
        environment = {**os.environ, "INTRACT_HOME": str(home), "PYTHONUNBUFFERED": "1"}
        with self.stderr_file.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.attach(self.process.stdout, self.process.stdin)

    def attach(self, readable: IO[bytes], writable: IO[bytes]) -> None:
        """Talk over these streams from now on."""
        self._writable = writable
        self._sending = threading.Lock()
        self._next_id = 0
        self._changed = threading.Condition()
        self.responses: defaultdict[Any, list[Message]] = defaultdict(list)
        """By id; ``None`` for those to messages that could not be read."""
        self.notifications: list[Message] = []
        self.server_requests: list[Message] = []
        self.replies: dict[str, Callable[[Any], Message]] = {}
        """What to answer the server's requests with, by method: the members beside ``id``; else a null result."""
        self.broken = ""
        """What on the stream was no message."""
        self._deaf = False
        self._reader = threading.Thread(target=self._read, args=(readable,), daemon=True)
        self._reader.start()

    # What is sent.

    def send_bytes(self, data: bytes) -> None:
        with self._sending:
            self._writable.write(data)
            self._writable.flush()

    def send_body(self, body: bytes) -> None:
        self.send_bytes(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def send(self, message: object) -> None:
        self.send_body(json.dumps(message).encode())

    def notify(self, method: str, params: object = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def request(self, method: str, params: object = None, id_: object = None) -> Any:
        """Send a request and return its id."""
        if id_ is None:
            self._next_id += 1
            id_ = self._next_id
        self.send({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})
        return id_

    # What comes back.

    def response(self, id_: object, seconds: float = SECONDS) -> Message:
        """Wait for the response to a request."""
        return self.wait(lambda: self.responses[id_][0] if self.responses[id_] else None, f"response {id_}", seconds)

    def result(self, id_: object, seconds: float = SECONDS) -> Any:
        """Wait for the result of a request; raises ``AnsweredWithError``."""
        response = self.response(id_, seconds)
        if "error" in response:
            raise AnsweredWithError(response["error"])
        return response["result"]

    def call(self, method: str, params: object = None, seconds: float = SECONDS) -> Any:
        return self.result(self.request(method, params), seconds)

    def notified(self, method: str, accept: Callable[[Any], object] = lambda params: True) -> Any:
        """Wait for a notification and return its parameters."""

        def look() -> Message | None:
            found = [n for n in self.notifications if n["method"] == method and accept(n["params"])]
            return found[0] if found else None

        return self.wait(look, method)["params"]

    def requested(self, method: str) -> Any:
        """Wait for a request of the server and return its parameters."""
        return self.wait(lambda: next((r for r in self.server_requests if r["method"] == method), None), method)[
            "params"
        ]

    def until(self, method: str, accept: Callable[[Any], object], params: object = None) -> Any:
        """Repeat a request until its result is acceptable, and return that."""
        end = time.monotonic() + SECONDS
        while not accept(result := self.call(method, params)):
            assert time.monotonic() < end, f"{method} still returns {result}"
        return result

    def wait(self, look: Callable[[], Found | None], what: str, seconds: float = SECONDS) -> Found:
        """Look after each message until there is something."""
        end = time.monotonic() + seconds
        with self._changed:
            while (found := look()) is None:
                assert self._changed.wait(end - time.monotonic()), f"no {what} in {seconds} s\n{self.stderr}"
        assert not self.broken, f"no message: {self.broken}"
        return found

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text(encoding="utf-8", errors="replace")

    @property
    def log(self) -> str:
        files = (self.home / "logs").glob("*.log*")
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)

    # A session.

    def initialize(self, capabilities: object = None, **params: Any) -> Any:
        """Begin a session and return the server's capabilities."""
        default = {"processId": None, "rootUri": None, "capabilities": CLIENT if capabilities is None else capabilities}
        result = self.call("initialize", {**default, **params})
        self.notify("initialized", {})
        return result["capabilities"]

    def wait_ready(self) -> Any:
        return self.notified("intract/status", lambda status: status["engine"]["state"] == "ready")

    def open(self, uri: str, text: str, language: str = "python", version: int = 1) -> None:
        item = {"uri": uri, "languageId": language, "version": version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(self, uri: str, version: int, *changes: object) -> None:
        document = {"uri": uri, "version": version}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": list(changes)})

    def close_document(self, uri: str) -> None:
        self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})

    def rest(self, uri: str, line: int, character: int) -> None:
        """Say that the cursor rests at a place."""
        position = {"line": line, "character": character}
        self.notify("intract/cursor", {"textDocument": {"uri": uri}, "position": position})

    def ask(self, uri: str, line: int, character: int, trigger: int = INVOKED, **context: Any) -> Any:
        """Request a completion and return the request's id."""
        params = {
            "textDocument": {"uri": uri},
            "position": {"line": line, "character": character},
            "context": {"triggerKind": trigger, **context},
        }
        return self.request("textDocument/inlineCompletion", params)

    def complete(self, uri: str, line: int, character: int, trigger: int = INVOKED, **context: Any) -> Any:
        return self.result(self.ask(uri, line, character, trigger, **context))

    def run(self, command: str, *arguments: object) -> Any:
        return self.call("workspace/executeCommand", {"command": command, "arguments": list(arguments)})

    def leave(self) -> int:
        """End the session as the protocol says and return the process's exit code."""
        self.call("shutdown")
        self.notify("exit")
        return self.process.wait(SECONDS)

    def die(self) -> None:
        """Close both streams, as the end of a client's process does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        # The reader lets go of its stream behind a message.
        self._deaf = True
        self.request("no/such")
        self._reader.join(SECONDS)
        self.process.stdout.close()
        self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self, stream: IO[bytes]) -> None:
        while not self._deaf and (header := stream.readline()):
            name, _, value = header.partition(b":")
            if name != b"Content-Length":
                self._report_broken(header)
                return
            while stream.readline().strip():
                pass
            message = json.loads(stream.read(int(value)))
            with self._changed:
                self._take(message)
                self._changed.notify_all()

    def _take(self, message: Message) -> None:
        if "method" not in message:
            self.responses[message["id"]].append(message)
        elif "id" not in message:
            self.notifications.append(message)
        else:
            self.server_requests.append(message)
            reply = self.replies.get(message["method"], lambda params: {"result": None})(message["params"])
            self.send({"jsonrpc": "2.0", "id": message["id"], **reply})

    def _report_broken(self, header: bytes) -> None:
        with self._changed:
            self.broken = repr(header)
            self._changed.notify_all()


Start = Callable[..., RawClient]
"""Starts a server process by a command; without one, the product's."""


def server_command(*arguments: str) -> list[str]:
    """The product, with the engine that needs no model."""
    return [sys.executable, "-m", "intract_lsp", "serve", "--engine", "echo", *arguments]


def watched_command(**options: object) -> list[str]:
    """The same server with requests that look inside."""
    return [sys.executable, str(Path(__file__).with_name("server_under_test.py")), json.dumps(options)]
