"""The commands that load a model, ask it, and end: one completion, or an evaluation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from intract_lsp.app import App
from intract_lsp.completion.request import CompletionRequest, CompletionResult
from intract_lsp.console import Reporter
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.evaluation.run import evaluate
from intract_lsp.evaluation.summary import format_summary, summarise
from intract_lsp.inference.engine import EngineState, EngineStatus, ModelCard


def complete_once(app: App, request: CompletionRequest, reporter: Reporter) -> CompletionResult:
    """Load the model and answer one request. Raises ``ModelError`` where it cannot be loaded."""
    with _loaded(app, reporter):
        return asyncio.run(app.service.complete(request))


def evaluate_file(
    app: App, items: Path, workspace: Path | None, limit: int | None, out: Path | None, reporter: Reporter
) -> tuple[str, dict[str, Any]]:
    """Score a file of items and return a table for people and the summary for programs."""
    chosen = read_items(items, limit)

    async def folder(item: Item) -> Path | None:
        return workspace

    with _loaded(app, reporter) as card, reporter:
        began = time.monotonic()
        outcomes = asyncio.run(
            evaluate(
                chosen,
                app.service.complete,
                clear_suggestions=app.service.clear_cache,
                clear_kv=app.worker.forget,
                workspace=folder,
                out=out,
                progress=lambda done, total: reporter(f"Evaluating {total} items", done / total),
            )
        )
        summary = summarise(outcomes, device=card.device, seconds=time.monotonic() - began)
    return format_summary(summary), summary.to_json()


@contextmanager
def _loaded(app: App, reporter: Reporter) -> Iterator[ModelCard]:
    def on_status(status: EngineStatus) -> None:
        if status.state is EngineState.LOADING:
            reporter(status.message, status.fraction)

    app.worker.on_status = on_status
    # There is no idle time here, and what is measured is what a request costs.
    app.service.policy = replace(app.service.policy, work_ahead=False)
    app.worker.start()
    try:
        with reporter:
            card = app.load_model().result()
        yield card
    finally:
        app.worker.stop()
