"""The language server: pygls' class with our message layer, and the registration of each concern."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from intract_lsp import __version__
from intract_lsp.app import App
from intract_lsp.server import commands, documents, index
from intract_lsp.server.lifecycle import Lifecycle
from intract_lsp.server.progress import LoadProgress
from intract_lsp.server.protocol import IntractProtocol
from intract_lsp.server.status import StatusPublisher
from intract_lsp.server.training import TrainingSession

log = logging.getLogger(__name__)


class IntractLanguageServer(LanguageServer):
    """A language server whose errors never reach the user as tracebacks."""

    protocol: IntractProtocol

    def __init__(self, opened: documents.Documents) -> None:
        notebooks = types.NotebookDocumentSyncOptions([types.NotebookDocumentFilterWithNotebook(notebook="*")])
        super().__init__("intract-lsp", __version__, notebook_document_sync=notebooks, protocol_cls=IntractProtocol)
        self.documents = opened
        """What the editor has open."""

    def report_server_error(self, error: Exception, source: type[Exception]) -> None:
        """Log an error that belongs to no request; answer the one that could not be read."""
        # The message may quote the document, so the log gets the error's kind alone.
        log.error("%s in %s", type(error).__name__, getattr(source, "__name__", source))
        self.protocol.answer_unreadable(error)


def create_server(app: App, problems: list[str]) -> IntractLanguageServer:
    """Wire a server for ``app``; ``problems`` found in the settings so far are shown once the editor listens."""
    opened = documents.Documents(closed=app.service.forget, recent=app.recent)
    app.retriever.documents = opened.all
    server = IntractLanguageServer(opened)
    progress = LoadProgress(server, app.worker.cancel_load)
    publisher = StatusPublisher(server, app, progress)
    documents.register(server, opened)
    session = index.IndexSession(server, app, publisher.publish)
    index.register(server, session)
    training = TrainingSession(server, app, publisher.publish)
    commands.register(server, app, publisher, session, training)
    Lifecycle(server, app, opened, publisher, session, training, problems).register()
    return server


def serve(app: App, problems: list[str], address: tuple[str, int] | None = None) -> None:
    """Serve over stdio, or over TCP at ``address``, until the client leaves; then stop the threads.

    Ends with exit code 1, as the protocol says, if the client left without ``shutdown``.
    """
    server = create_server(app, problems)
    try:
        if address is not None:
            server.start_tcp(*address)
        else:
            with _guarded_stdout() as stdout:
                server.start_io(sys.stdin.buffer, stdout)
    finally:
        stopped = app.stop()
    code = 0 if server.protocol.shut_down else 1
    if not stopped:
        # The thread is deep in a computation or an import; ending the interpreter under it would abort noisily.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


@contextlib.contextmanager
def _guarded_stdout() -> Iterator[BinaryIO]:
    """Keep stdout for the protocol: whatever any library prints goes to stderr instead."""
    protocol_stream, sys.stdout = sys.stdout.buffer, sys.stderr
    try:
        yield protocol_stream
    finally:
        sys.stdout = sys.__stdout__
