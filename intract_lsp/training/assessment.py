"""Measures an adapter that there is already, as a run measures what it has trained: on newest code, and on guard."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.index.folder import folder_key
from intract_lsp.inference.engine import AdapterFiles
from intract_lsp.models.store import weights_fingerprint
from intract_lsp.paths import Paths
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.arms import BASE, CANDIDATE, loaded, served_files, served_order
from intract_lsp.training.budget import measuring_seconds
from intract_lsp.training.events import Event, Stage
from intract_lsp.training.project import cut_tree
from intract_lsp.training.project_data import read_project
from intract_lsp.training.room import fit_together
from intract_lsp.training.spec import RunSpec
from intract_lsp.training.verdict import Judged, judge_arms, measure_guard

Report = Callable[[str, float | None], None]
"""Is told what is being done, and which share of it is done."""


def assess(spec: RunSpec, adapter: str | None, paths: Paths, report: Report) -> tuple[AdapterFiles, Judged]:
    """Measure an adapter against its base at the places at which a run of ``spec`` would be; nothing is trained.

    ``None`` is the adapter that serves in the folder. The adapter may have been trained on any folder; what it was
    trained on is not left out. Raises ``IntractError`` where it cannot be measured.
    """
    token = CancelToken()
    candidate = _adapter(spec, adapter, paths)
    report("Indexing the folder", None)
    with tempfile.TemporaryDirectory(prefix="intract-evaluate-") as scratch:
        data, at = read_project(spec, cut_tree(spec), Path(scratch) / "scratch", None, report, token)

    def tell(event: Event) -> None:
        if isinstance(event, Stage):
            report(event.message, event.fraction)

    versions: dict[str, AdapterFiles | None] = {BASE: None, CANDIDATE: candidate}
    files, order, together = served_files(spec, paths), served_order(spec), fit_together(spec, len(versions))
    with loaded(files, versions, order, report, token, together=together) as arms:
        seconds = measuring_seconds(spec.trainer.minutes)
        guarded = measure_guard(arms, tell, token, seconds)
        return candidate, judge_arms(arms, guarded, at, data.secrets, tell, token, seconds)


def _adapter(spec: RunSpec, adapter: str | None, paths: Paths) -> AdapterFiles:
    base = weights_fingerprint(Path(spec.model_directory))
    with closing(AdapterRegistry(paths.data, open_state(paths.data / "state.db"))) as registry:
        if adapter is None:
            active = registry.active(folder_key(Path(spec.workspace)), base)
            if active is None:
                raise TrainingError(
                    f"No adapter of {spec.model} serves in {spec.workspace}: name one of `intract-lsp adapters list`."
                )
            adapter = active.id
        found = registry.files(adapter)
    if found.base != base:
        raise TrainingError(f"{adapter} was trained on {found.base_name or 'another model'}, not on {spec.model}.")
    return found
