"""The editor's settings and the commands that change what is suggested."""

from __future__ import annotations

from typing import Any

import pytest
from raw_client import CLIENT, AnsweredWithError, RawClient, Start, watched_command

URI = "file:///w/a.py"


@pytest.fixture
def opened(client: RawClient) -> RawClient:
    client.open(URI, "x = spam")
    assert client.complete(URI, 0, 8)["items"]
    return client


def reason(client: RawClient) -> Any:
    """Ask once more and return why nothing was shown, or ``None`` where something was."""
    shown = client.complete(URI, 0, 8)["items"]
    why = client.run("intract.why", {"uri": URI})["reason"]
    assert (why is None) == bool(shown)
    return why


def test_settings_that_are_pushed_apply_at_once(opened: RawClient) -> None:
    def push(settings: object) -> None:
        opened.notify("workspace/didChangeConfiguration", {"settings": settings})

    push({"intract": {"completion": {"disabled_languages": ["lua", "python"]}}})
    assert reason(opened) == "language-off"
    opened.notified("intract/status", lambda status: status["disabledLanguages"] == ["lua", "python"])
    push({"completion": {"enabled": False}})
    assert reason(opened) == "disabled"
    push({"intract": {"completion": {"enabled": "perhaps", "max_line_tokens": 4}}})
    assert "completion.enabled" in opened.notified("window/showMessage")["message"]
    opened.run("intract.clearCache")
    assert opened.complete(URI, 0, 8)["items"][0]["insertText"] == "echo"
    push({})
    opened.run("intract.clearCache")
    assert opened.complete(URI, 0, 8)["items"][0]["insertText"] == "echo(spam)"


def test_settings_are_pulled_from_a_client_that_does_not_push(start: Start) -> None:
    client = start()
    client.replies["workspace/configuration"] = lambda params: {"result": [{"completion": {"enabled": False}}]}
    client.initialize({**CLIENT, "workspace": {"configuration": True}})
    client.wait_ready()
    client.open(URI, "x = spam")
    client.notify("workspace/didChangeConfiguration", {"settings": None})
    assert client.requested("workspace/configuration") == {"items": [{"section": "intract"}]}
    client.notified("intract/status", lambda status: not status["enabled"])
    assert reason(client) == "disabled"


@pytest.mark.parametrize("reply", [{"result": [None]}, {"result": ["x"]}, {"error": {"code": -32601, "message": "no"}}])
def test_a_client_without_our_section_changes_nothing(start: Start, reply: dict[str, Any]) -> None:
    client = start()
    client.replies["workspace/configuration"] = lambda params: reply
    client.initialize({**CLIENT, "workspace": {"configuration": True}})
    client.wait_ready()
    client.notify("workspace/didChangeConfiguration", {"settings": None})
    client.requested("workspace/configuration")
    client.open(URI, "x = spam")
    assert reason(client) is None
    assert client.leave() == 0
    assert "Traceback" not in client.stderr


def test_wrong_options_are_listed_all_at_once_and_the_right_ones_hold(start: Start) -> None:
    client = start()
    options = {
        "completion": {"deadline_ms": "soon", "max_line_tokens": 4, "max_tokens": 3},
        "model": {"threads": -5},
        "nonsense": {},
    }
    client.initialize(initializationOptions=options)
    client.wait_ready()
    message = client.notified("window/showMessage")["message"]
    for name in ("completion.deadline_ms", "completion.max_tokens", "model.threads", "nonsense"):
        assert name in message
    assert len([n for n in client.notifications if n["method"] == "window/showMessage"]) == 1
    client.open(URI, "x = spam")
    assert client.complete(URI, 0, 8)["items"][0]["insertText"] == "echo"


@pytest.mark.parametrize("options", ["fast", [1], 7])
def test_options_that_are_no_object_are_named(start: Start, options: object) -> None:
    client = start()
    client.initialize(initializationOptions=options)
    assert "initializationOptions must be an object" in client.notified("window/showMessage")["message"]
    client.wait_ready()


def test_toggle_switches_off_and_on(opened: RawClient) -> None:
    assert opened.run("intract.toggle")["enabled"] is False
    assert reason(opened) == "disabled"
    opened.notified("intract/status", lambda status: not status["enabled"])
    assert opened.run("intract.toggle", {"enabled": True})["enabled"] is True
    assert reason(opened) is None


def test_select_model_lists_and_loads(start: Start) -> None:
    client = start(watched_command(held_load=True))
    client.initialize()
    client.call("$test/release", {"steps": 1})
    client.wait_ready()
    client.open(URI, "x = spam")
    listed = client.run("intract.selectModel")
    assert listed["current"] == "echo"
    names = {model["name"] for model in listed["models"]}
    assert "qwen2.5-coder-0.5b" in names
    assert all({"name", "installed", "licence"} <= model.keys() for model in listed["models"])
    client.run("intract.selectModel", {"name": "qwen2.5-coder-0.5b"})
    client.notified(
        "intract/status",
        lambda status: (status["engine"]["state"], status["engine"]["model"]) == ("loading", "qwen2.5-coder-0.5b"),
    )
    assert reason(client) == "loading"
    client.notifications.clear()
    client.call("$test/release", {"steps": 1})
    client.wait_ready()
    with pytest.raises(AnsweredWithError, match=r"qwen2\.5-coder-0\.5b"):
        client.run("intract.selectModel", {"name": "qwen2.5-coder-0.6b"})
    assert reason(client) is None
