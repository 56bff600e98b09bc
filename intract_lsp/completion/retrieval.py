"""What the pipeline asks of the workspace: pieces of other files that help at a cursor, within a few milliseconds.

The pieces are chosen once a line, by what stands around the line and not by what is typed on it: while a line is typed
the prompt before it, and with it its keys and values, stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from traceback import format_tb
from typing import Protocol

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.request import CompletionRequest, Retrieved

log = logging.getLogger(__name__)

LINES_KEPT = 32
"""Lines whose pieces are remembered."""

KEY_CHARACTERS = 4096
"""Text above a line by which it is known again."""

PATIENT_DEADLINE = 1.0
"""Seconds that may pass while nobody waits."""


@dataclass(frozen=True, slots=True)
class Need:
    """What is wanted."""

    tokens: int
    """Room for all pieces together."""
    definitions: bool = False
    """Whether what the names around the line stand for is wanted, too."""


@dataclass(frozen=True, slots=True)
class Question:
    """A place in a document that pieces are wanted for."""

    uri: str
    path: str
    """Inside the workspace, with ``/``; empty where the document is in none."""
    language_id: str
    above: str
    """The text before the cursor's line."""
    below: str
    """The text behind the cursor's line."""
    need: Need
    present: tuple[Retrieved, ...] = ()
    """Of the document's last prompt, in its order: those that are chosen again keep their place."""


class Retriever(Protocol):
    """Finds pieces of other files."""

    def ask(self, question: Question) -> Future[tuple[Retrieved, ...]]:
        """Begin to look, at once and on another thread; the pieces are in the order in which they are to be shown."""


class LineContexts:
    """The pieces of the lines that were asked about lately. Used on the event loop only."""

    def __init__(self, retriever: Retriever, clock: Callable[[], float] = time.monotonic) -> None:
        self._retriever = retriever
        self._clock = clock
        self._lines: OrderedDict[tuple[str, int], tuple[Retrieved, ...]] = OrderedDict()
        self._present: dict[str, tuple[Retrieved, ...]] = {}
        self.asked = 0
        """Questions put to the retriever."""
        self.late = 0
        """Those whose answer came after the deadline and was left out."""

    async def fill(
        self, request: CompletionRequest, context: CompletionContext, need: Need, deadline: float
    ) -> tuple[CompletionContext, tuple[Retrieved, ...], float]:
        """Return the context with its line's pieces, these with why, and the milliseconds that finding them took.

        After ``deadline`` seconds, or where looking fails, the pieces of the document's last prompt have to do.
        """
        began = self._clock()
        key = request.uri, hash((context.above[-KEY_CHARACTERS:], need))
        found = self._lines.get(key)
        if found is None:
            found = await self._ask(request, context, need, deadline)
            self._lines[key] = found
            if len(self._lines) > LINES_KEPT:
                self._lines.popitem(last=False)
        self._lines.move_to_end(key)
        chunks = tuple(each.chunk for each in found)
        return replace(context, chunks=chunks), found, (self._clock() - began) * 1000

    def used(self, uri: str, pieces: tuple[Retrieved, ...]) -> None:
        """Take note of what a document's prompt holds now."""
        self._present[uri] = pieces

    def forget(self, uri: str) -> None:
        """Drop what is known of a document."""
        self._present.pop(uri, None)
        for key in [key for key in self._lines if key[0] == uri]:
            del self._lines[key]

    def clear(self) -> None:
        """Drop everything, so that each line is asked about again."""
        self._lines.clear()
        self._present.clear()

    async def _ask(
        self, request: CompletionRequest, context: CompletionContext, need: Need, deadline: float
    ) -> tuple[Retrieved, ...]:
        present = self._present.get(request.uri, ())
        place = request.uri, request.path, request.language_id, context.above, context.below
        question = Question(*place, need, present)
        self.asked += 1
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._retriever.ask(question)), deadline)
        except asyncio.TimeoutError:
            self.late += 1
        except Exception as error:  # noqa: BLE001 - a completion without context is better than none
            # Where, but not with which words: an error's message may quote the document.
            log.error(
                "looking for context failed: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__))
            )
        return present
