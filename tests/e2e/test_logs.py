"""The log holds ids, sizes and timings, and never code."""

from __future__ import annotations

from collections.abc import Callable

from raw_client import RawClient

MARKER = "xqzMarkerOfTheUsersCode"
URI = "file:///w/a.py"


def test_no_code_reaches_the_log(watched: Callable[..., RawClient]) -> None:
    client = watched()
    client.notify("workspace/didChangeConfiguration", {"settings": {"log": {"level": "debug"}}})
    client.open(URI, f"x = {MARKER}")
    (item,) = client.complete(URI, 0, 4 + len(MARKER))["items"]
    assert MARKER in item["insertText"]
    client.change(URI, 2, {"text": MARKER * 3})
    client.change("file:///w/not-open.py", 2, {"text": MARKER})
    client.change(URI, 3, {"range": MARKER, "text": MARKER})
    client.response(client.request("textDocument/inlineCompletion", {"position": MARKER}))
    client.response(client.request("workspace/executeCommand", {"command": "intract.why", "arguments": [MARKER]}))
    client.response(client.request("workspace/executeCommand", {"command": "none", "arguments": [MARKER]}))
    client.response(client.request("none/such", {"text": MARKER}))
    client.send_body(b'{"jsonrpc": "2.0", "text": "%s' % MARKER.encode())
    client.notify("none/such", {"text": MARKER})
    assert client.leave() == 0
    assert "completion model" in client.log
    assert "completion model" in client.stderr
    assert MARKER not in client.log + client.stderr


def test_nor_when_the_engine_fails_on_it(watched: Callable[..., RawClient]) -> None:
    client = watched(fails=True)
    client.open(URI, f"x = {MARKER}")
    client.rest(URI, 0, 4 + len(MARKER))
    client.until("$test/prepared", bool)
    assert client.complete(URI, 0, 4 + len(MARKER)) == {"items": []}
    assert client.leave() == 0
    assert "preparing a prompt failed: ValueError" in client.log
    assert "generation failed: ValueError" in client.log
    assert "server_under_test.py" in client.log
    assert MARKER not in client.log + client.stderr
