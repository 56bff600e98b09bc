"""The real server with the echo engine, plus requests that look inside; started by the tests as a program.

Its one argument is a JSON object of ``WatchedEngine``'s options.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from intract_lsp import app as composition
from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, Generation, Limits, PromptShape
from intract_lsp.errors import ModelError
from intract_lsp.inference.echo_engine import EchoEngine
from intract_lsp.inference.engine import LoadOrder, ModelCard, ReportProgress
from intract_lsp.logs import start_logging
from intract_lsp.paths import default_paths
from intract_lsp.server import server as server_module


@dataclass
class Run:
    """One generation as the tests see it."""

    path: str
    steps: int = 0
    finish: str = ""


class WatchedEngine(EchoEngine):
    """The echo engine, counted step by step, and held between steps.

    ``held`` makes each step wait for ``$test/release``, ``held_load`` each load; ``prints`` makes the engine print,
    ``fails`` makes it raise.
    """

    def __init__(
        self,
        held: bool = False,
        held_load: bool = False,
        prints: bool = False,
        fails: bool = False,
        step_seconds: float = 0.0,
    ) -> None:
        super().__init__(step_seconds)
        self._held = held
        self._held_load = held_load
        self._prints = prints
        self._fails = fails
        self.gate = threading.Semaphore(0)
        self.runs: list[Run] = []
        self.prepared: list[str] = []
        """The text before and behind the cursor of each preparation, with a bar between."""

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        if self._held_load:
            report("Reading the weights", 0.5)
            self.gate.acquire()
            report("Nearly there", 0.9)
            if token.cancelled:
                raise ModelError("Loading was cancelled.")
        return super().load(order, report, token)

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        run = Run(context.path)
        self.runs.append(run)
        if self._prints:
            print("a library talks on stdout", flush=True)
        if self._fails:
            raise ValueError(f"the engine failed on {context.prefix}")

        def step(text: str) -> None:
            run.steps += 1
            on_text(text)
            if self._held:
                self.gate.acquire()

        generation = super().generate(context, shape, limits, token, step)
        run.finish = generation.finish.value
        return generation

    def prepare(self, context: CompletionContext, shape: PromptShape, token: CancelToken) -> bool:
        self.prepared.append(f"{context.prefix}║{context.suffix}")
        if self._fails:
            raise ValueError(f"the engine failed on {context.prefix}")
        return super().prepare(context, shape, token)


def main() -> None:
    engine = WatchedEngine(**json.loads(sys.argv[1]))
    composition.EchoEngine = lambda: engine  # type: ignore[assignment, misc]
    create = server_module.create_server

    def create_watched(app: composition.App, problems: list[str]) -> server_module.IntractLanguageServer:
        server = create(app, problems)
        _add_requests(server, engine)
        return server

    server_module.create_server = create_watched
    paths = default_paths()
    settings, problems = composition.load_settings(paths)
    start_logging(paths, settings.current.log.level)
    server_module.serve(composition.build_app(settings, paths, "echo"), problems)


def _add_requests(server: server_module.IntractLanguageServer, engine: WatchedEngine) -> None:
    @server.feature("$test/text")
    def text(params: Any) -> dict[str, Any]:
        document = server.documents.get(params.uri)
        return {"text": None if document is None else document.buffer.text}

    @server.feature("$test/modules")
    def modules(params: Any) -> list[str]:
        return sorted(sys.modules)

    @server.feature("$test/runs")
    def runs(params: Any) -> list[dict[str, Any]]:
        return [asdict(run) for run in engine.runs]

    @server.feature("$test/prepared")
    def prepared(params: Any) -> list[str]:
        return engine.prepared

    @server.feature("$test/release")
    def release(params: Any) -> bool:
        engine.gate.release(params.steps)
        return True


if __name__ == "__main__":
    main()
