"""From the start of the process to its end: what is announced, how, and how fast."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from raw_client import CLIENT, SECONDS, RawClient, Start, server_command, watched_command

CANCELLED = -32800
INITIALIZE_SECONDS = 1.0
DYNAMIC = {"textDocument": {"inlineCompletion": {"dynamicRegistration": True}}}
URI = "file:///w/a.py"


def test_inline_completion_is_announced_statically(start: Start) -> None:
    client = start()
    capabilities = client.initialize()
    assert capabilities["inlineCompletionProvider"] == {}
    assert capabilities["textDocumentSync"]["change"] == 2
    assert set(capabilities["executeCommandProvider"]["commands"]) >= {
        "intract.status",
        "intract.why",
        "intract.toggle",
        "intract.selectModel",
        "intract.clearCache",
    }
    client.wait_ready()
    assert client.server_requests == []


def test_or_dynamically_and_then_not_statically(start: Start) -> None:
    client = start()
    assert "inlineCompletionProvider" not in client.initialize(DYNAMIC)
    (registration,) = client.requested("client/registerCapability")["registrations"]
    assert registration["method"] == "textDocument/inlineCompletion"
    client.wait_ready()
    client.open("untitled:Untitled-1", "x = spam")
    assert client.complete("untitled:Untitled-1", 0, 8)["items"][0]["insertText"] == "echo(spam)"


def test_a_client_that_refuses_the_registration_is_served_all_the_same(start: Start) -> None:
    client = start()
    client.replies["client/registerCapability"] = lambda params: {"error": {"code": -32601, "message": "no"}}
    client.initialize(DYNAMIC)
    client.wait_ready()
    client.open(URI, "x = spam")
    assert client.complete(URI, 0, 8)["items"]
    assert client.leave() == 0
    assert "Traceback" not in client.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_positions_count_in_the_negotiated_units(start: Start, encoding: str) -> None:
    client = start()
    capabilities = client.initialize({**CLIENT, "general": {"positionEncodings": [encoding]}})
    assert capabilities["positionEncoding"] == encoding
    client.wait_ready()

    def units(text: str) -> int:
        codec, size = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}[encoding]
        return len(text.encode(codec)) // size

    line = "é😋 = 漢 + spam"
    client.open(URI, f"first\r\n{line}\r\nlast\r\n")
    (item,) = client.complete(URI, 1, units(line))["items"]
    position = {"line": 1, "character": units(line)}
    assert (item["insertText"], item["range"]) == ("echo(spam)", {"start": position, "end": position})
    before = units("é😋 = 漢 + ")
    change = {"range": {"start": {"line": 1, "character": before}, "end": position}, "text": "😋 + eggs"}
    client.change(URI, 2, change)
    (item,) = client.complete(URI, 1, units("é😋 = 漢 + 😋 + eggs"))["items"]
    assert item["insertText"] == "echo(eggs)"


def seconds_to_import(module: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.monotonic() - began


def test_initialize_answers_within_a_second_and_without_torch(start: Start) -> None:
    """The faster two of three starts count, of at most seven: other work on the machine only ever adds time.

    Where Python alone needs half a second for any pygls server, ours may take twice that.
    """
    allowed = max(INITIALIZE_SECONDS, 2 * min(seconds_to_import("pygls.lsp.server") for _ in range(3)))
    times: list[float] = []
    while sum(seconds < allowed for seconds in times) < 2 and len(times) < 7:
        began = time.monotonic()
        client = start(watched_command())
        client.initialize()
        times.append(time.monotonic() - began)
    modules = client.call("$test/modules")
    assert {"torch", "transformers", "numpy"} & set(modules) == set()
    assert sum(seconds < allowed for seconds in times) >= 2, f"initialize took {times} s, {allowed} are allowed"


def test_requests_before_the_model_is_loaded_get_an_empty_list_and_progress_is_shown(start: Start) -> None:
    client = start(watched_command(held_load=True))
    client.initialize({**CLIENT, "window": {"workDoneProgress": True}})
    client.open(URI, "x = spam")
    token = client.requested("window/workDoneProgress/create")["token"]
    client.notified("$/progress", lambda params: params["value"]["kind"] == "begin")
    client.notified("intract/status", lambda status: status["engine"]["state"] == "loading")
    assert client.complete(URI, 0, 8) == {"items": []}
    assert client.run("intract.why")["reason"] == "loading"
    client.call("$test/release", {"steps": 1})
    client.notified("$/progress", lambda params: params["value"]["kind"] == "end")
    client.wait_ready()
    shown = [n["params"] for n in client.notifications if n["method"] == "$/progress"]
    assert (shown[0]["value"]["kind"], shown[-1]["value"]["kind"]) == ("begin", "end")
    assert {"kind": "report", "message": "Nearly there", "percentage": 90} in [params["value"] for params in shown]
    assert {params["token"] for params in shown} == {token}
    told = [n["params"]["engine"]["state"] for n in client.notifications if n["method"] == "intract/status"]
    assert "absent" not in told, "while a model is on its way, an editor would show that there is none"
    assert client.complete(URI, 0, 8)["items"]


def test_the_user_can_cancel_the_loading(start: Start) -> None:
    client = start(watched_command(held_load=True))
    client.initialize({**CLIENT, "window": {"workDoneProgress": True}})
    token = client.requested("window/workDoneProgress/create")["token"]
    client.notified("$/progress", lambda params: params["value"]["kind"] == "begin")
    client.notify("window/workDoneProgress/cancel", {"token": token})
    client.call("$test/release", {"steps": 1})
    client.notified("intract/status", lambda status: status["engine"]["message"] == "Loading was cancelled.")
    assert client.run("intract.status")["engine"]["state"] == "absent"
    client.notified("$/progress", lambda params: params["value"]["kind"] == "end")


def test_a_client_that_refuses_the_progress_token_is_served_all_the_same(start: Start) -> None:
    client = start(watched_command(held_load=True))
    client.replies["window/workDoneProgress/create"] = lambda params: {"error": {"code": -32603, "message": "no"}}
    client.initialize({**CLIENT, "window": {"workDoneProgress": True}})
    client.requested("window/workDoneProgress/create")
    client.call("$test/release", {"steps": 1})
    client.wait_ready()
    client.open(URI, "x = spam")
    assert client.complete(URI, 0, 8)["items"]
    assert client.leave() == 0
    assert not [n for n in client.notifications if n["method"] == "$/progress"]
    assert "Traceback" not in client.stderr


def test_shutdown_and_exit_end_the_process_cleanly(client: RawClient) -> None:
    assert client.leave() == 0
    assert "Traceback" not in client.stderr


def test_shutdown_answers_commands_that_are_still_at_work(client: RawClient) -> None:
    asked = [client.request("workspace/executeCommand", {"command": "intract.adapters.list"}) for _ in range(5)]
    assert client.leave() == 0
    for id_ in asked:
        (answer,) = client.responses[id_]
        assert "result" in answer or answer["error"]["code"] == CANCELLED
    assert "ERROR" not in client.log


def test_exit_without_shutdown_is_exit_code_1(start: Start) -> None:
    client = start()
    client.initialize()
    client.notify("exit")
    assert client.process.wait(SECONDS) == 1


def test_tcp_serves_one_session(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = start(server_command("--tcp", f"127.0.0.1:{port}"))
    with _connected(port) as connection:
        client.attach(connection.makefile("rb"), connection.makefile("wb"))
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = spam")
        assert client.complete(URI, 0, 8)["items"]
        client.call("shutdown")
        client.notify("exit")
        assert client.process.wait(SECONDS) == 0
    assert "Traceback" not in client.stderr


def test_tcp_ends_when_the_client_is_gone(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = start(server_command("--tcp", f"127.0.0.1:{port}"))
    with _connected(port) as connection:
        client.attach(connection.makefile("rb"), connection.makefile("wb"))
        client.initialize()
        connection.shutdown(socket.SHUT_RDWR)
    client.process.wait(SECONDS)
    assert "Traceback" not in client.stderr


def _connected(port: int) -> socket.socket:
    end = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), SECONDS)
        except ConnectionRefusedError:
            assert time.monotonic() < end, "nobody listens"
            time.sleep(0.02)


def test_workspace_folders_give_documents_their_path(start: Start, tmp_path: Path) -> None:
    client = start(watched_command())
    outer, inner, later = tmp_path / "repo", tmp_path / "repo" / "part", tmp_path / "later"
    folders = [{"uri": path.as_uri(), "name": path.name} for path in (outer, inner, later)]
    client.initialize(workspaceFolders=folders[:2])
    client.wait_ready()

    def place(path: Path) -> str:
        client.open(path.as_uri(), f"x = {path.stem}")
        assert client.complete(path.as_uri(), 0, 4 + len(path.stem))["items"]
        return str(client.call("$test/runs")[-1]["path"])

    assert place(outer / "a.py") == "a.py"
    assert place(inner / "deep" / "b c.py") == "deep/b c.py"
    assert place(later / "c.py") == "c.py"
    event = {"added": [folders[2]], "removed": [folders[1]]}
    client.notify("workspace/didChangeWorkspaceFolders", {"event": event})
    assert place(later / "d.py") == "d.py"
    assert place(inner / "e.py") == "part/e.py"
