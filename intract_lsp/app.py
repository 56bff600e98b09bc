"""The composition root: the one place that constructs parts and hands them to each other."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from intract_lsp.completion.cache import CompletionCache
from intract_lsp.completion.generation import CancelToken, PromptBudget, PromptShape
from intract_lsp.completion.service import CompletionService, Policy
from intract_lsp.index.retriever import WorkspaceRetriever
from intract_lsp.index.search import folder_of
from intract_lsp.index.worker import IndexWorker
from intract_lsp.inference.echo_engine import EchoEngine
from intract_lsp.inference.engine import (
    CompletionEngine,
    LoadOrder,
    ModelCard,
    ModelFiles,
    ReportProgress,
)
from intract_lsp.inference.model_engine import ModelEngine, Resolve
from intract_lsp.inference.threads import on_battery
from intract_lsp.inference.worker import InferenceWorker
from intract_lsp.paths import Paths
from intract_lsp.settings import Settings, SettingsStack, layer_from_options, read_layer

BATTERY_SECONDS = 10.0
"""How long it is taken for granted that the machine runs on its battery, or does not."""


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

    def load_model(self) -> Future[ModelCard]:
        """Begin to load the model that the settings name."""
        return self.worker.load(load_order(self.settings.current))

    def stop(self) -> bool:
        """End all threads; return whether they have ended."""
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


def load_settings(paths: Paths, options: Iterable[str] = ()) -> tuple[SettingsStack, list[str]]:
    """Return the settings of the user's file and of ``section.name=value`` texts, with every problem found."""
    problems: list[str] = []
    stack = SettingsStack()
    problems += stack.put("user file", *read_layer(paths.user_settings, problems))
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
    chosen: CompletionEngine = EchoEngine() if engine == "echo" else ModelEngine(_resolver(settings, paths))
    worker = InferenceWorker(chosen)
    cache = CompletionCache(now.completion.cache_kib * 1024)
    on_mains = at_most_every(BATTERY_SECONDS, lambda: not on_battery())
    retriever = WorkspaceRetriever(lambda uri: folder_of(uri, index.folders()))
    service = CompletionService(worker, cache, policy(now), may_work_ahead=on_mains, retriever=retriever)
    index = build_index(now, paths, busy=lambda: service.pending, watch=watch)
    return App(paths, settings, worker, service, cache, index, retriever)


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
    return LoadOrder(model.name, model.device, model.precision, model.threads, model.kv_cache_mib)


def _resolver(settings: SettingsStack, paths: Paths) -> Resolve:
    """Return the engine's way to a model: by name, fetched in a child process where it is not on this machine."""

    def resolve(name: str, report: ReportProgress, token: CancelToken) -> ModelFiles:
        # Imported on the inference thread: the answer to `initialize` need not wait for it.
        from intract_lsp.models.pull_child import pull_in_child
        from intract_lsp.models.store import quantized_copy

        offline = settings.current.model.offline
        model = pull_in_child(name, paths, offline=offline, fresh=False, report=report, token=token)
        return ModelFiles(model.name, model.directory, model.fim_family, quantized_copy(model.directory, paths))

    return resolve
