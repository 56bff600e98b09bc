"""One completion from request to answer: gates, cache, generation in flight, debounce, model, filters.

While nobody waits the prompt of the request that is likely to come next is prepared.

Knows neither LSP nor torch. Runs on the event loop and never blocks it; the model is reached through ``Generator``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from traceback import format_tb
from typing import Protocol

from intract_lsp.completion import postprocess
from intract_lsp.completion.ahead import after_accepting, at_line_end
from intract_lsp.completion.cache import CachedText, CompletionCache
from intract_lsp.completion.context import CompletionContext, Extent, build_context
from intract_lsp.completion.debounce import AdaptiveDebounce
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptShape
from intract_lsp.completion.postprocess.partial import trim_partial
from intract_lsp.completion.request import (
    CompletionRequest,
    CompletionResult,
    RejectReason,
    Retrieved,
    Source,
    Suggestion,
    Timings,
    TriggerKind,
)
from intract_lsp.completion.retrieval import PATIENT_DEADLINE, LineContexts, Need, Retriever
from intract_lsp.completion.secret_files import holds_secrets
from intract_lsp.completion.stop import stop_rule

log = logging.getLogger(__name__)

HISTORY = 200
"""Results kept for ``intract.why`` and for the percentiles in the status."""


class Generator(Protocol):
    """Where texts come from: the inference worker."""

    @property
    def model_key(self) -> str:
        """What identifies the loaded model (and adapter); empty while there is none."""

    @property
    def context_tokens(self) -> int:
        """Room in a prompt for pieces of other files, by the device."""

    def unavailable(self) -> RejectReason | None:
        """Return why no text can be had at present, or ``None``."""

    def submit(
        self,
        key: str,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Future[Generation]:
        """Queue a generation in place of a queued one with the same key; ``on_text`` is called from another thread."""

    def prepare(self, context: CompletionContext, shape: PromptShape) -> Future[bool]:
        """Compute a prompt when nothing else is to be done, and leave off as soon as there is."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that the pipeline obeys; replaced as a whole when they change."""

    enabled: bool = True
    disabled_languages: frozenset[str] = frozenset()
    multi_line: str = "auto"
    max_line_tokens: int = 64
    max_block_tokens: int = 160
    shape: PromptShape = field(default_factory=PromptShape)
    deadline: float = 8.0
    """Seconds."""
    debounce: float | None = None
    """Seconds, or ``None`` to adapt to the typing."""
    work_ahead: bool = True
    """Prepare the prompt that is likely to be asked for next."""
    retrieval: bool = True
    """Show the model pieces of other files."""
    unretrieved_languages: frozenset[str] = frozenset()
    """Languages whose prompts hold the current file alone."""
    context_tokens: int = 0
    """Room for them; 0 means the model's own for its device."""
    definitions: bool = False
    """Show it what the names around the cursor stand for, too."""
    retrieval_deadline: float = 0.03
    """Seconds that finding them may hold up a request."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One entry of the history: ids, sizes and timings, never code."""

    uri: str
    language_id: str
    trigger: TriggerKind
    result: CompletionResult
    characters: int
    """Length of the suggestion."""


@dataclass
class _Flight:
    """A generation that is queued or running, and that later requests of the document may join."""

    context: CompletionContext
    scope: str
    token: CancelToken
    future: asyncio.Future[Generation]
    launched: float
    pieces: tuple[Retrieved, ...] = ()
    """Of other files, that the prompt holds."""
    retrieve_ms: float = 0.0
    text: str = ""
    cleaned: str | RejectReason = RejectReason.EMPTY
    """What the filters before the cache left of the text, once it has landed."""
    filter_ms: float = 0.0
    riders: int = 0
    typed: str = ""
    """What the user typed since, of the request that now rides along."""
    diverged: asyncio.Event = field(default_factory=asyncio.Event)

    def covers(self, context: CompletionContext) -> str | None:
        """Return what was typed since this flight began, if its text may still begin with that; else ``None``."""
        if context.suffix != self.context.suffix or not context.prefix.startswith(self.context.prefix):
            return None
        typed = context.prefix[len(self.context.prefix) :].replace("\r\n", "\n")
        return typed if _compatible(self.text, typed) else None

    def progress(self, text: str) -> None:
        self.text = text
        if not _compatible(text, self.typed):
            self.diverged.set()


def _compatible(text: str, typed: str) -> bool:
    """Whether a raw text, so far, may begin with what was typed once the filters have seen to its leading blanks."""
    text, typed = text.lstrip(" \t"), typed.lstrip(" \t")
    return text.startswith(typed) or typed.startswith(text)


@dataclass
class _Ticket:
    """The newest request of a document, as a task that a newer one can put an end to."""

    request: CompletionRequest
    task: asyncio.Task[CompletionResult]
    started: float
    waiting: int = 0
    """Callers: an editor may ask for the same place twice, for its popup and for its ghost text."""
    superseded: bool = False

    def serves(self, request: CompletionRequest) -> bool:
        """Whether this one's answer is that of another request, too; what the user asks for waits for no debounce."""
        patient = request.trigger is TriggerKind.AUTOMATIC or self.request.trigger is TriggerKind.INVOKED
        return patient and not self.superseded and replace(request, trigger=self.request.trigger) == self.request


_Filled = tuple[CompletionContext, tuple[Retrieved, ...], float]
"""A context with its pieces of other files, these with why, and the milliseconds that finding them took."""


class CompletionService:
    """Answers completion requests; of one document only the newest is pursued."""

    def __init__(
        self,
        generator: Generator,
        cache: CompletionCache,
        policy: Policy,
        clock: Callable[[], float] = time.monotonic,
        may_work_ahead: Callable[[], bool] = lambda: True,
        retriever: Retriever | None = None,
    ) -> None:
        """``may_work_ahead`` says whether the machine has power to spare, at once and each time."""
        self.contexts = None if retriever is None else LineContexts(retriever, clock)
        self._generator = generator
        self._cache = cache
        self._clock = clock
        self._may_work_ahead = may_work_ahead
        self._ahead: tuple[str, CompletionContext] | None = None
        """The model and the context of what is prepared, or was since the last generation."""
        self._preparations: set[asyncio.Task[None]] = set()
        self._tickets: dict[str, _Ticket] = {}
        self._flights: dict[str, _Flight] = {}
        self.policy = policy
        self.debounce = AdaptiveDebounce()
        self.history: deque[Answered] = deque(maxlen=HISTORY)
        self.model_calls = 0
        """Generations begun since the start."""
        self.accepted = 0
        """Suggestions that the user took."""
        self.prepared = 0
        """Prompts computed ahead, from beginning to end."""
        self.on_result: Callable[[CompletionRequest, CompletionResult], None] = lambda request, result: None
        """Called on the event loop with each answer of the pipeline."""
        self.on_accepted: Callable[[str], None] = lambda suggestion_id: None
        """Called on the event loop when the user has taken a suggestion."""

    @property
    def pending(self) -> bool:
        """Whether a request waits for its answer; may be asked on any thread."""
        return bool(self._tickets)

    async def complete(self, request: CompletionRequest) -> CompletionResult:
        """Return a suggestion or the reason for none, after at most the deadline and what one model step takes.

        A newer request of the same document makes this one return ``SUPERSEDED``. Cancelling the awaiting task stops
        the model within one step, unless a newer request has taken the generation over.
        """
        ticket = self._tickets.get(request.uri)
        if ticket is None or not ticket.serves(request):
            ticket = self._replace(ticket, request)
        ticket.waiting += 1
        try:
            result = await asyncio.shield(ticket.task)
        except asyncio.CancelledError:
            if ticket.superseded:
                return self._finish(request, CompletionResult(None, RejectReason.SUPERSEDED), ticket.started)
            if ticket.waiting == 1:
                ticket.task.cancel()
                self._finish(request, CompletionResult(None, RejectReason.CANCELLED), ticket.started)
            raise
        finally:
            ticket.waiting -= 1
            if not ticket.waiting and self._tickets.get(request.uri) is ticket:
                del self._tickets[request.uri]
        if result.suggestion is not None:
            # Not before the answer is on its way.
            asyncio.get_running_loop().call_soon(self._look_beyond, request, result.suggestion)
        return result

    def rest(self, request: CompletionRequest) -> None:
        """Take note that the cursor rests at a place: a completion may be asked for there, or at its line's end."""
        self._prepare(request)

    def forget(self, uri: str) -> None:
        """Stop what is under way for a document that was closed."""
        if self.contexts is not None:
            self.contexts.forget(uri)
        ticket = self._tickets.get(uri)
        if ticket is not None:
            ticket.superseded = True
            ticket.task.cancel()

    def note_refusal(self, uri: str, reason: RejectReason) -> None:
        """Record that a request was turned away, or its answer dropped, before or after the pipeline."""
        self.history.append(Answered(uri, "", TriggerKind.AUTOMATIC, CompletionResult(None, reason), 0))

    def accept(self, suggestion_id: str) -> bool:
        """Record that the user took a suggestion; returns whether it is one that was offered lately."""
        offered = (answered.result.suggestion for answered in self.history)
        known = any(suggestion is not None and suggestion.id == suggestion_id for suggestion in offered)
        self.accepted += known
        if known:
            self.on_accepted(suggestion_id)
        return known

    def clear_cache(self) -> None:
        """Forget all past suggestions."""
        self._cache.clear()
        if self.contexts is not None:
            self.contexts.clear()
        self._ahead = None

    def _replace(self, older: _Ticket | None, request: CompletionRequest) -> _Ticket:
        """Begin to answer a request, and put an end to the one before it."""
        started = self._clock()
        ticket = _Ticket(request, asyncio.ensure_future(self._pursue(request, started)), started)
        self._tickets[request.uri] = ticket
        if older is not None:
            older.superseded = True
            # Not at once: the new task must have had its chance to join the older one's generation.
            asyncio.get_running_loop().call_soon(older.task.cancel)
        return ticket

    async def _pursue(self, request: CompletionRequest, started: float) -> CompletionResult:
        return self._finish(request, await self._answer(request, started), started)

    def _finish(self, request: CompletionRequest, result: CompletionResult, started: float) -> CompletionResult:
        """Record how a request ended, and return that with the time it took."""
        total = (self._clock() - started) * 1000
        result = replace(result, timings=replace(result.timings, total=total), model=self._generator.model_key)
        self._record(request, result)
        return result

    async def _answer(self, request: CompletionRequest, started: float) -> CompletionResult:
        policy = self.policy
        refused = self._refusal(request)
        if refused is not None:
            return CompletionResult(None, refused)
        context = build_context(request, policy.multi_line)
        if isinstance(context, RejectReason):
            return CompletionResult(None, context)
        unavailable = self._generator.unavailable()
        if unavailable is not None:
            return CompletionResult(None, unavailable)
        scope = self._scope(request.uri)
        automatic = request.trigger is TriggerKind.AUTOMATIC
        hit = self._cache.get(scope, context.prefix, context.suffix)
        if hit is not None and (hit.text or automatic):
            if not hit.text:
                return CompletionResult(None, RejectReason.AFTER_ACCEPT if hit.typed else RejectReason.EMPTY)
            return self._polish(hit.text, context, Source.CACHE, Timings())
        if automatic:
            self.debounce.keystroke(started)
        flight = self._flights.get(request.uri)
        # What a cancelled request left behind is being stopped and carries nobody.
        if flight is not None and flight.scope == scope and not flight.token.cancelled:
            typed = flight.covers(context)
            if typed is not None:
                result = await self._ride(flight, typed, context, started)
                if result is not None:
                    return result
        if automatic:
            wait = policy.debounce if policy.debounce is not None else self.debounce.wait(context.line_prefix)
            filled, _ = await asyncio.gather(self._fill(request, context), asyncio.sleep(wait))
        else:
            filled = await self._fill(request, context)
        flight = self._launch(request.uri, scope, filled, started)
        result = await self._ride(flight, "", context, started)
        assert result is not None, "a flight cannot diverge from the context it was launched with"
        return result

    def _scope(self, uri: str) -> str:
        """Return what a suggestion in the cache depends on besides the text."""
        return f"{self._generator.model_key}|{uri}|{self.policy.multi_line}"

    def _refusal(self, request: CompletionRequest) -> RejectReason | None:
        """Return why a document gets no suggestions, wherever the cursor stands."""
        if not self.policy.enabled:
            return RejectReason.DISABLED
        if request.language_id in self.policy.disabled_languages:
            return RejectReason.LANGUAGE_OFF
        return RejectReason.SECRET_FILE if holds_secrets(request.path) else None

    def _look_beyond(self, request: CompletionRequest, suggestion: Suggestion) -> None:
        following = after_accepting(request, suggestion)
        if following is not None:
            self._prepare(following)

    def _prepare(self, request: CompletionRequest) -> None:
        """Have the prompt of a request computed that may come, unless that is under way or done."""
        policy = self.policy
        if not policy.work_ahead or policy.shape.exact or self._refusal(request) is not None:
            return
        # While a model is loading this can wait for it.
        if self._generator.unavailable() not in (None, RejectReason.LOADING) or not self._may_work_ahead():
            return
        context = build_context(request, policy.multi_line)
        if context in (RejectReason.MID_WORD, RejectReason.MID_LINE):
            context = build_context(at_line_end(request), policy.multi_line)
        if isinstance(context, RejectReason) or self._ahead == (self._generator.model_key, context):
            return
        if self._cache.get(self._scope(request.uri), context.prefix, context.suffix) is not None:
            return
        self._ahead = self._generator.model_key, context
        task = asyncio.ensure_future(self._prepare_filled(request, context))
        self._preparations.add(task)
        task.add_done_callback(self._preparations.discard)

    async def _prepare_filled(self, request: CompletionRequest, context: CompletionContext) -> None:
        filled, _, _ = await self._fill(request, context, PATIENT_DEADLINE)
        # A request that came meanwhile says better what will be asked for next.
        if self._ahead != (self._generator.model_key, context):
            return
        loop = asyncio.get_running_loop()

        def ended(future: Future[bool]) -> None:
            if not future.cancelled() and future.exception() is None and future.result():
                with contextlib.suppress(RuntimeError):  # the loop may have closed meanwhile
                    loop.call_soon_threadsafe(self._count_prepared)

        self._generator.prepare(filled, self.policy.shape).add_done_callback(ended)

    def _count_prepared(self) -> None:
        self.prepared += 1

    async def _fill(
        self, request: CompletionRequest, context: CompletionContext, deadline: float | None = None
    ) -> _Filled:
        """Add pieces of other files to a context, as the settings say."""
        policy = self.policy
        if self.contexts is None or not policy.retrieval or request.language_id in policy.unretrieved_languages:
            return context, (), 0.0
        need = Need(policy.context_tokens or self._generator.context_tokens, policy.definitions)
        wait = policy.retrieval_deadline if deadline is None else deadline
        return await self.contexts.fill(request, context, need, wait)

    def _launch(self, uri: str, scope: str, filled: _Filled, started: float) -> _Flight:
        policy = self.policy
        context, pieces, retrieve_ms = filled
        if self.contexts is not None:
            self.contexts.used(uri, pieces)
        loop = asyncio.get_running_loop()
        token = CancelToken()
        flight = _Flight(context, scope, token, loop.create_future(), self._clock(), pieces, retrieve_ms)
        limits = Limits(
            max_tokens=policy.max_block_tokens if context.extent is Extent.BLOCK else policy.max_line_tokens,
            deadline=started + policy.deadline,
            stop=stop_rule(context),
        )

        def on_text(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have closed while the model was decoding
                loop.call_soon_threadsafe(flight.progress, text)

        self.model_calls += 1
        self._ahead = None
        queued = self._generator.submit(uri, context, policy.shape, limits, token, on_text)
        flight.future = asyncio.wrap_future(queued)
        flight.future.add_done_callback(lambda future: self._landed(uri, flight, future))
        self._flights[uri] = flight
        return flight

    def _landed(self, uri: str, flight: _Flight, future: asyncio.Future[Generation]) -> None:
        """Keep what a generation gave, whether or not anybody still waits for it."""
        if self._flights.get(uri) is flight:
            del self._flights[uri]
        if future.cancelled() or future.exception() is not None:
            return
        generation, context = future.result(), flight.context
        began = self._clock()
        cleaned = postprocess.before_cache(_usable_text(generation, context), context)
        flight.filter_ms = (self._clock() - began) * 1000
        flight.cleaned = _why_broken_off(generation.finish, cleaned) if isinstance(cleaned, RejectReason) else cleaned
        complete = generation.finish in (Finish.END, Finish.STOP)
        text = "" if isinstance(cleaned, RejectReason) else cleaned
        # Another adapter may have come while this waited: what it wrote is not what the one before would have written.
        same_model = flight.scope == self._scope(uri)
        if same_model and (complete or (text and generation.finish is not Finish.CANCELLED)):
            self._cache.put(flight.scope, CachedText(context.prefix, context.suffix, text, complete))

    async def _ride(
        self, flight: _Flight, typed: str, context: CompletionContext, started: float
    ) -> CompletionResult | None:
        """Wait for a flight and answer from it; ``None`` where its text turned out not to begin with ``typed``."""
        flight.riders += 1
        flight.typed = typed
        diverged: asyncio.Future[bool] = asyncio.ensure_future(flight.diverged.wait())
        waited: set[asyncio.Future[Generation] | asyncio.Future[bool]] = {flight.future, diverged}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            diverged.cancel()
            flight.riders -= 1
            if flight.riders == 0 and not flight.future.done():
                flight.token.cancel()
        if not flight.future.done():
            return None
        try:
            generation = flight.future.result()
        except Exception as error:  # noqa: BLE001 - the user gets a reason, the log a trace, and the server goes on
            # Where, but not with which words: an error's message may quote the document.
            log.error("generation failed: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__)))
            return CompletionResult(None, RejectReason.ENGINE_ERROR)
        timings = _timings(generation, flight, started)
        cleaned = flight.cleaned
        if isinstance(cleaned, RejectReason):
            result = CompletionResult(None, cleaned, timings)
        elif not cleaned.startswith(typed) or len(cleaned) == len(typed):
            if typed:
                return None
            result = CompletionResult(None, RejectReason.EMPTY, timings)
        else:
            source = Source.IN_FLIGHT if typed else Source.MODEL
            result = self._polish(cleaned[len(typed) :], context, source, timings)
        return replace(result, pieces=flight.pieces)

    def _polish(self, text: str, context: CompletionContext, source: Source, timings: Timings) -> CompletionResult:
        """Apply the filters that run on each use, and say how long all of them took."""
        began = self._clock()
        polished = postprocess.after_cache(text, context)
        timings = replace(timings, filter=timings.filter + (self._clock() - began) * 1000)
        if isinstance(polished, RejectReason):
            return CompletionResult(None, polished, timings)
        suggestion = Suggestion(uuid.uuid4().hex[:12], polished.text, polished.replace, source)
        return CompletionResult(suggestion, None, timings)

    def _record(self, request: CompletionRequest, result: CompletionResult) -> None:
        length = len(result.suggestion.text) if result.suggestion else 0
        self.history.append(Answered(request.uri, request.language_id, request.trigger, result, length))
        self.on_result(request, result)
        outcome = result.suggestion.source.value if result.suggestion else _value(result.reject_reason)
        log.debug(
            "completion %s, %d characters, %.0f ms, %d+%d prompt tokens, %d generated",
            outcome,
            length,
            result.timings.total,
            result.timings.reused_tokens,
            result.timings.prompt_tokens - result.timings.reused_tokens,
            result.timings.generated_tokens,
        )


def _value(reason: RejectReason | None) -> str:
    return reason.value if reason is not None else ""


def _usable_text(generation: Generation, context: CompletionContext) -> str:
    """A text that was broken off is cut back to where it makes sense."""
    if generation.finish in (Finish.LENGTH, Finish.DEADLINE, Finish.CANCELLED):
        return trim_partial(generation.text, context)
    return generation.text


def _why_broken_off(finish: Finish, reason: RejectReason) -> RejectReason:
    """A text without use that was broken off has none because it was broken off."""
    return {Finish.DEADLINE: RejectReason.DEADLINE, Finish.CANCELLED: RejectReason.CANCELLED}.get(finish, reason)


def _timings(generation: Generation, flight: _Flight, started: float) -> Timings:
    """Stages as the engine measured them; the queue is all that the request waited before, the debounce included."""
    queue = generation.queue_ms + (flight.launched - started) * 1000
    return Timings(
        queue=max(0.0, queue - flight.retrieve_ms),
        retrieve=flight.retrieve_ms,
        tokenize=generation.tokenize_ms,
        prefill=generation.prefill_ms,
        decode=generation.decode_ms,
        filter=flight.filter_ms,
        prompt_tokens=generation.prompt_tokens,
        reused_tokens=generation.reused_tokens,
        generated_tokens=len(generation.token_ids),
    )
