"""The loss as a run has told it, kept in its directory, so that the report of a run that was killed has all of it."""

from __future__ import annotations

import json
from pathlib import Path

from intract_lsp.training.events import Event, Step, Validated
from intract_lsp.training.report import Point


class Curve:
    """Points of the training loss and the validation loss, each step once."""

    def __init__(self, path: Path) -> None:
        """Go on with what is in ``path``, which need not exist."""
        self._path = path
        self._training: dict[int, float] = {}
        self._validation: dict[int, float] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._read(line)

    def note(self, event: Event) -> None:
        """Keep an event's loss, if it has one. Raises ``OSError``."""
        if isinstance(event, Step):
            self._training[event.step] = event.loss
            kind = "training"
        elif isinstance(event, Validated):
            self._validation[event.step] = event.loss
            kind = "validation"
        else:
            return
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([kind, event.step, event.loss]) + "\n")

    @property
    def training(self) -> tuple[Point, ...]:
        """The loss of each step."""
        return _points(self._training)

    @property
    def validation(self) -> tuple[Point, ...]:
        """The loss of each validation."""
        return _points(self._validation)

    def _read(self, line: str) -> None:
        try:
            kind, step, loss = json.loads(line)
            {"training": self._training, "validation": self._validation}[kind][int(step)] = float(loss)
        except (ValueError, TypeError, KeyError):
            return  # the last line of a process that was killed


def _points(losses: dict[int, float]) -> tuple[Point, ...]:
    return tuple(Point(step, loss) for step, loss in sorted(losses.items()))
