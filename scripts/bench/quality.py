#!/usr/bin/env python3
"""Quality against llama.cpp with the same weights, in one run.

For each item the same service answers twice, once with this project's own engine and once with llama.cpp in its place:
the same prompt token ids, budgets, stop rules, token limits and filters, both greedy. What differs is the forward pass,
so a gap in the scores is a fault of ours (a wrong position, mask, cache or number format) and no matter of prompts.
Rounding alone flips a few items either way: hence the paired test, and the share of items with equal text.

A third column scores llama.cpp's text as the stop rule left it, before the filters: what the filters are worth.

llama-cpp-python must be importable (`pip install '.[bench]'`); GGUF is the file that the model was converted from. A
table is printed, then one JSON object as the last line. Shares are percentages; differences are ours minus llama.cpp's.

    scripts/bench/quality.py scripts/bench/items.jsonl --gguf qwen2.5-coder-0.5b-instruct-q4_k_m.gguf
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import setup_bench
from rich.progress import Progress

from intract_lsp.app import build_app, load_settings
from intract_lsp.completion.cache import CompletionCache
from intract_lsp.completion.service import CompletionService
from intract_lsp.errors import IntractError, SettingsError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.evaluation.run import Outcome, evaluate
from intract_lsp.evaluation.scores import Score, bootstrap_difference, mcnemar_p, score
from intract_lsp.evaluation.summary import Summary, summarise
from intract_lsp.inference.engine import LoadOrder
from intract_lsp.inference.worker import InferenceWorker
from intract_lsp.models.store import locate
from intract_lsp.paths import default_paths

PATIENCE = 120.0
"""Deadline in seconds, so that a slow machine cannot cut texts short: quality is compared here, not speed."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One engine's run over all items."""

    outcomes: list[Outcome]
    summary: Summary


def run_arm(
    name: str, items: Sequence[Item], worker: InferenceWorker, service: CompletionService, progress: Progress
) -> Arm:
    """Ask one engine's service for every item."""
    bar = progress.add_task(name, total=len(items))
    began = time.monotonic()
    outcomes = asyncio.run(
        evaluate(
            items,
            service.complete,
            clear_suggestions=service.clear_cache,
            clear_kv=worker.forget,
            progress=lambda done, total: progress.update(bar, completed=done),
        )
    )
    device = worker.card.device if worker.card else ""
    return Arm(outcomes, summarise(outcomes, device=device, seconds=time.monotonic() - began))


def raw_score(item: Item, raw: dict[tuple[str, str], str]) -> Score:
    """Score llama.cpp's unfiltered text; an item that no gate let through, or an empty text, shows nothing."""
    return score(item, raw.get((item.prefix, item.suffix)) or None)


def compare(ours: Arm, llama: Arm, raw: Sequence[Score]) -> dict[str, Any]:
    """Return the figures of all arms and their paired comparison."""
    our_scores = [outcome.score for outcome in ours.outcomes]
    llama_scores = [outcome.score for outcome in llama.outcomes]
    pairs = list(zip(ours.outcomes, llama.outcomes, strict=True))
    count = len(pairs)
    exact_ours = [one.exact_match for one in our_scores]
    exact_llama = [one.exact_match for one in llama_scores]
    similarity = bootstrap_difference(
        [one.edit_similarity for one in our_scores], [one.edit_similarity for one in llama_scores]
    )
    figures: dict[str, Any] = {
        "n": count,
        "ours_exact_match": 100 * sum(exact_ours) / count,
        "llama_exact_match": 100 * sum(exact_llama) / count,
        "difference": 100 * (sum(exact_ours) - sum(exact_llama)) / count,
        "only_ours": sum(a and not b for a, b in zip(exact_ours, exact_llama, strict=True)),
        "only_llama": sum(b and not a for a, b in zip(exact_ours, exact_llama, strict=True)),
        "mcnemar_p": mcnemar_p(exact_ours, exact_llama),
        "ours_edit_similarity": ours.summary.overall.edit_similarity,
        "llama_edit_similarity": llama.summary.overall.edit_similarity,
        "similarity_difference": {key: round(value, 3) for key, value in asdict(similarity).items()},
        "llama_raw_exact_match": 100 * sum(one.exact_match for one in raw) / count,
        "llama_raw_edit_similarity": sum(one.edit_similarity for one in raw) / count,
        "llama_raw_over_long": 100 * sum(one.over_long for one in raw) / count,
        "equal_text": 100 * sum(a.text == b.text for a, b in pairs) / count,
        "equal_prompt_length": 100
        * sum(a.result.timings.prompt_tokens == b.result.timings.prompt_tokens for a, b in pairs)
        / count,
    }
    for name, arm in (("ours", ours), ("llama", llama)):
        summary = arm.summary
        figures[f"{name}_saved_characters"] = summary.overall.saved_characters
        figures[f"{name}_shown"] = summary.overall.shown
        figures[f"{name}_over_long"] = summary.overall.over_long
        figures[f"{name}_cold_ms_p50"] = summary.cold_ms_p50
        figures[f"{name}_warm_ms_p50"] = summary.warm_ms_p50
        figures[f"{name}_engine_errors"] = summary.engine_errors
        figures[f"{name}_tokens_per_second"] = summary.tokens_per_second
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the figures side by side, for people."""
    rows = [("", "ours", "llama.cpp", "its raw text")]
    for title, key in (
        ("exact match %", "exact_match"),
        ("edit similarity", "edit_similarity"),
        ("saved characters %", "saved_characters"),
        ("shown %", "shown"),
        ("over-long %", "over_long"),
        ("cold ms, median", "cold_ms_p50"),
        ("warm ms, median", "warm_ms_p50"),
        ("tokens/s", "tokens_per_second"),
        ("engine failures", "engine_errors"),
    ):
        cells = (figures.get(f"{arm}_{key}") for arm in ("ours", "llama", "llama_raw"))
        rows.append((title, *("" if cell is None else f"{cell:.1f}" for cell in cells)))
    lines = [f"{first:20}{''.join(f'{cell:>14}' for cell in rest)}" for first, *rest in rows]
    interval = figures["similarity_difference"]
    lines.append(
        f"{figures['n']} items: {figures['only_ours']} right only with ours, {figures['only_llama']} only with "
        f"llama.cpp (exact match {figures['difference']:+.1f} points, McNemar p = {figures['mcnemar_p']:.3f})"
    )
    lines.append(
        f"edit similarity {interval['mean']:+.2f} (95 % {interval['low']:+.2f} to {interval['high']:+.2f}); "
        f"equal text on {figures['equal_text']:.0f} %"
    )
    return "\n".join(lines)


def write_rows(path: Path, ours: Arm, llama: Arm, raw: dict[tuple[str, str], str]) -> None:
    """Write one JSON line an item with each arm's text and scores."""
    with path.open("w", encoding="utf-8") as file:
        for a, b in zip(ours.outcomes, llama.outcomes, strict=True):
            row = {
                "task_id": a.item.task_id,
                "ours": a.row(),
                "llama": b.row(),
                "llama_raw": raw.get((a.item.prefix, a.item.suffix)),
            }
            print(json.dumps(row), file=file)


def main(arguments: argparse.Namespace) -> None:
    """Run both arms and print the comparison."""
    llama_cpp = setup_bench.import_llama()
    items = read_items(arguments.items, arguments.limit)
    if not arguments.gguf.is_file():
        raise IntractError(f"{arguments.gguf} is no file; give the GGUF that the model was converted from.")
    paths = default_paths()
    model = arguments.model or str(arguments.gguf)
    settings, problems = load_settings(paths, [f"model.name={json.dumps(model)}", *arguments.set])
    if problems:
        raise SettingsError(problems)
    app = build_app(settings, paths)
    # llama.cpp gets no prompt that is anchored at the line's start, since it cannot spell what was typed.
    shape = replace(app.service.policy.shape, exact=True)
    app.service.policy = replace(app.service.policy, deadline=PATIENCE, shape=shape)
    app.worker.start()
    card = app.load_model().result()
    installed = locate(card.name, paths)
    if installed is None:
        raise IntractError(f"{card.name} is not on this machine; run `intract-lsp models pull {card.name}`.")
    same = setup_bench.same_weights(installed, arguments.gguf)
    if same is False:
        print(f"Note: {card.name} was not converted from {arguments.gguf.name}: the weights differ.", file=sys.stderr)
    engine = llama_cpp.LlamaEngine(installed, card.threads, shape.budget or card.budget)
    worker = InferenceWorker(engine)
    service = CompletionService(
        worker, CompletionCache(settings.current.completion.cache_kib * 1024), app.service.policy
    )
    with Progress(transient=True) as progress:
        ours = run_arm("ours", items, app.worker, app.service, progress)
        app.worker.stop()
        worker.start()
        worker.load(LoadOrder(str(arguments.gguf))).result()
        llama = run_arm("llama.cpp", items, worker, service, progress)
        worker.stop()
    raw = [raw_score(item, engine.raw) for item in items]
    figures = compare(ours, llama, raw)
    if arguments.out:
        write_rows(arguments.out, ours, llama, engine.raw)
    print(table(figures))
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
    machine = {"model": card.name, "device": card.device, "precision": card.precision, "threads": card.threads}
    print(json.dumps({**rounded, **machine, "same_weights": same, "llama_cpp": llama_cpp.VERSION}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=Path, metavar="ITEMS.jsonl")
    parser.add_argument("--gguf", type=Path, required=True, metavar="FILE", help="the weights for llama.cpp")
    parser.add_argument("--model", metavar="M", help="our engine's model (default: the GGUF file, converted once)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N items")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write both texts and scores of each item here")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting")
    try:
        main(parser.parse_args())
    except IntractError as error:
        sys.exit(f"quality.py: {error}")
