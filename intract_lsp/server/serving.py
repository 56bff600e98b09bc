"""Which adapter answers, over a session: that of the document's folder, on trial while it is new.

All of it happens while nobody types: a swap takes the KV cache with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from pygls.uris import to_fs_path

from intract_lsp.app import App
from intract_lsp.completion.request import CompletionRequest, CompletionResult
from intract_lsp.errors import IntractError
from intract_lsp.training.offers import Offers
from intract_lsp.training.trial import Served

log = logging.getLogger(__name__)

MOVE_SECONDS = 2.0
"""Without a request before the adapter of another folder is loaded."""

DRAW_SECONDS = 60.0
"""Without a request before chance says anew whether an adapter on trial answers; more than ``offers.KEPT_SECONDS``."""

BLOCK_SEEN = 10
"""Suggestions that are seen at least before it does."""


class Serving:
    """Watches answers and acceptances, and has the switch do the rest. Used on the event loop only."""

    def __init__(
        self, app: App, folders: Callable[[], list[Path]], say: Callable[[str], None], publish: Callable[[], None]
    ) -> None:
        """``folders`` returns those that are open; ``say`` shows the user a sentence, ``publish`` the status anew."""
        self._app = app
        self._folders = folders
        self._say = say
        self._publish = publish
        self._clock = time.monotonic
        self._served: Served | None = None
        self._offers = Offers("")
        self._uri = ""
        self._timer: asyncio.TimerHandle | None = None
        self._at_work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen to the completions from now on."""
        adapters, service = self._app.adapters, self._app.service
        adapters.share_held_back = lambda: self._app.settings.current.training.hold_back
        service.on_result = self._answered
        service.on_accepted = self._accepted

    def stop(self) -> None:
        """Do nothing more; what was seen since the last pause is not recorded."""
        self._app.service.on_result = lambda request, result: None
        if self._timer is not None:
            self._timer.cancel()

    def _answered(self, request: CompletionRequest, result: CompletionResult) -> None:
        if not self._app.adapters.any_kept:
            return
        self._uri = request.uri
        self._count().answered(request.uri, result, self._clock())
        moves = self._folder() not in (None, self._app.adapters.workspace)
        self._wait(MOVE_SECONDS if moves else DRAW_SECONDS)

    def _accepted(self, suggestion_id: str) -> None:
        self._count().accepted(suggestion_id, self._clock())

    def _count(self) -> Offers:
        """Return what counts for the version that answers now; another one's begins at nothing."""
        served = self._app.adapters.served
        if self._served is not served:
            self._served, self._offers = served, Offers(self._app.worker.model_key)
        return self._offers

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pause)

    def _pause(self) -> None:
        """Nobody has asked for a while."""
        if self._at_work is None or self._at_work.done():
            self._at_work = asyncio.ensure_future(self._use_pause())

    async def _use_pause(self) -> None:
        adapters = self._app.adapters
        folder = self._folder()
        try:
            if folder is not None and folder != adapters.workspace:
                await self._record()
                await asyncio.wrap_future(adapters.move(folder))
                self._wait(DRAW_SECONDS)
                return
            self._settle()
            if not self._offers.settled:
                self._wait(DRAW_SECONDS)
            elif adapters.served.place is None or self._offers.seen >= BLOCK_SEEN:
                await self._record()
                await asyncio.wrap_future(adapters.draw())
            else:
                await asyncio.wrap_future(adapters.draw(anew=False))
        except IntractError as error:
            log.warning("which adapter serves stays as it is: %s", error)
        self._publish()

    async def _record(self) -> None:
        """Record what was seen of the version that answers, which may mean that it is taken back."""
        self._settle()
        served, offers = self._served, self._offers
        self._served = None
        if served is None or self._app.worker.card is None or self._app.worker.card.adapter != served.adapter:
            return
        said = await asyncio.wrap_future(self._app.adapters.record(served, offers.seen, offers.kept))
        if said:
            self._say(said)

    def _settle(self) -> None:
        texts = {document.uri: document for document in self._app.retriever.documents()}
        self._offers.settle(self._clock(), lambda uri: texts[uri].text if uri in texts else None)

    def _folder(self) -> Path | None:
        """Return the innermost open folder that the document in hand lies in."""
        path = to_fs_path(self._uri) if self._uri.startswith("file:") else None
        holding = [folder for folder in self._folders() if path and Path(path).is_relative_to(folder)]
        return max(holding, key=lambda folder: len(folder.parts), default=None)
