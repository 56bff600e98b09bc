"""What ``finetune`` and ``adapters`` do: the server's supervisor and adapters, without an editor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from intract_lsp.app import App, run_folder
from intract_lsp.console import Reporter
from intract_lsp.training.forgetting import locate
from intract_lsp.training.progress import RunStatus
from intract_lsp.training.runs import RunState
from intract_lsp.training.spec import RunSpec

FIGURES = (
    *("nll_base", "nll_adapter", "edit_similarity_base", "edit_similarity_adapter", "guard_nll_change"),
    *("tokens_per_second", "seconds"),
)
"""Of a run's result, which are there whatever became of it."""

LOOK_SECONDS = 0.2
"""Between two looks whether the run has ended: a Ctrl-C is noticed between them."""

_Done = TypeVar("_Done")


def fine_tune(app: App, folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tune on a folder to the run's end and return its result; see ``carry_out``.

    Raises ``IntractError`` where no run can begin.
    """
    return carry_out(app, app.new_run(folder, changes))


def carry_out(app: App, spec: RunSpec) -> dict[str, Any]:
    """Do a run to its end and return its result; a Ctrl-C cancels it.

    A run of the same folder and settings that was interrupted goes on in its place.
    """
    began = time.monotonic()
    supervisor = app.training
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), TaskProgressColumn(), TimeElapsedColumn()),
        console=Console(stderr=True),
    )
    task = bar.add_task("Waiting to begin", total=1.0)

    def on_status(status: RunStatus) -> None:
        if not status.state.is_over:
            bar.update(task, description=status.line, completed=status.fraction or 0.0)

    supervisor.on_status = on_status
    try:
        run = _interrupted(app, spec) or supervisor.start(spec)
        with bar:
            last = _wait(app, run)
    finally:
        app.stop()
    report = run_folder(app.paths) / run / "report.html"
    return {**result(last, time.monotonic() - began), "report": str(report) if report.is_file() else None}


def result(status: RunStatus, seconds: float) -> dict[str, Any]:
    """Return what programs are told of a run that has ended; ``seconds`` where the run itself does not know them."""
    figures = {name: status.figures.get(name) for name in FIGURES}
    return {
        "run": status.run,
        "status": status.state.value,
        "promoted": status.state is RunState.PROMOTED,
        "reason": status.message,
        "adapter": status.adapter,
        **figures,
        "seconds": round(figures["seconds"] if figures["seconds"] is not None else seconds, 1),
        "figures": dict(status.figures),
        "notes": list(status.notes),
    }


def dry_run(app: App, folder: Path, changes: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Return what a run on a folder would learn from, how long it would take and which memory; nothing is trained."""
    # Imported here: it brings the tokenizer, parsers and tables.
    from intract_lsp.training.dry_run import expected

    spec = app.new_run(folder, changes)
    with reporter:
        return expected(spec, reporter)


def evaluate_adapter(app: App, folder: Path, adapter: str | None, reporter: Reporter) -> dict[str, Any]:
    """Return what the gate says of an adapter at a folder's newest code; ``None`` is the one that serves there."""
    # Imported here: it brings torch.
    from intract_lsp.training.assessment import assess

    spec = app.assessment(folder)
    with reporter:
        found, judged = assess(spec, adapter, app.paths, reporter)
    verdict = judged.verdict
    return {
        "adapter": found.id,
        "workspace": spec.workspace,
        "status": verdict.status.value,
        "reasons": list(verdict.reasons[1:]),
        **verdict.figures,
    }


def find_trained(app: App, folder: Path | None, path: str) -> tuple[Path, str]:
    """Return the folder that a path is in, and the path inside it, by what adapters were trained on; see ``locate``."""
    trained = {entry.adapter.workspace for entry in app.adapters.entries().result()}
    return locate(path, folder, trained)


def done(app: App, future: Future[_Done]) -> _Done:
    """Wait for what is done with adapters, then let the app's threads go."""
    try:
        return future.result()
    finally:
        app.stop()


def _interrupted(app: App, spec: RunSpec) -> str | None:
    """Go on with the folder's run that was left behind and asked the same as ``spec``; return it, if there is one.

    Others that were left behind are cancelled: the new run is in their place.
    """
    app.training.recover([Path(spec.workspace)]).result()
    same = None
    for status in app.training.statuses():
        earlier = app.training.spec_of(status.run)
        if earlier is not None and _asks_the_same(spec, earlier) and same is None:
            same = status.run
        else:
            app.training.cancel(status.run)
    return same


def _asks_the_same(spec: RunSpec, earlier: RunSpec) -> bool:
    """Return whether what is asked is what an earlier run does; where memory ran out, that one computes more slowly."""
    checkpointing = earlier.trainer.gradient_checkpointing or spec.trainer.gradient_checkpointing
    trainer = replace(spec.trainer, gradient_checkpointing=checkpointing)
    return replace(spec, id=earlier.id, folder=earlier.folder, serving=earlier.serving, trainer=trainer) == earlier


def _wait(app: App, run: str) -> RunStatus:
    end = app.training.end_of(run)
    while True:
        try:
            return end.result(LOOK_SECONDS)
        except NotYet:
            continue
        except KeyboardInterrupt:
            app.training.cancel(run)
            return end.result()
