from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.completion.cache import CompletionCache
from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.completion.request import CompletionRequest, CompletionResult, RejectReason, Source, TriggerKind
from intract_lsp.completion.service import HISTORY, CompletionService, Policy

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is something to do and jumps to the next timer when there is not."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


async def settle() -> None:
    """Let everything run that is not waiting for time or for the model."""
    for _ in range(12):
        await asyncio.sleep(0)


@dataclass
class Call:
    """One generation asked of the fake, which the test brings to its end."""

    key: str
    context: CompletionContext
    shape: PromptShape
    limits: Limits
    token: CancelToken
    on_text: Callable[[str], None]
    future: Future[Generation]
    at: float

    def end(self, text: str, finish: Finish = Finish.END) -> None:
        self.future.set_result(Generation(text, finish, 10, 4, tuple(range(len(text))), 1.0, 2.0, 3.0, 4.0))


@dataclass
class FakeGenerator:
    model_key: str = "model"
    context_tokens: int = 99
    reason: RejectReason | None = None
    calls: list[Call] = field(default_factory=list)
    prepared: list[tuple[CompletionContext, PromptShape, Future[bool]]] = field(default_factory=list)

    def unavailable(self) -> RejectReason | None:
        return self.reason

    def submit(
        self,
        key: str,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Future[Generation]:
        future: Future[Generation] = Future()
        at = asyncio.get_running_loop().time()
        self.calls.append(Call(key, context, shape, limits, token, on_text, future, at))
        return future

    def prepare(self, context: CompletionContext, shape: PromptShape) -> Future[bool]:
        future: Future[bool] = Future()
        self.prepared.append((context, shape, future))
        return future


class Stage:
    """A service with its fake, made inside a running loop."""

    def __init__(self, policy: Policy | None = None, capacity: int = 1 << 20) -> None:
        self.generator = FakeGenerator()
        self.on_mains = True
        policy = policy or Policy(debounce=0.0)
        clock = asyncio.get_running_loop().time
        self.service = CompletionService(
            self.generator, CompletionCache(capacity), policy, clock, lambda: self.on_mains
        )

    @property
    def calls(self) -> list[Call]:
        return self.generator.calls

    def ask(self, drawn: str, **changes: Any) -> asyncio.Task[CompletionResult]:
        prefix, _, suffix = drawn.partition("║")
        request = CompletionRequest("file:///a.py", 1, "python", prefix, suffix, path="a.py")
        return asyncio.ensure_future(self.service.complete(replace(request, **changes)))

    async def rest(self, drawn: str, **changes: Any) -> None:
        prefix, _, suffix = drawn.partition("║")
        request = CompletionRequest("file:///a.py", 1, "python", prefix, suffix, path="a.py")
        self.service.rest(replace(request, **changes))
        await settle()

    @property
    def prepared(self) -> list[str]:
        """The places that were to be prepared, drawn."""
        return [f"{context.prefix}║{context.suffix}" for context, _, _ in self.generator.prepared]

    async def asked(self, drawn: str, **changes: Any) -> asyncio.Task[CompletionResult]:
        task = self.ask(drawn, **changes)
        await settle()
        return task

    async def answered(self, drawn: str, text: str, finish: Finish = Finish.END, **changes: Any) -> CompletionResult:
        task = await self.asked(drawn, **changes)
        self.calls[-1].end(text, finish)
        return await task


def shown(result: CompletionResult) -> str | None:
    return result.suggestion.text if result.suggestion else None


# --- the ordinary way


@pytest.mark.asyncio
async def test_the_model_answers() -> None:
    stage = Stage()
    task = await stage.asked("total = ║\n")
    call = stage.calls[0]
    assert (call.key, call.context.prefix, call.context.suffix) == ("file:///a.py", "total = ", "\n")
    assert not task.done()
    call.end("alpha + beta")
    result = await task
    assert result.suggestion is not None
    assert result.suggestion.text == "alpha + beta"
    assert result.suggestion.source is Source.MODEL
    assert result.reject_reason is None
    assert result.model == "model"
    timings = result.timings
    assert (timings.tokenize, timings.prefill, timings.decode) == (2.0, 3.0, 4.0)
    assert (timings.prompt_tokens, timings.reused_tokens, timings.generated_tokens) == (10, 4, 12)
    assert timings.queue >= 1.0
    assert stage.service.model_calls == 1


@pytest.mark.asyncio
async def test_limits_follow_the_policy_and_the_extent() -> None:
    shape = PromptShape(PromptBudget(3, 2), exact=True)
    policy = Policy(max_line_tokens=7, max_block_tokens=70, shape=shape, deadline=2.5, debounce=0.0)
    stage = Stage(policy)
    began = asyncio.get_running_loop().time()
    await stage.asked("total = ║\n")
    await stage.asked("def f():\n    ║\n", uri="file:///b.py")
    line, block = stage.calls
    assert (line.context.extent, line.limits.max_tokens) == (Extent.LINE, 7)
    assert (block.context.extent, block.limits.max_tokens) == (Extent.BLOCK, 70)
    assert line.shape == shape
    assert 2.5 <= line.limits.deadline - began < 3.0
    assert line.limits.stop("a\nb") == 1


@pytest.mark.asyncio
async def test_a_stop_by_rule_is_as_good_as_an_end() -> None:
    stage = Stage()
    assert shown(await stage.answered("total = ║\n", "alpha", Finish.STOP)) == "alpha"
    assert (await (await stage.asked("total = alpha║\n"))).reject_reason is RejectReason.AFTER_ACCEPT


# --- gates


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("drawn", "changes", "policy", "reason"),
    [
        ("total = ║", {}, Policy(enabled=False), RejectReason.DISABLED),
        ("total = ║", {}, Policy(disabled_languages=frozenset({"python"})), RejectReason.LANGUAGE_OFF),
        ("total = ║", {"path": "app/.env"}, Policy(), RejectReason.SECRET_FILE),
        ("║", {}, Policy(), RejectReason.NO_TEXT),
        ("a\0b ║", {}, Policy(), RejectReason.BINARY),
        ("na║me", {}, Policy(), RejectReason.MID_WORD),
        ("f(a║, b)", {}, Policy(), RejectReason.MID_LINE),
    ],
)
async def test_gates(drawn: str, changes: dict[str, Any], policy: Policy, reason: RejectReason) -> None:
    stage = Stage(policy)
    result = await stage.ask(drawn, **changes)
    assert result.reject_reason is reason
    assert result.suggestion is None
    assert not stage.calls


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", [RejectReason.LOADING, RejectReason.NO_MODEL, RejectReason.MODEL_FAILED])
async def test_without_a_model_the_answer_comes_at_once(reason: RejectReason) -> None:
    stage = Stage()
    stage.generator.reason = reason
    assert (await stage.ask("total = ║")).reject_reason is reason
    assert not stage.calls


# --- the cache


@pytest.mark.asyncio
async def test_typing_through_needs_no_model() -> None:
    stage = Stage()
    await stage.answered("total = ║\n", "alpha + beta")
    for typed in ("", "a", "alpha", "alpha + "):
        result = await stage.ask(f"total = {typed}║\n")
        assert result.suggestion is not None
        assert result.suggestion.text == "alpha + beta"[len(typed) :]
        assert result.suggestion.source is Source.CACHE
    assert stage.service.model_calls == 1


@pytest.mark.asyncio
async def test_after_acceptance_nothing_is_suggested_unless_asked_for() -> None:
    stage = Stage()
    await stage.answered("total = ║\n", "alpha")
    assert (await stage.ask("total = alpha║\n")).reject_reason is RejectReason.AFTER_ACCEPT
    assert len(stage.calls) == 1
    result = await stage.answered("total = alpha║\n", " + beta", trigger=TriggerKind.INVOKED)
    assert shown(result) == " + beta"
    assert len(stage.calls) == 2


@pytest.mark.asyncio
async def test_that_a_model_had_nothing_to_say_is_remembered_as_that() -> None:
    stage = Stage()
    assert (await stage.answered("total = ║\n", "")).reject_reason is RejectReason.EMPTY
    assert (await stage.ask("total = ║\n")).reject_reason is RejectReason.EMPTY
    assert len(stage.calls) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("change", ["model", "document", "multi_line", "cleared"])
async def test_what_the_cache_must_not_answer(change: str) -> None:
    stage = Stage()
    await stage.answered("total = ║\n", "alpha")
    uri = "file:///a.py"
    if change == "model":
        stage.generator.model_key = "other"
    elif change == "document":
        uri = "file:///b.py"
    elif change == "multi_line":
        stage.service.policy = replace(stage.service.policy, multi_line="never")
    else:
        stage.service.clear_cache()
    assert shown(await stage.answered("total = ║\n", "beta", uri=uri)) == "beta"
    assert len(stage.calls) == 2


@pytest.mark.asyncio
async def test_an_answer_that_came_after_a_swap_is_not_kept_as_the_one_befores() -> None:
    stage = Stage()
    asked = await stage.asked("total = ║\n")
    stage.generator.model_key = "swapped"
    stage.calls[-1].end("alpha")
    assert shown(await asked) == "alpha"
    stage.generator.model_key = "model"
    assert shown(await stage.answered("total = ║\n", "beta")) == "beta"


# --- texts that were broken off


@pytest.mark.asyncio
@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.DEADLINE])
async def test_a_partial_text_is_trimmed_and_used(finish: Finish) -> None:
    stage = Stage()
    assert shown(await stage.answered("total = ║\n", "compute(alpha, bet", finish)) == "compute(alpha,"
    await stage.asked("total = compute(alpha,║\n")
    assert len(stage.calls) == 2, "behind a text that was cut short the model is asked"


@pytest.mark.asyncio
async def test_the_deadline_is_the_reason_where_nothing_is_left() -> None:
    stage = Stage()
    assert (await stage.answered("total = ║\n", "", Finish.DEADLINE)).reject_reason is RejectReason.DEADLINE
    await stage.asked("total = ║\n")
    assert len(stage.calls) == 2, "a deadline says nothing of the next time"


# --- one after another


@pytest.mark.asyncio
async def test_typing_the_beginning_rides_on_the_running_generation() -> None:
    stage = Stage()
    first = await stage.asked("total = ║\n")
    stage.calls[0].on_text("alp")
    second = await stage.asked("total = a║\n")
    assert (await first).reject_reason is RejectReason.SUPERSEDED
    third = await stage.asked("total = alpha║\n")  # ahead of what the model has said so far
    assert (await second).reject_reason is RejectReason.SUPERSEDED
    assert not stage.calls[0].token.cancelled
    stage.calls[0].end("alpha + beta")
    result = await third
    assert result.suggestion is not None
    assert result.suggestion.text == " + beta"
    assert result.suggestion.source is Source.IN_FLIGHT
    assert len(stage.calls) == 1


@pytest.mark.asyncio
async def test_the_same_place_asked_twice_is_one_generation() -> None:
    stage = Stage()
    first = await stage.asked("total = ║\n")
    second = await stage.asked("total = ║\n", trigger=TriggerKind.INVOKED)
    stage.calls[0].end("alpha")
    assert (await first).reject_reason is RejectReason.SUPERSEDED
    assert shown(await second) == "alpha"
    assert len(stage.calls) == 1


@pytest.mark.asyncio
async def test_typing_something_else_cancels_and_asks_anew() -> None:
    stage = Stage()
    first = await stage.asked("total = ║\n")
    stage.calls[0].on_text("alpha")
    await settle()
    second = await stage.asked("total = b║\n")
    assert (await first).reject_reason is RejectReason.SUPERSEDED
    assert stage.calls[0].token.cancelled
    assert len(stage.calls) == 2
    stage.calls[0].end("alpha", Finish.CANCELLED)
    await settle()
    assert not second.done()
    stage.calls[1].end("eta")
    assert shown(await second) == "eta"


@pytest.mark.asyncio
async def test_a_text_that_turns_out_otherwise_is_left_at_once() -> None:
    stage = Stage()
    await stage.asked("total = ║\n")
    second = await stage.asked("total = b║\n")  # the model has said nothing yet
    assert len(stage.calls) == 1
    stage.calls[0].on_text("alpha")
    await settle()
    assert stage.calls[0].token.cancelled
    assert len(stage.calls) == 2
    stage.calls[1].end("eta")
    assert shown(await second) == "eta"


@pytest.mark.asyncio
async def test_a_text_that_ended_too_early_is_left_too() -> None:
    stage = Stage()
    await stage.asked("total = ║\n")
    second = await stage.asked("total = alpha║\n")
    stage.calls[0].end("alp")
    await settle()
    assert len(stage.calls) == 2
    stage.calls[1].end("bet")
    assert shown(await second) == "bet"


@pytest.mark.asyncio
async def test_a_change_behind_the_cursor_asks_anew() -> None:
    stage = Stage()
    await stage.asked("total = ║\n")
    await stage.asked("total = a║\nnext\n")
    assert stage.calls[0].token.cancelled
    assert len(stage.calls) == 2


@pytest.mark.asyncio
async def test_documents_do_not_supersede_each_other() -> None:
    stage = Stage()
    one = await stage.asked("total = ║\n")
    other = await stage.asked("total = ║\n", uri="file:///b.py")
    stage.calls[0].end("alpha")
    stage.calls[1].end("beta")
    assert (shown(await one), shown(await other)) == ("alpha", "beta")


@pytest.mark.asyncio
async def test_two_requests_at_one_place_share_the_answer() -> None:
    stage = Stage()
    popup = await stage.asked("total = ║\n")
    ghost = await stage.asked("total = ║\n")
    assert len(stage.calls) == 1
    stage.calls[0].end("alpha")
    one, other = await popup, await ghost
    assert one.suggestion is not None
    assert one.suggestion == other.suggestion
    assert len(stage.service.history) == 1
    assert not stage.service.pending


@pytest.mark.asyncio
async def test_a_shared_answer_is_dropped_when_nobody_waits_for_it() -> None:
    stage = Stage()
    popup = await stage.asked("total = ║\n")
    ghost = await stage.asked("total = ║\n")
    popup.cancel()
    await settle()
    assert not stage.calls[0].token.cancelled
    assert not stage.service.history
    ghost.cancel()
    await settle()
    assert stage.calls[0].token.cancelled
    assert [answered.result.reject_reason for answered in stage.service.history] == [RejectReason.CANCELLED]


@pytest.mark.asyncio
async def test_typing_overtakes_all_that_share_an_answer() -> None:
    stage = Stage()
    popup = await stage.asked("total = ║\n")
    ghost = await stage.asked("total = ║\n")
    newer = await stage.asked("total = a║\n")
    assert (await popup).reject_reason is RejectReason.SUPERSEDED
    assert (await ghost).reject_reason is RejectReason.SUPERSEDED
    stage.calls[0].end("alpha")
    assert shown(await newer) == "lpha"


@pytest.mark.asyncio
async def test_who_asks_by_hand_does_not_share_a_wait() -> None:
    stage = Stage(Policy(debounce=60.0))
    typed = await stage.asked("total = ║\n")
    assert not stage.calls
    asked = await stage.asked("total = ║\n", trigger=TriggerKind.INVOKED)
    assert (await typed).reject_reason is RejectReason.SUPERSEDED
    stage.calls[0].end("alpha")
    assert shown(await asked) == "alpha"


@pytest.mark.asyncio
async def test_a_cancelled_request_stops_the_model() -> None:
    stage = Stage()
    task = await stage.asked("total = ║\n")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert stage.calls[0].token.cancelled
    assert [answered.result.reject_reason for answered in stage.service.history] == [RejectReason.CANCELLED]


@pytest.mark.asyncio
@pytest.mark.parametrize("typed", ["", "a"])
async def test_a_cancelled_generation_carries_nobody(typed: str) -> None:
    """Editors cancel the old request before they send the next one: that must not ride on what is being stopped."""
    stage = Stage()
    first = await stage.asked("total = ║\n")
    stage.calls[0].on_text("al")
    first.cancel()
    await settle()
    second = await stage.asked(f"total = {typed}║\n")
    assert len(stage.calls) == 2
    stage.calls[0].end("al", Finish.CANCELLED)
    stage.calls[1].end("alpha"[len(typed) :])
    assert shown(await second) == "alpha"[len(typed) :]


@pytest.mark.asyncio
async def test_a_cancel_of_the_older_leaves_the_generation_to_the_newer() -> None:
    stage = Stage()
    first = await stage.asked("total = ║\n")
    second = stage.ask("total = a║\n")
    first.cancel()
    await settle()
    assert not stage.calls[0].token.cancelled
    stage.calls[0].end("alpha")
    assert shown(await second) == "lpha"


@pytest.mark.asyncio
async def test_a_cancelled_text_is_no_answer_to_the_next_request() -> None:
    stage = Stage()
    task = await stage.asked("total = ║\n")
    task.cancel()
    stage.calls[0].end("alpha + be", Finish.CANCELLED)
    await settle()
    await stage.asked("total = ║\n")
    assert len(stage.calls) == 2


@pytest.mark.asyncio
async def test_closing_a_document_stops_its_request() -> None:
    stage = Stage()
    task = await stage.asked("total = ║\n")
    stage.service.forget("file:///a.py")
    stage.service.forget("file:///never-opened.py")
    assert (await task).reject_reason is RejectReason.SUPERSEDED
    assert stage.calls[0].token.cancelled


@pytest.mark.asyncio
async def test_an_engine_that_fails_spoils_one_request_only() -> None:
    stage = Stage()
    task = await stage.asked("total = ║\n")
    stage.calls[0].future.set_exception(RuntimeError("out of memory"))
    assert (await task).reject_reason is RejectReason.ENGINE_ERROR
    assert shown(await stage.answered("total = ║\n", "alpha")) == "alpha"


@pytest.mark.asyncio
async def test_a_failure_is_logged_without_the_code(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    with caplog.at_level("DEBUG"):
        task = await stage.asked("password = ║\n")
        stage.calls[0].future.set_exception(RuntimeError("cannot tokenize 'password ='"))
        await task
        await stage.answered("password = ║\n", "hunter2()")
    assert "RuntimeError" in caplog.text
    assert "9 characters" in caplog.text
    assert "password" not in caplog.text
    assert "hunter2" not in caplog.text


# --- time


def test_the_debounce_is_kept() -> None:
    async def main() -> None:
        stage = Stage(Policy(debounce=0.25))
        began = asyncio.get_running_loop().time()
        await stage.asked("total = ║\n")
        assert not stage.calls
        await asyncio.sleep(0.2)
        last = await stage.asked("total = a║\n")
        await asyncio.sleep(0.26)
        assert [round(call.at - began, 3) for call in stage.calls] == [0.45]
        stage.calls[0].end("lpha")
        assert (await last).timings.queue == pytest.approx(250 + 1, abs=0.1)
        await asyncio.sleep(1)
        invoked = await stage.asked("other = ║\n", trigger=TriggerKind.INVOKED)
        assert len(stage.calls) == 2, "who asks does not wait"
        stage.calls[1].end("x")
        await invoked

    run(main)


def test_the_debounce_adapts_to_the_typing() -> None:
    async def main() -> None:
        stage = Stage(Policy(debounce=None))
        task = None
        for typed in range(12):
            task = stage.ask(f"name{'x' * typed}║\n")
            await asyncio.sleep(0.1)
        assert not stage.calls, "no key came later than the wait that its like has"
        await asyncio.sleep(1)
        assert len(stage.calls) == 1
        stage.calls[0].end("()")
        assert task is not None
        await task
        queued = stage.service.history[-1].result.timings.queue
        assert queued == pytest.approx(110 + 1, abs=3)

    run(main)


def test_the_total_covers_everything() -> None:
    async def main() -> None:
        stage = Stage(Policy(debounce=0.1))
        task = stage.ask("total = ║\n")
        await asyncio.sleep(0.6)
        stage.calls[0].end("alpha")
        assert (await task).timings.total == pytest.approx(600, abs=1)

    run(main)


# --- ahead of requests


@pytest.mark.asyncio
async def test_the_line_behind_a_suggestion_is_prepared_once() -> None:
    stage = Stage()
    await stage.answered("    total = ║\nrest\n", "alpha")
    await settle()
    assert stage.prepared == ["    total = alpha\n    ║\nrest\n"]
    for typed in ("a", "al"):
        assert (await stage.ask(f"    total = {typed}║\nrest\n")).suggestion is not None
    await settle()
    assert len(stage.prepared) == 1, "what is typed leads to the same place"
    # A generation is more urgent, and may have put an end to it.
    await stage.answered("    total = b║\nrest\n", "eta")
    await stage.answered("    total = ║\nrest\n", "alpha", uri="file:///b.py")
    await settle()
    assert stage.prepared[1:] == ["    total = beta\n    ║\nrest\n", "    total = alpha\n    ║\nrest\n"]


@pytest.mark.asyncio
async def test_nothing_shown_or_no_line_end_prepares_nothing() -> None:
    stage = Stage()
    await stage.answered("total = ║\n", "")
    await stage.answered("f(║)\n", "alpha")
    await settle()
    assert stage.prepared == []


@pytest.mark.asyncio
async def test_what_was_prepared_to_its_end_is_counted() -> None:
    stage = Stage()
    for typed, ended in enumerate((True, False, None, RuntimeError())):
        await stage.rest(f"total{typed} = ║")
        _, shape, future = stage.generator.prepared[-1]
        assert shape == stage.service.policy.shape
        if ended is None:
            future.cancel()
        elif isinstance(ended, bool):
            future.set_result(ended)
        else:
            future.set_exception(ended)
    await settle()
    assert stage.service.prepared == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("drawn", "prepared"),
    [
        ("total = ║\nrest", "total = ║\nrest"),
        ("to║tal = 1\nrest", "total = 1║\nrest"),
        ("f(a║, b)\nrest", "f(a, b)║\nrest"),
        ("f(a║)\nrest", "f(a║)\nrest"),
    ],
)
async def test_where_the_cursor_rests_the_prompt_is_prepared(drawn: str, prepared: str) -> None:
    stage = Stage()
    await stage.rest(drawn)
    await stage.rest(drawn)
    assert stage.prepared == [prepared]
    assert stage.service.model_calls == 0
    assert not stage.service.history


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("drawn", "changes", "policy", "reason"),
    [
        ("total = ║", {}, Policy(enabled=False), None),
        ("total = ║", {}, Policy(work_ahead=False), None),
        ("total = ║", {}, Policy(shape=PromptShape(exact=True)), None),
        ("total = ║", {}, Policy(disabled_languages=frozenset({"python"})), None),
        ("total = ║", {"path": "app/.env"}, Policy(), None),
        ("║total", {}, Policy(), None),
        ("a\0b ║", {}, Policy(), None),
        ("total = ║", {}, Policy(), RejectReason.NO_MODEL),
        ("total = ║", {}, Policy(), RejectReason.MODEL_FAILED),
    ],
)
async def test_what_gets_no_suggestion_is_not_prepared(
    drawn: str, changes: dict[str, Any], policy: Policy, reason: RejectReason | None
) -> None:
    stage = Stage(policy)
    stage.generator.reason = reason
    await stage.rest(drawn, **changes)
    assert stage.prepared == []


@pytest.mark.asyncio
async def test_while_the_model_loads_the_preparation_can_wait_for_it() -> None:
    stage = Stage()
    stage.generator.reason = RejectReason.LOADING
    await stage.rest("total = ║")
    assert len(stage.prepared) == 1


@pytest.mark.asyncio
async def test_on_battery_nothing_is_prepared() -> None:
    stage = Stage()
    stage.on_mains = False
    await stage.answered("total = ║\n", "alpha")
    await stage.rest("total = ║\n")
    assert stage.prepared == []
    stage.on_mains = True
    await stage.rest("other = ║\n")
    assert len(stage.prepared) == 1


@pytest.mark.asyncio
async def test_where_the_answer_is_known_the_prompt_is_not_needed() -> None:
    stage = Stage(Policy(debounce=0.0, work_ahead=False))
    await stage.answered("total = ║\n", "alpha")
    stage.service.policy = Policy(debounce=0.0)
    await stage.rest("total = a║\n")
    assert stage.prepared == []
    stage.service.clear_cache()
    await stage.rest("total = a║\n")
    assert stage.prepared == ["total = a║\n"]
    stage.service.clear_cache()
    await stage.rest("total = a║\n")
    assert len(stage.prepared) == 2, "the model's cache may be cleared too"


# --- what is kept for `why` and for the status


@pytest.mark.asyncio
async def test_history_and_acceptance() -> None:
    stage = Stage()
    result = await stage.answered("total = ║\n", "alpha")
    stage.service.note_refusal("file:///z.py", RejectReason.UNKNOWN_DOCUMENT)
    offered, refused = stage.service.history
    assert (offered.uri, offered.language_id, offered.characters) == ("file:///a.py", "python", 5)
    assert (refused.uri, refused.result.reject_reason) == ("file:///z.py", RejectReason.UNKNOWN_DOCUMENT)
    assert result.suggestion is not None
    assert stage.service.accept(result.suggestion.id)
    assert not stage.service.accept("nothing-that-was-offered")
    assert stage.service.accepted == 1


@pytest.mark.asyncio
async def test_the_history_is_bounded() -> None:
    stage = Stage(Policy(enabled=False))
    for _ in range(HISTORY + 5):
        await stage.ask("total = ║\n")
    assert len(stage.service.history) == HISTORY


# --- any order of events

SAID = "alpha + beta"
"""What the fake model wants on the line, whatever of it is typed."""

steps = st.one_of(
    st.tuples(st.just("request"), st.sampled_from(["", "a", "al", "alpha", "alpha + b", "x", "ax"]), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("speak"), st.integers(1, 6), st.booleans()),
    st.tuples(st.just("end"), st.sampled_from(list(Finish)), st.booleans()),
    st.tuples(st.just("fail"), st.none(), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2]), st.booleans()),
)


def continuation(typed: str) -> str:
    return SAID[len(typed) :] if SAID.startswith(typed) else "other()"


class Play:
    """Carries out a script and keeps book of the requests."""

    def __init__(self) -> None:
        self.stage = Stage(Policy(debounce=0.05), capacity=600)
        self.requests: list[tuple[str, asyncio.Task[CompletionResult]]] = []
        self.cancelled: set[int] = set()
        self.overtaken: set[int] = set()

    def open_calls(self) -> list[Call]:
        return [call for call in self.stage.calls if not call.future.done()]

    async def step(self, kind: str, value: Any, settled: bool) -> None:
        if kind == "request":
            trigger = TriggerKind.INVOKED if value == "alpha" else TriggerKind.AUTOMATIC
            self.overtaken |= {index for index, (_, task) in enumerate(self.requests) if not task.done()}
            self.requests.append((value, self.stage.ask(f"total = {value}║\n", trigger=trigger)))
        elif kind == "cancel" and value < len(self.requests):
            index = len(self.requests) - 1 - value
            if self.requests[index][1].cancel():
                self.cancelled.add(index)
        elif kind == "speak" and self.open_calls():
            call = self.open_calls()[0]
            call.on_text(self.text_of(call)[:value])
        elif kind == "end" and self.open_calls():
            self.end(self.open_calls()[0], value)
        elif kind == "fail" and self.open_calls():
            self.open_calls()[0].future.set_exception(RuntimeError("script"))
        elif kind == "wait":
            await asyncio.sleep(value)
        if settled:
            await settle()

    def text_of(self, call: Call) -> str:
        return continuation(call.context.line_prefix.removeprefix("total = "))

    def end(self, call: Call, finish: Finish) -> None:
        text = self.text_of(call)
        call.end(text if finish in (Finish.END, Finish.STOP) else text[:7], finish)

    async def finish(self) -> None:
        await asyncio.sleep(1)
        await settle()
        waiting = [task for _, task in self.requests if not task.done()]
        if not waiting:
            assert all(call.token.cancelled for call in self.open_calls()), "a generation runs for nobody"
        assert sum(not call.token.cancelled for call in self.open_calls()) <= 1
        while self.open_calls():
            self.end(self.open_calls()[0], Finish.END)
            await asyncio.sleep(1)
            await settle()


@settings(max_examples=150)
@given(script=st.lists(steps, max_size=14))
def test_every_request_has_one_answer_whatever_happens(script: list[tuple[str, Any, bool]]) -> None:
    async def main() -> None:
        play = Play()
        for kind, value, settled in script:
            await play.step(kind, value, settled)
        await play.finish()
        for index, (typed, task) in enumerate(play.requests):
            assert task.done(), "a request without an answer"
            if task.cancelled():
                assert index in play.cancelled
                continue
            result = task.result()
            if result.suggestion is not None:
                assert continuation(typed).startswith(result.suggestion.text)
            if result.reject_reason is RejectReason.SUPERSEDED:
                assert index in play.overtaken
            if result.reject_reason is RejectReason.CANCELLED:
                assert any(value is Finish.CANCELLED for _, value, _ in script)
        # Requests for one place, one after the other, may share an answer, and a cancelled one may never have begun.
        runs = groupby(enumerate(play.requests), lambda numbered: numbered[1][0])
        least = sum(any(index not in play.cancelled for index, _ in run) for _, run in runs)
        assert least <= len(play.stage.service.history) <= len(play.requests)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*(task for _, task in play.requests))
        assert len(asyncio.all_tasks()) == 1

    run(main)
