"""What a run would learn from, and what it would take: looked at without a model and without training."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from intract_lsp.completion.prompt import resolve_format
from intract_lsp.inference.tokenizer import load_tokenizer
from intract_lsp.training.budget import VALIDATIONS, make_budget, measuring_seconds
from intract_lsp.training.preparation import prepare
from intract_lsp.training.room import plan_here, tokens_a_second
from intract_lsp.training.spec import RunSpec
from intract_lsp.training.validation import affordable


def expected(spec: RunSpec, report: Callable[[str, float | None], None]) -> dict[str, Any]:
    """Return the run's data, memory, disk and time as JSON values.

    Files that the model finds too strange are still among them, since no model is loaded, and no sample shows pieces of
    other files. Raises ``TrainingError`` where there can be no such run.
    """
    began = time.monotonic()
    tokenizer = load_tokenizer(Path(spec.model_directory))
    fim, _ = resolve_format(spec.fim_family, tokenizer)
    data = prepare(spec, tokenizer, fim, None, None, report)
    seconds = time.monotonic() - began
    memory = plan_here(spec, serving=0)
    trainer = spec.trainer
    steps_an_epoch = (len(data.train) + len(data.replay)) / trainer.batch_size
    steps = make_budget(trainer, steps_an_epoch).steps or None
    rate = tokens_a_second(spec)
    limits = [trainer.minutes * 60] if trainer.minutes else []
    if steps is not None:
        tokens = steps * trainer.batch_size * sum(len(sample.ids) for sample in data.train) / len(data.train)
        # Scoring takes the forward pass alone, a third of a step. With minutes it has its share of them.
        scored = [] if trainer.minutes else affordable(data.validation, tokens)
        limits.append((tokens + (VALIDATIONS + 1) * sum(len(sample.ids) for sample in scored) / 3) / rate)
    later = min(limits) + measuring_seconds(trainer.minutes)
    return {
        "workspace": spec.workspace,
        "model": spec.model,
        "method": trainer.method.value,
        "device": trainer.device,
        "data": data.plan.values(),
        "samples": len(data.train),
        "steps_an_epoch": round(steps_an_epoch, 1),
        "most_steps": steps,
        "minutes": trainer.minutes or None,
        "tokens_per_second": round(rate, 1),
        "seconds_expected": round(seconds + later),
        "memory": {
            "decision": memory.decision.value,
            "message": memory.sentence,
            "needed_bytes": memory.needed,
            "free_bytes": memory.free,
            "disk_needed_bytes": memory.disk_needed,
            "disk_free_bytes": memory.disk_free,
        },
        "seconds": round(seconds, 1),
    }
