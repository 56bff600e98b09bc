"""A run from its spec to its verdict: data, training, measuring, the report, the adapter taken in.

What is done is kept in the run's directory as it is done, so that a run that was killed goes on where it was: the
commits that it works from, the trainer's checkpoints, what was trained.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from intract_lsp.allocator import return_freed_memory
from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import AdapterError, TrainingError
from intract_lsp.index.folder import folder_key
from intract_lsp.inference.engine import AdapterFiles, AdapterKind
from intract_lsp.models.store import MANIFEST, weights_fingerprint
from intract_lsp.paths import Paths
from intract_lsp.state import open_state
from intract_lsp.training.adapter_directory import new_id
from intract_lsp.training.adapter_table import AdapterStatus
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.arms import ACTIVE, BASE, CANDIDATE, Arms, loaded, served_files, served_order
from intract_lsp.training.attempt import COMMITS_FILE
from intract_lsp.training.budget import measuring_seconds
from intract_lsp.training.clock import ActiveClock
from intract_lsp.training.curve import Curve
from intract_lsp.training.durable import replace_file
from intract_lsp.training.events import Event, Finished, Note, Room, Stage
from intract_lsp.training.gate import Status
from intract_lsp.training.ladder import let_go
from intract_lsp.training.lightening import judge_candidate, weight_of
from intract_lsp.training.measure import Place
from intract_lsp.training.memory import Decision
from intract_lsp.training.network import load_base
from intract_lsp.training.preparation import RunData
from intract_lsp.training.project import CutTree, cut_tree
from intract_lsp.training.project_data import read_project
from intract_lsp.training.provenance import Provenance
from intract_lsp.training.report import Report, choose_examples
from intract_lsp.training.report_files import write_report
from intract_lsp.training.room import fit_together, plan_here
from intract_lsp.training.spec import Method, RunSpec
from intract_lsp.training.step import Stopped
from intract_lsp.training.trainer import TrainOutcome, train
from intract_lsp.training.verdict import Judged

log = logging.getLogger(__name__)

ROOM_SECONDS, LOOK_SECONDS = 60.0, 0.25
"""How long a run waits for the model that serves to be unloaded, and between two looks."""

STOPPED = "Stopped; it goes on from its last checkpoint."
FROM_GGUF = (
    "This model's weights come from a GGUF file and were dequantised: what is trained fits these weights, and not "
    "those that the model's authors published."
)

_STATUSES = {
    Status.PROMOTED: AdapterStatus.CANDIDATE,
    Status.SHADOW: AdapterStatus.SHADOW,
    Status.REJECTED: AdapterStatus.REJECTED,
}
"""As which an adapter is taken in; it is the parent that has it serve."""


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What was trained from what: kept, so that an attempt that comes after need not train again."""

    outcome: TrainOutcome
    head: str
    cut: str
    data: str
    """Fingerprint of the data."""
    files: tuple[tuple[str, str], ...]
    plan: Mapping[str, Any]


class Run:
    """One run at work; ``carry_out`` is called once."""

    def __init__(self, spec: RunSpec, paths: Paths, emit: Callable[[Event], None], token: CancelToken) -> None:
        self._spec = spec
        self._paths = paths
        self._send = emit
        self._token = token
        self._folder = Path(spec.folder)
        self._curve = Curve(self._folder / "curve.jsonl")
        self._notes: list[str] = []

    def carry_out(self) -> Finished:
        """Do the run and return how it ended. Raises ``IntractError`` where it cannot go on."""
        try:
            with ActiveClock() as clock:
                return self._carry_out(clock)
        except Stopped:
            return Finished("stopped", STOPPED)

    def _carry_out(self, clock: ActiveClock) -> Finished:
        self._say_origin()
        learnt, at, secrets = self._learn()
        # The versions that are compared are loaded where the trained model was.
        let_go(self._spec.trainer.device)
        return_freed_memory()
        base = weights_fingerprint(Path(self._spec.model_directory))
        registry = AdapterRegistry(self._paths.data, open_state(self._paths.data / "state.db"))
        try:
            candidate = self._candidate(base)
            judged = self._judge(registry, candidate, at, secrets, clock)
            figures = {
                **judged.verdict.figures,
                "adapter_weight": weight_of(candidate, self._spec.trainer.lora.alpha),
                "tokens_per_second": learnt.outcome.tokens_per_second,
                "seconds": clock.look(),
            }
            self._report(learnt, at, judged, candidate, figures)
            adapter = self._take_in(registry, candidate, learnt, judged, figures)
        finally:
            registry.close()
        return Finished(judged.verdict.status.value, " ".join(judged.verdict.reasons), adapter, figures)

    # Data and training.

    def _learn(self) -> tuple[_Learnt, tuple[Place, ...], tuple[tuple[str, str], ...]]:
        """Prepare the data and train; what an earlier attempt has trained is taken as it is.

        Returns what was learnt, where it is to be measured, and the files in which secrets were found.
        """
        spec = self._spec
        self._emit(Stage("data", "Reading the project"))
        tree = self._tree()
        before = self._read_learnt()
        base = None
        if before is None:
            self._require_room()
            base = load_base(spec)
        self._emit(Stage("data", "Indexing the project"))
        loss_of = base.text_loss if base is not None else None
        data, at = read_project(spec, tree, self._folder / "scratch", loss_of, self._tell_data, self._token)
        self._stop_if_asked()
        if before is not None:
            return before, at, data.secrets
        outcome = train(
            spec,
            data.train,
            data.validation,
            data.replay,
            self._folder / "candidate",
            self._folder / "checkpoints",
            self._emit,
            self._token,
            base,
        )
        if outcome.stopped:
            raise Stopped
        return self._keep_learnt(outcome, data), at, data.secrets

    def _require_room(self) -> None:
        """Raise ``TrainingError`` where memory or disk do not suffice; else say what is needed."""
        found = plan_here(self._spec, self._spec.serving)
        if found.decision is Decision.PAUSE_SERVING:
            self._emit(Room(found.sentence))
            self._await_room()
            return
        if found.decision is Decision.REFUSE:
            raise TrainingError(found.sentence)
        self._emit(Note(found.sentence))

    def _await_room(self) -> None:
        """Wait until what was asked for is free. Raises ``TrainingError`` where it is not in time."""
        end = time.monotonic() + ROOM_SECONDS
        while (found := plan_here(self._spec, serving=0)).decision is not Decision.COEXIST:
            if time.monotonic() >= end:
                raise TrainingError(found.sentence)
            time.sleep(LOOK_SECONDS)
            self._stop_if_asked()

    def _tree(self) -> CutTree:
        """Return the project as it was when the run began, whatever was committed since."""
        kept = self._folder / COMMITS_FILE
        if kept.is_file():
            cut, head = json.loads(kept.read_text(encoding="utf-8"))
            return cut_tree(self._spec, (cut, head))
        tree = cut_tree(self._spec)
        replace_file(kept, json.dumps([tree.commit, tree.head]))
        return tree

    def _keep_learnt(self, outcome: TrainOutcome, data: RunData) -> _Learnt:
        plan = data.plan
        learnt = _Learnt(outcome, plan.head, plan.commit, plan.fingerprint, plan.files, plan.values())
        replace_file(self._folder / "learnt.json", json.dumps(asdict(learnt)))
        return learnt

    def _read_learnt(self) -> _Learnt | None:
        kept = self._folder / "learnt.json"
        if not kept.is_file() or not (self._folder / "candidate").is_dir():
            return None
        values = json.loads(kept.read_text(encoding="utf-8"))
        files = tuple((str(path), str(blob)) for path, blob in values.pop("files"))
        return _Learnt(outcome=TrainOutcome(**values.pop("outcome")), files=files, **values)

    # Measuring and what comes of it.

    def _candidate(self, base: str) -> AdapterFiles:
        """Return what was trained under the id that it is going to have, the same in each attempt."""
        kept = self._folder / "adapter.json"
        if not kept.is_file():
            replace_file(kept, json.dumps(new_id(self._spec.model)))
        kind = AdapterKind.STANDARD if self._spec.trainer.method is Method.STANDARD else AdapterKind.LORA
        id_ = str(json.loads(kept.read_text(encoding="utf-8")))
        return AdapterFiles(id_, self._folder / "candidate", kind, self._spec.model, base)

    def _judge(
        self,
        registry: AdapterRegistry,
        candidate: AdapterFiles,
        at: tuple[Place, ...],
        secrets: tuple[tuple[str, str], ...],
        clock: ActiveClock,
    ) -> Judged:
        spec = self._spec
        files = served_files(spec, self._paths)
        versions: dict[str, AdapterFiles | None] = {BASE: None, CANDIDATE: candidate}
        active = registry.active(folder_key(Path(spec.workspace)), candidate.base)
        if active is not None:
            try:
                versions[ACTIVE] = registry.files(active.id)
            except AdapterError as error:
                # Damaged, it does not serve either: what was trained is not lost over it.
                self._emit(Note(str(error)))
        self._emit(Stage("merge", "Preparing what was trained for serving"))
        order, together = served_order(spec), fit_together(spec, len(versions))

        def load() -> AbstractContextManager[Arms]:
            return loaded(files, versions, order, self._tell_merge, self._token, together=together)

        seconds = measuring_seconds(spec.trainer.minutes)
        return judge_candidate(load, candidate, at, secrets, self._emit, self._token, seconds, clock.look)

    def _report(
        self,
        learnt: _Learnt,
        at: tuple[Place, ...],
        judged: Judged,
        candidate: AdapterFiles,
        figures: Mapping[str, float | None],
    ) -> None:
        spec = self._spec
        provenance = {
            "base": f"{spec.model} ({candidate.base[:12]})",
            "workspace": spec.workspace,
            "git head": learnt.head or "no git",
            "trained up to": learnt.cut or "no git",
            "data": learnt.data[:12],
            "adapter": candidate.id,
        }
        report = Report(
            spec=spec,
            created=datetime.now().astimezone().isoformat(timespec="seconds"),
            seconds=figures["seconds"] or 0.0,
            tokens_per_second=learnt.outcome.tokens_per_second,
            training=self._curve.training,
            validation=self._curve.validation,
            verdict=judged.verdict,
            examples=choose_examples(at, judged.base, judged.candidate),
            provenance=provenance,
            plan=learnt.plan,
            notes=tuple(dict.fromkeys(self._notes)),
        )
        write_report(report, self._folder)

    def _take_in(
        self,
        registry: AdapterRegistry,
        candidate: AdapterFiles,
        learnt: _Learnt,
        judged: Judged,
        figures: Mapping[str, float | None],
    ) -> str:
        """Add what was trained to the adapters and return its id; all weights that are no gain are not worth it."""
        spec, status = self._spec, judged.verdict.status
        if candidate.kind is AdapterKind.STANDARD and status is Status.REJECTED:
            return ""
        if candidate.id in (known.id for known in registry.list()):
            return candidate.id  # taken in by an attempt that was killed right after
        provenance = Provenance(
            workspace=folder_key(Path(spec.workspace)),
            run=spec.id,
            base_name=spec.model,
            base=candidate.base,
            git_head=learnt.head,
            cut=learnt.cut,
            data=learnt.data,
            settings=asdict(spec),
            metrics=figures,
            files=learnt.files,
        )
        return registry.create(candidate.directory, candidate.kind, provenance, _STATUSES[status], candidate.id).id

    # What is told.

    def _say_origin(self) -> None:
        manifest = Path(self._spec.model_directory) / MANIFEST
        try:
            source = str(json.loads(manifest.read_text(encoding="utf-8"))["source"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if source.startswith(("gguf:", "index:")):
            self._emit(Note(FROM_GGUF))

    def _tell_data(self, sentence: str, fraction: float | None) -> None:
        self._stop_if_asked()
        self._emit(Stage("data", sentence, fraction))

    def _tell_merge(self, sentence: str, fraction: float | None) -> None:
        self._stop_if_asked()
        self._emit(Stage("merge", sentence, fraction))

    def _emit(self, event: Event) -> None:
        self._curve.note(event)
        if isinstance(event, Note | Room):
            self._notes.append(event.sentence)
        self._send(event)

    def _stop_if_asked(self) -> None:
        if self._token.cancelled:
            raise Stopped
