"""How a run stands, as people and editors are told, and what each event of its process makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from intract_lsp.training.events import Event, Note, Room, Stage, Step, Validated
from intract_lsp.training.runs import RunState

SHARES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"data": (0.0, 0.08), "train": (0.08, 0.75), "merge": (0.75, 0.8), "evaluate": (0.8, 1.0)}
)
"""Of a run's time, by stage: where its part of the whole begins and ends."""

NOTES = 20
"""Most that are kept of what the user should know."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands."""

    run: str
    workspace: str
    """The folder that is learnt from."""
    state: RunState
    message: str = ""
    """For people: what is being done, or how it ended."""
    fraction: float | None = None
    """Done of the whole run, in 0..1."""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    """Of the last step."""
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    """Of the training."""
    paused: bool = False
    """Whether it waits because completions are asked for."""
    adapter: str = ""
    """Id of the adapter that came of it."""
    notes: tuple[str, ...] = ()
    figures: Mapping[str, float | None] = field(default_factory=dict)
    """As in ``Finished``."""

    @property
    def line(self) -> str:
        """One line with the figures of the moment."""
        if self.state is not RunState.RUNNING or not self.step:
            return f"Paused. {self.message}" if self.paused else self.message
        parts = [f"step {self.step} of {self.steps}" if self.steps else f"step {self.step}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if self.seconds_left is not None:
            parts.append(f"{_duration(self.seconds_left)} left")
        return ("Paused while you type; " if self.paused else "") + ", ".join(parts)

    def values(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        return {
            "run": self.run,
            "workspace": self.workspace,
            "folder": Path(self.workspace).name,
            "state": self.state.value,
            "message": self.line,
            "fraction": None if self.fraction is None else round(self.fraction, 4),
            "step": self.step,
            "steps": self.steps,
            "loss": self.loss,
            "validationLoss": self.validation_loss,
            "tokensPerSecond": self.tokens_per_second,
            "secondsLeft": self.seconds_left,
            "paused": self.paused,
            "adapter": self.adapter,
            "notes": list(self.notes),
            "figures": dict(self.figures),
        }


def follow(status: RunStatus, event: Event) -> RunStatus:
    """Return how a run stands after an event of its process; its end is the parent's to tell.

    The fraction never falls, though a step may turn out to take longer, or a stage be gone through once more: editors
    may ignore a progress that does (Language Server Protocol, ``WorkDoneProgressReport``).
    """
    if isinstance(event, Stage):
        state = RunState.EVALUATING if event.name in ("merge", "evaluate") else RunState.RUNNING
        begin, end = SHARES.get(event.name, (status.fraction or 0.0, 1.0))
        # The training's own steps say better how far it is.
        fraction = max(status.fraction or 0.0, begin + (end - begin) * min(1.0, max(0.0, event.fraction or 0.0)))
        step = status.step if event.name == "train" else 0
        return replace(status, state=state, message=event.message, fraction=fraction, step=step)
    if isinstance(event, Step):
        begin, end = SHARES["train"]
        done = event.step / event.steps if event.steps else 0.0
        return replace(
            status,
            state=RunState.RUNNING,
            fraction=max(status.fraction or 0.0, begin + (end - begin) * min(1.0, done)),
            step=event.step,
            steps=event.steps,
            loss=event.loss,
            tokens_per_second=event.tokens_per_second,
            seconds_left=event.seconds_left,
        )
    if isinstance(event, Validated):
        return replace(status, validation_loss=event.loss)
    if isinstance(event, Note | Room):
        return replace(status, notes=(*status.notes, event.sentence)[-NOTES:])
    return status


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes >= 1 else f"{max(1, round(seconds))} s"
