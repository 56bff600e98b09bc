"""``textDocument/inlineCompletion``: from the editor's request to the service and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from lsprotocol import types

from intract_lsp.app import App
from intract_lsp.completion.request import CompletionRequest, CompletionResult, RejectReason, TriggerKind
from intract_lsp.server import convert
from intract_lsp.server.documents import Document, Documents
from intract_lsp.text import Place

InlineCompletionHandler = Callable[[types.InlineCompletionParams], Awaitable[types.InlineCompletionList | None]]

_OVERTAKEN = frozenset({RejectReason.SUPERSEDED, RejectReason.STALE, RejectReason.CANCELLED})
"""Answered with ``null``: Neovim then leaves the ghost text as it is, while an empty list would clear it."""


def handler(app: App, documents: Documents, folders: Callable[[], list[str]]) -> InlineCompletionHandler:
    """Return the request handler. Its answer is an item, an empty list (nothing to suggest) or ``null`` (overtaken)."""

    async def inline_completion(params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        document = documents.get(params.text_document.uri)
        located = _locate(document, params)
        if isinstance(located, RejectReason) or document is None:
            reason = located if isinstance(located, RejectReason) else RejectReason.UNKNOWN_DOCUMENT
            app.service.note_refusal(params.text_document.uri, reason)
            return types.InlineCompletionList(items=[])
        place, popup = located
        before, behind = documents.around(document, place)
        if popup is not None:
            before = before[: len(before) - _typed_of_popup(document, place, popup)] + popup.text
        version = document.version
        app.training.note_activity()
        request = completion_request(document, before, behind, convert.trigger_kind(params.context), folders())
        result = await app.service.complete(request)
        if document.version != version or documents.get(document.uri) is not document:
            app.service.note_refusal(document.uri, RejectReason.STALE)
            return None
        return _answer(result, document, place, popup)

    return inline_completion


def completion_request(
    document: Document, before: str, behind: str, trigger: TriggerKind, folders: Sequence[str]
) -> CompletionRequest:
    """Return the pipeline's form of a request at a place with this text around it."""
    return CompletionRequest(
        uri=document.uri,
        version=document.version,
        language_id=document.language_id,
        prefix=before,
        suffix=behind,
        trigger=trigger,
        path=convert.path_in_workspace(document.uri, folders),
    )


def _locate(
    document: Document | None, params: types.InlineCompletionParams
) -> tuple[Place, types.SelectedCompletionInfo | None] | RejectReason:
    if document is None:
        return RejectReason.UNKNOWN_DOCUMENT
    position = params.position
    if not document.buffer.contains(position.line, position.character):
        return RejectReason.OUTSIDE_DOCUMENT
    place = document.buffer.place(position.line, position.character)
    popup = params.context.selected_completion_info
    if popup is not None and not _continues_what_is_typed(document, place, popup):
        return RejectReason.POPUP_MISMATCH
    return place, popup


def _continues_what_is_typed(document: Document, place: Place, popup: types.SelectedCompletionInfo) -> bool:
    """An item that would rewrite what is typed cannot be shown as ghost text behind it."""
    end = document.buffer.place(popup.range.end.line, popup.range.end.character)
    if popup.range.start.line != place.line or (end.line, end.column) != (place.line, place.column):
        return False
    start = document.buffer.place(popup.range.start.line, popup.range.start.character)
    typed = document.buffer.line(place.line)[start.column : place.column]
    return popup.text.startswith(typed)


def _typed_of_popup(document: Document, place: Place, popup: types.SelectedCompletionInfo) -> int:
    start = document.buffer.place(popup.range.start.line, popup.range.start.character)
    return place.column - start.column


def _answer(
    result: CompletionResult, document: Document, place: Place, popup: types.SelectedCompletionInfo | None
) -> types.InlineCompletionList | None:
    if result.reject_reason in _OVERTAKEN:
        return None
    if result.suggestion is None:
        return types.InlineCompletionList(items=[])
    item = convert.inline_completion_item(result.suggestion, document.uri, document.buffer, place, popup)
    return types.InlineCompletionList(items=[item])
