#!/usr/bin/env python3
"""Anchored prompts against prompts that are split at the cursor: quality, and what a keystroke costs.

While the user types on a line, an anchored prompt stays as it is up to the typed text, so that the keys and values of
all that stands before are reused; the last word is healed (ARCHITECTURE.md, "Prompt windows"). Each item is asked at
its cursor and where the author has typed a few characters more of the true line, both ways. The rest of the line as the
model wrote it is scored, without filters. An item counts once, as the mean over its positions; the intervals are paired
bootstrap intervals over the items. The last line is one JSON object.

    scripts/bench/warm.py ITEMS.jsonl --set model.precision=int8
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.progress import track

from intract_lsp.app import App, build_app, load_settings
from intract_lsp.completion.context import CompletionContext, build_context
from intract_lsp.completion.generation import CancelToken, Generation, Limits
from intract_lsp.completion.request import CompletionRequest, TriggerKind
from intract_lsp.completion.stop import stop_rule
from intract_lsp.errors import IntractError, SettingsError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.evaluation.scores import Score, bootstrap_difference, score
from intract_lsp.paths import default_paths

PATIENCE = 600.0
"""Seconds that a generation may take, so that a busy machine cuts nothing short."""

LONGEST_TYPED = 8
"""Most characters typed beyond an item's cursor."""


@dataclass(frozen=True, slots=True)
class Position:
    """One cursor, asked both ways."""

    item: str
    typed: int
    """Characters typed beyond the item's cursor."""
    kind: str
    """What stands before the cursor."""
    exact: Score
    anchored: Score
    exact_text: str
    anchored_text: str
    exact_ms: float
    """Prefill."""
    anchored_ms: float
    computed: int
    """Prompt tokens that the anchored one had to compute."""


def positions(item: Item, number: int, typed_on: int) -> Iterator[tuple[int, Item]]:
    """Yield the item's cursor and ``typed_on`` positions spread over the next characters, other ones for each item."""
    yield 0, item
    width = LONGEST_TYPED // typed_on if typed_on else 0
    for part in range(typed_on):
        typed = 1 + part * width + number % width
        if item.truth_line[typed:].strip():
            yield (
                typed,
                replace(
                    item,
                    prefix=item.prefix + item.truth_line[:typed],
                    truth_line=item.truth_line[typed:],
                    truth_block=item.truth_block[typed:],
                ),
            )


def kind(context: CompletionContext) -> str:
    """Return what stands before the cursor, in a word."""
    line = context.line_prefix
    if not line.strip():
        return "blank line"
    if line[-1].isalnum() or line[-1] == "_":
        return "word"
    return "space" if line[-1].isspace() else "bracket" if line[-1] in "([{<" else "punctuation"


def ask(app: App, context: CompletionContext, exact: bool) -> Generation:
    """Let the model complete the line, from the keys and values that are there unless ``exact``."""
    policy = app.service.policy
    limits = Limits(policy.max_line_tokens, time.monotonic() + PATIENCE, stop_rule(context))
    shape = replace(policy.shape, exact=exact)
    return app.worker.submit("", context, shape, limits, CancelToken(), lambda text: None).result()


def measure(app: App, item: Item, number: int, typed_on: int) -> list[Position]:
    """Ask at each position of an item; positions at which the server would not answer are left out."""
    asked: list[tuple[int, Item, CompletionContext]] = []
    for typed, there in positions(item, number, typed_on):
        request = CompletionRequest(
            f"file:///{number}", 1, item.language_id, there.prefix, there.suffix, TriggerKind.INVOKED, path=item.path
        )
        context = build_context(request, "never")
        if isinstance(context, CompletionContext):
            asked.append((typed, there, context))
    # The anchored ones come after one another, as keystrokes do: an exact one leaves other keys and values.
    anchored = [ask(app, context, exact=False) for _, _, context in asked]
    exact = [ask(app, context, exact=True) for _, _, context in asked]
    return [
        Position(
            item=item.task_id,
            typed=typed,
            kind=kind(context),
            exact=score(there, one.text),
            anchored=score(there, other.text),
            exact_text=one.text,
            anchored_text=other.text,
            exact_ms=one.prefill_ms,
            anchored_ms=other.prefill_ms,
            computed=other.prompt_tokens - other.reused_tokens,
        )
        for (typed, there, context), one, other in zip(asked, exact, anchored, strict=True)
    ]


def figures(found: Sequence[Position]) -> dict[str, Any]:
    """Return both ways' scores in points and their differences, anchored minus exact."""
    items: dict[str, list[Position]] = defaultdict(list)
    for position in found:
        items[position.item].append(position)
    values: dict[str, Any] = {"n": len(items), "positions": len(found)}
    for name, points in (("exact_match", 100.0), ("edit_similarity", 1.0)):
        exact, anchored = (
            [mean(points * getattr(getattr(one, way), name) for one in group) for group in items.values()]
            for way in ("exact", "anchored")
        )
        difference = bootstrap_difference(anchored, exact)
        values[name] = {
            "exact": round(mean(exact), 2),
            "anchored": round(mean(anchored), 2),
            **{f"difference_{key}": round(value, 2) for key, value in asdict(difference).items()},
        }
    return values


def table(found: Sequence[Position]) -> str:
    """Return the scores by what stands before the cursor, each position counted once, for people."""
    groups: dict[str, list[Position]] = defaultdict(list)
    for position in found:
        groups[position.kind].append(position)
    lines = [f"{'before the cursor':18}{'n':>5}{'exact match %':>24}{'edit similarity':>24}"]
    for name, group in [*sorted(groups.items()), ("all", list(found))]:
        cells = [
            f"{mean(points * getattr(one.exact, key) for one in group):12.1f}"
            f" → {mean(points * getattr(one.anchored, key) for one in group):5.1f}    "
            for key, points in (("exact_match", 100), ("edit_similarity", 1))
        ]
        lines.append(f"{name:18}{len(group):5}{''.join(cells)}")
    return "\n".join(lines)


def main(given: argparse.Namespace) -> None:
    """Measure all items and print the table and the JSON object."""
    items = read_items(given.items)[:: given.every]
    settings, problems = load_settings(default_paths(), given.set)
    if problems:
        raise SettingsError(problems)
    app = build_app(settings, default_paths())
    app.worker.start()
    found: list[Position] = []
    try:
        card = app.load_model().result()
        for number, item in enumerate(track(items, transient=True)):
            found += measure(app, item, number, given.typed)
            if given.out:
                given.out.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found), encoding="utf-8")
    finally:
        app.worker.stop()
    typed = [one for one in found if one.typed]
    print(table(found))
    print(
        json.dumps(
            {
                "all": figures(found),
                "at_cursor": figures([one for one in found if not one.typed]),
                "typed_on": figures(typed) if typed else None,
                "typed_on_prefill_ms_p50": {
                    "exact": round(median(one.exact_ms for one in typed), 1),
                    "anchored": round(median(one.anchored_ms for one in typed), 1),
                }
                if typed
                else None,
                "typed_on_computed_tokens_p50": median(one.computed for one in typed) if typed else None,
                "model": card.name,
                "device": card.device,
                "precision": card.precision,
                "threads": card.threads,
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=Path, metavar="ITEMS.jsonl")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth item")
    parser.add_argument(
        "--typed", type=int, default=2, choices=range(LONGEST_TYPED + 1), metavar="N", help="positions typed on (2)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write each position's texts and scores here")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting")
    try:
        main(parser.parse_args())
    except IntractError as error:
        sys.exit(f"warm.py: {error}")
