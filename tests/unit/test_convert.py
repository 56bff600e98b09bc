from __future__ import annotations

import pytest
from lsprotocol import types

from intract_lsp.completion.request import Suggestion, TriggerKind
from intract_lsp.server.convert import (
    ACCEPTED_COMMAND,
    inline_completion_item,
    path_in_workspace,
    position_encoding,
    trigger_kind,
)
from intract_lsp.text import PositionEncoding, TextBuffer


@pytest.mark.parametrize(
    ("negotiated", "expected"),
    [
        (types.PositionEncodingKind.Utf8, PositionEncoding.UTF8),
        (types.PositionEncodingKind.Utf16, PositionEncoding.UTF16),
        ("utf-32", PositionEncoding.UTF32),
    ],
)
def test_position_encoding(negotiated: object, expected: PositionEncoding) -> None:
    assert position_encoding(negotiated) is expected


def test_trigger_kind() -> None:
    kinds = types.InlineCompletionTriggerKind
    assert trigger_kind(types.InlineCompletionContext(kinds.Invoked)) is TriggerKind.INVOKED
    assert trigger_kind(types.InlineCompletionContext(kinds.Automatic)) is TriggerKind.AUTOMATIC


@pytest.mark.parametrize(
    ("encoding", "start", "end"),
    [(PositionEncoding.UTF8, 7, 9), (PositionEncoding.UTF16, 5, 7), (PositionEncoding.UTF32, 4, 6)],
)
def test_an_item_counts_in_the_client_s_units(encoding: PositionEncoding, start: int, end: int) -> None:
    buffer = TextBuffer("x\nf('😀'))\n", encoding)
    place = buffer.place(1, start)
    item = inline_completion_item(Suggestion("id7", ", 1))", replace=2), "file:///a.py", buffer, place, None)
    assert item.insert_text == ", 1))"
    assert item.range == types.Range(types.Position(1, start), types.Position(1, end))
    assert item.command is not None
    assert item.command.command == ACCEPTED_COMMAND
    assert item.command.arguments == [{"id": "id7", "uri": "file:///a.py"}]


def test_the_popup_s_item_is_taken_in() -> None:
    buffer = TextBuffer("os.pa", PositionEncoding.UTF16)
    word = types.Range(types.Position(0, 3), types.Position(0, 5))
    popup = types.SelectedCompletionInfo(word, "path")
    item = inline_completion_item(Suggestion("id", ".join(a)"), "u", buffer, buffer.place(0, 5), popup)
    assert item.insert_text == "path.join(a)"
    assert item.range == word


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file:///w/app/src/m.py", "src/m.py"),
        ("file:///w/app/lib/inner/m.py", "m.py"),
        ("file:///w/app%20two/m%C3%A4.py", "mä.py"),
        ("vscode-notebook-cell:/w/app/n.ipynb#X1", "n.ipynb"),
        ("file:///w/application/m.py", "m.py"),
        ("file:///elsewhere/m.py", "m.py"),
        ("untitled:Untitled-1", ""),
        ("git:/w/app/m.py", ""),
    ],
)
def test_paths_in_the_workspace(uri: str, expected: tuple[str, str]) -> None:
    folders = ["file:///w/app", "file:///w/app/lib/inner", "file:///w/app%20two"]
    assert path_in_workspace(uri, folders) == expected
