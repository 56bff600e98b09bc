from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import pytest

from intract_lsp.completion.cache import CompletionCache
from intract_lsp.completion.context import CompletionContext, Extent, build_context
from intract_lsp.completion.generation import CancelToken, Chunk, Finish, Generation, Limits, PromptShape
from intract_lsp.completion.request import CompletionRequest, RejectReason, TriggerKind
from intract_lsp.completion.service import CompletionService, Policy
from intract_lsp.evaluation.items import Item
from intract_lsp.training.arm import Answer, EngineArm
from intract_lsp.training.measure import LONGEST_MIDDLE, Effort, Place, measure, places


def item(name: str = "one", prefix: str = "x = ", truth: str = "compute(1)", suffix: str = "\n") -> Item:
    return Item(
        task_id=name,
        path=f"{name}.py",
        prefix=prefix,
        suffix=suffix,
        truth_line=truth.split("\n")[0],
        truth_block=truth,
        set="held-out",
    )


Log = list[tuple[str, str, object]]
"""Of each question: the arm, what was asked, and the context."""


class FakeArm:
    """Says the same everywhere; keeps what it was asked, with its name, in a common log."""

    def __init__(self, name: str = "arm", answer: Answer | None = None, log: Log | None = None):
        self.name = name
        self.answer = answer or Answer("compute(1)", raw="compute(1)", tokens=4, milliseconds=60.0)
        self.log = [] if log is None else log
        self.middles: list[str] = []

    def complete(self, context: CompletionContext) -> Answer:
        self.log.append((self.name, "complete", context))
        return self.answer

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        self.log.append((self.name, "likelihood", context))
        self.middles.append(middle)
        return 2.0 * len(middle), len(middle)


def measured_one(answer: Answer, at: Item) -> object:
    (place,) = places([at], None, 0)
    outcome = measure({"arm": FakeArm(answer=answer)}, [place], CancelToken())["arm"].outcomes[at.task_id]
    assert outcome.shown is not None
    return outcome.shown


def test_every_arm_gets_the_same_contexts_and_pieces_are_looked_for_once_an_item() -> None:
    asked: list[tuple[str, str, str, str, int]] = []

    def retrieve(path: str, language: str, above: str, below: str, tokens: int) -> tuple[Chunk, ...]:
        asked.append((path, language, above, below, tokens))
        return (Chunk("other.py", f"for {path}"),)

    found = places([item(prefix="import a\n\nx = ", suffix=")\nlast\n")], retrieve, 96)
    assert asked == [("one.py", "python", "import a\n\n", "\nlast\n", 96)]
    log: Log = []
    measure({name: FakeArm(name, log=log) for name in ("base", "active", "candidate")}, found, CancelToken())
    assert {id(context) for _, _, context in log} == {id(found[0].context)}
    assert found[0].context.chunks == (Chunk("other.py", "for one.py"),)


def test_without_room_no_pieces_are_looked_for() -> None:
    def retrieve(path: str, language: str, above: str, below: str, tokens: int) -> tuple[Chunk, ...]:
        raise AssertionError("not to be asked")

    assert len(places([item()], retrieve, 0)) == 1


def test_arms_take_turns_and_take_turns_at_being_first() -> None:
    log: Log = []
    arms = {name: FakeArm(name, log=log) for name in ("a", "b")}
    measure(arms, places([item(f"i{number}") for number in range(4)], None, 0), CancelToken())
    turns = [name for name, kind, _ in log if kind == "likelihood"]
    assert turns == ["a", "b", "b", "a", "a", "b", "b", "a"]
    # The suggestion right behind the likelihood: its prompt is then computed already.
    assert [kind for _, kind, _ in log] == ["likelihood", "complete"] * 8


def test_arms_that_are_not_in_memory_together_take_turns_after_some_places() -> None:
    log: Log = []
    found = places([item(f"i{number}") for number in range(5)], None, 0)
    arms = {name: FakeArm(name, log=log) for name in ("a", "b")}
    by_turns = measure(arms, found, CancelToken(), Effort(generations=3), places_a_turn=2)
    turns = [(name, id(context)) for name, kind, context in log if kind == "likelihood"]
    one, two, three, four, five = (id(place.context) for place in found)
    assert [name for name, _ in turns] == [*"aabb", *"bbaa", *"ab"]
    assert [context for _, context in turns] == [one, two, one, two, three, four, three, four, five, five]
    alone = measure({name: FakeArm(name) for name in "ab"}, found, CancelToken(), Effort(generations=3))
    for name, one in by_turns.items():
        for task, outcome in one.outcomes.items():
            other = alone[name].outcomes[task]
            # How fast they were is not compared: they were asked at different times.
            shown = other.shown and replace(other.shown, rate=None)
            assert outcome == replace(other, shown=shown)
    assert any(outcome.shown is not None for outcome in by_turns["a"].outcomes.values())


def test_all_arms_finish_a_turn_whose_time_is_over() -> None:
    now = [0.0]

    class Slow(FakeArm):
        def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
            now[0] += 1.0
            return super().likelihood(context, middle)

    found = places([item(f"i{number}") for number in range(9)], None, 0)
    arms = {"a": Slow(), "b": Slow()}
    measured = measure(arms, found, CancelToken(), Effort(seconds=7), lambda: now[0], places_a_turn=2)
    assert [list(one.outcomes) for one in measured.values()] == [[place.item.task_id for place in found[:4]]] * 2


def test_the_order_depends_on_the_items_and_not_on_theirs() -> None:
    items = [item(f"i{number}") for number in range(30)]
    order = [place.item.task_id for place in places(items, None, 0)]
    assert order == [place.item.task_id for place in places(items[::-1], None, 0)]
    assert order != sorted(order)


def test_likelihood_everywhere_and_suggestions_at_the_first_ones() -> None:
    found = places([item(f"i{number}") for number in range(9)], None, 0)
    together = measure({"a": FakeArm(), "b": FakeArm()}, found, CancelToken(), Effort(generations=4))
    assert [(one.generated, len(one.outcomes)) for one in together.values()] == [(4, 9), (4, 9)]
    alone = measure({"a": FakeArm()}, found, CancelToken(), Effort(generations=4))["a"]
    assert alone.outcomes == together["a"].outcomes, "measured by itself an arm generates at the same places"
    assert measure({"a": FakeArm()}, found, CancelToken(), Effort(generations=0))["a"].generated == 0
    assert alone.nll == 2.0


def test_a_cancelled_measurement_returns_what_there_is() -> None:
    token = CancelToken()
    done: list[float] = []

    def progress(share: float) -> None:
        done.append(share)
        if len(done) == 3:
            token.cancel()

    found = places([item(f"i{number}") for number in range(9)], None, 0)
    measured = measure({"a": FakeArm()}, found, token, progress=progress)["a"]
    assert (done, len(measured.outcomes)) == ([1 / 9, 2 / 9, 3 / 9], 3)
    assert measure({"a": FakeArm()}, [], CancelToken())["a"].nll is None


class SlowArm(FakeArm):
    """Each likelihood takes a second, each suggestion two."""

    now = 0.0

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        self.now += 1
        return super().likelihood(context, middle)

    def complete(self, context: CompletionContext) -> Answer:
        self.now += 2
        return super().complete(context)


@pytest.mark.parametrize(
    ("effort", "measured", "generated"),
    [
        (Effort(), 30, 30),
        (Effort(seconds=12), 8, 2),  # 2 places of three seconds, and 6 of one
        (Effort(seconds=12, generations=1), 10, 1),
        (Effort(seconds=12, least_places=20), 20, 2),
        (Effort(seconds=12, least_generations=3), 6, 3),
        (Effort(seconds=12, least_places=9, least_generations=9), 9, 9),
        (Effort(seconds=0), 0, 0),
        (Effort(seconds=0, least_places=4, least_generations=2), 4, 2),
        (Effort(seconds=1000, least_places=40, least_generations=40), 30, 30),
    ],
)
def test_it_ends_in_time_but_for_the_least_that_is_needed(effort: Effort, measured: int, generated: int) -> None:
    arm, shares = SlowArm(), list[float]()
    found = places([item(f"i{number}") for number in range(30)], None, 0)
    one = measure({"a": arm}, found, CancelToken(), effort, lambda: arm.now, shares.append)["a"]
    assert (len(one.outcomes), one.generated) == (measured, generated)
    assert list(one.outcomes) == [place.item.task_id for place in found[:measured]], "the first ones"
    assert shares == sorted(shares) and all(0 < share <= 1 for share in shares)
    if measured:
        assert shares[-1] == 1


def middle(at: Item) -> str | None:
    return next((place.middle for place in places([at], None, 0)), None)


def test_the_middle_is_what_serving_would_be_asked_for() -> None:
    assert middle(item(truth="compute(1)\nmore()")) == "compute(1)", "a line has begun: the rest of it"
    block = item(prefix="def f():\r\n    ", truth="a = 1\r\n    return a\r\n", suffix="")
    assert middle(block) == "a = 1\n    return a"
    assert middle(item(truth="   ")) is None
    assert middle(item(prefix="val", truth="ue", suffix="_of(x)")) is None, "inside a word nothing is suggested"
    assert len(middle(item(truth="x" * 5000)) or "") == LONGEST_MIDDLE


def test_stop_errors_and_what_runs_on() -> None:
    block = item(prefix="def f():\n    ", truth="a = 1\n    return a", suffix="\n\nlast()\n")
    right = measured_one(Answer("a = 1\n    return a", raw="a = 1\n    return a"), block)
    early = measured_one(Answer("a = 1", raw="a = 1"), replace(block, truth_block="a = 1\n    b = 2\n    return a + b"))
    late = measured_one(Answer("a = 1\n    b\n    c\n    d", raw=""), block)
    cut = measured_one(Answer("a = 1\n    return a", raw="", broken_off=True), block)
    nothing = measured_one(Answer(None), block)
    found = [(one.stop_error, one.runs_on) for one in (right, early, late, cut, nothing)]  # type: ignore[attr-defined]
    assert found == [(False, False), (True, False), (True, True), (True, True), (False, False)]


def test_repeating_the_suffix_is_seen_before_filters_and_not_where_the_author_did_it() -> None:
    block = item(prefix="def f():\n    ", truth="a = 1\n    done()", suffix="\n    done()\n    end()\n")
    raw = "a = 1\n    done()"
    assert not measured_one(Answer("a = 1", raw=raw), block).repeats_suffix  # type: ignore[attr-defined]
    twice = measured_one(Answer("a = 1", raw=raw + "\n    done()"), block)
    assert twice.repeats_suffix  # type: ignore[attr-defined]


def test_a_rate_needs_two_tokens() -> None:
    assert Answer("x", tokens=1, milliseconds=5).rate is None
    assert Answer("x", tokens=5, milliseconds=60).rate == 15


class Scripted:
    """An engine, and the service's generator, that gives one generation."""

    model_key = "scripted"
    context_tokens = 0

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.limits: Limits | None = None

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        self.limits = limits
        return self.generation

    def likelihood(self, context: CompletionContext, shape: PromptShape, middle: str) -> tuple[float, int]:
        return (1.5, 3) if shape.exact else (2.5, 3)

    def unavailable(self) -> RejectReason | None:
        return None

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
        future.set_result(self.generation)
        return future

    def prepare(self, context: CompletionContext, shape: PromptShape) -> Future[bool]:
        raise AssertionError("nothing is prepared here")


@pytest.mark.parametrize(
    ("text", "finish"),
    [
        ("compute(first, second)", Finish.STOP),
        ("compute(first, sec", Finish.LENGTH),
        ("compute(first, sec", Finish.DEADLINE),
        ("compute(first)\n    return 2\n    retu", Finish.LENGTH),
        ("total\n    return total", Finish.END),
        ("", Finish.END),
        ("   ", Finish.END),
        ("token = 'ghp_abcdefghijklmnopqrstuvwxyz0123456789'", Finish.STOP),
        ("a" * 3 + "ab" * 60, Finish.LENGTH),
        ("close()", Finish.STOP),
    ],
)
@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [("def f(a):\n    x = ", "\n"), ("def f(a):\n    ", "\n    close()\n"), ("print(", ")\r\nlast()\r\n")],
)
def test_an_arm_shows_what_the_service_shows(text: str, finish: Finish, prefix: str, suffix: str) -> None:
    scripted = Scripted(Generation(text, finish, token_ids=(1, 2, 3), decode_ms=30))
    request = CompletionRequest("file:///a.py", 1, "python", prefix, suffix, TriggerKind.INVOKED, "a.py")
    context = build_context(request)
    assert isinstance(context, CompletionContext)
    service = CompletionService(scripted, CompletionCache(1 << 20), Policy(work_ahead=False))
    served = asyncio.run(service.complete(request)).suggestion
    answer = EngineArm(scripted, Policy(), CancelToken()).complete(context)
    assert (answer.text, answer.replace) == ((served.text, served.replace) if served else (None, 0))
    assert (answer.raw, answer.tokens, answer.milliseconds) == (text, 3, 30)
    assert answer.broken_off == (finish in (Finish.LENGTH, Finish.DEADLINE))


def test_an_arm_obeys_the_settings_of_serving() -> None:
    scripted = Scripted(Generation("x", Finish.END))
    policy = Policy(max_line_tokens=7, max_block_tokens=70, shape=PromptShape(exact=True))
    arm = EngineArm(scripted, policy, CancelToken())
    line = CompletionContext("x = ", "\n", "python", Extent.LINE)
    for extent, most in ((Extent.LINE, 7), (Extent.BLOCK, 70)):
        arm.complete(replace(line, extent=extent))
        assert scripted.limits is not None and scripted.limits.max_tokens == most
    assert arm.likelihood(line, "1") == (1.5, 3)


def test_a_place_is_plain_data() -> None:
    (place,) = places([item()], None, 0)
    assert isinstance(place, Place) and (place.item, place.middle) == (item(), "compute(1)")
