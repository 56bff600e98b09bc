"""The thread that owns the model. Others leave messages; of one document only the newest request stays queued.

When nothing waits, one prompt that may be asked for next is prepared; any other message puts an end to that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from traceback import format_tb

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptShape
from intract_lsp.completion.request import RejectReason
from intract_lsp.errors import AdapterError, IntractError, ModelError
from intract_lsp.inference.engine import (
    AdapterFiles,
    CompletionEngine,
    EngineState,
    EngineStatus,
    LoadOrder,
    ModelCard,
)

log = logging.getLogger(__name__)

PAUSE = 0.05
"""Seconds after an answer before idle work begins: the next keystroke of a fast typist is not held up by it."""


@dataclass(frozen=True, slots=True)
class _Load:
    order: LoadOrder
    token: CancelToken
    future: Future[ModelCard]


@dataclass(frozen=True, slots=True)
class _Swap:
    adapter: AdapterFiles | None
    token: CancelToken
    future: Future[ModelCard]


@dataclass(frozen=True, slots=True)
class _Generate:
    key: str
    context: CompletionContext
    shape: PromptShape
    limits: Limits
    token: CancelToken
    on_text: Callable[[str], None]
    future: Future[Generation]
    queued_at: float


@dataclass(frozen=True, slots=True)
class _Rest:
    sentence: str
    future: Future[None]


@dataclass(frozen=True, slots=True)
class _Forget:
    future: Future[None]


@dataclass(frozen=True, slots=True)
class _Prepare:
    context: CompletionContext
    shape: PromptShape
    token: CancelToken
    future: Future[bool]


_Message = _Load | _Rest | _Swap | _Generate | _Forget
"""What waits in the inbox, first come, first served."""


_WITH_MODEL = (EngineState.READY, EngineState.BUSY)


def _begun(order: LoadOrder) -> EngineStatus:
    return EngineStatus(EngineState.LOADING, order.model, "Loading the model")


class InferenceWorker:
    """Runs an engine on a thread of its own; every public method may be called from any thread and returns at once."""

    def __init__(self, engine: CompletionEngine) -> None:
        self._engine = engine
        self._inbox: deque[_Message] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._idle_from = 0.0
        """When, on the monotonic clock, idle work may begin."""
        self._due: _Load | None = None
        """What was ordered last, until the status says so."""
        self._loading: CancelToken | None = None
        self._running: CancelToken | None = None
        self._ahead: _Prepare | None = None
        """What to do when the inbox is empty."""
        self._preparing: CancelToken | None = None
        self._status = EngineStatus(EngineState.ABSENT)
        self._thread = threading.Thread(target=self._run, name="intract-inference", daemon=True)
        self.on_status: Callable[[EngineStatus], None] = lambda status: None
        """Called on the worker's thread with each change of state."""
        self.card: ModelCard | None = None
        """What is loaded; ``None`` while nothing is."""

    @property
    def status(self) -> EngineStatus:
        """The present state; where there is no model, one that was ordered counts as being loaded."""
        with self._wake:
            due = self._due
            if due is None or due.future.cancelled() or self._status.state in _WITH_MODEL:
                return self._status
            return _begun(due.order)

    @property
    def model_key(self) -> str:
        """The loaded model's name, number format and adapter, or an empty string."""
        card = self.card
        if card is None:
            return ""
        return f"{card.name}@{card.precision}" + (f"+{card.adapter}" if card.adapter else "")

    @property
    def context_tokens(self) -> int:
        """Room for pieces of other files in the loaded model's prompts."""
        return self.card.budget.context if self.card else 0

    def unavailable(self) -> RejectReason | None:
        """Return why no text can be had at present, or ``None``."""
        if self.card is not None:
            return None
        return {
            EngineState.LOADING: RejectReason.LOADING,
            EngineState.RESTING: RejectReason.RESTING,
            EngineState.FAILED: RejectReason.MODEL_FAILED,
        }.get(self.status.state, RejectReason.NO_MODEL)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Cancel what runs, drop what waits, and wait at most ``timeout`` seconds for the thread; whether it ended."""
        with self._wake:
            self._stopping = True
            for message in self._inbox:
                message.future.cancel()
            self._inbox.clear()
            self._yield()
            for token in (self._loading, self._running):
                if token is not None:
                    token.cancel()
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def load(self, order: LoadOrder) -> Future[ModelCard]:
        """Load a model in place of the present one; a load that is under way is cancelled."""
        message = _Load(order, CancelToken(), Future())
        with self._wake:
            self._drop_loads()
            self._put(message)
            self._due = message
        return message.future

    def rest(self, sentence: str) -> Future[None]:
        """Let go of the model, or of one that is on its way, until the next ``load``; the status says ``sentence``."""
        message = _Rest(sentence, Future())
        with self._wake:
            self._drop_loads()
            self._due = None
            self._put(message)
        return message.future

    def swap(self, adapter: AdapterFiles | None) -> Future[ModelCard]:
        """Serve with another adapter, or with none; requests made before are answered by the old one.

        The future fails with ``AdapterError`` where that cannot be done: the old one then goes on serving.
        """
        message = _Swap(adapter, CancelToken(), Future())
        with self._wake:
            self._put(message)
        return message.future

    def cancel_load(self) -> None:
        """Stop the load that is under way, if any; what it has fetched is kept for the next one."""
        with self._wake:
            if self._loading is not None:
                self._loading.cancel()

    def submit(
        self,
        key: str,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Future[Generation]:
        """Queue a generation; see ``Generator.submit``. Its future fails with ``ModelError`` without a model."""
        message = _Generate(key, context, shape, limits, token, on_text, Future(), time.monotonic())
        with self._wake:
            for waiting in [m for m in self._inbox if isinstance(m, _Generate) and m.key == key]:
                self._inbox.remove(waiting)
                if waiting.future.set_running_or_notify_cancel():
                    waiting.future.set_result(Generation("", Finish.CANCELLED))
            self._put(message)
        return message.future

    def forget(self) -> Future[None]:
        """Drop the KV cache, so that the next generation starts cold."""
        message = _Forget(Future())
        with self._wake:
            self._put(message)
        return message.future

    def prepare(self, context: CompletionContext, shape: PromptShape) -> Future[bool]:
        """Compute a prompt ahead once nothing else is to be done; in place of the one that is prepared or waits to be.

        The future gets whether all of the prompt was computed; any other message ends the work within one step.
        The status says nothing of it.
        """
        message = _Prepare(context, shape, CancelToken(), Future())
        with self._wake:
            self._yield()
            if self._stopping:
                message.future.cancel()
            else:
                self._ahead = message
                self._wake.notify()
        return message.future

    def _drop_loads(self) -> None:
        """Cancel the load that is under way and those that wait; the caller holds the lock."""
        if self._loading is not None:
            self._loading.cancel()
        for waiting in [m for m in self._inbox if isinstance(m, _Load)]:
            self._inbox.remove(waiting)
            waiting.future.cancel()

    def _put(self, message: _Message) -> None:
        if self._stopping:
            message.future.cancel()
            return
        self._yield()
        self._inbox.append(message)
        self._wake.notify()

    def _yield(self) -> None:
        """Put an end to what is prepared, or waits to be; the caller holds the lock."""
        if self._preparing is not None:
            self._preparing.cancel()
        if self._ahead is not None:
            if self._ahead.future.set_running_or_notify_cancel():
                self._ahead.future.set_result(False)
            self._ahead = None

    def _run(self) -> None:
        while True:
            with self._wake:
                while (message := self._take()) is None and not self._stopping:
                    self._wake.wait(None if self._ahead is None else self._idle_from - time.monotonic())
            if message is None:
                break
            if not message.future.set_running_or_notify_cancel():
                continue
            if isinstance(message, _Prepare):
                self._prepare(message)
            elif isinstance(message, _Load):
                self._load(message)
            elif isinstance(message, _Rest):
                self._rest(message)
            elif isinstance(message, _Swap):
                self._swap(message)
            elif isinstance(message, _Generate):
                self._generate(message)
            else:
                self._engine.forget()
                message.future.set_result(None)
        self._engine.unload()

    def _take(self) -> _Message | _Prepare | None:
        """Take what is to be done next, if anything; the caller holds the lock."""
        idle = time.monotonic() >= self._idle_from
        message: _Message | _Prepare | None = self._inbox.popleft() if self._inbox else self._ahead if idle else None
        if isinstance(message, _Load):
            self._loading = message.token
        elif isinstance(message, _Swap | _Generate):
            self._running = message.token
        elif isinstance(message, _Prepare):
            self._ahead, self._preparing = None, message.token
        return message

    def _load(self, message: _Load) -> None:
        self.card = None
        self._report(_begun(message.order))
        with self._wake:
            if self._due is message:
                self._due = None

        def report(sentence: str, fraction: float | None) -> None:
            self._report(EngineStatus(EngineState.LOADING, message.order.model, sentence, fraction))

        try:
            card = self._engine.load(message.order, report, message.token)
        except IntractError as error:
            self._fail(message, error)
        except Exception as error:  # a load that breaks must leave the server serving
            log.exception("loading %s failed", message.order.model)
            self._fail(
                message, ModelError(f"{message.order.model} could not be loaded ({type(error).__name__}: {error}).")
            )
        else:
            self.card = card
            self._report(EngineStatus(EngineState.READY, card.name, " ".join(card.notes)))
            message.future.set_result(card)
        finally:
            with self._wake:
                self._loading = None

    def _fail(self, message: _Load, error: IntractError) -> None:
        state = EngineState.ABSENT if message.token.cancelled else EngineState.FAILED
        self._report(EngineStatus(state, message.order.model, str(error)))
        message.future.set_exception(error)

    def _rest(self, message: _Rest) -> None:
        self.card = None
        self._engine.unload()
        self._report(EngineStatus(EngineState.RESTING, self._status.model, message.sentence))
        message.future.set_result(None)

    def _swap(self, message: _Swap) -> None:
        """Have the engine swap; whatever happens, what the card says is what serves."""
        if self.card is None:
            message.future.set_exception(
                AdapterError("No model is loaded that an adapter could be used with: load one first.")
            )
            return
        idle = self._status
        name = message.adapter.id if message.adapter is not None else "no adapter"
        self._report(replace(idle, state=EngineState.BUSY))
        try:
            card = self._engine.swap(message.adapter, lambda sentence, fraction: None, message.token)
        except Exception as error:
            if not isinstance(error, IntractError):
                log.exception("swapping to %s failed", name)
                error = AdapterError(f"The adapter could not be loaded ({type(error).__name__}: {error}).")
            self._report(idle)
            message.future.set_exception(error)
        else:
            self.card = card
            log.info("swapped to %s", name)
            self._report(EngineStatus(EngineState.READY, card.name, " ".join(card.notes)))
            message.future.set_result(card)
        finally:
            with self._wake:
                self._running = None

    def _generate(self, message: _Generate) -> None:
        queue_ms = (time.monotonic() - message.queued_at) * 1000
        if message.token.cancelled:
            message.future.set_result(Generation("", Finish.CANCELLED, queue_ms=queue_ms))
            return
        if self.card is None:
            message.future.set_exception(ModelError("No model is loaded."))
            return
        idle = self._status
        self._report(replace(idle, state=EngineState.BUSY))
        try:
            generation = self._engine.generate(
                message.context, message.shape, message.limits, message.token, message.on_text
            )
        except Exception as error:  # noqa: BLE001 - the request fails with it, the thread must not
            self._engine.forget()
            message.future.set_exception(error)
        else:
            message.future.set_result(replace(generation, queue_ms=queue_ms))
        finally:
            with self._wake:
                self._running = None
                self._idle_from = time.monotonic() + PAUSE
            self._report(idle)

    def _prepare(self, message: _Prepare) -> None:
        done = False
        try:
            if self.card is not None:
                done = self._engine.prepare(message.context, message.shape, message.token)
        except Exception as error:  # noqa: BLE001 - nobody asked for it, so only the log hears of it
            # Where, but not with which words: an error's message may quote the document.
            trace = "".join(format_tb(error.__traceback__))
            log.error("preparing a prompt failed: %s\n%s", type(error).__name__, trace)
            self._engine.forget()
        finally:
            with self._wake:
                self._preparing = None
        message.future.set_result(done)

    def _report(self, status: EngineStatus) -> None:
        if status.state is not self._status.state and EngineState.BUSY not in (status.state, self._status.state):
            log.info("engine %s %s %s", status.state.value, status.model, status.message)
        self._status = status
        self.on_status(status)
