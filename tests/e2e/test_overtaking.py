"""Of one document only the newest request counts, and a cancel stops the engine within a step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from raw_client import AUTOMATIC, RawClient

URI = "file:///w/a.py"
CANCELLED = -32800
Watched = Callable[..., RawClient]


@pytest.fixture
def held(watched: Watched) -> RawClient:
    """A server whose engine waits after each step for ``$test/release``."""
    client = watched(held=True)
    client.open(URI, "x = spam")
    return client


def begin(client: RawClient, runs: int = 1) -> None:
    """Wait until the engine has done the first step of its newest run."""
    client.until("$test/runs", lambda all_: len(all_) == runs and all_[-1]["steps"] == 1)


def release(client: RawClient, steps: int = 1000) -> None:
    client.call("$test/release", {"steps": steps})


def finished(client: RawClient, run: int) -> dict[str, object]:
    """Wait until a run is over."""
    runs: list[dict[str, object]] = client.until("$test/runs", lambda all_: all_[run]["finish"])
    return runs[run]


def insert(client: RawClient, version: int, character: int, text: str) -> None:
    at = {"line": 0, "character": character}
    client.change(URI, version, {"range": {"start": at, "end": at}, "text": text})


def test_a_cancelled_request_gets_one_error_and_stops_the_engine_within_a_step(held: RawClient) -> None:
    id_ = held.ask(URI, 0, 8)
    begin(held)
    held.notify("$/cancelRequest", {"id": id_})
    assert held.response(id_)["error"]["code"] == CANCELLED
    release(held)
    run = finished(held, 0)
    assert (run["steps"], run["finish"]) == (1, "cancelled")
    assert held.run("intract.why")["reason"] == "cancelled"
    assert len(held.responses[id_]) == 1


def test_a_cancelled_request_in_the_queue_is_never_begun(held: RawClient) -> None:
    held.open("file:///w/b.py", "y = eggs")
    running = held.ask(URI, 0, 8)
    begin(held)
    queued = held.ask("file:///w/b.py", 0, 8)
    held.notify("$/cancelRequest", {"id": queued})
    assert held.response(queued)["error"]["code"] == CANCELLED
    release(held)
    assert held.result(running)["items"]
    held.open("file:///w/c.py", "z = ham")
    assert held.complete("file:///w/c.py", 0, 7)["items"]
    assert [run["finish"] for run in held.call("$test/runs")] == ["end", "end"]


def test_a_newer_request_of_the_document_gets_the_answer_and_stops_the_engine(held: RawClient) -> None:
    older = held.ask(URI, 0, 8)
    begin(held)
    insert(held, 2, 8, " + eggs")
    newer = held.ask(URI, 0, 15)
    assert held.result(older) is None
    release(held)
    assert held.result(newer)["items"][0]["insertText"] == "echo(eggs)"
    run = finished(held, 0)
    assert (run["steps"], run["finish"]) == (1, "cancelled")


def test_requests_of_other_documents_are_left_alone(held: RawClient) -> None:
    held.open("file:///w/b.py", "y = eggs")
    first, second = held.ask(URI, 0, 8), held.ask("file:///w/b.py", 0, 8)
    release(held)
    assert held.result(first)["items"][0]["insertText"] == "echo(spam)"
    assert held.result(second)["items"][0]["insertText"] == "echo(eggs)"


def test_a_request_for_the_same_text_rides_the_generation_under_way(held: RawClient) -> None:
    older = held.ask(URI, 0, 8)
    begin(held)
    insert(held, 2, 8, "e")
    newer = held.ask(URI, 0, 9, AUTOMATIC)
    assert held.result(older) is None
    release(held)
    assert held.result(newer)["items"][0]["insertText"] == "cho(spam)"
    assert held.run("intract.why")["source"] == "in-flight"
    assert [run["finish"] for run in held.call("$test/runs")] == ["end"]
    assert held.run("intract.status")["modelCalls"] == 1


def test_cancelling_the_request_that_rides_stops_the_engine(held: RawClient) -> None:
    older = held.ask(URI, 0, 8)
    begin(held)
    insert(held, 2, 8, "e")
    newer = held.ask(URI, 0, 9, AUTOMATIC)
    assert held.result(older) is None
    held.notify("$/cancelRequest", {"id": newer})
    assert held.response(newer)["error"]["code"] == CANCELLED
    release(held)
    assert finished(held, 0)["finish"] == "cancelled"


def test_cancelling_an_overtaken_request_leaves_the_newer_one(held: RawClient) -> None:
    older = held.ask(URI, 0, 8)
    begin(held)
    insert(held, 2, 8, "e")
    newer = held.ask(URI, 0, 9, AUTOMATIC)
    held.notify("$/cancelRequest", {"id": older})
    release(held)
    assert held.result(newer)["items"][0]["insertText"] == "cho(spam)"
    assert len(held.responses[older]) == 1


def test_an_edit_without_a_newer_request_makes_the_answer_stale(held: RawClient) -> None:
    id_ = held.ask(URI, 0, 8)
    begin(held)
    insert(held, 2, 0, "y = ")
    release(held)
    assert held.result(id_) is None
    assert held.run("intract.why")["reason"] == "stale"


def test_closing_the_document_answers_its_request_and_stops_the_engine(held: RawClient) -> None:
    id_ = held.ask(URI, 0, 8)
    begin(held)
    held.close_document(URI)
    assert held.result(id_) is None
    release(held)
    assert finished(held, 0)["finish"] == "cancelled"


def test_shutdown_answers_what_is_under_way(held: RawClient) -> None:
    id_ = held.ask(URI, 0, 8)
    begin(held)
    held.call("shutdown")
    assert held.response(id_)["error"]["code"] == CANCELLED
    assert len(held.responses[id_]) == 1
