"""Asks a completion service for every item, cold and one keystroke later, and scores the answers.

Cold: no cached suggestion and no KV cache. Its answer is the one that is scored. Warm: the user has typed the truth's
first character since, so the prompt differs by about one token; suggestions are forgotten, the KV cache is kept. That
is what a keystroke costs when nothing shown before covers it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from intract_lsp.completion.request import CompletionRequest, CompletionResult, RejectReason, TriggerKind
from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item
from intract_lsp.evaluation.scores import Score, score

Complete = Callable[[CompletionRequest], Awaitable[CompletionResult]]
"""The service's method."""

_NO_ENGINE = frozenset({RejectReason.NO_MODEL, RejectReason.LOADING, RejectReason.RESTING, RejectReason.MODEL_FAILED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item's answers. Times are wall-clock milliseconds from request to answer."""

    item: Item
    result: CompletionResult
    """The cold answer."""
    warm: CompletionResult
    score: Score
    cold_ms: float
    warm_ms: float

    @property
    def text(self) -> str | None:
        """The suggested text, or ``None`` where nothing was shown."""
        return self.result.suggestion.text if self.result.suggestion else None

    def row(self) -> dict[str, Any]:
        """Return the outcome as a JSON object, as it stands in the output file."""
        suggestion, reason = self.result.suggestion, self.result.reject_reason
        return {
            "task_id": self.item.task_id,
            "set": self.item.set,
            "path": self.item.path,
            "suggestion": self.text,
            "replace": suggestion.replace if suggestion else 0,
            "reject_reason": reason.value if reason else None,
            "timings_ms": self.result.timings.milliseconds(),
            "cold_ms": round(self.cold_ms, 1),
            "warm_ms": round(self.warm_ms, 1),
            "generated_tokens": self.result.timings.generated_tokens,
            "warm_reject_reason": self.warm.reject_reason.value if self.warm.reject_reason else None,
            "warm_reused_tokens": self.warm.timings.reused_tokens,
            "scores": asdict(self.score),
        }


async def evaluate(
    items: Sequence[Item],
    complete: Complete,
    *,
    clear_suggestions: Callable[[], object],
    clear_kv: Callable[[], object],
    workspace: Callable[[Item], Awaitable[Path | None]],
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Ask for every item, cold then warm, and score the cold answers.

    ``clear_suggestions`` empties the service's cache and ``clear_kv`` the engine's; each need only take effect before a
    request made after it. ``workspace`` makes ready and returns the folder that an item's path is in, or ``None``: then
    the item stands on its own.
    ``out`` gets one JSON line an item as soon as it is answered. ``progress`` is called with the items done and their
    number. Raises ``IntractError`` where ``out`` cannot be written, or where there is no model: its zeros would look
    like results.
    """
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        file = stack.enter_context(_create(out)) if out else None
        for number, item in enumerate(items, start=1):
            outcome = await _ask(item, number, complete, clear_suggestions, clear_kv, await workspace(item))
            outcomes.append(outcome)
            if file is not None:
                print(json.dumps(outcome.row()), file=file, flush=True)
            if progress is not None:
                progress(number, len(items))
    return outcomes


async def _ask(
    item: Item,
    number: int,
    complete: Complete,
    clear_suggestions: Callable[[], object],
    clear_kv: Callable[[], object],
    workspace: Path | None,
) -> Outcome:
    cold = _request(item, number, workspace)
    warm = replace(cold, version=2, prefix=cold.prefix + item.truth_block[0])
    clear_suggestions()
    clear_kv()
    result, cold_ms = await _timed(complete, cold)
    if result.reject_reason in _NO_ENGINE:
        raise IntractError(f"The evaluation stopped at its item {number}: {result.reject_reason.sentence}")
    clear_suggestions()
    warm_result, warm_ms = await _timed(complete, warm)
    shown = result.suggestion
    scored = score(item, shown.text, shown.replace) if shown else score(item, None)
    return Outcome(item, result, warm_result, scored, cold_ms, warm_ms)


def _request(item: Item, number: int, workspace: Path | None) -> CompletionRequest:
    # Without a workspace every item is a document of its own: two items of one file are different versions of it.
    uri = (
        (workspace / item.path).absolute().as_uri()
        if workspace
        else f"file:///{number}/{quote(item.path, errors='replace')}"
    )
    return CompletionRequest(
        uri=uri,
        version=1,
        language_id=item.language_id,
        prefix=item.prefix,
        suffix=item.suffix,
        trigger=TriggerKind.INVOKED,
        path=item.path,
    )


async def _timed(complete: Complete, request: CompletionRequest) -> tuple[CompletionResult, float]:
    start = time.perf_counter()
    result = await complete(request)
    return result, (time.perf_counter() - start) * 1000


def _create(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise IntractError(f"{path} cannot be written: {error.strerror or error}.") from error
