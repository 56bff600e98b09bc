"""Whatever a client sends, each request gets one answer and the server goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
from raw_client import SECONDS, AnsweredWithError, RawClient, Start, server_command

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, NOT_INITIALIZED = -32700, -32600, -32601, -32602, -32002
LARGE_SECONDS = 2.0
END_SECONDS = 5.0
URI = "file:///w/a.py"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    """One session for all: that it survives every test is the point."""
    client = RawClient(server_command(), tmp_path_factory.mktemp("bad") / "home")
    client.initialize()
    client.wait_ready()
    client.open("file:///w/good.py", "x = spam")
    yield client
    assert client.leave() == 0
    assert "Traceback" not in client.stderr


@pytest.fixture
def shared(session: RawClient) -> Iterator[RawClient]:
    """The session, which must still serve after each test, with no answer too many."""
    session.responses.clear()
    yield session
    assert session.complete("file:///w/good.py", 0, 8)["items"][0]["insertText"] == "echo(spam)"
    assert {id_: len(all_) for id_, all_ in session.responses.items() if len(all_) != 1} == {}


POSITION = {"line": 0, "character": 0}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("textDocument/inlineCompletion", None, INVALID_PARAMS),
        ("textDocument/inlineCompletion", {}, INVALID_PARAMS),
        ("textDocument/inlineCompletion", [1, 2], INVALID_PARAMS),
        ("textDocument/inlineCompletion", "here", INVALID_PARAMS),
        ("textDocument/inlineCompletion", {"textDocument": 1, "position": POSITION, "context": {}}, INVALID_PARAMS),
        (
            "textDocument/inlineCompletion",
            {"textDocument": {"uri": URI}, "position": {"line": -1, "character": 0}, "context": {"triggerKind": 1}},
            INVALID_PARAMS,
        ),
        (
            "textDocument/inlineCompletion",
            {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 1e99}, "context": {"triggerKind": 1}},
            INVALID_PARAMS,
        ),
        (
            "textDocument/inlineCompletion",
            {"textDocument": {"uri": URI}, "position": POSITION, "context": {"triggerKind": 9}},
            INVALID_PARAMS,
        ),
        ("workspace/executeCommand", {"command": 7, "arguments": 8}, INVALID_PARAMS),
        ("workspace/executeCommand", {"command": "intract.none"}, INVALID_PARAMS),
        ("workspace/executeCommand", {"command": "intract.toggle", "arguments": [{"enabled": 3}]}, INVALID_PARAMS),
        ("workspace/executeCommand", {"command": "intract.selectModel", "arguments": [{"name": ""}]}, INVALID_PARAMS),
        ("workspace/executeCommand", {"command": "intract.status", "arguments": ["x"]}, INVALID_PARAMS),
        ("no/such/method", {"a": 1}, METHOD_NOT_FOUND),
        ("no/such/method", None, METHOD_NOT_FOUND),
        ("$/no/such/method", None, METHOD_NOT_FOUND),
        ("", None, METHOD_NOT_FOUND),
        ("textDocument/didOpen", None, INVALID_PARAMS),
        ("initialize", {"processId": None, "rootUri": None, "capabilities": {}}, INVALID_REQUEST),
    ],
)
def test_a_wrong_request_gets_one_error(shared: RawClient, method: str, params: object, code: int) -> None:
    with pytest.raises(AnsweredWithError) as error:
        shared.call(method, params)
    assert error.value.code == code
    assert error.value.message


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"jsonrpc": "2.0", "id": "r", "method": "no/such"}, METHOD_NOT_FOUND),
        ({"jsonrpc": "2.0", "id": "r", "method": 5}, INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": "r", "method": {}}, INVALID_REQUEST),
        ({"jsonrpc": "1.0", "id": "r", "method": "shutdown"}, INVALID_REQUEST),
        ({"id": "r", "method": "shutdown"}, INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": "r"}, INVALID_REQUEST),
    ],
)
def test_a_malformed_message_with_an_id_gets_one_error(shared: RawClient, message: object, code: int) -> None:
    shared.send(message)
    assert shared.response("r")["error"]["code"] == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"jsonrpc": "2.0", "id": 1, "meth', PARSE_ERROR),
        (b"\xff\xfe\x00", PARSE_ERROR),
        (b'{"jsonrpc": "2.0", "id": ' + b"1" * 5000 + b', "method": "shutdown"}', PARSE_ERROR),
        (b"[" * 100_000, PARSE_ERROR),
        (b"[]", INVALID_REQUEST),
        (b"null", INVALID_REQUEST),
        (b"true", INVALID_REQUEST),
        (b'"shutdown"', INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": null, "method": "shutdown"}', INVALID_REQUEST),
    ],
)
def test_a_body_without_a_usable_id_is_answered_without_one(shared: RawClient, body: bytes, code: int) -> None:
    shared.send_body(body)
    assert shared.response(None)["error"]["code"] == code


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "no/such/notification"},
        {"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {"textDocument": 1}},
        {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": None},
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": "unknown"}},
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": {"a": 1}}},
        {"jsonrpc": "2.0", "method": "$/cancelRequest"},
        {"jsonrpc": "2.0", "method": "window/workDoneProgress/cancel", "params": {"token": "unknown"}},
        {"jsonrpc": "2.0", "method": "notebookDocument/didChange", "params": {}},
        {"jsonrpc": "2.0", "method": "intract/cursor"},
        {"jsonrpc": "2.0", "method": "intract/cursor", "params": [1]},
        {"jsonrpc": "2.0", "method": "intract/cursor", "params": {"textDocument": {"uri": URI}}},
        {"jsonrpc": "2.0", "method": "intract/cursor", "params": {"textDocument": {"uri": 5}, "position": POSITION}},
        {
            "jsonrpc": "2.0",
            "method": "intract/cursor",
            "params": {"textDocument": {"uri": URI}, "position": {"line": 1e99, "character": True}},
        },
        {"jsonrpc": "2.0", "method": "workspace/didChangeConfiguration", "params": {"settings": 5}},
        {"jsonrpc": "2.0", "id": "unknown", "result": 1},
        {"jsonrpc": "2.0", "id": "unknown", "error": {"code": 1, "message": "x"}},
        {"jsonrpc": "2.0", "id": "unknown", "error": 5},
    ],
)
def test_a_wrong_notification_or_response_gets_no_answer(shared: RawClient, message: object) -> None:
    shared.send(message)
    shared.run("intract.status")
    assert len(shared.responses) == 1


def test_text_that_looks_like_a_message_is_text(shared: RawClient) -> None:
    inner = {"jsonrpc": "2.0", "id": "inner", "method": "shutdown", "params": 5}
    assert shared.run("intract.accepted", {"id": "x", "inner": inner}) == {"known": False}
    shared.open(URI, json.dumps(inner))
    assert "inner" not in shared.responses


def test_headers_may_come_in_any_pieces(shared: RawClient) -> None:
    body = b'{"jsonrpc": "2.0", "id": "pieces", "method": "no/such"}'
    head = b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(body)
    for byte in head + body:
        shared.send_bytes(bytes([byte]))
    assert shared.response("pieces")["error"]["code"] == METHOD_NOT_FOUND


def test_documents_that_are_not_open(shared: RawClient) -> None:
    unknown = "file:///w/unknown.py"
    shared.change(unknown, 2, {"text": "x"})
    shared.close_document(unknown)
    assert shared.complete(unknown, 0, 0) == {"items": []}
    assert shared.run("intract.why", {"uri": unknown})["reason"] == "unknown-document"
    shared.open(unknown, "x = spam")
    shared.close_document(unknown)
    shared.change(unknown, 2, {"text": "x"})
    assert shared.complete(unknown, 0, 0) == {"items": []}


def test_a_document_of_10_mb(shared: RawClient) -> None:
    uri, line = "file:///w/large.py", "value = something_or_other + 1\n"
    lines = 10_000_000 // len(line)
    began = time.monotonic()
    shared.open(uri, line * lines + "x = spam")
    assert shared.complete(uri, lines, 8)["items"]
    opened = time.monotonic()
    at = {"line": lines // 2, "character": 8}
    shared.change(uri, 2, {"range": {"start": at, "end": at}, "text": "new\n"})
    assert set(shared.complete(uri, lines // 2 + 1, 0)) == {"items"}
    edited = time.monotonic()
    assert shared.complete(uri, lines + 1, 8)["items"]
    completed = time.monotonic()
    shared.close_document(uri)
    assert max(opened - began, edited - opened, completed - edited) < LARGE_SECONDS


def test_a_line_of_a_megabyte(shared: RawClient) -> None:
    uri = "file:///w/long.py"
    began = time.monotonic()
    shared.open(uri, "é" * 1_000_000 + " spam")
    assert shared.complete(uri, 0, 1_000_005)["items"][0]["insertText"] == "echo(spam)"
    at = {"line": 0, "character": 500_000}
    shared.change(uri, 2, {"range": {"start": at, "end": at}, "text": "()"})
    assert shared.complete(uri, 0, 1_000_007)["items"]
    shared.complete(uri, 0, 500_001)
    assert time.monotonic() - began < LARGE_SECONDS


@pytest.mark.parametrize("text", ["\0" * 5000, "".join(map(chr, range(256))) * 20, "\ud800" * 100, "\r" * 1000])
def test_binary_content(shared: RawClient, text: str) -> None:
    shared.open(URI, text)
    assert set(shared.complete(URI, 0, 5)) == {"items"}
    shared.close_document(URI)


def test_requests_before_initialize_and_after_shutdown(start: Start) -> None:
    client = start()
    early = client.ask(URI, 0, 0)
    client.open(URI, "x = spam")
    assert client.response(early)["error"]["code"] == NOT_INITIALIZED
    with pytest.raises(AnsweredWithError) as error:
        client.call("initialize", {"capabilities": 5})
    assert error.value.code == INVALID_PARAMS
    client.initialize()
    client.wait_ready()
    client.open(URI, "x = spam")
    assert client.complete(URI, 0, 8)["items"]
    client.call("shutdown")
    for method in ("textDocument/inlineCompletion", "shutdown", "no/such"):
        assert client.response(client.request(method, {}))["error"]["code"] in (INVALID_REQUEST, INVALID_PARAMS)
    client.notify("exit")
    assert client.process.wait(SECONDS) == 0


@pytest.mark.parametrize("closed", ["stdin", "both"])
def test_a_client_that_dies_mid_request_ends_the_server_quietly(watched: Callable[..., RawClient], closed: str) -> None:
    client = watched(step_seconds=0.05)
    client.open(URI, "x = " + "spam" * 40)
    client.ask(URI, 0, 164)
    client.until("$test/runs", lambda runs: runs and runs[-1]["steps"] > 0)
    if closed == "both":
        client.die()
    else:
        client.process.stdin.close()  # type: ignore[union-attr]
    assert client.process.wait(END_SECONDS) == 1
    assert "Traceback" not in client.stderr


def test_a_client_that_dies_before_it_says_a_word(start: Start) -> None:
    client = start()
    client.process.stdin.close()  # type: ignore[union-attr]
    assert client.process.wait(END_SECONDS) == 1
    assert "Traceback" not in client.stderr
