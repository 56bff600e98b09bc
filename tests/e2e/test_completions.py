"""Requests and their answers: items, reasons for none, the popup, notebooks, acceptance, typing through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import AUTOMATIC, CLIENT, INVOKED, RawClient, Start, server_command

TYPED_THROUGH_MS = 10.0
"""Most milliseconds that the server may take, in the 95th percentile, while a shown suggestion is typed."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    """One session for all tests of this file that leave it as they found it."""
    client = RawClient(server_command(), tmp_path_factory.mktemp("shared") / "home")
    client.initialize()
    client.wait_ready()
    yield client
    client.kill()


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    """An address that no other test of the session uses."""
    return f"file:///w/{request.node.name}.py"


def test_an_item_has_a_range_and_a_command_and_its_acceptance_is_counted(shared: RawClient, uri: str) -> None:
    shared.open(uri, "x = spam")
    (item,) = shared.complete(uri, 0, 8)["items"]
    at = {"line": 0, "character": 8}
    assert item["insertText"] == "echo(spam)"
    assert item["range"] == {"start": at, "end": at}
    before = shared.run("intract.status")["accepted"]
    command = item["command"]
    assert shared.run(command["command"], *command["arguments"]) == {"known": True}
    shared.notified("intract/status", lambda status: status["accepted"] == before + 1)
    assert shared.run("intract.accepted", {"id": "made up"}) == {"known": False}
    assert shared.run("intract.status")["accepted"] == before + 1


def test_a_closing_bracket_behind_the_cursor_is_taken_into_the_range(shared: RawClient, uri: str) -> None:
    shared.open(uri, "x = (spam)")
    (item,) = shared.complete(uri, 0, 9)["items"]
    start, end = item["range"]["start"]["character"], item["range"]["end"]["character"]
    replaced = "x = (spam)"[start:end]
    assert start == 9
    assert ("x = (spam)"[:start] + item["insertText"] + "x = (spam)"[end:]).count(")") == 2, (item, replaced)


@pytest.mark.parametrize(
    ("text", "line", "character", "trigger", "reason"),
    [
        ("x = spam", 7, 0, INVOKED, "outside-document"),
        ("x = \0spam", 0, 9, INVOKED, "binary"),
        ("", 0, 0, INVOKED, "no-text"),
        ("x = spam", 0, 6, INVOKED, "mid-word"),
        ("x =  + spam", 0, 4, AUTOMATIC, "mid-line"),
    ],
)
def test_why_says_what_kept_a_suggestion_back(
    shared: RawClient, uri: str, text: str, line: int, character: int, trigger: int, reason: str
) -> None:
    shared.open(uri, text)
    assert shared.complete(uri, line, character, trigger) == {"items": []}
    why = shared.run("intract.why", {"uri": uri})
    assert (why["suggestion"], why["reason"]) == (False, reason)
    assert why["message"].endswith(".")


def test_why_says_where_the_time_went(shared: RawClient, uri: str) -> None:
    shared.open(uri, "x = spam")
    assert shared.complete(uri, 0, 8)["items"]
    why = shared.run("intract.why", {"uri": uri})
    assert (why["suggestion"], why["source"], why["model"]) == (True, "model", "echo@none")
    stages = why["timings"]
    assert set(stages) == {"queue", "retrieve", "tokenize", "prefill", "decode", "filter", "total"}
    assert 0 < stages["total"] >= stages["decode"]


def test_documents_that_are_no_files_are_completed(shared: RawClient) -> None:
    for uri in ("untitled:Untitled-1", "git:/w/a.py?%7B%22ref%22%3A%22%22%7D", "vscode-vfs://host/a%20b.py"):
        shared.open(uri, "x = spam")
        assert shared.complete(uri, 0, 8)["items"], uri
        shared.close_document(uri)


def test_an_address_may_be_escaped_in_several_ways(shared: RawClient) -> None:
    shared.open("file:///c%3A/w/a%20b.py", "x = spam")
    assert shared.complete("file:///c:/w/a b.py", 0, 8)["items"]


def test_edits_are_incremental_and_apply_in_their_order(shared: RawClient, uri: str) -> None:
    shared.open(uri, "one\ntwo\nthree\n")
    shared.change(
        uri,
        2,
        {"range": {"start": {"line": 0, "character": 3}, "end": {"line": 1, "character": 0}}, "text": " "},
        {"range": {"start": {"line": 0, "character": 7}, "end": {"line": 0, "character": 7}}, "text": " spam"},
    )
    assert shared.complete(uri, 0, 12)["items"][0]["insertText"] == "echo(spam)"
    shared.change(uri, 3, {"text": "all = new"})
    assert shared.complete(uri, 0, 9)["items"][0]["insertText"] == "echo(new)"


def test_the_item_selected_in_the_popup_is_part_of_the_suggestion(shared: RawClient, uri: str) -> None:
    shared.open(uri, "import os\nos.pa")
    popup = {"text": "path", "range": {"start": {"line": 1, "character": 3}, "end": {"line": 1, "character": 5}}}
    (item,) = shared.complete(uri, 1, 5, selectedCompletionInfo=popup)["items"]
    assert (item["insertText"], item["range"]) == ("pathecho(path)", popup["range"])
    assert shared.complete(uri, 1, 5, selectedCompletionInfo={**popup, "text": "listdir"}) == {"items": []}
    assert shared.run("intract.why", {"uri": uri})["reason"] == "popup-mismatch"


def test_notebook_cells_see_the_other_code_cells(start: Start) -> None:
    client = start()
    notebooks = {"notebookDocument": {"synchronization": {}}}
    assert client.initialize({**CLIENT, **notebooks})["notebookDocumentSync"]["notebookSelector"] == [{"notebook": "*"}]
    client.wait_ready()
    book, address = "file:///w/book.ipynb", "vscode-notebook-cell:/w/book.ipynb#{}".format

    def cell(name: str, kind: int = 2) -> dict[str, Any]:
        return {"kind": kind, "document": address(name)}

    def item(name: str, text: str, language: str = "python") -> dict[str, Any]:
        return {"uri": address(name), "languageId": language, "version": 1, "text": text}

    def suggestion() -> str:
        return str(client.complete(address("c"), 0, 0)["items"][0]["insertText"])

    def change(**cells: object) -> None:
        params = {"notebookDocument": {"uri": book, "version": 2}, "change": {"cells": cells}}
        client.notify("notebookDocument/didChange", params)

    client.notify(
        "notebookDocument/didOpen",
        {
            "notebookDocument": {
                "uri": book,
                "notebookType": "jupyter-notebook",
                "version": 1,
                "cells": [cell("a"), cell("b", 1), cell("c")],
            },
            "cellTextDocuments": [item("a", "x = spam"), item("b", "# Prose", "markdown"), item("c", "")],
        },
    )
    assert suggestion() == "echo(spam)"
    insert = {"range": {"start": {"line": 0, "character": 8}, "end": {"line": 0, "character": 8}}, "text": " + eggs"}
    change(textContent=[{"document": {"uri": address("a"), "version": 2}, "changes": [insert]}])
    assert suggestion() == "echo(eggs)"
    array = {"start": 2, "deleteCount": 0, "cells": [cell("d")]}
    change(structure={"array": array, "didOpen": [item("d", "y = ham")]})
    assert suggestion() == "echo(ham)"
    array = {"start": 2, "deleteCount": 1}
    change(structure={"array": array, "didClose": [{"uri": address("d")}]})
    assert suggestion() == "echo(eggs)"
    names = [{"uri": address(name)} for name in "abc"]
    client.notify("notebookDocument/didClose", {"notebookDocument": {"uri": book}, "cellTextDocuments": names})
    assert client.complete(address("c"), 0, 0) == {"items": []}
    assert client.run("intract.why")["reason"] == "unknown-document"


def test_typing_a_suggestion_needs_no_model_and_is_answered_within_10_ms(shared: RawClient) -> None:
    totals: list[float] = []
    for n in range(10):
        uri, text = f"file:///w/typed{n}.py", f"x{n} = something_{n}"
        shared.open(uri, text + "\n" + "other = 1\n" * 500)
        (item,) = shared.complete(uri, 0, len(text))["items"]
        suggestion = item["insertText"]
        calls = shared.run("intract.status")["modelCalls"]
        for typed in range(1, len(suggestion)):
            _type(shared, uri, typed, len(text) + typed - 1, suggestion[typed - 1])
            (item,) = shared.complete(uri, 0, len(text) + typed, AUTOMATIC)["items"]
            why = shared.run("intract.why", {"uri": uri})
            assert (item["insertText"], why["source"]) == (suggestion[typed:], "cache")
            totals.append(why["timings"]["total"])
        _type(shared, uri, len(suggestion), len(text) + len(suggestion) - 1, suggestion[-1])
        assert shared.complete(uri, 0, len(text) + len(suggestion), AUTOMATIC) == {"items": []}
        assert shared.run("intract.why", {"uri": uri})["reason"] == "after-accept"
        assert shared.run("intract.status")["modelCalls"] == calls
    assert len(totals) > 150
    assert sorted(totals)[int(len(totals) * 0.95)] < TYPED_THROUGH_MS


def _type(client: RawClient, uri: str, version: int, character: int, text: str) -> None:
    at = {"line": 0, "character": character}
    client.change(uri, version + 1, {"range": {"start": at, "end": at}, "text": text})


def test_clearing_the_cache_asks_the_model_again(shared: RawClient, uri: str) -> None:
    shared.open(uri, "x = spam")
    calls = shared.run("intract.status")["modelCalls"]
    for clear, expected in ((False, 1), (False, 1), (True, 2)):
        if clear:
            shared.run("intract.clearCache")
        assert shared.complete(uri, 0, 8)["items"]
        assert shared.run("intract.status")["modelCalls"] == calls + expected


def test_the_status_follows_the_work(shared: RawClient, uri: str) -> None:
    answered = shared.run("intract.status")["answered"]
    shared.open(uri, "x = spam")
    assert shared.complete(uri, 0, 8)["items"]
    status = shared.run("intract.status")
    assert status["answered"] == answered + 1
    assert status["engine"]["state"] == "ready"
    assert status["lastTimings"]["generatedTokens"] == len("echo(spam)")
    assert status["shownMilliseconds"]["p50"] > 0


def test_an_engine_that_fails_gives_a_reason_and_the_next_request_is_served(watched: Callable[..., RawClient]) -> None:
    client = watched(fails=True)
    client.open("file:///w/a.py", "x = spam")
    for _ in range(2):
        assert client.complete("file:///w/a.py", 0, 8) == {"items": []}
        assert client.run("intract.why")["reason"] == "engine-error"


def test_what_the_engine_prints_does_not_reach_the_stream(watched: Callable[..., RawClient]) -> None:
    client = watched(prints=True)
    client.open("file:///w/a.py", "x = spam")
    assert client.complete("file:///w/a.py", 0, 8)["items"]
    assert client.leave() == 0
    assert "a library talks" in client.stderr
    assert client.broken == ""


def test_the_workspace_file_is_read(start: Start, tmp_path: Path) -> None:
    (tmp_path / ".intract.toml").write_text('[completion]\ndisabled_languages = ["lua"]\n', encoding="utf-8")
    client = start()
    client.initialize(workspaceFolders=[{"uri": tmp_path.as_uri(), "name": "w"}])
    assert client.wait_ready()["disabledLanguages"] == ["lua"]
