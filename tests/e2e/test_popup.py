"""Suggestions as items of the completion popup: when they are offered, what they insert, and that nobody waits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient
from raw_client import AUTOMATIC, SECONDS, AnsweredWithError, RawClient, Start, server_command, watched_command

URI = "file:///w/popup.py"
CANCELLED, UNKNOWN_METHOD = -32800, -32601
INVOKED, CHARACTER, AGAIN = 1, 2, 3
"""How the protocol says that a popup was asked for."""

NOTHING, NOTHING_YET = {"isIncomplete": False, "items": []}, {"isIncomplete": True, "items": []}
ITEMS = {"documentationFormat": ["markdown", "plaintext"], "insertTextModeSupport": {"valueSet": [1, 2]}}
PLAIN = {"textDocument": {"completion": {"completionItem": ITEMS}}}
DYNAMIC = {"textDocument": {"completion": {"dynamicRegistration": True}}}
BOTH = {"textDocument": {"completion": {}, "inlineCompletion": {}}}

Opened = Callable[..., RawClient]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    """One session for all tests that leave it as they found it."""
    client = RawClient(server_command("--set", "completion.popup=auto"), tmp_path_factory.mktemp("popup") / "home")
    client.initialize(PLAIN)
    client.wait_ready()
    yield client
    client.kill()


@pytest.fixture
def shared(session: RawClient) -> Iterator[Opened]:
    """Return a function that opens the document in that session."""

    def run(text: str = "x = spam") -> RawClient:
        session.open(URI, text)
        return session

    yield run
    session.close_document(URI)


@pytest.fixture
def opened(start: Start) -> Opened:
    """Return a function that begins a session of an editor without inline completion, with one document."""

    def run(text: str = "x = spam", command: list[str] | None = None, **completion: Any) -> RawClient:
        client = start(command)
        client.initialize(PLAIN, initializationOptions={"completion": {"popup": "auto", **completion}})
        client.wait_ready()
        client.open(URI, text)
        return client

    return run


def ask(client: RawClient, line: int, character: int, trigger: int = INVOKED) -> Any:
    params = {
        "textDocument": {"uri": URI},
        "position": {"line": line, "character": character},
        "context": {"triggerKind": trigger},
    }
    return client.request("textDocument/completion", params)


def popup(client: RawClient, line: int, character: int, trigger: int = INVOKED) -> Any:
    return client.result(ask(client, line, character, trigger))


def inserted(text: str, edit: dict[str, Any]) -> str:
    """Return a one-line ASCII text with an edit made."""
    start, end = edit["range"]["start"]["character"], edit["range"]["end"]["character"]
    return text[:start] + str(edit.get("newText", edit.get("insertText"))) + text[end:]


def begin(client: RawClient, runs: int = 1) -> None:
    """Wait until the engine has done the first step of its newest run."""
    client.until("$test/runs", lambda all_: len(all_) == runs and all_[-1]["steps"] == 1)


# --- when it is offered


@pytest.mark.parametrize(
    ("capabilities", "setting", "announced"),
    [
        (PLAIN, None, False),
        (PLAIN, "off", False),
        (PLAIN, "auto", True),
        (PLAIN, "on", True),
        (BOTH, "auto", False),
        (BOTH, "on", True),
        (DYNAMIC, "on", False),
        ({}, "on", False),
    ],
)
def test_it_is_announced_where_it_is_wanted_and_known(
    start: Start, capabilities: dict[str, Any], setting: str | None, announced: bool
) -> None:
    client = start()
    options = {"completion": {"popup": setting}} if setting else {}
    found = client.initialize(capabilities, initializationOptions=options)
    assert ("completionProvider" in found) == announced
    if announced:
        assert "triggerCharacters" in found["completionProvider"]
    elif capabilities is not DYNAMIC:
        with pytest.raises(AnsweredWithError) as caught:
            popup(client, 0, 0)
        assert caught.value.code == UNKNOWN_METHOD


def test_an_editor_that_can_be_told_is_told_when_the_setting_changes(start: Start) -> None:
    client = start()
    assert "completionProvider" not in client.initialize(DYNAMIC)
    client.wait_ready()
    client.open(URI, "x = spam")

    def switch(value: str) -> None:
        client.notify("workspace/didChangeConfiguration", {"settings": {"completion": {"popup": value}}})

    def requests(method: str) -> list[Any]:
        return [request["params"] for request in client.server_requests if request["method"] == method]

    switch("auto")
    (registration,) = client.requested("client/registerCapability")["registrations"]
    assert registration["method"] == "textDocument/completion"
    assert registration["registerOptions"]["triggerCharacters"]
    assert len(popup(client, 0, 8)["items"]) == 1
    switch("off")
    assert client.requested("client/unregisterCapability")["unregisterations"] == [
        {"id": registration["id"], "method": "textDocument/completion"}
    ]
    assert popup(client, 0, 8) == NOTHING
    switch("on")
    client.wait(lambda: len(requests("client/registerCapability")) == 2 or None, "a second registration")
    assert len(popup(client, 0, 8)["items"]) == 1
    assert not [n for n in client.notifications if n["method"] == "window/showMessage"]


def test_an_editor_that_cannot_be_told_is_asked_once_to_start_the_server_again(start: Start) -> None:
    client = start()
    client.initialize(PLAIN)
    for _ in range(2):
        client.notify("workspace/didChangeConfiguration", {"settings": {"completion": {"popup": "auto"}}})
        client.run("intract.status")
    shown = [n["params"]["message"] for n in client.notifications if n["method"] == "window/showMessage"]
    assert shown == ["intract: completion.popup takes effect when the editor starts the server again."]
    assert not client.server_requests


# --- what is offered


def test_the_item(shared: Opened) -> None:
    answer = popup(shared(), 0, 8)
    (item,) = answer["items"]
    assert answer["isIncomplete"] is True
    accept = item.pop("command")
    assert item == {
        "label": "spamecho(spam)",
        "kind": types.CompletionItemKind.Text.value,
        "detail": "intract",
        "documentation": {"kind": "markdown", "value": "```python\nspamecho(spam)\n```"},
        "preselect": False,
        "sortText": "!",
        "filterText": "spamecho(spam)",
        "insertTextFormat": types.InsertTextFormat.PlainText.value,
        "insertTextMode": types.InsertTextMode.AsIs.value,
        "textEdit": {
            "range": {"start": {"line": 0, "character": 4}, "end": {"line": 0, "character": 8}},
            "newText": "spamecho(spam)",
        },
    }
    assert accept["command"] == "intract.accepted"


def test_its_acceptance_is_counted(shared: Opened) -> None:
    client = shared()
    before = client.run("intract.status")["accepted"]
    (item,) = popup(client, 0, 8)["items"]
    command = item["command"]
    assert client.run(command["command"], *command["arguments"]) == {"known": True}
    assert client.run("intract.status")["accepted"] == before + 1


@pytest.mark.parametrize(
    ("text", "character"), [("x = spam", 8), ("x = ", 4), ("x = (spam)", 9), ("f(spam, [eggs])", 13)]
)
def test_what_it_inserts_is_what_inline_completion_would(shared: Opened, text: str, character: int) -> None:
    client = shared(text)
    (item,) = popup(client, 0, character)["items"]
    (ghost,) = client.complete(URI, 0, character)["items"]
    assert inserted(text, item["textEdit"]) == inserted(text, ghost)
    edit = item["textEdit"]["range"]
    assert edit["start"]["character"] <= character <= edit["end"]["character"]


def test_positions_count_as_the_protocol_does(shared: Opened) -> None:
    line = 'x = "😀ß"; größe = spam'
    client = shared("\n" + line)
    before = len(line.encode("utf-16-le")) // 2
    (item,) = popup(client, 1, before)["items"]
    assert item["textEdit"]["range"] == {
        "start": {"line": 1, "character": before - 4},
        "end": {"line": 1, "character": before},
    }


@pytest.mark.parametrize(
    ("text", "character", "reason", "answer"),
    [("x = spam", 6, "mid-word", NOTHING_YET), ("x = \0spam", 9, "binary", NOTHING)],
)
def test_why_says_what_kept_an_item_back(
    shared: Opened, text: str, character: int, reason: str, answer: object
) -> None:
    client = shared(text)
    assert popup(client, 0, character) == answer
    assert client.run("intract.why", {"uri": URI})["reason"] == reason


def test_a_language_without_suggestions_gets_an_empty_list(opened: Opened) -> None:
    client = opened(disabled_languages=["python"])
    assert popup(client, 0, 8) == NOTHING
    assert client.run("intract.why", {"uri": URI})["reason"] == "language-off"
    client.run("intract.toggle", {"enabled": False})
    assert popup(client, 0, 8) == NOTHING
    assert client.run("intract.why", {"uri": URI})["reason"] == "disabled"


def test_a_place_that_is_nowhere_gets_an_empty_list(shared: Opened) -> None:
    client = shared()
    assert popup(client, 7, 0) == NOTHING_YET
    client.close_document(URI)
    assert popup(client, 0, 8) == NOTHING


def test_in_the_middle_of_a_line_it_must_be_asked_for_twice(shared: Opened) -> None:
    """A first request may be one that the editor makes while a word is typed; the protocol does not tell them apart."""
    client = shared("x =  + spam")
    assert popup(client, 0, 4) == NOTHING_YET
    assert client.run("intract.why")["reason"] == "mid-line"
    assert len(popup(client, 0, 4)["items"]) == 1
    assert popup(client, 0, 4, CHARACTER) == NOTHING_YET
    assert popup(client, 0, 4, AGAIN) == NOTHING_YET


# --- nobody waits, and everybody gets one answer


def test_a_cancelled_request_gets_one_error_and_stops_the_engine(opened: Opened) -> None:
    client = opened(command=watched_command(held=True))
    id_ = ask(client, 0, 8)
    begin(client)
    client.notify("$/cancelRequest", {"id": id_})
    assert client.response(id_)["error"]["code"] == CANCELLED
    client.call("$test/release", {"steps": 1000})
    client.until("$test/runs", lambda runs: runs[0]["finish"] == "cancelled")
    assert client.run("intract.why")["reason"] == "cancelled"
    assert len(client.responses[id_]) == 1


def test_a_newer_request_answers_the_older_one(opened: Opened) -> None:
    client = opened(command=watched_command(held=True))
    older = ask(client, 0, 8)
    begin(client)
    at = {"line": 0, "character": 8}
    client.change(URI, 2, {"range": {"start": at, "end": at}, "text": " + eggs"})
    newer = ask(client, 0, 15, AGAIN)
    assert client.result(older) == NOTHING_YET
    client.call("$test/release", {"steps": 1000})
    assert client.result(newer)["items"][0]["label"] == "eggsecho(eggs)"
    assert (len(client.responses[older]), len(client.responses[newer])) == (1, 1)


def test_the_popup_and_the_ghost_text_of_one_place_share_an_answer(opened: Opened) -> None:
    client = opened(command=watched_command(held=True), popup="on", popup_deadline_ms=60_000)
    item = ask(client, 0, 8)
    begin(client)
    ghost = client.ask(URI, 0, 8, AUTOMATIC)
    client.call("$test/release", {"steps": 1000})
    assert client.result(ghost)["items"][0]["insertText"] == "echo(spam)"
    assert client.result(item)["items"][0]["textEdit"]["newText"] == "spamecho(spam)"
    assert client.run("intract.status")["modelCalls"] == 1


def test_what_comes_after_the_deadline_is_offered_at_the_next_key(opened: Opened) -> None:
    client = opened(command=watched_command(held=True), popup_deadline_ms=50)
    id_ = ask(client, 0, 8)
    assert client.result(id_) == NOTHING_YET
    begin(client)
    client.call("$test/release", {"steps": 1000})
    client.until("$test/runs", lambda runs: runs[0]["finish"] == "end")
    client.until("workspace/executeCommand", lambda why: why["reason"] == "deadline", {"command": "intract.why"})
    at = {"line": 0, "character": 8}
    client.change(URI, 2, {"range": {"start": at, "end": at}, "text": "e"})
    (item,) = popup(client, 0, 9, AGAIN)["items"]
    assert item["textEdit"]["newText"] == "spamecho(spam)"
    assert client.run("intract.status")["modelCalls"] == 1
    assert len(client.responses[id_]) == 1


def test_shutdown_answers_what_is_under_way(opened: Opened) -> None:
    client = opened(command=watched_command(held=True))
    id_ = ask(client, 0, 8)
    begin(client)
    client.call("shutdown")
    assert client.response(id_)["error"]["code"] == CANCELLED
    assert len(client.responses[id_]) == 1


@pytest.mark.asyncio
async def test_the_answer_fits_the_protocol_types(tmp_path: Path) -> None:
    environment = {**os.environ, "INTRACT_HOME": str(tmp_path)}
    command = server_command("--set", "completion.popup=auto")
    client = await ClientServerConfig(command, server_env=environment).start()
    assert isinstance(client, LanguageClient)
    formats = types.ClientCompletionItemOptions(documentation_format=[types.MarkupKind.PlainText])
    text_document = types.TextDocumentClientCapabilities(
        completion=types.CompletionClientCapabilities(completion_item=formats)
    )
    session = await client.initialize_session(
        types.InitializeParams(capabilities=types.ClientCapabilities(text_document=text_document))
    )
    assert isinstance(session.capabilities.completion_provider, types.CompletionOptions)
    client.text_document_did_open(types.DidOpenTextDocumentParams(types.TextDocumentItem(URI, "python", 1, "x = spam")))
    params = types.CompletionParams(types.TextDocumentIdentifier(URI), types.Position(0, 8))

    async def item() -> types.CompletionItem:
        while True:
            answer = await client.text_document_completion_async(params)
            assert isinstance(answer, types.CompletionList)
            if answer.items:
                return answer.items[0]

    found = await asyncio.wait_for(item(), SECONDS)
    assert found.documentation == "spamecho(spam)"
    assert found.insert_text_mode is None
    await client.shutdown_session()
    await client.stop()
