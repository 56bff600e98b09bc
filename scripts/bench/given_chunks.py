#!/usr/bin/env python3
"""Choosing among a benchmark's own chunks, against showing them as they come.

CrossCodeEval gives each item the five chunks of its repository that BM25 finds for the lines before the cursor. Three
arms answer the same items: without context; with the chunks in the order given, as many as fit the room for context;
and with this project's retrieval, whose workspace is a folder that holds those chunks and nothing else. So both have
the same pool, and what is measured is what is taken from it, what is cut away, and what the document itself gives.

Cold answers are scored. Differences are ours minus the set's with paired bootstrap intervals; the last line is one JSON
object. Items without chunks are left out.

    scripts/bench/given_chunks.py public_completions.jsonl
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import asyncio
import json
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import setup_bench
from rich.progress import Progress

from intract_lsp.app import App, build_app, load_settings
from intract_lsp.completion.generation import Chunk
from intract_lsp.completion.request import Retrieved
from intract_lsp.completion.retrieval import LineContexts, Question
from intract_lsp.errors import IntractError, SettingsError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.evaluation.run import evaluate
from intract_lsp.evaluation.scores import Score, bootstrap_difference, mcnemar_p
from intract_lsp.paths import default_paths

PATIENCE = 120.0
"""Deadline in seconds: quality is compared here, not speed."""

RETRIEVAL_PATIENCE = 5.0
"""Seconds for the retrieval, likewise."""

CHARACTERS_PER_TOKEN = 3.0
"""As the retriever estimates; the prompt counts exactly and drops what does not fit."""


class Given:
    """Answers each question with the item's own chunks; see ``completion.retrieval.Retriever``."""

    def __init__(self, chunks: Mapping[str, Sequence[Chunk]]) -> None:
        """``chunks`` are those of each item, by the address of its document."""
        self._chunks = chunks

    def ask(self, question: Question) -> Future[tuple[Retrieved, ...]]:
        """Return as many chunks as fit, the first ones."""
        room, taken = question.need.tokens, []
        for chunk in self._chunks[question.uri]:
            tokens = int(len(chunk.text) / CHARACTERS_PER_TOKEN) + 1
            if tokens > room:
                break
            room -= tokens
            taken.append(Retrieved(chunk, 0, ("given",), 0.0, tokens))
        answer: Future[tuple[Retrieved, ...]] = Future()
        answer.set_result(tuple(taken))
        return answer


def read_chunks(path: Path) -> dict[str, list[Chunk]]:
    """Return the chunks that a file of items gives, by the item's id."""
    found: dict[str, list[Chunk]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line) if line.strip() else {}
            if row.get("chunks"):
                found[row["task_id"]] = [Chunk(chunk["path"], chunk["text"]) for chunk in row["chunks"]]
    return found


def write_workspace(folder: Path, item: Item, chunks: Sequence[Chunk]) -> None:
    """Write an item's chunks as files; those of one path follow each other. The document's own are left out."""
    texts: dict[str, list[str]] = defaultdict(list)
    for chunk in chunks:
        texts[chunk.path].append(chunk.text)
    for path, pieces in texts.items():
        target = (folder / path).resolve()
        if path != item.path and target.is_relative_to(folder.resolve()):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n\n".join(pieces) + "\n", encoding="utf-8")


def run_arms(
    app: App, items: Sequence[Item], chunks: Mapping[str, Sequence[Chunk]], scratch: Path
) -> dict[str, list[Score]]:
    """Return each arm's scores."""
    service, ours = app.service, app.service.contexts
    folders = {item.task_id: scratch / str(number) for number, item in enumerate(items)}
    for item in items:
        folders[item.task_id].mkdir()
        write_workspace(folders[item.task_id], item, chunks[item.task_id])
    by_uri = {(folders[item.task_id] / item.path).as_uri(): chunks[item.task_id] for item in items}

    async def plain(item: Item) -> Path | None:
        return folders[item.task_id]

    async def indexed(item: Item) -> Path | None:
        app.index.set_folders((folders[item.task_id],))
        await asyncio.wrap_future(app.index.settled())
        return folders[item.task_id]

    def answers(title: str, folder: Callable[[Item], Awaitable[Path | None]]) -> list[Score]:
        with Progress(transient=True) as progress:
            bar = progress.add_task(title, total=len(items))
            outcomes = asyncio.run(
                evaluate(
                    items,
                    service.complete,
                    clear_suggestions=service.clear_cache,
                    clear_kv=app.worker.forget,
                    workspace=folder,
                    progress=lambda done, total: progress.update(bar, completed=done),
                )
            )
        return [outcome.score for outcome in outcomes]

    scores = {}
    service.contexts = None
    scores["none"] = answers("without context", plain)
    service.contexts = LineContexts(Given(by_uri))
    scores["given"] = answers("the set's chunks", plain)
    service.contexts = ours
    app.index.start()
    scores["ours"] = answers("our retrieval", indexed)
    return scores


def figures(scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """Return the arms' means and their paired differences."""
    made: dict[str, Any] = {"n": len(scores["none"])}
    exact = {arm: [100.0 * one.exact_match for one in each] for arm, each in scores.items()}
    similar = {arm: [one.edit_similarity for one in each] for arm, each in scores.items()}
    for arm in scores:
        made[f"{arm}_exact_match"] = sum(exact[arm]) / made["n"]
        made[f"{arm}_edit_similarity"] = sum(similar[arm]) / made["n"]
    for rival in ("none", "given"):
        for what, each in (("exact_match", exact), ("edit_similarity", similar)):
            interval = bootstrap_difference(each["ours"], each[rival])
            made[f"{what}_over_{rival}"] = {key: round(value, 2) for key, value in asdict(interval).items()}
    made["mcnemar_p_over_given"] = mcnemar_p(
        [one.exact_match for one in scores["ours"]], [one.exact_match for one in scores["given"]]
    )
    return made


def main(arguments: argparse.Namespace) -> None:
    """Run the arms and print them side by side."""
    chunks = read_chunks(arguments.items)
    items = [item for item in read_items(arguments.items) if item.task_id in chunks]
    items = items[:: arguments.every][: arguments.limit]
    if not items:
        raise IntractError(f"{arguments.items} has no item with chunks: give CrossCodeEval's.")
    settings, problems = load_settings(default_paths(), setup_bench.bench_settings(arguments))
    if problems:
        raise SettingsError(problems)
    app = build_app(settings, default_paths(), watch=False)
    app.service.policy = replace(
        app.service.policy, deadline=PATIENCE, work_ahead=False, retrieval_deadline=RETRIEVAL_PATIENCE
    )
    app.worker.start()
    try:
        card = app.load_model().result()
        with tempfile.TemporaryDirectory(prefix="intract-chunks-") as scratch:
            made = figures(run_arms(app, items, chunks, Path(scratch)))
    finally:
        app.stop()
    rows = [
        (f"{title}, {what}", f"{arm}_{key}", "n")
        for arm, title in (("none", "no context"), ("given", "the set's chunks"), ("ours", "our retrieval"))
        for what, key in (("exact match %", "exact_match"), ("edit similarity", "edit_similarity"))
    ]
    facts = {"model": card.name, "precision": card.precision, "device": card.device, "threads": card.threads}
    setup_bench.report("Choosing among given chunks", rows, {**made, **facts, **setup_bench.machine()})


if __name__ == "__main__":
    setup_bench.run("given_chunks.py", main, setup_bench.parser(__doc__, rivals=()).parse_args())
