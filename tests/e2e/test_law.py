"""Random edits and requests: the server's text stays the client's, and every request gets exactly one response."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_client import AUTOMATIC, CLIENT, INVOKED, RawClient, watched_command

OPERATIONS = 40
EXAMPLES = 50
"""Of that many operations, for each of the three position encodings: 6,000 in all, over documents of their own."""

CANCELLED = -32800
PIECES = [
    *(
        "a",
        "word",
        " ",
        "    ",
        "\t",
        "(",
        ")",
        "x = ",
        "\n",
        "\r\n",
        "\r",
        "\n\n",
        "\u2028",
        "\x0c",
        "\x85",
        "é",
        "漢",
    ),
    *("😋", "👩\u200d💻", "\ud83d", "\ude0b", "\udfff"),
]
LINE_END = re.compile(r"\r\n|\r|\n")
ADDRESSES = ["file:///w{}/a.py", "file:///w/{}b%20c.py", "untitled:Untitled-{}", "file:///w/%C3%A9{}.lua"]
COMMANDS = ["intract.status", "intract.why", "intract.clearCache", "intract.accepted", "intract.selectModel"]


def joined(text: str) -> str:
    """Two halves of a character side by side are that character, as in the strings of editors."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


class Editor:
    """What an editor has open: one string a document, changed in the plainest way."""

    def __init__(self, encoding: str) -> None:
        self.texts: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self._codec = encoding if encoding == "utf-8" else f"{encoding}-le"
        self._unit = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]

    def units(self, text: str) -> int:
        return len(text.encode(self._codec, "surrogatepass")) // self._unit

    def position(self, text: str, offset: int) -> tuple[int, dict[str, int]]:
        """Return the nearest offset that has a position (within ``\\r\\n`` there is none), and the position."""
        if text[offset - 1 : offset + 1] == "\r\n":
            offset -= 1
        ends = list(LINE_END.finditer(text, 0, offset))
        start = ends[-1].end() if ends else 0
        return offset, {"line": len(ends), "character": self.units(text[start:offset])}

    def edit(self, uri: str, start: int, end: int, text: str) -> dict[str, Any]:
        """Replace a range and return the change in the protocol's form."""
        before = self.texts[uri]
        (start, first), (end, last) = self.position(before, start), self.position(before, end)
        self.texts[uri] = joined(before[:start] + text + before[end:])
        return {"range": {"start": first, "end": last}, "text": text}


class Machine:
    """Random operations on some documents; all that was sent is remembered until the end."""

    def __init__(self, client: RawClient, encoding: str, random: Random, number: int) -> None:
        self.client = client
        self.editor = Editor(encoding)
        self.random = random
        self.addresses = [address.format(number) for address in ADDRESSES]
        self.sent: list[Any] = []
        self.cancelled: set[Any] = set()
        self.completions: set[Any] = set()
        self.expected: dict[Any, tuple[str, str | None]] = {}
        """What ``$test/text`` must return: messages are handled in their order."""

    def step(self) -> None:
        operations: list[tuple[Callable[[], None], int]] = [
            (self.open, 3),
            (self.close, 2),
            (self.change, 40),
            (self.replace_all, 3),
            (self.change_closed, 1),
            (self.complete, 30),
            (self.complete_outside, 3),
            (self.cancel, 12),
            (self.command, 4),
            (self.compare, 10),
            (self.pause, 6),
        ]
        self.random.choices([o for o, _ in operations], [weight for _, weight in operations])[0]()

    def open(self) -> None:
        uri, text = self.random.choice(self.addresses), self.text(30)
        self.editor.texts[uri] = joined(text)
        self.editor.versions[uri] = 1
        self.client.open(uri, text)

    def close(self) -> None:
        if uri := self.opened():
            del self.editor.texts[uri]
            self.client.close_document(uri)

    def change(self) -> None:
        if uri := self.opened():
            self.client.change(uri, self.next_version(uri), *(self.edit(uri) for _ in range(self.random.randint(1, 4))))

    def replace_all(self) -> None:
        if uri := self.opened():
            first, text = self.edit(uri), self.text(30)
            self.editor.texts[uri] = joined(text)
            self.client.change(uri, self.next_version(uri), first, {"text": text}, self.edit(uri))

    def change_closed(self) -> None:
        at = {"line": 0, "character": 0}
        self.client.change("file:///w/never-open.py", 2, {"range": {"start": at, "end": at}, "text": "x"})

    def complete(self) -> None:
        if uri := self.opened():
            text = self.editor.texts[uri]
            offset = self.random.randint(0, len(text))
            if self.random.random() < 0.5:  # at its line's end, where there is more to suggest
                end = LINE_END.search(text, offset)
                offset = end.start() if end else len(text)
            _, at = self.editor.position(text, offset)
            self.ask(uri, at["line"], at["character"])

    def complete_outside(self) -> None:
        uri = self.random.choice([*self.addresses, "file:///w/never-open.py"])
        self.ask(uri, self.random.choice([0, 3, 1000]), self.random.choice([1, 7, 100_000]))

    def cancel(self) -> None:
        recent = self.sent[-3:]
        known = self.random.choice(recent) if recent and self.random.random() < 0.8 else None
        id_ = known if known is not None else self.random.choice([*self.sent[:1], 10**9, "unknown"])
        self.cancelled.add(id_)
        self.client.notify("$/cancelRequest", {"id": id_})

    def command(self) -> None:
        params = {"command": self.random.choice(COMMANDS)}
        self.sent.append(self.client.request("workspace/executeCommand", params))

    def compare(self) -> None:
        uri = self.random.choice(self.addresses)
        self.sent.append(self.client.request("$test/text", {"uri": uri}))
        self.expected[self.sent[-1]] = uri, self.editor.texts.get(uri)

    def pause(self) -> None:
        """Let the server answer, as between two thoughts of the user."""
        if self.sent:
            self.client.response(self.sent[-1])

    def finish(self) -> None:
        """Compare all texts once more, wait for the last response and check every one."""
        for uri in self.addresses:
            self.sent.append(self.client.request("$test/text", {"uri": uri}))
            self.expected[self.sent[-1]] = uri, self.editor.texts.get(uri)
        for id_ in self.sent:
            self.check(id_, self.client.response(id_, 30))
        # Whatever might still come too often comes before the response to this.
        self.sent.append(self.client.request("intract/last"))
        self.client.response(self.sent[-1])
        assert {id_: len(self.client.responses[id_]) for id_ in self.sent} == dict.fromkeys(self.sent, 1)
        for uri in list(self.editor.texts):
            self.client.close_document(uri)

    def check(self, id_: Any, response: dict[str, Any]) -> None:
        if "error" in response:
            assert response["error"]["code"] == CANCELLED, response
            assert id_ in self.cancelled, "nobody cancelled this"
        elif id_ in self.expected:
            uri, text = self.expected[id_]
            assert response["result"].get("text") == text, f"{uri} differs"
        elif id_ in self.completions:
            result = response["result"]
            assert result is None or isinstance(result["items"], list)

    def ask(self, uri: str, line: int, character: int) -> None:
        trigger = AUTOMATIC if self.random.random() < 0.4 else INVOKED
        self.sent.append(self.client.ask(uri, line, character, trigger))
        self.completions.add(self.sent[-1])

    def edit(self, uri: str) -> dict[str, Any]:
        text = self.editor.texts[uri]
        start = self.random.randint(0, len(text))
        span = self.random.choice([0, 0, 1, 2, 5, 40 if len(text) > 200 else 0])
        return self.editor.edit(uri, start, min(len(text), start + span), self.text(4))

    def opened(self) -> str | None:
        return self.random.choice(sorted(self.editor.texts)) if self.editor.texts else None

    def next_version(self, uri: str) -> int:
        self.editor.versions[uri] += 1
        return self.editor.versions[uri]

    def text(self, pieces: int) -> str:
        text = "".join(self.random.choices(PIECES, k=self.random.randint(0, pieces)))
        # Rarely: a document with it is binary, and gets no suggestions from then on.
        return text + "\0" if self.random.random() < 0.005 else text


def outcome(response: dict[str, Any]) -> str:
    if "error" in response:
        return "cancelled"
    result = response["result"]
    return "overtaken" if result is None else "shown" if result["items"] else "nothing"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_texts_stay_equal_and_every_request_gets_one_response(
    start: Callable[[list[str]], RawClient], encoding: str
) -> None:
    client = start(watched_command(step_seconds=0.002))
    client.initialize({**CLIENT, "general": {"positionEncodings": [encoding]}})
    client.wait_ready()
    seen: Counter[str] = Counter()
    numbers = count()

    @settings(max_examples=EXAMPLES, database=None)
    @given(st.randoms(use_true_random=True))
    def play(random: Random) -> None:
        machine = Machine(client, encoding, random, next(numbers))
        machine.open()
        machine.open()
        for _ in range(OPERATIONS):
            machine.step()
        machine.finish()
        for id_ in machine.completions:
            seen[outcome(client.responses[id_][0])] += 1

    play()
    assert all(len(responses) == 1 for responses in client.responses.values())
    # The sessions were worth their while: there were suggestions, cancelled requests and overtaken ones.
    assert min(seen["shown"], seen["cancelled"], seen["overtaken"]) >= 3, seen
    client.open("file:///w/good.py", "x = spam")
    assert client.complete("file:///w/good.py", 0, 8)["items"][0]["insertText"] == "echo(spam)"
    assert client.leave() == 0
    assert "Traceback" not in client.stderr
