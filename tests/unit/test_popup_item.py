"""Items of the completion popup made from suggestions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from intract_lsp.completion.request import Suggestion
from intract_lsp.server.asking import Cursor
from intract_lsp.server.convert import inline_completion_item
from intract_lsp.server.documents import Document
from intract_lsp.server.popup_item import LABEL_CHARACTERS, label, popup_item, word_before
from intract_lsp.text import Place, PositionEncoding, TextBuffer

MARKDOWN = types.ClientCompletionItemOptions(documentation_format=[types.MarkupKind.Markdown])


def cursor_in(
    line: str, column: int, encoding: PositionEncoding = PositionEncoding.UTF16, language: str = "python"
) -> Cursor:
    return Cursor(Document("file:///w/a.py", language, 1, TextBuffer(line, encoding)), Place(0, column))


def applied(document: str, encoding: PositionEncoding, range_: types.Range, text: str) -> str:
    """Return a document's text with an edit made."""
    buffer = TextBuffer(document, encoding)
    start, end = (buffer.place(at.line, at.character) for at in (range_.start, range_.end))
    buffer.replace(start, end, text)
    return buffer.text


@pytest.mark.parametrize(
    ("word", "text", "shown"),
    [
        ("spam", "_count", "spam_count"),
        ("", " spam", "spam"),
        ("", "\tif x:", "if x:"),
        ("spam", "(x)\n    y", "spam(x)…"),
        ("spam", "(x)\n", "spam(x)"),
        ("pass", "\n    return", "pass ⏎ return"),
        ("pass", "\r\n\r\n    return\r\n    x", "pass ⏎ return…"),
        ("", "\n    return", "return"),
        ("", "x" * LABEL_CHARACTERS, "x" * LABEL_CHARACTERS),
        ("x", "x" * LABEL_CHARACTERS, "x" * (LABEL_CHARACTERS - 1) + "…"),
    ],
)
def test_the_label_is_one_short_line(word: str, text: str, shown: str) -> None:
    assert label(word, text) == shown


@pytest.mark.parametrize(
    ("before", "word"), [("x = spam", "spam"), ("x = ", ""), ("", ""), ("a.größe", "größe"), ("a😀b_1", "b_1")]
)
def test_the_word_before_the_cursor(before: str, word: str) -> None:
    assert word_before(before) == word


def test_the_documentation_is_code_whatever_the_text_holds() -> None:
    text = "x\n```\ny\n`````"
    item = popup_item(Suggestion("id", text), cursor_in("s = ", 4, language="markdown"), MARKDOWN)
    assert isinstance(item.documentation, types.MarkupContent)
    assert item.documentation.value == f"``````markdown\n{text}\n``````"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (None, types.MarkupContent),
        (types.ClientCompletionItemOptions(), types.MarkupContent),
        (types.ClientCompletionItemOptions(documentation_format=[types.MarkupKind.PlainText]), str),
    ],
)
def test_nothing_is_sent_that_the_editor_cannot_show(
    options: types.ClientCompletionItemOptions | None, kind: type
) -> None:
    item = popup_item(Suggestion("id", "x"), cursor_in("s = ", 4), options)
    assert isinstance(item.documentation, kind)
    assert item.insert_text_mode is None


visible = st.text(max_size=12).filter(lambda text: not set(text) & set("\r\n\0"))


@given(
    before=visible,
    behind=visible,
    text=st.text(min_size=1, max_size=40).filter(str.strip),
    replace=st.integers(0, 3),
    encoding=st.sampled_from(PositionEncoding),
)
def test_an_item_inserts_what_the_ghost_text_would(
    before: str, behind: str, text: str, replace: int, encoding: PositionEncoding
) -> None:
    suggestion = Suggestion("id", text, min(replace, len(behind)))
    cursor = cursor_in(before + behind, len(before), encoding)
    item = popup_item(suggestion, cursor, MARKDOWN)
    document = cursor.document
    ghost = inline_completion_item(suggestion, document.uri, document.buffer, cursor.place, None)
    assert isinstance(item.text_edit, types.TextEdit)
    assert isinstance(ghost.insert_text, str)
    assert ghost.range is not None
    edit = item.text_edit
    after = applied(document.text, encoding, ghost.range, ghost.insert_text)
    assert applied(document.text, encoding, edit.range, edit.new_text) == after
    assert item.command == ghost.command
    # What editors ask of an item: it belongs to the word, on the cursor's line, and has one line to show.
    at = types.Position(0, document.buffer.units(cursor.place))
    assert edit.range.start <= at <= edit.range.end
    assert edit.range.start.line == edit.range.end.line == 0
    assert (item.filter_text or "").startswith(word_before(before))
    assert item.label.strip()
    assert len(item.label) <= LABEL_CHARACTERS
    assert not set(item.label) & set("\r\n")
