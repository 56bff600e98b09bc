from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.completion.request import RejectReason
from intract_lsp.errors import AdapterError, ModelError
from intract_lsp.inference.engine import AdapterFiles, EngineState, EngineStatus, LoadOrder, ModelCard, ReportProgress
from intract_lsp.inference.worker import InferenceWorker

PATIENCE = 20.0
"""Seconds after which something that should have happened has not."""


@dataclass
class Step:
    """A call of the fake engine that runs until the test says how it ends, or its token is cancelled."""

    kind: str
    token: CancelToken
    order: LoadOrder | None = None
    prefix: str = ""
    report: ReportProgress | None = None
    on_text: Callable[[str], None] | None = None
    thread: str = field(default_factory=lambda: threading.current_thread().name)
    error: Exception | None = None
    _released: threading.Event = field(default_factory=threading.Event)

    def release(self, error: Exception | None = None) -> None:
        self.error = error
        self._released.set()

    def run(self) -> None:
        """Return when released or cancelled, as an engine does that looks at its token at each step."""
        while not self._released.wait(0.002) and not self.token.cancelled:
            pass
        if self.error is not None:
            raise self.error


class FakeEngine:
    def __init__(self) -> None:
        self.steps: queue.Queue[Step] = queue.Queue()
        self.log: list[str] = []

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        self.log.append(f"load {order.model}")
        step = Step("load", token, order=order, report=report)
        self.steps.put(step)
        step.run()
        if token.cancelled:
            raise ModelError("The load was cancelled.")
        return ModelCard(order.model, "none", "cpu", "float32", 0, 1, PromptBudget(1, 1), ("A note.",))

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        self.log.append(f"generate {context.prefix}")
        step = Step("generate", token, prefix=context.prefix, on_text=on_text)
        self.steps.put(step)
        step.run()
        return Generation(context.prefix.upper(), Finish.CANCELLED if token.cancelled else Finish.END)

    def prepare(self, context: CompletionContext, shape: PromptShape, token: CancelToken) -> bool:
        self.log.append(f"prepare {context.prefix}")
        step = Step("prepare", token, prefix=context.prefix)
        self.steps.put(step)
        step.run()
        return not token.cancelled

    def swap(self, adapter: AdapterFiles | None, report: ReportProgress, token: CancelToken) -> ModelCard:
        name = adapter.id if adapter is not None else ""
        self.log.append(f"swap {name}")
        step = Step("swap", token)
        self.steps.put(step)
        step.run()
        if token.cancelled:
            raise AdapterError("The swap was cancelled.")
        return ModelCard("m", "none", "cpu", "float32", 0, 1, PromptBudget(1, 1), ("A note.",), adapter=name)

    def forget(self) -> None:
        self.log.append("forget")

    def unload(self) -> None:
        self.log.append("unload")

    def next(self, kind: str) -> Step:
        """The call that the worker's thread makes next, once it does."""
        step = self.steps.get(timeout=PATIENCE)
        assert step.kind == kind
        return step


class Stage:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.worker = InferenceWorker(self.engine)
        self.statuses: list[EngineStatus] = []
        self.worker.on_status = self.statuses.append
        self.worker.start()

    @property
    def states(self) -> list[str]:
        return [status.state.value for status in self.statuses]

    def loaded(self, model: str = "m") -> Stage:
        future = self.worker.load(LoadOrder(model))
        self.engine.next("load").release()
        future.result(PATIENCE)
        return self

    def submit(self, prefix: str, key: str = "a", token: CancelToken | None = None) -> Future[Generation]:
        context = CompletionContext(prefix, "", "python", Extent.LINE)
        limits = Limits(5, 1e12, lambda text: None)
        return self.worker.submit(key, context, PromptShape(), limits, token or CancelToken(), lambda text: None)

    def swap(self, adapter: str) -> Future[ModelCard]:
        return self.worker.swap(AdapterFiles(adapter, Path(adapter)) if adapter else None)

    def prepare(self, prefix: str) -> Future[bool]:
        return self.worker.prepare(CompletionContext(prefix, "", "python", Extent.LINE), PromptShape())

    def answer(self, prefix: str) -> Generation:
        future = self.submit(prefix)
        self.engine.next("generate").release()
        return future.result(PATIENCE)

    def idle(self) -> None:
        """Wait until everything sent before is done."""
        self.worker.forget().result(PATIENCE)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.worker.stop(PATIENCE)
    assert "intract-inference" not in [thread.name for thread in threading.enumerate()]


# --- loading


def test_a_load_step_by_step(stage: Stage) -> None:
    assert stage.worker.status == EngineStatus(EngineState.ABSENT)
    assert stage.worker.unavailable() is RejectReason.NO_MODEL
    assert stage.worker.model_key == ""
    future = stage.worker.load(LoadOrder("m"))
    step = stage.engine.next("load")
    assert step.thread == "intract-inference"
    assert stage.worker.unavailable() is RejectReason.LOADING
    assert step.report is not None
    step.report("Fetching m", 0.25)
    step.report("Warming up", None)
    step.release()
    assert future.result(PATIENCE).name == "m"
    assert stage.statuses == [
        EngineStatus(EngineState.LOADING, "m", "Loading the model"),
        EngineStatus(EngineState.LOADING, "m", "Fetching m", 0.25),
        EngineStatus(EngineState.LOADING, "m", "Warming up"),
        EngineStatus(EngineState.READY, "m", "A note."),
    ]
    assert stage.worker.unavailable() is None
    assert stage.worker.model_key == "m@float32"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ModelError("The file is damaged."), "The file is damaged."),
        (RuntimeError("bad magic"), "m could not be loaded (RuntimeError: bad magic)."),
    ],
)
def test_a_load_that_fails_says_why_and_the_next_one_works(stage: Stage, error: Exception, says: str) -> None:
    future = stage.worker.load(LoadOrder("m"))
    stage.engine.next("load").release(error)
    with pytest.raises(ModelError, match=r"\.$") as caught:
        future.result(PATIENCE)
    assert str(caught.value) == says
    assert stage.statuses[-1] == EngineStatus(EngineState.FAILED, "m", says)
    assert stage.worker.unavailable() is RejectReason.MODEL_FAILED
    with pytest.raises(ModelError, match="No model is loaded"):
        stage.submit("x").result(PATIENCE)
    stage.loaded("other")
    assert stage.states[-1] == "ready"
    assert stage.answer("x").text == "X"


def test_the_old_model_serves_nobody_while_a_new_one_loads(stage: Stage) -> None:
    stage.loaded("old")
    future = stage.worker.load(LoadOrder("new"))
    step = stage.engine.next("load")
    assert stage.worker.unavailable() is RejectReason.LOADING
    assert stage.worker.model_key == ""
    step.release()
    assert future.result(PATIENCE).name == "new"


def test_a_newer_load_cancels_the_older_and_drops_those_between(stage: Stage) -> None:
    first = stage.worker.load(LoadOrder("first"))
    step = stage.engine.next("load")
    second = stage.worker.load(LoadOrder("second"))
    third = stage.worker.load(LoadOrder("third"))
    assert step.token.cancelled
    with pytest.raises(ModelError, match="cancelled"):
        first.result(PATIENCE)
    with pytest.raises(CancelledError):
        second.result(PATIENCE)
    stage.engine.next("load").release()
    assert third.result(PATIENCE).name == "third"
    assert stage.engine.log == ["load first", "load third"]


def test_who_orders_a_model_is_never_told_that_there_is_none() -> None:
    worker = InferenceWorker(engine := FakeEngine())
    seen: list[EngineState] = []
    worker.on_status = lambda status: seen.append(worker.status.state)
    first = worker.load(LoadOrder("first"))
    # The thread has not begun: a slow one is like this for a while.
    assert worker.status == EngineStatus(EngineState.LOADING, "first", "Loading the model")
    assert worker.unavailable() is RejectReason.LOADING
    worker.start()
    engine.next("load")
    second = worker.load(LoadOrder("second"))
    with pytest.raises(ModelError, match="cancelled"):
        first.result(PATIENCE)
    assert worker.status.model == "second"
    engine.next("load").release()
    second.result(PATIENCE)
    assert worker.status.state is EngineState.READY
    assert set(seen) == {EngineState.LOADING, EngineState.READY}
    third = worker.load(LoadOrder("third"))
    worker.stop(PATIENCE)
    with pytest.raises((CancelledError, ModelError)):
        third.result(PATIENCE)
    assert worker.status.state is not EngineState.LOADING


def test_cancel_load(stage: Stage) -> None:
    stage.worker.cancel_load()  # nothing is under way
    future = stage.worker.load(LoadOrder("m"))
    stage.engine.next("load")
    stage.worker.cancel_load()
    with pytest.raises(ModelError, match="cancelled"):
        future.result(PATIENCE)
    assert stage.states[-1] == "absent", "who cancels has seen no failure"
    assert stage.worker.unavailable() is RejectReason.NO_MODEL
    stage.loaded()
    stage.worker.cancel_load()
    assert stage.worker.unavailable() is None


def test_the_model_rests_between_requests_until_the_next_load(stage: Stage) -> None:
    running = stage.loaded().submit("running")
    step = stage.engine.next("generate")
    rested = stage.worker.rest("Something needs the memory.")
    assert not rested.done(), "who was asked before is answered"
    step.release()
    rested.result(PATIENCE)
    assert running.result(PATIENCE).text == "RUNNING"
    assert stage.engine.log[-1] == "unload"
    assert stage.worker.status == EngineStatus(EngineState.RESTING, "m", "Something needs the memory.")
    assert (stage.worker.card, stage.worker.unavailable()) == (None, RejectReason.RESTING)
    with pytest.raises(ModelError):
        stage.submit("asked meanwhile").result(PATIENCE)
    stage.loaded("again")
    assert (stage.worker.unavailable(), stage.states[-1]) == (None, "ready")


def test_a_model_on_its_way_is_not_waited_for_by_a_rest(stage: Stage) -> None:
    first = stage.worker.load(LoadOrder("first"))
    stage.engine.next("load")
    waiting = stage.worker.load(LoadOrder("waiting"))
    stage.worker.rest("Something needs the memory.").result(PATIENCE)
    with pytest.raises(ModelError):
        first.result(PATIENCE)
    with pytest.raises(CancelledError):
        waiting.result(PATIENCE)
    assert stage.worker.status.state is EngineState.RESTING
    assert stage.engine.log == ["load first", "unload"]


def test_a_load_waits_for_the_generation_that_runs(stage: Stage) -> None:
    stage.loaded("old")
    generation = stage.submit("x")
    running = stage.engine.next("generate")
    load = stage.worker.load(LoadOrder("new"))
    assert stage.worker.model_key == "old@float32"
    running.release()
    assert generation.result(PATIENCE).text == "X"
    stage.engine.next("load").release()
    assert load.result(PATIENCE).name == "new"


# --- swapping adapters


def test_a_swap_is_between_requests(stage: Stage) -> None:
    stage.loaded()
    before = stage.submit("1")
    running = stage.engine.next("generate")
    swapped = stage.swap("new")
    behind = stage.submit("2", key="b")
    assert stage.worker.model_key == "m@float32"
    running.release()
    assert before.result(PATIENCE).text == "1"
    step = stage.engine.next("swap")
    assert step.thread == "intract-inference"
    assert stage.worker.unavailable() is None, "what is asked meanwhile waits and is answered"
    step.release()
    assert swapped.result(PATIENCE).adapter == "new"
    assert stage.worker.model_key == "m@float32+new"
    stage.engine.next("generate").release()
    assert behind.result(PATIENCE).text == "2"
    stage.idle()
    assert stage.engine.log == ["load m", "generate 1", "swap new", "generate 2", "forget"]
    assert stage.statuses[-1] == EngineStatus(EngineState.READY, "m", "A note.")
    back = stage.swap("")
    stage.engine.next("swap").release()
    assert back.result(PATIENCE).adapter == ""
    assert stage.worker.model_key == "m@float32"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (AdapterError("It is damaged."), "It is damaged."),
        (RuntimeError("bad"), "The adapter could not be loaded (RuntimeError: bad)."),
    ],
)
def test_a_swap_that_fails_changes_nothing(stage: Stage, error: Exception, says: str) -> None:
    stage.loaded()
    future = stage.swap("old")
    stage.engine.next("swap").release()
    future.result(PATIENCE)
    failing = stage.swap("new")
    stage.engine.next("swap").release(error)
    with pytest.raises(AdapterError) as caught:
        failing.result(PATIENCE)
    assert str(caught.value) == says
    assert stage.worker.model_key == "m@float32+old"
    assert stage.answer("x").text == "X"
    stage.idle()
    assert stage.states[-1] == "ready"


def test_a_swap_without_a_model(stage: Stage) -> None:
    with pytest.raises(AdapterError, match="No model is loaded"):
        stage.swap("new").result(PATIENCE)
    assert stage.engine.log == []
    assert stage.states == []


def test_a_swap_that_waits_may_be_cancelled(stage: Stage) -> None:
    stage.loaded()
    stage.submit("1")
    running = stage.engine.next("generate")
    assert stage.swap("new").cancel()
    running.release()
    stage.idle()
    assert "swap new" not in stage.engine.log


# --- generating


def test_a_generation(stage: Stage) -> None:
    stage.loaded()
    future = stage.submit("x")
    step = stage.engine.next("generate")
    assert step.thread == "intract-inference"
    assert stage.worker.status == EngineStatus(EngineState.BUSY, "m", "A note.")
    step.release()
    generation = future.result(PATIENCE)
    assert (generation.text, generation.finish) == ("X", Finish.END)
    assert generation.queue_ms >= 0
    stage.idle()
    assert stage.states == ["loading", "ready", "busy", "ready"]


def test_the_time_in_the_queue_is_measured(stage: Stage) -> None:
    stage.loaded()
    stage.submit("x")
    waiting = stage.submit("y", key="b")
    first = stage.engine.next("generate")
    threading.Timer(0.05, first.release).start()
    stage.engine.next("generate").release()
    assert waiting.result(PATIENCE).queue_ms >= 45


def test_the_newest_of_a_document_replaces_a_queued_one(stage: Stage) -> None:
    stage.loaded()
    running = stage.submit("1", key="other")
    step = stage.engine.next("generate")
    older, of_another, newer = stage.submit("2"), stage.submit("3", key="b"), stage.submit("4")
    assert older.done()
    assert older.result() == Generation("", Finish.CANCELLED)
    assert not of_another.done()
    step.release()
    stage.engine.next("generate").release()
    stage.engine.next("generate").release()
    assert [future.result(PATIENCE).text for future in (running, of_another, newer)] == ["1", "3", "4"]
    assert stage.engine.log[1:] == ["generate 1", "generate 3", "generate 4"]


def test_the_one_that_runs_is_left_to_its_token(stage: Stage) -> None:
    stage.loaded()
    token = CancelToken()
    running = stage.submit("1", token=token)
    stage.engine.next("generate")
    newer = stage.submit("2")
    assert not running.done()
    token.cancel()
    assert running.result(PATIENCE).finish is Finish.CANCELLED
    stage.engine.next("generate").release()
    assert newer.result(PATIENCE).text == "2"


def test_what_is_cancelled_in_the_queue_costs_nothing(stage: Stage) -> None:
    stage.loaded()
    stage.submit("1", key="other")
    step = stage.engine.next("generate")
    token = CancelToken()
    queued = stage.submit("2", token=token)
    token.cancel()
    step.release()
    assert queued.result(PATIENCE).finish is Finish.CANCELLED
    stage.idle()
    assert "generate 2" not in stage.engine.log


def test_a_future_cancelled_in_the_queue_does_not_hurt_the_thread(stage: Stage) -> None:
    stage.loaded()
    stage.submit("1", key="other")
    step = stage.engine.next("generate")
    for key in "ab":
        assert stage.submit("2", key=key).cancel()
    assert stage.submit("3", key="a").cancel(), "replacing a cancelled one is no error either"
    load = stage.worker.load(LoadOrder("unwanted"))
    assert load.cancel()
    step.release()
    assert stage.answer("4").text == "4"
    assert stage.engine.log[1:] == ["generate 1", "generate 4"]


def test_an_engine_that_fails_spoils_one_request_only(stage: Stage) -> None:
    stage.loaded()
    future = stage.submit("1")
    stage.engine.next("generate").release(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        future.result(PATIENCE)
    assert stage.answer("2").text == "2"
    assert stage.engine.log[1:] == ["generate 1", "forget", "generate 2"], "what the failure left in the cache goes"
    stage.idle()
    assert stage.states[-1] == "ready"


def test_without_a_model_a_generation_fails(stage: Stage) -> None:
    with pytest.raises(ModelError, match="No model is loaded"):
        stage.submit("x").result(PATIENCE)
    assert stage.engine.log == []


def test_forget_waits_for_its_turn(stage: Stage) -> None:
    stage.loaded()
    stage.submit("1")
    step = stage.engine.next("generate")
    forgotten = stage.worker.forget()
    assert not forgotten.done()
    step.release()
    forgotten.result(PATIENCE)
    assert stage.engine.log[1:] == ["generate 1", "forget"]


# --- working ahead


def test_a_preparation_says_nothing_to_the_status(stage: Stage) -> None:
    stage.loaded()
    future = stage.prepare("1")
    step = stage.engine.next("prepare")
    assert (step.thread, stage.worker.status.state) == ("intract-inference", EngineState.READY)
    step.release()
    assert future.result(PATIENCE) is True
    assert stage.states == ["loading", "ready"]


def test_a_preparation_waits_until_nothing_else_is_to_be_done(stage: Stage) -> None:
    stage.loaded()
    stage.submit("1")
    stage.submit("2", key="b")
    prepared = stage.prepare("ahead")
    stage.engine.next("generate").release()
    stage.engine.next("generate").release()
    stage.engine.next("prepare").release()
    assert prepared.result(PATIENCE) is True
    assert stage.engine.log[1:] == ["generate 1", "generate 2", "prepare ahead"]


@pytest.mark.parametrize("message", ["submit", "load", "swap", "forget"])
@pytest.mark.parametrize("waiting", [False, True])
def test_any_message_ends_a_preparation_within_a_step(stage: Stage, message: str, waiting: bool) -> None:
    stage.loaded()
    if waiting:
        stage.submit("1", key="other")
        running = stage.engine.next("generate")
    prepared = stage.prepare("ahead")
    step = running if waiting else stage.engine.next("prepare")
    future: Future[Any] = {
        "submit": lambda: stage.submit("2"),
        "load": lambda: stage.worker.load(LoadOrder("other")),
        "swap": lambda: stage.swap("other"),
        "forget": stage.worker.forget,
    }[message]()
    # One that waits is dropped at once; one that runs ends by itself, at its next look at the token.
    assert prepared.done() if waiting else step.token.cancelled
    if waiting:
        assert not step.token.cancelled
        step.release()
    assert prepared.result(PATIENCE) is False
    if message != "forget":
        stage.engine.next("generate" if message == "submit" else message).release()
    future.result(PATIENCE)
    assert stage.engine.log.count("prepare ahead") == (0 if waiting else 1)


def test_a_newer_preparation_takes_the_place_of_the_older(stage: Stage) -> None:
    stage.loaded()
    first = stage.prepare("1")
    running = stage.engine.next("prepare")
    second, third = stage.prepare("2"), stage.prepare("3")
    assert running.token.cancelled
    assert [future.result(PATIENCE) for future in (first, second)] == [False, False]
    stage.engine.next("prepare").release()
    assert third.result(PATIENCE) is True
    assert stage.engine.log[1:] == ["prepare 1", "prepare 3"]


def test_without_a_model_nothing_is_prepared_and_while_one_loads_it_waits(stage: Stage) -> None:
    assert stage.prepare("1").result(PATIENCE) is False
    loading = stage.worker.load(LoadOrder("m"))
    step = stage.engine.next("load")
    prepared = stage.prepare("2")
    step.release()
    loading.result(PATIENCE)
    stage.engine.next("prepare").release()
    assert prepared.result(PATIENCE) is True
    assert stage.engine.log == ["load m", "prepare 2"]


def test_a_preparation_that_fails_is_logged_and_spoils_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.loaded()
    future = stage.prepare("1")
    stage.engine.next("prepare").release(RuntimeError("the user's words"))
    assert future.result(PATIENCE) is False
    assert stage.answer("2").text == "2"
    assert stage.engine.log[1:] == ["prepare 1", "forget", "generate 2"], "what the failure left in the cache goes"
    assert "RuntimeError" in caplog.text
    assert "the user's words" not in caplog.text


def test_a_future_of_a_preparation_may_be_cancelled(stage: Stage) -> None:
    stage.loaded()
    stage.submit("1")
    running = stage.engine.next("generate")
    assert stage.prepare("ahead").cancel()
    stage.prepare("ahead")
    running.release()
    stage.engine.next("prepare").release()
    stage.idle()


# --- the end


@pytest.mark.parametrize("running", ["nothing", "load", "swap", "generate", "prepare"])
def test_stop_ends_what_runs_and_what_waits(running: str) -> None:
    stage = Stage()
    waiting: list[Future[Any]] = []
    under_way: Future[Any] | None = None
    if running == "load":
        under_way = stage.worker.load(LoadOrder("m"))
        stage.engine.next("load")
    elif running == "swap":
        stage.loaded()
        under_way = stage.swap("new")
        stage.engine.next("swap")
    elif running == "generate":
        stage.loaded()
        under_way = stage.submit("1", key="other")
        stage.engine.next("generate")
    elif running == "prepare":
        stage.loaded()
        under_way = stage.prepare("1")
        stage.engine.next("prepare")
    if running in ("load", "swap", "generate"):
        waiting = [stage.submit("2"), stage.swap("late"), stage.worker.forget()]
    dropped = stage.prepare("3") if running in ("load", "swap", "generate") else None
    stage.worker.stop(PATIENCE)
    assert dropped is None or dropped.result() is False
    assert under_way is None or under_way.done()
    assert all(future.cancelled() for future in waiting)
    assert stage.engine.log[-1] == "unload"
    assert "intract-inference" not in [thread.name for thread in threading.enumerate()]
    late: list[Future[Any]] = [
        *(stage.submit("3"), stage.worker.load(LoadOrder("m"))),
        *(stage.worker.forget(), stage.prepare("3"), stage.swap("late")),
    ]
    assert all(future.cancelled() for future in late)
    stage.worker.stop(PATIENCE)


def test_stop_without_a_start() -> None:
    InferenceWorker(FakeEngine()).stop()


def test_many_threads_at_once(stage: Stage) -> None:
    """Every future ends, whoever asks while whatever else happens."""
    stage.loaded()
    futures: queue.Queue[Future[Any]] = queue.Queue()

    def ask(name: str) -> None:
        for index in range(50):
            token = CancelToken()
            futures.put(stage.submit(f"{name}{index}", key=name if index % 2 else "shared", token=token))
            if index % 3 == 0:
                token.cancel()
            if index % 10 == 9:
                futures.put(stage.worker.forget())
            if index % 5 == 4:
                futures.put(stage.prepare(name))

    finished = threading.Event()

    def play() -> None:
        while not finished.is_set():
            try:
                stage.engine.steps.get(timeout=0.01).release()
            except queue.Empty:
                continue

    player = threading.Thread(target=play)
    player.start()
    askers = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(PATIENCE)
    results = [futures.get_nowait().result(PATIENCE) for _ in range(futures.qsize())]
    finished.set()
    player.join(PATIENCE)
    assert len(results) == 4 * 65
    stage.idle()
    assert stage.states[-1] == "ready"
