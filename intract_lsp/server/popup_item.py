"""A suggestion as an item of the completion popup."""

from __future__ import annotations

import re

from lsprotocol import types

from intract_lsp.completion.request import Suggestion
from intract_lsp.server.asking import Cursor
from intract_lsp.server.convert import accepted_command
from intract_lsp.text import Place

DETAIL = "intract"
SORT_TEXT = "!"
"""Before every letter and digit, so that the item stands first among those that match as well."""

LABEL_CHARACTERS = 60

_WORD = re.compile(r"\w*\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")
_FENCE = re.compile(r"`{3,}")


def popup_item(
    suggestion: Suggestion, cursor: Cursor, capabilities: types.ClientCompletionItemOptions | None
) -> types.CompletionItem:
    """Return an item that puts the suggestion at the cursor.

    Its range begins where the word before the cursor does, as that of other servers' items: editors filter by what is
    typed from there on. There is one range, not one for inserting and one for replacing, since what the suggestion
    replaces behind the cursor are brackets that its text brings along.
    """
    document, place = cursor.document, cursor.place
    buffer = document.buffer
    word = word_before(buffer.line(place.line)[: place.column])
    start = buffer.units(Place(place.line, place.column - len(word)))
    end = buffer.units(Place(place.line, place.column + suggestion.replace))
    text = word + suggestion.text
    modes = capabilities.insert_text_mode_support if capabilities is not None else None
    as_is = modes is not None and types.InsertTextMode.AsIs in modes.value_set
    return types.CompletionItem(
        label=label(word, suggestion.text),
        kind=types.CompletionItemKind.Text,
        detail=DETAIL,
        documentation=_documentation(text, document.language_id, capabilities),
        preselect=False,
        sort_text=SORT_TEXT,
        filter_text=word + _first_line(suggestion.text),
        insert_text_format=types.InsertTextFormat.PlainText,
        # Else an editor may indent the lines behind the first once more.
        insert_text_mode=types.InsertTextMode.AsIs if as_is else None,
        text_edit=types.TextEdit(
            types.Range(types.Position(place.line, start), types.Position(place.line, end)), new_text=text
        ),
        command=accepted_command(suggestion, document.uri),
    )


def word_before(line_prefix: str) -> str:
    """Return the word that ends at the cursor, which may be empty."""
    found = _WORD.search(line_prefix)
    return found.group() if found else ""


def label(word: str, text: str) -> str:
    """Return one line of at most ``LABEL_CHARACTERS`` characters for a word and the suggestion behind it."""
    first, *others = _LINE_END.split(text)
    if first.strip():
        shown = (word + first).strip()
    else:
        # A word alone would not tell a suggestion for the next line from the items of other servers.
        shown = f"{word} ⏎ {_first_line(text).strip()}" if word else _first_line(text).strip()
    lines = sum(bool(line.strip()) for line in (first, *others))
    if len(shown) > LABEL_CHARACTERS or lines > 1:
        return shown[: LABEL_CHARACTERS - 1].rstrip() + "…"
    return shown


def _first_line(text: str) -> str:
    """Return the first line that shows something."""
    return next((line for line in _LINE_END.split(text) if line.strip()), "")


def _documentation(
    text: str, language_id: str, capabilities: types.ClientCompletionItemOptions | None
) -> types.MarkupContent | str:
    # Helix says nothing of formats, and takes all for Markdown: unfenced code would lose its indentation there.
    formats = (capabilities and capabilities.documentation_format) or (types.MarkupKind.Markdown,)
    if types.MarkupKind.Markdown not in formats:
        return text
    fence = "`" * max((len(run) + 1 for run in _FENCE.findall(text)), default=3)
    return types.MarkupContent(types.MarkupKind.Markdown, f"{fence}{language_id}\n{text}\n{fence}")
