"""Has what was trained judged; an adapter that has forgotten too much is first weighed by less, so that it has not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.inference.adapted import LORA_CONFIG
from intract_lsp.inference.engine import AdapterFiles, AdapterKind
from intract_lsp.training.arms import BASE, CANDIDATE, Arms
from intract_lsp.training.durable import replace_file
from intract_lsp.training.events import Event, Note
from intract_lsp.training.gate import lighter
from intract_lsp.training.measure import Place
from intract_lsp.training.verdict import Judged, judge_arms, measure_guard


def judge_candidate(
    load: Callable[[], AbstractContextManager[Arms]],
    candidate: AdapterFiles,
    at: Sequence[Place],
    secrets: Sequence[tuple[str, str]],
    emit: Callable[[Event], None],
    token: CancelToken,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Judged:
    """Measure and judge a candidate, which ``load`` loads beside the others, as its files are then.

    The files of one that is weighed by less are changed. A model trained as a whole has no weight. Arguments and what
    is raised are those of ``judge_arms``, and ``TrainingError`` where the files cannot be changed.
    """
    with load() as arms:
        guarded = measure_guard(arms, emit, token, seconds, clock)
        weighed = candidate.kind is AdapterKind.LORA
        weight = lighter(guarded[BASE], guarded[CANDIDATE]) if weighed else None
        if weight is None:
            return judge_arms(arms, guarded, at, secrets, emit, token, seconds, clock)
    _weigh(candidate.directory, weight)
    emit(
        Note(
            f"What was learnt is weighed by {weight:.2f} of what it was: as it was trained, the model forgot more of "
            "what it knew than is allowed."
        )
    )
    with load() as arms:
        guarded = measure_guard(arms, emit, token, seconds, clock, guarded[BASE])
        return judge_arms(arms, guarded, at, secrets, emit, token, seconds, clock)


def weight_of(candidate: AdapterFiles, alpha: float) -> float:
    """Return by what a candidate that was trained with ``alpha`` is weighed; 1.0 for a model trained as a whole.

    Raises ``TrainingError`` where its files cannot be read.
    """
    if candidate.kind is not AdapterKind.LORA:
        return 1.0
    try:
        return float(_config(candidate.directory)["lora_alpha"]) / alpha
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"What was trained cannot be read ({error}): start the run again.") from error


def _config(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / LORA_CONFIG).read_text(encoding="utf-8"))
    return values


def _weigh(directory: Path, weight: float) -> None:
    """Multiply the alpha in peft's configuration; at any moment the old or the new one is whole."""
    try:
        values = _config(directory)
        values["lora_alpha"] *= weight
        replace_file(directory / LORA_CONFIG, json.dumps(values, indent=2, sort_keys=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"What was trained cannot be weighed by less ({error}): start the run again.") from error
