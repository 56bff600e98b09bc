"""The composition root: the one place that constructs parts and hands them to each other."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intract_lsp.completion.cache import CompletionCache
from intract_lsp.completion.generation import CancelToken, PromptBudget, PromptShape
from intract_lsp.completion.service import CompletionService, Policy
from intract_lsp.index.recent import RecentContext
from intract_lsp.index.retriever import WorkspaceRetriever
from intract_lsp.index.search import folder_of
from intract_lsp.index.worker import IndexWorker
from intract_lsp.inference.echo_engine import EchoEngine
from intract_lsp.inference.engine import CompletionEngine, LoadOrder, ModelCard, ModelFiles, ReportProgress, Resolve
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.inference.threads import on_battery
from intract_lsp.inference.worker import InferenceWorker
from intract_lsp.paths import Paths
from intract_lsp.settings import Settings, SettingsStack, TrainingSettings, layer_from_options, read_layer
from intract_lsp.training.activity import Activity
from intract_lsp.training.spec import RunSpec
from intract_lsp.training.supervisor import Supervisor, child_command
from intract_lsp.training.switch import AdapterSwitch

if TYPE_CHECKING:
    from intract_lsp.models.store import InstalledModel
    from intract_lsp.training.adapters import AdapterRegistry
    from intract_lsp.training.runs import RunRow, Runs

BATTERY_SECONDS = 10.0
"""How long it is taken for granted that the machine runs on its battery, or does not."""

MAKING_ROOM = "Completions pause until the fine-tuning run is over, which needs the memory."


@dataclass(frozen=True, slots=True)
class App:
    """All parts, wired."""

    paths: Paths
    settings: SettingsStack
    worker: InferenceWorker
    service: CompletionService
    cache: CompletionCache
    index: IndexWorker
    retriever: WorkspaceRetriever
    recent: RecentContext
    """What the user edited and where the cursor rested; told by whoever knows, on the event loop."""
    adapters: AdapterSwitch
    training: Supervisor

    def load_model(self) -> Future[ModelCard]:
        """Begin to load the model that the settings name, with the folder's adapter."""
        return self.adapters.load(load_order(self.settings.current))

    def serve_workspace(self, folders: Sequence[Path]) -> None:
        """Serve with the adapter of the first of these folders, from the next load of a model on."""
        self.adapters.workspace = next(iter(folders), None)
        self.adapters.recover()

    def new_run(self, folder: Path, changes: Mapping[str, Any]) -> RunSpec:
        """Return a run on a folder, with ``changes`` to the settings of the section ``training``.

        Takes a moment: the model's files are looked at, and whether there is a GPU. Raises ``IntractError`` where there
        can be no such run.
        """
        return new_run(self.settings.current, self.paths, folder, changes, self.worker.card)

    def assessment(self, folder: Path) -> RunSpec:
        """Return how an adapter is measured at a folder's code: as by a run, also where none may begin.

        Raises ``IntractError``.
        """
        return _spec(self.settings.current, self.paths, folder, {"enabled": True})

    def run_without(self, folder: Path, path: str) -> RunSpec:
        """Return a run on a folder that learns nothing from a file or folder inside it, named with ``/``.

        Raises ``IntractError`` where there can be no run.
        """
        from intract_lsp.training.exclusion import line_for

        return self.new_run(folder, {"exclude": (*self.settings.current.training.exclude, line_for(path))})

    def forget(self, folder: Path, path: str) -> tuple[str, bool]:
        """Delete the adapters that were trained on a file or folder inside a folder, named with ``/``.

        Before that end the runs that learn from it. Returns a sentence, and whether there was any of either. Waits for
        both. Raises ``IntractError``.
        """
        from intract_lsp.training.forgetting import end_runs

        sentence, ended = "", False
        if run_folder(self.paths).is_dir():
            runs = _open_runs(self.paths)
            try:
                found = end_runs(self.training, runs, os.path.realpath(folder), path)
            finally:
                runs.close()
            sentence, ended = found.sentence, bool(found.ended)
        known = self.adapters.saw(path, folder).result()
        said = self.adapters.forget(path, folder).result()
        return f"{said} {sentence}".rstrip(), ended or bool(known)

    def scheduled_run(self, folder: Path) -> RunSpec | None:
        """Return a run on a folder in which enough has been committed since the last one, ``None`` for not enough.

        Asks git. Raises ``IntractError`` where there can be no run.
        """
        from intract_lsp.training.schedule import changed_lines, last_head

        before = last_head(self.recorded_runs(None, [folder]))
        if before is not None and changed_lines(folder, before) < self.settings.current.training.changed_lines:
            return None
        # Nobody asked for it: it is not worth being without completions.
        return new_run(self.settings.current, self.paths, folder, {})

    def tidy(self, spec: RunSpec) -> None:
        """Remove what a run that is over has left and nobody is likely to use."""
        from intract_lsp.models.store import weights_fingerprint

        with contextlib.suppress(OSError):  # the model has been removed meanwhile, and its copies with it
            base = weights_fingerprint(Path(spec.model_directory))
            self.adapters.tidy(Path(spec.workspace), spec.model, base)

    def make_room(self, needed: bool) -> None:
        """Let go of the model that serves, or load it again."""
        if needed:
            self.worker.rest(MAKING_ROOM)
        else:
            self.load_model()

    def may_train_by_itself(self) -> bool:
        """Return whether a run that nobody asked for would be in nobody's way; asks for the battery."""
        from intract_lsp.training.schedule import Moment, may_begin

        status = self.training.status()
        at_work = status is not None and not status.state.is_over
        return may_begin(Moment(self.training.idle_seconds, not on_battery(), at_work))

    def recover_runs(self, folders: Sequence[Path]) -> None:
        """Go on with the runs of these folders that an earlier program left behind, if there are any."""
        if run_folder(self.paths).is_dir():
            self.training.recover([Path(os.path.realpath(folder)) for folder in folders])

    def recorded_run(self, run: str | None, folders: Sequence[Path]) -> RunRow | None:
        """Return a run as recorded, or the newest of these folders; ``None`` where there is none."""
        return next(iter(self.recorded_runs(run, folders)), None)

    def recorded_runs(self, run: str | None, folders: Sequence[Path]) -> list[RunRow]:
        """Return the runs of these folders, or the one with this id; the newest first. Reads the state database."""
        if not run_folder(self.paths).is_dir():
            return []
        runs = _open_runs(self.paths)
        try:
            roots = {os.path.realpath(folder) for folder in folders}
            return [row for row in runs.all() if (row.id == run if run is not None else row.workspace in roots)]
        finally:
            runs.close()

    def stop(self) -> bool:
        """End all threads; return whether they have ended."""
        # A run that is at work writes a checkpoint meanwhile.
        self.training.stop(timeout=1.0)
        self.adapters.close()
        self.retriever.close()
        # What the index is amid of is whole on disk at any moment, so nothing is lost by not waiting longer.
        stopped = self.index.stop(timeout=1.0)
        return self.worker.stop() and stopped

    def apply(self, before: Settings) -> None:
        """Bring the parts in line with the settings after a change from ``before``."""
        now = self.settings.current
        logging.getLogger("intract_lsp").setLevel(now.log.level.upper())
        self.service.policy = policy(now)
        self.cache.resize(now.completion.cache_kib * 1024)
        if now.model != before.model:
            self.load_model()


def load_settings(
    paths: Paths, options: Iterable[str] = (), folder: Path | None = None
) -> tuple[SettingsStack, list[str]]:
    """Return the settings of the user's file, of a workspace folder's and of ``section.name=value`` texts.

    With them comes every problem found.
    """
    problems: list[str] = []
    stack = SettingsStack()
    problems += stack.put("user file", *read_layer(paths.user_settings, problems))
    if folder is not None:
        problems += stack.put_folder(folder)
    problems += stack.put("command line", "command line", layer_from_options(options, problems))
    return stack, problems


def build_app(settings: SettingsStack, paths: Paths, engine: str = "model", *, watch: bool = True) -> App:
    """Construct the parts; ``engine`` is ``model``, or ``echo`` for the one without weights.

    With ``watch`` the index follows what changes on disk; else a folder is as it was when it was told of.
    Nothing is started: the caller starts the workers and loads a model when it is ready to.
    """
    now = settings.current
    # Compiled kernels are kept with all else that can be made again; numba reads this when it is imported.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(paths.cache / "kernels"))
    chosen: CompletionEngine = EchoEngine()
    if engine != "echo":
        chosen = ModelEngine(_resolver(settings, paths), gives_way=lambda: training.worked)
    worker = InferenceWorker(chosen)
    cache = CompletionCache(now.completion.cache_kib * 1024)
    on_mains = at_most_every(BATTERY_SECONDS, lambda: not on_battery())
    recent = RecentContext()
    retriever = WorkspaceRetriever(lambda uri: folder_of(uri, index.folders()))
    retriever.recent = lambda uri: recent.snippets(uri, time.monotonic())
    service = CompletionService(worker, cache, policy(now), may_work_ahead=on_mains, retriever=retriever)
    index = build_index(now, paths, busy=lambda: service.pending, watch=watch)
    adapters = build_adapters(settings, paths, worker)
    training = build_supervisor(paths, lambda spec, adapter: adapters.promote(adapter).result())
    app = App(paths, settings, worker, service, cache, index, retriever, recent, adapters, training)
    training.make_room = app.make_room
    training.on_over = app.tidy
    return app


def build_adapters(settings: SettingsStack, paths: Paths, worker: InferenceWorker) -> AdapterSwitch:
    """Construct what decides which adapter ``worker`` serves with."""
    adapters = AdapterSwitch(
        lambda: _open_registry(paths), paths.data / "adapters", lambda name: _find_model(name, paths), worker
    )
    adapters.model_name = lambda: settings.current.model.name
    return adapters


def build_supervisor(paths: Paths, deliver: Callable[[RunSpec, str], str]) -> Supervisor:
    """Construct what carries out runs; ``deliver`` puts an adapter in place that has passed the gate."""
    activity = Activity(paths.data / "activity")
    return Supervisor(lambda: _open_runs(paths), paths.data / "training.lock", deliver, activity, child_command)


def run_folder(paths: Paths) -> Path:
    """Return where each run has a directory."""
    return paths.data / "runs"


def new_run(
    settings: Settings, paths: Paths, folder: Path, changes: Mapping[str, Any], serves: ModelCard | None = None
) -> RunSpec:
    """Return a run on a folder, for which the model that ``serves`` may have to make room; see ``App.new_run``."""
    from intract_lsp.errors import TrainingError
    from intract_lsp.training.memory import Decision, plan

    spec = _spec(settings, paths, folder, changes)
    if serves is not None and (serves.device == "cuda") == (spec.trainer.device == "cuda"):
        spec = replace(spec, serving=serves.weight_bytes)
    # Only what is certain: the run itself brings torch, which knows the number format and a GPU's memory.
    if spec.trainer.device == "cpu":
        needed = plan(spec, serving=spec.serving)
        if needed.decision is Decision.REFUSE:
            raise TrainingError(needed.sentence)
    return spec


def _spec(settings: Settings, paths: Paths, folder: Path, changes: Mapping[str, Any]) -> RunSpec:
    from intract_lsp.errors import TrainingError
    from intract_lsp.models import fetch, hardware
    from intract_lsp.training.resolve import BaseModel, RunPlace, resolve

    name = settings.model.name
    model = fetch.cached(name, paths)
    if model is None:
        raise TrainingError(
            f"The model to train on, {name}, is not on this machine: `intract-lsp models pull {name}` fetches it."
        )
    id_ = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    place = RunPlace(id_, Path(os.path.realpath(folder)), run_folder(paths) / id_)
    training = TrainingSettings.model_validate({**settings.training.model_dump(), **changes})
    base = BaseModel(model.name, model.directory, model.fim_family, model.size_bytes)
    spec = resolve(training, settings.model, hardware.detect(), base, place)
    if not settings.completion.retrieval:
        spec = replace(spec, data=replace(spec.data, context_share=0.0))
    return spec


def build_index(
    settings: Settings, paths: Paths, *, busy: Callable[[], bool] = lambda: False, watch: bool = True
) -> IndexWorker:
    """Construct the index, which gives way while ``busy``; it holds no folder yet and is not started."""
    return IndexWorker(paths.cache / "index", paths.data / "state.db", settings.index.max_files, busy, watch=watch)


def policy(settings: Settings) -> Policy:
    """Return the pipeline's view of the settings."""
    completion = settings.completion
    budget = None
    if completion.prefix_tokens or completion.suffix_tokens:
        budget = PromptBudget(completion.prefix_tokens, completion.suffix_tokens)
    return Policy(
        enabled=completion.enabled,
        disabled_languages=frozenset(completion.disabled_languages),
        multi_line=completion.multi_line,
        max_line_tokens=completion.max_line_tokens,
        max_block_tokens=completion.max_block_tokens,
        shape=PromptShape(budget, completion.exact),
        deadline=completion.deadline_ms / 1000,
        debounce=None if completion.debounce_ms < 0 else completion.debounce_ms / 1000,
        work_ahead=completion.work_ahead,
        retrieval=completion.retrieval,
        unretrieved_languages=frozenset(completion.retrieval_disabled_languages),
        context_tokens=completion.context_tokens,
        definitions=completion.definitions,
        retrieval_deadline=completion.retrieval_deadline_ms / 1000,
    )


def at_most_every(
    seconds: float, read: Callable[[], bool], clock: Callable[[], float] = time.monotonic
) -> Callable[[], bool]:
    """Return a function that reads anew only when the last reading is older than ``seconds``."""
    read_at, value = float("-inf"), False

    def look() -> bool:
        nonlocal read_at, value
        if clock() - read_at >= seconds:
            read_at, value = clock(), read()
        return value

    return look


def load_order(settings: Settings) -> LoadOrder:
    """Return what the settings ask the engine to load."""
    model = settings.model
    return LoadOrder(
        model.name,
        model.device,
        model.precision,
        model.threads,
        model.kv_cache_mib,
        flash_attention=model.use_flash_attention,
        draft=model.draft,
    )


def _resolver(settings: SettingsStack, paths: Paths) -> Resolve:
    """Return the engine's way to a model: by name, fetched in a child process where it is not on this machine."""

    def resolve(name: str, report: ReportProgress, token: CancelToken) -> ModelFiles:
        # Imported on the inference thread: the answer to `initialize` need not wait for it.
        from intract_lsp.models.pull_child import pull_in_child

        offline = settings.current.model.offline
        model = pull_in_child(name, paths, offline=offline, fresh=False, report=report, token=token)
        return _files(model, paths)

    return resolve


def _find_model(name: str, paths: Paths) -> ModelFiles | None:
    """Return a model that is on this machine; nothing is fetched. Raises ``ModelError`` for a damaged one."""
    from intract_lsp.models import fetch

    model = fetch.cached(name, paths)
    return None if model is None else _files(model, paths)


def _files(model: InstalledModel, paths: Paths) -> ModelFiles:
    from intract_lsp.models.store import quantized_copy

    return ModelFiles(model.name, model.directory, model.fim_family, quantized_copy(model.directory, paths))


def _open_registry(paths: Paths) -> AdapterRegistry:
    from intract_lsp.state import open_state
    from intract_lsp.training.adapters import AdapterRegistry

    return AdapterRegistry(paths.data, open_state(paths.data / "state.db"))


def _open_runs(paths: Paths) -> Runs:
    from intract_lsp.state import open_state
    from intract_lsp.training.runs import Runs

    return Runs(open_state(paths.data / "state.db"))
