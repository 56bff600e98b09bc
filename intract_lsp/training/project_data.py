"""From a run's spec to what it learns from and where it is measured, by an index of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from intract_lsp.completion.generation import CancelToken
from intract_lsp.completion.prompt import resolve_format
from intract_lsp.inference.loading import CPU_BUDGET, GPU_BUDGET
from intract_lsp.inference.tokenizer import load_tokenizer
from intract_lsp.training.measure import Place, places
from intract_lsp.training.preparation import Report, RunData, prepare
from intract_lsp.training.project import CutTree
from intract_lsp.training.scratch import indexed
from intract_lsp.training.spec import RunSpec

LossOf = Callable[[Callable[[str], list[int]]], Callable[[str], float]]
"""From a function that encodes a text to one that gives the base model's loss on it: ``Base.text_loss``."""


def read_project(
    spec: RunSpec, tree: CutTree, scratch: Path, loss_of: LossOf | None, report: Report, token: CancelToken
) -> tuple[RunData, tuple[Place, ...]]:
    """Return a run's data and the places where its result is measured, with the pieces that serving would show there.

    ``scratch`` is a folder that is made for the index and removed. ``loss_of`` is ``None`` where no file has to be
    judged by the model. Raises ``TrainingError``, and ``Stopped`` where the token is cancelled.
    """
    tokenizer = load_tokenizer(Path(spec.model_directory))
    fim, _ = resolve_format(spec.fim_family, tokenizer)
    budget = CPU_BUDGET if spec.trainer.device == "cpu" else GPU_BUDGET
    with indexed(tree, scratch, token) as retrieve:
        loss = loss_of(tokenizer.encode) if loss_of is not None else None
        data = prepare(spec, tokenizer, fim, retrieve, loss, report, tree)
        return data, places(data.test_items, retrieve if spec.data.context_share else None, budget.context)
