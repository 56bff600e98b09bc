"""What a run's process says while it works: one JSON object a line, ``event`` naming the kind."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from intract_lsp.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage has begun, or has come further."""

    name: str
    """``data``, ``train``, ``merge`` or ``evaluate``."""
    message: str
    """A short sentence for people."""
    fraction: float | None = None
    """Done of the stage, in 0..1."""


@dataclass(frozen=True, slots=True)
class Step:
    """An optimiser step has been taken."""

    step: int
    steps: int
    """How many there will be, as far as is known."""
    loss: float
    """Mean negative log-likelihood of the step's supervised tokens."""
    tokens: int
    """Trained on so far, prompts included."""
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Validated:
    """The validation spans have been scored."""

    step: int
    loss: float
    best: bool
    """Whether these weights are kept, as the best so far."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Room:
    """The run fits only without the model that serves; it waits until that is unloaded, which is the parent's to do."""

    sentence: str
    """For the user, with the numbers."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over; always the last event but for a process that was killed."""

    status: str
    """``promoted``, ``shadow``, ``rejected``, ``stopped`` or ``failed``; ``promoted`` is the gate's verdict, which the
    parent carries out."""
    reason: str
    """For people, a sentence or two."""
    adapter: str = ""
    """Id of the adapter that was made, if any."""
    figures: dict[str, float | None] = field(default_factory=dict)
    """``nll_base``, ``nll_adapter``, ``edit_similarity_base``, ``edit_similarity_adapter``, ``guard_nll_change``,
    ``tokens_per_second``, ``seconds``."""


Event = Stage | Step | Validated | Note | Room | Finished

_KINDS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in (Stage, Step, Validated, Note, Room, Finished)}


def encode(event: Event) -> str:
    """Return the event as one line of JSON, without its end."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)}, ensure_ascii=False)


def decode(line: str) -> Event:
    """Return the event that a line stands for. Raises ``TrainingError`` for anything else."""
    try:
        values = json.loads(line)
        event: Event = _KINDS[values.pop("event")](**values)
        return event
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError("The run's process said something that is no event.") from error
