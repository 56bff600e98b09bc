"""The commands that do one thing and end: a completion, an evaluation, an index brought up to date, a search."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from intract_lsp.app import App, build_index
from intract_lsp.completion.request import CompletionRequest, CompletionResult
from intract_lsp.console import Reporter
from intract_lsp.errors import IndexingError, IntractError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.evaluation.run import evaluate
from intract_lsp.evaluation.summary import format_summary, summarise
from intract_lsp.evaluation.workspaces import Workspaces
from intract_lsp.index.search import Found, search
from intract_lsp.index.status import IndexState, IndexStatus
from intract_lsp.index.worker import IndexWorker
from intract_lsp.inference.engine import EngineState, EngineStatus, ModelCard
from intract_lsp.paths import Paths
from intract_lsp.settings import Settings

FIRST_RETRIEVAL = 5.0
"""Seconds that the first question to an index may take: its libraries are imported for it."""


def complete_once(app: App, request: CompletionRequest, workspace: Path | None, reporter: Reporter) -> CompletionResult:
    """Load the model, bring the index of ``workspace`` up to date if there is one, and answer one request.

    Raises ``ModelError`` where the model cannot be loaded, and ``IndexingError`` where the folder cannot be indexed.
    """
    settings = app.settings.current
    with _loaded(app, reporter):
        if workspace is not None and settings.index.enabled and settings.completion.retrieval:
            with reporter:
                reporter(f"Indexing {workspace.name}", None)
                app.index.set_folders((workspace,))
                app.index.start()
                app.index.settled().result()
            _raise_failure(app.index)
            app.service.policy = replace(app.service.policy, retrieval_deadline=FIRST_RETRIEVAL)
        return asyncio.run(app.service.complete(request))


def evaluate_file(
    app: App,
    items: Path,
    workspace: Path | None,
    repositories: Path | None,
    limit: int | None,
    out: Path | None,
    reporter: Reporter,
) -> tuple[str, dict[str, Any]]:
    """Score a file of items and return a table for people and the summary for programs.

    The items' paths are in ``workspace``, or each item's is in the tree of its parent commit, taken from the git
    directories in ``repositories``; either is indexed, unless the settings say otherwise.
    """
    chosen = read_items(items, limit)
    with _loaded(app, reporter) as card, _folders(app, workspace, repositories) as folder, reporter:
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
def _folders(
    app: App, workspace: Path | None, repositories: Path | None
) -> Iterator[Callable[[Item], Awaitable[Path | None]]]:
    """Give a function that makes ready and indexes the folder of an item."""
    settings = app.settings.current
    # At the same place each time, so that what is indexed of it is of use to the next evaluation.
    scratch = app.paths.cache / "evaluation"
    lock = FileLock(app.paths.cache / "evaluation.lock", timeout=0)
    if repositories is not None:
        app.paths.cache.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise IntractError("Another evaluation works on trees of repositories: wait until it has ended.") from error
        shutil.rmtree(scratch, ignore_errors=True)
    trees = None if repositories is None else Workspaces(repositories, scratch)

    async def folder(item: Item) -> Path | None:
        if trees is not None:
            path, changed = await asyncio.to_thread(trees.folder, item)
        elif workspace is not None:
            path, changed = workspace.absolute(), []
        else:
            return None
        if settings.index.enabled and settings.completion.retrieval:
            app.index.set_folders((path,))
            app.index.note(changed)
            await asyncio.wrap_future(app.index.settled())
            _raise_failure(app.index)
        return path

    app.index.start()
    try:
        yield folder
    finally:
        if repositories is not None:
            shutil.rmtree(scratch, ignore_errors=True)
            lock.release()


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
        app.stop()


def index_folder(
    settings: Settings, paths: Paths, root: Path, anew: bool, reporter: Reporter
) -> tuple[IndexStatus, float]:
    """Bring a folder's index up to date, or drop it and build it ``anew``; return how it stands and the seconds taken.

    Raises ``IndexingError`` where that fails.
    """
    began = time.monotonic()
    with _indexed(settings, paths, root, anew, reporter) as index:
        (status,) = index.statuses()
    return status, time.monotonic() - began


def search_folder(
    settings: Settings, paths: Paths, root: Path, query: str, limit: int, reporter: Reporter
) -> tuple[list[Found], IndexStatus, float, float]:
    """Bring a folder's index up to date and search it.

    Returns what was found, how the index stands, and the seconds that bringing it up to date and searching it took.
    Raises ``IndexingError`` where there is no index.
    """
    began = time.monotonic()
    with _indexed(settings, paths, root, False, reporter) as index:
        (status,) = index.statuses()
        ready = time.monotonic()
        found = search(index.folders(), query, limit)
        return found, status, ready - began, time.monotonic() - ready


@contextmanager
def _indexed(settings: Settings, paths: Paths, root: Path, anew: bool, reporter: Reporter) -> Iterator[IndexWorker]:
    index = build_index(settings, paths, watch=False)

    def on_status(statuses: tuple[IndexStatus, ...]) -> None:
        for status in statuses:
            if status.total:
                reporter(f"Indexing {root}", status.done / status.total)

    index.on_status = on_status
    index.set_folders((root,))
    index.start()
    try:
        with reporter:
            reporter(f"Indexing {root}", None)
            (index.reindex() if anew else index.settled()).result()
        _raise_failure(index)
        yield index
    finally:
        index.stop()


def _raise_failure(index: IndexWorker) -> None:
    for status in index.statuses():
        if status.state is IndexState.FAILED:
            raise IndexingError(status.message)
