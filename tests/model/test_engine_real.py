"""Laws of the engine, with the real 0.5B weights."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from intract_lsp.app import build_app
from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.completion.request import CompletionRequest, TriggerKind
from intract_lsp.inference.engine import LoadOrder, ModelFiles
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import default_paths
from intract_lsp.settings import SettingsStack

SOURCE = (Path(__file__).parents[2] / "intract_lsp" / "completion" / "cache.py").read_text(encoding="utf-8")
LINES = SOURCE.splitlines(keepends=True)


def never(text: str) -> None:
    return None


def context(line: int, column: int, typed: str = "") -> CompletionContext:
    prefix = "".join(LINES[:line]) + LINES[line][:column] + typed
    return CompletionContext(prefix, "\n" + "".join(LINES[line + 1 :]), "python", Extent.LINE)


@pytest.fixture(scope="module")
def engine(real_model: InstalledModel) -> ModelEngine:
    files = ModelFiles(real_model.name, real_model.directory, real_model.fim_family)
    engine = ModelEngine(lambda name, report, token: files)
    # float32: in bfloat16 a prompt computed in other pieces rounds otherwise, and near ties may fall either way.
    engine.load(LoadOrder("auto", precision="float32"), lambda sentence, fraction: None, CancelToken())
    return engine


def generate(
    engine: ModelEngine,
    at: CompletionContext,
    max_tokens: int = 10,
    token: CancelToken | None = None,
    on_text: Callable[[str], None] = lambda text: None,
) -> Generation:
    limits = Limits(max_tokens, time.monotonic() + 120, never)
    return engine.generate(at, PromptShape(PromptBudget(160, 40)), limits, token or CancelToken(), on_text)


def test_the_tokens_with_a_kept_cache_are_those_of_a_cold_run(engine: ModelEngine) -> None:
    """The user types on, goes back, jumps: whatever is reused, the answer is the one without reuse."""
    cursors = [context(40, 8), context(40, 8, "re"), context(40, 8, "return "), context(40, 8), context(60, 4)]
    engine.forget()
    warm = [generate(engine, cursor) for cursor in cursors]
    cold = []
    for cursor in cursors:
        engine.forget()
        cold.append(generate(engine, cursor))
    assert [g.token_ids for g in warm] == [g.token_ids for g in cold]
    assert all(g.reused_tokens == 0 for g in cold)
    assert warm[1].reused_tokens > warm[1].prompt_tokens // 3


def test_a_cancel_stops_before_the_next_token(engine: ModelEngine) -> None:
    token = CancelToken()
    seen: list[str] = []

    def on_text(text: str) -> None:
        seen.append(text)
        if len(seen) == 3:
            token.cancel()

    generation = generate(engine, context(40, 8), max_tokens=40, token=token, on_text=on_text)
    assert generation.finish is Finish.CANCELLED
    assert len(generation.token_ids) == 3


def test_a_cancel_during_the_prefill_stops_it(engine: ModelEngine) -> None:
    engine.forget()
    token = CancelToken()
    token.cancel()
    generation = generate(engine, context(60, 4), token=token)
    assert generation.finish is Finish.CANCELLED
    assert generation.token_ids == ()


def test_the_event_loop_stays_free_while_the_model_decodes(real_model: InstalledModel) -> None:
    """Lag of a timer on the loop that serves the editor: p99 under 20 ms."""
    app = build_app(SettingsStack(), default_paths())
    app.worker.start()
    lags: list[float] = []

    async def tick(done: asyncio.Event) -> None:
        while not done.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            lags.append((time.perf_counter() - began - 0.002) * 1000)

    async def generate_beside() -> None:
        done = asyncio.Event()
        ticking = asyncio.ensure_future(tick(done))
        for line in (40, 50, 60):
            cursor = context(line, 4)
            request = CompletionRequest(
                f"file:///{line}.py", 1, "python", cursor.prefix, cursor.suffix, TriggerKind.INVOKED
            )
            await app.service.complete(request)
        done.set()
        await ticking

    try:
        app.load_model().result(timeout=120)
        asyncio.run(generate_beside())
    finally:
        app.worker.stop()
    assert app.service.model_calls == 3
    lags.sort()
    p99 = lags[int(len(lags) * 0.99)]
    print(
        f"event-loop lag while generating: p50 {lags[len(lags) // 2]:.2f} ms, p99 {p99:.2f} ms, max {lags[-1]:.2f} ms"
    )
    assert p99 < 20
