"""``intract/copied``: an editor may say what was copied or cut, which the protocol has no word for.

Parameters: ``{"textDocument": {"uri": ...}, "text": ..., "line": ...}``, with the text's first line, from 0. What was
copied is likely to be adapted somewhere else: it counts among the pieces that prompts may show, in memory only.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from pygls.lsp.server import LanguageServer

from intract_lsp.app import App
from intract_lsp.server.documents import Documents

COPIED = "intract/copied"

LONGEST = 20_000
"""Characters; whoever copies more moves a file."""

log = logging.getLogger(__name__)


def register(server: LanguageServer, app: App, documents: Documents) -> None:
    """Take the notification. One that cannot be followed is logged and does nothing."""

    @server.feature(COPIED)
    def copied(params: Any) -> None:
        try:
            uri, text, line = params.textDocument.uri, params.text, params.line
        except AttributeError:
            uri = text = line = None
        if not isinstance(uri, str) or not isinstance(text, str) or type(line) is not int or line < 0:
            log.warning("%s names no text of a document; ignored", COPIED)
            return
        document = documents.get(uri)
        if document is not None and len(text) <= LONGEST:
            app.recent.copied(document.uri, text, time.monotonic(), line)
