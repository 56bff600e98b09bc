"""What the pipeline asks of a model and what it gets back, in plain values that can cross a thread or a process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class CancelToken:
    """Set once by whoever wants a generation to stop; read by the decode loop at each step."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask for the generation to stop; safe from any thread and more than once."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()


class Finish(str, Enum):
    """Why a generation ended."""

    END = "end"
    """The model said that it was done."""
    STOP = "stop"
    """A stop rule cut it."""
    LENGTH = "length"
    """The token limit."""
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of another file to show the model before the current one."""

    path: str
    """Inside the workspace, with ``/``."""
    text: str


@dataclass(frozen=True, slots=True)
class PromptBudget:
    """Tokens of text to show the model (sentinels not counted)."""

    prefix: int
    """Before the cursor."""
    suffix: int
    """Behind it."""
    context: int = 0
    """Of other files, with their paths."""


@dataclass(frozen=True, slots=True)
class PromptShape:
    """How the text around the cursor becomes a prompt."""

    budget: PromptBudget | None = None
    """``None``, and a side of 0 tokens, mean the model's own for its device."""
    exact: bool = False
    """Split the text at the cursor itself and compute all of the prompt, instead of what is new since the last one."""


class StopRule(Protocol):
    """Decides on the text so far whether to stop."""

    def __call__(self, text: str) -> int | None:
        """Return how many characters of ``text`` to keep where generation must stop, else ``None``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a generation may go."""

    max_tokens: int
    deadline: float
    """``time.monotonic()`` seconds after which no further token is started."""
    stop: StopRule


@dataclass(frozen=True, slots=True)
class Generation:
    """A model's answer."""

    text: str
    finish: Finish
    prompt_tokens: int = 0
    reused_tokens: int = 0
    token_ids: tuple[int, ...] = ()
    """The tokens decoded, the end token excluded; may spell more than ``text`` where a stop rule cut it."""
    queue_ms: float = 0.0
    tokenize_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
