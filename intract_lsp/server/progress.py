"""``workDoneProgress`` while a model is fetched, converted or loaded."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from intract_lsp.inference.engine import EngineState, EngineStatus


class LoadProgress:
    """Shows each load as one progress item, from its first report to its end."""

    def __init__(self, server: LanguageServer, cancel: Callable[[], None]) -> None:
        self._server = server
        self._cancel = cancel
        self._token: str | None = None
        self._begun = False
        self._last: tuple[str, int | None] | None = None

    def update(self, status: EngineStatus) -> None:
        """Follow the engine's state; the editor is asked for a token at the start of a load."""
        if status.state is EngineState.LOADING:
            if self._token is None and self._supported():
                self._token = f"intract-load-{uuid.uuid4().hex[:8]}"
                self._ask_for(self._token, status)
            self._report(status)
        elif self._token is not None:
            self._end(status)

    def _supported(self) -> bool:
        window = self._server.client_capabilities.window
        return bool(window and window.work_done_progress)

    def _ask_for(self, token: str, status: EngineStatus) -> None:
        """Ask the editor to show an item, which it may refuse. (pygls' own way ends a refusal with a traceback.)"""

        def answered(done: Future[Any]) -> None:
            refused = done.cancelled() or done.exception() is not None
            if not refused and token == self._token:
                self._begin(token, status)

        params = types.WorkDoneProgressCreateParams(token)
        self._server.protocol.send_request(types.WINDOW_WORK_DONE_PROGRESS_CREATE, params).add_done_callback(answered)

    def _begin(self, token: str, status: EngineStatus) -> None:
        begin = types.WorkDoneProgressBegin(title=f"Model {status.model}", message=status.message, cancellable=True)
        self._server.work_done_progress.begin(token, begin)
        self._server.work_done_progress.tokens[token].add_done_callback(lambda _: self._cancel())
        self._begun = True

    def _report(self, status: EngineStatus) -> None:
        percentage = None if status.fraction is None else int(status.fraction * 100)
        if not self._begun or self._token is None or self._last == (status.message, percentage):
            return
        self._last = (status.message, percentage)
        self._server.work_done_progress.report(
            self._token, types.WorkDoneProgressReport(message=status.message, percentage=percentage)
        )

    def _end(self, status: EngineStatus) -> None:
        if self._begun and self._token is not None:
            failed = status.state is EngineState.FAILED
            message = status.message if failed else f"{status.model} is ready"
            self._server.work_done_progress.end(self._token, types.WorkDoneProgressEnd(message=message))
            # A late cancel of this item must not reach the next load.
            del self._server.work_done_progress.tokens[self._token]
        self._token, self._begun, self._last = None, False, None
