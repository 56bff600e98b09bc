"""Pieces of other files in the pipeline: chosen once a line, within a deadline, and never in the way."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from test_service import Stage, settle, shown

from intract_lsp.completion.generation import Chunk
from intract_lsp.completion.request import RejectReason, Retrieved
from intract_lsp.completion.retrieval import LINES_KEPT, Need, Question
from intract_lsp.completion.service import CompletionService, Policy


@dataclass
class FakeRetriever:
    """Answers when the test says so."""

    asked: list[tuple[Question, Future[tuple[Retrieved, ...]]]] = field(default_factory=list)
    at_once: tuple[Retrieved, ...] | None = None

    def ask(self, question: Question) -> Future[tuple[Retrieved, ...]]:
        future: Future[tuple[Retrieved, ...]] = Future()
        self.asked.append((question, future))
        if self.at_once is not None:
            future.set_result(self.at_once)
        return future


def piece(name: str) -> Retrieved:
    return Retrieved(Chunk(f"{name}.py", f"def {name}(): ..."), 3, ("search",), 1.5, 9)


class Library(Stage):
    """A stage with a retriever."""

    def __init__(self, policy: Policy | None = None, at_once: tuple[Retrieved, ...] | None = None) -> None:
        super().__init__(policy or Policy(debounce=0.0))
        self.retriever = FakeRetriever(at_once=at_once)
        self.service = CompletionService(
            self.generator,
            self.service._cache,
            self.service.policy,
            asyncio.get_running_loop().time,
            lambda: self.on_mains,
            self.retriever,
        )

    @property
    def questions(self) -> list[Question]:
        return [question for question, _ in self.retriever.asked]


@pytest.mark.asyncio
async def test_pieces_stand_in_the_prompt_and_in_the_result() -> None:
    stage = Library()
    task = await stage.asked("import a\n\nx = a.║)\ny = 1\n")
    assert not stage.calls
    assert stage.questions == [
        Question("file:///a.py", "a.py", "python", "import a\n\n", "\ny = 1\n", Need(99), present=())
    ]
    stage.retriever.asked[0][1].set_result((piece("f"),))
    await settle()
    assert stage.calls[0].context.chunks == (Chunk("f.py", "def f(): ..."),)
    stage.calls[0].end("f()")
    result = await task
    assert shown(result) == "f()"
    assert result.pieces == (piece("f"),)


@pytest.mark.asyncio
async def test_a_line_is_asked_about_once() -> None:
    stage = Library(at_once=(piece("f"),))
    for typed in ("x", "x =", "x = q"):
        await stage.answered(f"import a\n{typed}║\n", "")
    assert len(stage.questions) == 1
    assert all(call.context.chunks == (Chunk("f.py", "def f(): ..."),) for call in stage.calls)
    await stage.answered("import a\nx = q\ny║\n", "")
    assert len(stage.questions) == 2
    assert stage.questions[1].present == (piece("f"),)
    await stage.answered("import a\nx = q2║\n", "")
    assert len(stage.questions) == 2  # back on a line that is known
    stage.service.forget("file:///a.py")
    await stage.answered("import a\nx = q3║\n", "")
    assert len(stage.questions) == 3
    assert stage.questions[2].present == ()
    stage.service.clear_cache()
    await stage.answered("import a\nx = q4║\n", "")
    assert len(stage.questions) == 4


@pytest.mark.asyncio
async def test_only_so_many_lines_are_remembered() -> None:
    stage = Library(at_once=())
    for number in range(LINES_KEPT + 1):
        await stage.answered(f"a = {number}\nx║\n", "")
    await stage.answered("a = 0\nx = 1║\n", "")
    assert len(stage.questions) == LINES_KEPT + 2


@pytest.mark.asyncio
async def test_what_comes_late_is_left_out_and_counted() -> None:
    stage = Library(Policy(debounce=0.0, retrieval_deadline=0.03), at_once=(piece("f"),))
    await stage.answered("xy║\n", "")
    stage.retriever.at_once = None
    loop = asyncio.get_running_loop()
    began = loop.time()
    task = stage.ask("a = 1\nxy║\n")
    while len(stage.calls) < 2:
        assert loop.time() < began + 5
        await asyncio.sleep(0.001)
    assert loop.time() - began >= 0.03
    assert stage.calls[1].context.chunks == (Chunk("f.py", "def f(): ..."),)  # what is in the cache already
    assert stage.service.contexts is not None
    assert (stage.service.contexts.asked, stage.service.contexts.late) == (2, 1)
    stage.calls[1].end("y")
    assert (await task).timings.retrieve >= 29


@pytest.mark.asyncio
async def test_a_retriever_that_fails_costs_no_completion(caplog: pytest.LogCaptureFixture) -> None:
    stage = Library()
    task = await stage.asked("secret_name = ║\n")
    stage.retriever.asked[0][1].set_exception(ValueError("secret_name"))
    await settle()
    stage.calls[0].end("1")
    assert shown(await task) == "1"
    assert "ValueError" in caplog.text
    assert "secret_name" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "asked"),
    [({}, 1), ({"retrieval": False}, 0), ({"unretrieved_languages": frozenset({"python"})}, 0)],
)
@pytest.mark.asyncio
async def test_it_can_be_switched_off(changes: dict[str, Any], asked: int) -> None:
    stage = Library(Policy(debounce=0.0, **changes), at_once=(piece("f"),))
    await stage.answered("x = ║\n", "1")
    assert len(stage.questions) == asked
    assert bool(stage.calls[0].context.chunks) is bool(asked)


@pytest.mark.asyncio
async def test_the_setting_says_how_much() -> None:
    stage = Library(Policy(debounce=0.0, context_tokens=17), at_once=())
    await stage.answered("x = ║\n", "1")
    assert stage.questions[0].need == Need(17)


@pytest.mark.asyncio
async def test_what_is_prepared_holds_the_pieces_that_will_be_asked_for() -> None:
    stage = Library(at_once=(piece("f"),))
    await stage.answered("x = ║\n", "1")
    await settle()
    assert [context.chunks for context, _, _ in stage.generator.prepared] == [(Chunk("f.py", "def f(): ..."),)]
    assert stage.questions[1].above == "x = 1\n"
    await stage.answered("x = 1\ny║\n", "")
    assert len(stage.questions) == 2


@pytest.mark.asyncio
async def test_a_request_goes_before_a_preparation_that_still_looks() -> None:
    stage = Library()
    await stage.rest("a = 1\nx = ║\n")
    task = await stage.asked("b = 1\nx = ║\n")
    stage.retriever.asked[1][1].set_result(())
    await settle()
    stage.retriever.asked[0][1].set_result(())
    await settle()
    assert not stage.generator.prepared
    stage.calls[0].end("2")
    assert shown(await task) == "2"


@pytest.mark.asyncio
async def test_a_cancelled_request_stops_looking() -> None:
    stage = Library()
    task = await stage.asked("x = ║\n")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert not stage.calls
    assert stage.service.history[-1].result.reject_reason is RejectReason.CANCELLED
