"""From a place in an open document to the pipeline's answer, for every request of the protocol that wants one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lsprotocol import types

from intract_lsp.app import App
from intract_lsp.completion.request import CompletionRequest, CompletionResult, RejectReason, TriggerKind
from intract_lsp.server import convert
from intract_lsp.server.documents import Document, Documents
from intract_lsp.text import Place

OVERTAKEN = frozenset({RejectReason.SUPERSEDED, RejectReason.STALE, RejectReason.CANCELLED})
"""Reasons of a request that nobody waits for any more: what it asked about has changed, or a newer one has come."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an open document."""

    document: Document
    place: Place


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request is answered from: the parts, what is open, and the folders of the workspace."""

    app: App
    documents: Documents
    folders: Callable[[], list[str]]

    def locate(self, uri: str, position: types.Position) -> Cursor | RejectReason:
        """Return where a request points to, or why that is nowhere."""
        document = self.documents.get(uri)
        if document is None:
            return RejectReason.UNKNOWN_DOCUMENT
        if not document.buffer.contains(position.line, position.character):
            return RejectReason.OUTSIDE_DOCUMENT
        return Cursor(document, document.buffer.place(position.line, position.character))

    def refuse(self, uri: str, reason: RejectReason) -> None:
        """Record, for ``intract.why``, that a request was turned away or its answer dropped."""
        self.app.service.note_refusal(uri, reason)

    async def suggest(
        self, cursor: Cursor, trigger: TriggerKind, typed: int = 0, instead: str = ""
    ) -> CompletionResult:
        """Return the pipeline's answer; ``STALE`` where the document is no longer what it was asked about.

        The last ``typed`` characters before the cursor are taken to be ``instead``.
        """
        document = cursor.document
        before, behind = self.documents.around(document, cursor.place)
        before = before[: len(before) - typed] + instead
        version = document.version
        self.app.training.note_activity()
        request = completion_request(document, before, behind, trigger, self.folders())
        result = await self.app.service.complete(request)
        if document.version != version or self.documents.get(document.uri) is not document:
            self.refuse(document.uri, RejectReason.STALE)
            return CompletionResult(None, RejectReason.STALE, result.timings, result.model)
        return result


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
