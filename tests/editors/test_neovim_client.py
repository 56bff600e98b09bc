"""The plugin's own client against a server that does what the test says; 0.12's where it takes part."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import VERSIONS, Neovim

SERVER = Path(__file__).resolve().parent / "scripted_server.py"


class Scripted:
    """A Neovim with the scripted server."""

    def __init__(self, version: str, directory: Path) -> None:
        self._directory = directory
        self._seen = 0
        self.encoding = "utf-16"
        """Of the server that is running."""
        self.script()
        self.neovim = Neovim(version, directory / "home", [sys.executable, str(SERVER), str(directory)], {})

    def script(self, **script: Any) -> None:
        """Tell the server what to do from now on."""
        # In one step: the server may be reading it.
        new = self._directory / "script.json.new"
        new.write_text(json.dumps(script), encoding="utf-8")
        new.replace(self._directory / "script.json")

    def begin(self, **script: Any) -> None:
        """Forget what happened so far."""
        self.neovim.reset()
        self._seen = len(self._messages())
        self.script(**script)

    def restart(self) -> None:
        """Have the server started anew with the next file."""
        self.neovim.api.command("Intract restart")
        gone = "return #vim.lsp.get_clients() == 0 or nil"
        self.neovim.wait(lambda: self.neovim.lua(gone), "the server to end")

    def received(self, method: str) -> list[dict[str, Any]]:
        """Return the messages of a method that the server got since ``begin``."""
        return [message for message in self._messages()[self._seen :] if message.get("method") == method]

    def wait_received(self, method: str, count: int) -> list[dict[str, Any]]:
        return self.neovim.wait(
            lambda: found if len(found := self.received(method)) >= count else None, f"{count} of {method}"
        )

    def wait_asked(self, character: int) -> dict[str, Any]:
        """Return the request at a place on the line. On a busy machine one was made in front of it, too."""

        def newest() -> dict[str, Any] | None:
            asked = self.received(SUGGEST)
            return asked[-1] if asked and asked[-1]["params"]["position"]["character"] == character else None

        return self.neovim.wait(newest, f"a request at character {character}")

    def wait_cancelled(self, asked: dict[str, Any]) -> None:
        """Wait for the end of a request. No other was cancelled but those before it, and none twice."""

        def ids() -> list[int] | None:
            found = [message["params"]["id"] for message in self.received("$/cancelRequest")]
            return found if asked["id"] in found else None

        cancelled = self.neovim.wait(ids, "the request to be cancelled")
        before = {message["id"] for message in self.received(SUGGEST) if message["id"] <= asked["id"]}
        assert len(cancelled) == len(set(cancelled)) and set(cancelled) <= before

    def start_typing(self, line: str) -> None:
        """Type a line in a new file."""
        path = self._directory / f"work{self._seen}.py"
        path.write_text("", encoding="utf-8")
        self.neovim.open(path)
        self.neovim.keys("i" + line)

    def _messages(self) -> list[dict[str, Any]]:
        path = self._directory / "received.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session", params=VERSIONS)
def scripted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """One of each version, started once; a test says ``begin``."""
    scripted = Scripted(request.param, tmp_path_factory.mktemp("scripted"))
    yield scripted
    scripted.neovim.quit()


own_client = pytest.mark.parametrize("scripted", [one for one in VERSIONS if one != "0.12"], indirect=True)
"""Those whose suggestions are asked for by the plugin."""

SUGGEST = "textDocument/inlineCompletion"


def item(text: str, start: int, end: int, line: int = 0) -> dict[str, Any]:
    """Return a suggestion for a place on a line."""
    place = {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}}
    command = {"title": "Accepted", "command": "accepted", "arguments": [{"id": text}]}
    return {"insertText": text, "range": place, "command": command}


def test_several_suggestions_are_shown_in_a_circle(scripted: Scripted) -> None:
    scripted.begin(items=[item(f"{name}()", 2, 2) for name in ("one", "two", "three")])
    neovim = scripted.neovim
    scripted.start_typing("a ")
    assert neovim.wait_ghost() == (0, 2, "one()")
    for key, text in [("n", "two() (2/3)"), ("n", "three() (3/3)"), ("n", "one() (1/3)"), ("p", "three() (3/3)")]:
        neovim.keys(f"<M-{key}>")
        neovim.wait_ghost(text)
    neovim.keys("<Tab>")
    neovim.wait_lines(["a three()"])
    (accepted,) = scripted.wait_received("workspace/executeCommand", 1)
    assert accepted["params"] == {"command": "accepted", "arguments": [{"id": "three()"}]}


def test_lines_are_accepted_one_by_one(scripted: Scripted) -> None:
    scripted.begin(items=[item(" x:\r\n\treturn 1\n\n\treturn 2", 2, 2)])
    neovim = scripted.neovim
    scripted.start_typing("if")
    neovim.wait_ghost()
    neovim.api.command("setlocal tabstop=8")
    # What is shown from now on is what is left of this suggestion.
    scripted.script(hold=True)
    neovim.keys("<C-j>")
    neovim.wait_lines(["if x:"])
    # Tabs are drawn as the blanks that they take.
    rest = "\n        return 1\n\n        return 2"
    assert neovim.wait_ghost(rest) == (0, 5, rest)
    neovim.keys("<C-j><C-j>")
    neovim.wait_lines(["if x:", "\treturn 1", "", "\treturn 2"])
    assert neovim.cursor == (4, 9)
    scripted.wait_received("workspace/executeCommand", 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_positions_count_in_the_units_that_the_server_chose(scripted: Scripted, encoding: str) -> None:
    line = "𝒳é = "
    units = {"utf-8": len(line.encode()), "utf-16": len(line) + 1, "utf-32": len(line)}[encoding]
    scripted.begin(encoding=encoding, items=[item("'ß𝒴'", units, units)])
    if scripted.encoding != encoding:
        scripted.restart()
        scripted.encoding = encoding
    scripted.start_typing(line)
    assert scripted.neovim.wait_ghost() == (0, len(line.encode()), "'ß𝒴'")
    newest = scripted.received(SUGGEST)[-1]["params"]
    assert newest["position"] == {"line": 0, "character": units}
    assert newest["context"] == {"triggerKind": 2}
    scripted.neovim.keys("<Tab>")
    scripted.neovim.wait_lines([line + "'ß𝒴'"])


def test_leaving_insert_mode_cancels_the_request(scripted: Scripted) -> None:
    scripted.begin(hold=True, items=[item("late()", 1, 1)])
    scripted.start_typing("a")
    asked = scripted.wait_asked(1)
    scripted.neovim.keys("<Esc>")
    scripted.wait_cancelled(asked)
    scripted.neovim.execute("release")
    scripted.neovim.keys("A ")
    scripted.wait_asked(2)
    assert scripted.neovim.ghost() is None


@own_client
def test_an_answer_for_text_that_has_changed_is_dropped(scripted: Scripted) -> None:
    scripted.begin(hold=True, items=[item("late()", 1, 1)])
    scripted.start_typing("a")
    asked = scripted.wait_asked(1)
    scripted.neovim.keys("b")
    scripted.wait_asked(2)
    scripted.wait_cancelled(asked)
    # The first answer comes all the same, late; the second one is for a place in front of the cursor.
    scripted.script(hold=False, items=[item("new()", 3, 3)])
    scripted.neovim.execute("release")
    assert scripted.neovim.ghost() is None
    scripted.neovim.keys("c")
    assert scripted.neovim.wait_ghost() == (0, 3, "new()")
    scripted.neovim.keys("<Tab>")
    scripted.neovim.wait_lines(["abcnew()"])


@own_client
def test_an_answer_does_not_outlive_a_change_that_no_key_made(scripted: Scripted) -> None:
    scripted.begin(hold=True, items=[item("late()", 1, 1)])
    scripted.start_typing("a")
    scripted.wait_asked(1)
    scripted.script(hold=False, items=[])
    scripted.neovim.lua("vim.api.nvim_buf_set_lines(0, 1, 1, false, { 'formatted' })")
    scripted.neovim.execute("release")
    assert scripted.neovim.ghost() is None


@own_client
def test_a_burst_of_keys_asks_once(scripted: Scripted) -> None:
    scripted.begin(items=[item("()", 6, 6)])
    scripted.start_typing("abcdef")
    scripted.neovim.wait_ghost("()")
    assert len(scripted.received(SUGGEST)) <= 2


def test_what_the_server_would_replace_is_drawn_and_replaced(scripted: Scripted) -> None:
    scripted.begin(items=[item("x, y) + 1", 2, 3)])
    neovim = scripted.neovim
    scripted.start_typing("f()<Left>")
    neovim.wait_ghost()
    neovim.keys("<C-l>")
    neovim.wait_lines(["f(x)"])
    neovim.wait_ghost(", y) + 1")
    neovim.keys("<Tab>")
    neovim.wait_lines(["f(x, y) + 1"])


@own_client
def test_the_server_hears_which_client_asks(scripted: Scripted) -> None:
    scripted.begin()
    scripted.restart()
    scripted.start_typing("a")
    (initialize,) = scripted.wait_received("initialize", 1)
    # Neovim's own client waits before it asks, and the server allows for that; this one leaves the waiting to it.
    assert initialize["params"]["clientInfo"]["name"] == "intract.nvim"
    assert initialize["params"]["capabilities"]["textDocument"]["inlineCompletion"] == {"dynamicRegistration": False}


def test_progress_is_shown_and_stopped(scripted: Scripted) -> None:
    scripted.begin()
    scripted.start_typing("a<Esc>")
    neovim = scripted.neovim
    neovim.lua(
        """
        _G.kinds = {}
        vim.api.nvim_create_autocmd('LspProgress', { callback = function(event)
          table.insert(_G.kinds, event.data.params.value.kind)
        end })
        vim.ui.select = function(items, options, on_choice)
          _G.title = options.format_item(items[1])
          on_choice(items[1])
        end
        """
    )
    neovim.execute("progress")
    neovim.wait(lambda: neovim.lua("return _G.kinds") == ["begin"] or None, "the progress")
    neovim.api.command("Intract cancel")
    (cancelled,) = scripted.wait_received("window/workDoneProgress/cancel", 1)
    assert cancelled["params"] == {"token": "work"}
    assert neovim.lua("return _G.title") == "Model tiny"
