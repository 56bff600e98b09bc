"""``intract/status``: one notification with everything an editor shows about the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from pygls.lsp.server import LanguageServer

from intract_lsp.app import App
from intract_lsp.completion.service import Answered
from intract_lsp.index.status import IndexState, IndexStatus
from intract_lsp.inference.engine import EngineState, EngineStatus
from intract_lsp.server.progress import LoadProgress
from intract_lsp.training.progress import RunStatus

STATUS = "intract/status"

_NOTEWORTHY = (IndexState.INDEXING, IndexState.SCANNING, IndexState.FAILED, IndexState.IDLE)
"""Of several folders' states the first of these counts."""


class StatusPublisher:
    """Carries the engine's states from its thread to the editor, the newest only."""

    def __init__(self, server: LanguageServer, app: App, progress: LoadProgress) -> None:
        self._server = server
        self._app = app
        self._progress = progress
        self._sent: dict[str, Any] = {}
        self._scheduled = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to the worker from now on."""

        def on_status(status: EngineStatus) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed; nobody is left to tell
                loop.call_soon_threadsafe(self._on_status, status)

        self._app.worker.on_status = on_status
        self._on_status(self._app.worker.status)

    def _on_status(self, status: EngineStatus) -> None:
        self._progress.update(status)
        self.publish()

    def publish(self) -> None:
        """Send the status soon, unless it is what was sent last; several calls in one turn of the loop send one."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        status = status_values(self._app)
        if status != self._sent:
            self._sent = status
            self._server.protocol.notify(STATUS, status)


def status_values(app: App) -> dict[str, Any]:
    """Return the status as plain JSON values."""
    engine, card, service = app.worker.status, app.worker.card, app.service
    settings = app.settings.current
    return {
        "engine": {
            "state": engine.state.value,
            "model": engine.model,
            "message": engine.message,
            "fraction": engine.fraction,
            "device": card.device if card else "",
            "precision": card.precision if card else "",
            "fimFormat": card.fim_format if card else "",
            "threads": card.threads if card else 0,
        },
        "model": {
            "name": engine.model,
            "adapter": card.adapter if card else "",
            "heldBack": app.adapters.served.held_back,
        },
        "enabled": settings.completion.enabled,
        "disabledLanguages": list(settings.completion.disabled_languages),
        "index": index_values(app.index.statuses()),
        "training": training_values(app.training.status()),
        "lastTimings": _last_timings(service.history[-1]) if service.history else None,
        "accepted": service.accepted,
        "modelCalls": service.model_calls,
        "prepared": service.prepared,
        "answered": len(service.history),
        "shownMilliseconds": _percentiles([a.result.timings.total for a in service.history if a.result.suggestion]),
        "busy": engine.state is EngineState.BUSY,
    }


def training_values(status: RunStatus | None) -> dict[str, Any] | None:
    """Return how the run at work stands, or the newest of this session; ``None`` where there was none."""
    if status is None:
        return None
    return {
        "state": "paused" if status.paused else status.state.value,
        "run": status.run,
        "workspace": status.workspace,
        # Whole percents: the status is sent anew with each change.
        "fraction": None if status.fraction is None else round(status.fraction, 2),
        "message": status.line,
        "adapter": status.adapter,
    }


def index_values(statuses: Sequence[IndexStatus]) -> dict[str, Any] | None:
    """Return how the index stands, in all and by folder; ``None`` where none is kept."""
    if not statuses:
        return None
    states = {status.state for status in statuses}
    updated = [status.updated_at for status in statuses if status.updated_at is not None]
    folders = [folder_values(status) for status in statuses]
    sums = {name: sum(folder[name] for folder in folders) for name in ("files", "chunks", "queue", "diskBytes")}
    return {
        "state": next(state for state in _NOTEWORTHY if state in states).value,
        **sums,
        "updatedAt": max(updated, default=None),
        "message": " ".join(dict.fromkeys(status.message for status in statuses if status.message)),
        "folders": folders,
    }


def folder_values(status: IndexStatus) -> dict[str, Any]:
    """Return how the index of one folder stands; ``updatedAt`` is in seconds since 1970."""
    return {
        "root": status.root,
        "state": status.state.value,
        "files": status.files,
        "chunks": status.chunks,
        "symbols": status.symbols,
        "queue": status.total - status.done,
        "updatedAt": status.updated_at,
        "diskBytes": status.disk_bytes,
        "message": status.message,
    }


def _last_timings(answered: Answered) -> dict[str, Any]:
    timings = answered.result.timings
    return {
        **timings.milliseconds(),
        "promptTokens": timings.prompt_tokens,
        "reusedTokens": timings.reused_tokens,
        "generatedTokens": timings.generated_tokens,
    }


def _percentiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 1),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
    }
