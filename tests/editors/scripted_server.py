"""A language server that does what a test says, for what the real one does not do on demand.

usage: scripted_server.py DIRECTORY. It reads DIRECTORY/script.json at each message and adds each message that it gets
to DIRECTORY/received.jsonl. Keys of the script, all optional:

- ``encoding``: of positions, ``utf-8``, ``utf-16`` (default) or ``utf-32``
- ``version``: of the server
- ``items``: the suggestions, as the protocol has them
- ``hold``: do not answer a request for suggestions before the command ``release``, not even when it is cancelled
- ``crash``: end with status 3 instead of answering ``initialize``
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

SUGGEST = "textDocument/inlineCompletion"


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """Return the next message, or nothing at the end."""
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return json.loads(stream.read(length)) if length else None


def write(message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    sys.stdout.buffer.flush()


def initialize_result(script: dict[str, Any]) -> dict[str, Any]:
    return {
        "capabilities": {
            "positionEncoding": script.get("encoding", "utf-16"),
            "textDocumentSync": {"openClose": True, "change": 1},
            "inlineCompletionProvider": True,
            "executeCommandProvider": {"commands": ["accepted", "release", "progress", "intract.clearCache"]},
        },
        "serverInfo": {"name": "scripted", "version": script.get("version", "9.0.0")},
    }


def begin_progress() -> None:
    """Show something that goes on until the end."""
    write({"id": "create", "method": "window/workDoneProgress/create", "params": {"token": "work"}})
    value = {"kind": "begin", "title": "Model tiny", "cancellable": True, "percentage": 10}
    write({"method": "$/progress", "params": {"token": "work", "value": value}})


def main(directory: Path) -> None:
    held: list[tuple[Any, list[Any]]] = []
    with (directory / "received.jsonl").open("a", encoding="utf-8") as received:
        while (message := read(sys.stdin.buffer)) is not None:
            received.write(json.dumps(message) + "\n")
            received.flush()
            script = json.loads((directory / "script.json").read_text(encoding="utf-8"))
            method, id_ = message.get("method"), message.get("id")
            if method == "exit":
                return
            if method == "initialize":
                if script.get("crash"):
                    os._exit(3)
                write({"id": id_, "result": initialize_result(script)})
            elif method == SUGGEST and script.get("hold"):
                held.append((id_, script.get("items", [])))
            elif method == SUGGEST:
                write({"id": id_, "result": {"items": script.get("items", [])}})
            elif id_ is not None and method is not None:
                command = message.get("params", {}).get("command")
                if command == "release":
                    for late, items in held:
                        write({"id": late, "result": {"items": items}})
                    held.clear()
                elif command == "progress":
                    begin_progress()
                write({"id": id_, "result": {"message": "Done."}})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
