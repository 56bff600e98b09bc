"""``textDocument/inlineCompletion``: from the editor's request to the service and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lsprotocol import types

from intract_lsp.completion.request import RejectReason
from intract_lsp.server import convert
from intract_lsp.server.asking import OVERTAKEN, Asking, Cursor

InlineCompletionHandler = Callable[[types.InlineCompletionParams], Awaitable[types.InlineCompletionList | None]]


def handler(asking: Asking) -> InlineCompletionHandler:
    """Return the request handler. Its answer is an item, an empty list (nothing to suggest) or ``null`` (overtaken).

    On ``null`` Neovim leaves the ghost text as it is, while an empty list would clear it.
    """

    async def inline_completion(params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        uri, popup = params.text_document.uri, params.context.selected_completion_info
        cursor = asking.locate(uri, params.position)
        if isinstance(cursor, Cursor) and popup is not None and not _continues_what_is_typed(cursor, popup):
            cursor = RejectReason.POPUP_MISMATCH
        if isinstance(cursor, RejectReason):
            asking.refuse(uri, cursor)
            return types.InlineCompletionList(items=[])
        trigger = convert.trigger_kind(params.context)
        if popup is None:
            result = await asking.suggest(cursor, trigger)
        else:
            result = await asking.suggest(cursor, trigger, _typed_of_popup(cursor, popup), popup.text)
        if result.reject_reason in OVERTAKEN:
            return None
        if result.suggestion is None:
            return types.InlineCompletionList(items=[])
        document = cursor.document
        item = convert.inline_completion_item(result.suggestion, document.uri, document.buffer, cursor.place, popup)
        return types.InlineCompletionList(items=[item])

    return inline_completion


def _continues_what_is_typed(cursor: Cursor, popup: types.SelectedCompletionInfo) -> bool:
    """An item that would rewrite what is typed cannot be shown as ghost text behind it."""
    buffer, place = cursor.document.buffer, cursor.place
    end = buffer.place(popup.range.end.line, popup.range.end.character)
    if popup.range.start.line != place.line or (end.line, end.column) != (place.line, place.column):
        return False
    start = buffer.place(popup.range.start.line, popup.range.start.character)
    typed = buffer.line(place.line)[start.column : place.column]
    return popup.text.startswith(typed)


def _typed_of_popup(cursor: Cursor, popup: types.SelectedCompletionInfo) -> int:
    start = cursor.document.buffer.place(popup.range.start.line, popup.range.start.character)
    return cursor.place.column - start.column
