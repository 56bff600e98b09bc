"""``workDoneProgress``: while a model is fetched, converted or loaded, and while an index is built."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from intract_lsp.index.status import IndexStatus
from intract_lsp.inference.engine import EngineState, EngineStatus

PATIENCE = 1.0
"""Seconds that a build of the index may take before it is shown."""


class ProgressItem:
    """One item, from asking the editor for it to its end. An editor that refuses, or cannot show any, sees nothing."""

    def __init__(self, server: LanguageServer, kind: str, title: str, cancel: Callable[[], None]) -> None:
        """Ask for the item; ``cancel`` is called on the event loop when the user stops it there."""
        self._server = server
        self._title = title
        self._cancel = cancel
        self._token = f"intract-{kind}-{uuid.uuid4().hex[:8]}"
        self._begun = self._ended = False
        self._last: tuple[str, int | None] = ("", None)
        window = server.client_capabilities.window
        if window and window.work_done_progress:
            # pygls' own way of asking ends a refusal with a traceback.
            params = types.WorkDoneProgressCreateParams(self._token)
            asked = server.protocol.send_request(types.WINDOW_WORK_DONE_PROGRESS_CREATE, params)
            asked.add_done_callback(self._answered)

    def report(self, message: str, fraction: float | None) -> None:
        """Show how far it is, now or once the editor has agreed."""
        new = (message, None if fraction is None else int(fraction * 100))
        if self._begun and not self._ended and new != self._last:
            report = types.WorkDoneProgressReport(message=message, percentage=new[1])
            self._server.work_done_progress.report(self._token, report)
        self._last = new

    def end(self, message: str) -> None:
        """End the item with a last sentence."""
        if self._begun and not self._ended:
            self._server.work_done_progress.end(self._token, types.WorkDoneProgressEnd(message=message))
            # A late cancel of this item must reach nothing.
            del self._server.work_done_progress.tokens[self._token]
        self._ended = True

    def _answered(self, done: Future[Any]) -> None:
        refused = done.cancelled() or done.exception() is not None
        if refused or self._ended:
            return
        message, percentage = self._last
        begin = types.WorkDoneProgressBegin(self._title, cancellable=True, message=message, percentage=percentage)
        self._server.work_done_progress.begin(self._token, begin)
        self._server.work_done_progress.tokens[self._token].add_done_callback(lambda _: self._cancel())
        self._begun = True


class LoadProgress:
    """Shows each load of a model as one progress item, from its first report to its end."""

    def __init__(self, server: LanguageServer, cancel: Callable[[], None]) -> None:
        self._server = server
        self._cancel = cancel
        self._item: ProgressItem | None = None

    def update(self, status: EngineStatus) -> None:
        """Follow the engine's state."""
        if status.state is EngineState.LOADING:
            if self._item is None:
                self._item = ProgressItem(self._server, "load", f"Model {status.model}", self._cancel)
            self._item.report(status.message, status.fraction)
        elif self._item is not None:
            failed = status.state is EngineState.FAILED
            self._item.end(status.message if failed else f"{status.model} is ready")
            self._item = None


class IndexProgress:
    """Shows a build of the index as one progress item, if it takes longer than ``PATIENCE``."""

    def __init__(self, server: LanguageServer, cancel: Callable[[], None]) -> None:
        self._server = server
        self._cancel = cancel
        self._item: ProgressItem | None = None
        self._statuses: Sequence[IndexStatus] = ()
        self._following: asyncio.Task[None] | None = None

    def follow(self, build: Future[None], title: str) -> None:
        """Show a build until it ends, in place of one that is shown; call it on the event loop."""
        self.stop()
        self._following = asyncio.ensure_future(self._follow(build, title))

    def update(self, statuses: Sequence[IndexStatus]) -> None:
        """Take note of how far the folders are."""
        self._statuses = statuses
        if self._item is not None:
            self._item.report(*_so_far(statuses))

    def stop(self) -> None:
        """Show nothing more of the build that is followed."""
        if self._following is not None:
            self._following.cancel()
            self._following = None

    async def _follow(self, build: Future[None], title: str) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def on_end(build: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed; nobody is left to tell
                loop.call_soon_threadsafe(ended.set)

        # Well or not: what went wrong is in the status.
        build.add_done_callback(on_end)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), PATIENCE)
            return
        item = self._item = ProgressItem(self._server, "index", title, self._cancel)
        item.report(*_so_far(self._statuses))
        try:
            await ended.wait()
        finally:
            item.end(f"{sum(status.files for status in self._statuses):,} files")
            if self._item is item:
                self._item = None


def _so_far(statuses: Sequence[IndexStatus]) -> tuple[str, float | None]:
    """Return how many files are done of how many, and the fraction where it is known."""
    done, total = sum(status.done for status in statuses), sum(status.total for status in statuses)
    return (f"{done:,} of {total:,} files", done / total) if total else ("Looking for files", None)
