"""What the server prepares while nobody waits, and that nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from raw_client import RawClient, Start, watched_command

URI = "file:///w/a.py"
Watched = Callable[..., RawClient]


def prepared(client: RawClient, count: int) -> list[str]:
    """Wait until so many prompts were prepared and return all of them."""
    texts: list[str] = client.until("$test/prepared", lambda all_: len(all_) >= count)
    return texts


def test_the_line_behind_a_suggestion_and_the_place_where_the_cursor_rests(watched: Watched) -> None:
    client = watched()
    client.open(URI, "if spam:\n    x = spam\nlast\n")
    client.rest(URI, 0, 3)
    assert prepared(client, 1) == ["if spam:║\n    x = spam\nlast\n"]
    assert client.complete(URI, 1, 12)["items"]
    assert prepared(client, 2)[1:] == ["if spam:\n    x = spamecho(spam)\n    ║\nlast\n"]
    client.wait(lambda: client.run("intract.status")["prepared"] == 2 or None, "two prepared prompts")
    busy = [n for n in client.notifications if n["method"] == "intract/status" and n["params"]["busy"]]
    assert len(busy) <= 1, "only the request showed"


@pytest.mark.parametrize("options", [{"work_ahead": False}, {"enabled": False}, {"disabled_languages": ["python"]}])
def test_it_can_be_switched_off(watched: Watched, options: dict[str, object]) -> None:
    client = watched()
    client.notify("workspace/didChangeConfiguration", {"settings": {"intract": {"completion": options}}})
    client.open(URI, "x = spam")
    client.rest(URI, 0, 8)
    client.complete(URI, 0, 8)
    client.open("file:///w/b.lua", "x = spam", "lua")
    client.notify("workspace/didChangeConfiguration", {"settings": {"intract": {}}})
    client.rest("file:///w/b.lua", 0, 8)
    assert prepared(client, 1) == ["x = spam║"]
    assert client.run("intract.status")["answered"] == 1


def test_what_cannot_be_followed_is_logged_and_shown_to_nobody(watched: Watched) -> None:
    client = watched()
    client.open(URI, "x = spam")
    client.rest("file:///w/unknown.py", 0, 0)
    client.rest(URI, 7, 0)
    client.rest(URI, -1, 0)
    client.notify("intract/cursor", {"textDocument": {"uri": URI}})
    client.rest(URI, 0, 100)
    assert prepared(client, 1) == ["x = spam║"]
    client.open("file:///w/.env", "x = spam")
    client.rest("file:///w/.env", 0, 8)
    assert client.leave() == 0
    assert client.log.count("intract/cursor names") == 4
    assert not [n for n in client.notifications if n["method"].startswith("window/")]
    assert "Traceback" not in client.stderr


def test_a_place_that_is_told_while_the_model_loads_is_prepared_then(start: Start) -> None:
    client = start(watched_command(held_load=True))
    client.initialize()
    client.notified("intract/status", lambda status: status["engine"]["state"] == "loading")
    client.open(URI, "x = spam")
    client.rest(URI, 0, 8)
    assert client.call("$test/prepared") == []
    client.call("$test/release", {"steps": 1})
    assert prepared(client, 1) == ["x = spam║"]


def test_as_a_request_it_gets_its_one_answer(watched: Watched) -> None:
    client = watched()
    client.open(URI, "x = spam")
    params = {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 8}}
    assert client.call("intract/cursor", params) is None
