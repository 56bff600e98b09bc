"""``intract/cursor``: an editor may say where the cursor rests, which the protocol has no word for.

Parameters as those of ``textDocument/hover``: ``{"textDocument": {"uri": ...}, "position": {...}}``. The prompt of that
place is then computed before it is asked for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from pygls.lsp.server import LanguageServer

from intract_lsp.app import App
from intract_lsp.completion.request import TriggerKind
from intract_lsp.server.asking import completion_request
from intract_lsp.server.documents import Documents

CURSOR = "intract/cursor"

log = logging.getLogger(__name__)


def register(server: LanguageServer, app: App, documents: Documents, folders: Callable[[], list[str]]) -> None:
    """Take the notification. One that cannot be followed is logged and does nothing."""

    @server.feature(CURSOR)
    def cursor(params: Any) -> None:
        place = _read(params)
        if place is None:
            log.warning("%s names no place in a document; ignored", CURSOR)
            return
        uri, line, character = place
        document = documents.get(uri)
        if document is None or not document.buffer.contains(line, character):
            what = "a document that is not open" if document is None else "a place outside its document"
            log.warning("%s names %s; ignored", CURSOR, what)
            return
        at = document.buffer.place(line, character)
        app.recent.visited(document.uri, at.line, time.monotonic())
        before, behind = documents.around(document, at)
        app.service.rest(completion_request(document, before, behind, TriggerKind.AUTOMATIC, folders()))


def _read(params: Any) -> tuple[str, int, int] | None:
    """Return the address, line and character of parameters that pygls knows no form of."""
    try:
        uri, line, character = params.textDocument.uri, params.position.line, params.position.character
    except AttributeError:
        return None
    right = isinstance(uri, str) and type(line) is int and type(character) is int
    return (uri, line, character) if right else None
