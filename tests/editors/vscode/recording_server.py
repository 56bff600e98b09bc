"""Passes on all that an editor and the real server say to each other, and writes down each answer to a request for a
suggestion, as a JSON line: where the cursor was, the range that the text goes into, the text. Both of these are null
where there was no suggestion.

usage: recording_server.py RECORD COMMAND...
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

ASKED = "textDocument/inlineCompletion"


def copy(source: BinaryIO, sink: BinaryIO, look: Callable[[dict[str, Any]], None]) -> None:
    """Pass messages on until there are no more, and show each."""
    while header := source.readline():
        length = 0
        while header.strip():
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
            header = source.readline()
        body = source.read(length)
        look(json.loads(body))
        sink.write(b"Content-Length: %d\r\n\r\n" % length + body)
        sink.flush()
    sink.close()


def main() -> int:
    record, *command = sys.argv[1:]
    asked: dict[Any, Any] = {}

    def request(message: dict[str, Any]) -> None:
        if message.get("method") == ASKED:
            asked[message["id"]] = message["params"]["position"]

    def answer(message: dict[str, Any]) -> None:
        position = asked.pop(message.get("id"), None) if "method" not in message else None
        if position is None:
            return
        result = message.get("result") or []
        items = result["items"] if isinstance(result, dict) else result
        offers = [{"range": item["range"], "text": item["insertText"]} for item in items]
        with Path(record).open("a", encoding="utf-8") as file:
            for offer in offers or [{"range": None, "text": None}]:
                file.write(json.dumps({"position": position, **offer}) + "\n")

    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None and server.stdout is not None
    to_server = threading.Thread(target=copy, args=(sys.stdin.buffer, server.stdin, request), daemon=True)
    to_server.start()
    copy(server.stdout, sys.stdout.buffer, answer)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
