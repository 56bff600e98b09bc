"""What other threads leave for a supervisor's."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from intract_lsp.training.attempt import Attempt
from intract_lsp.training.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Start:
    """A run is asked for."""

    spec: RunSpec


@dataclass(frozen=True, slots=True)
class Recover:
    """The runs of these folders that were left behind are to go on."""

    workspaces: tuple[str, ...]
    done: Future[tuple[str, ...]]
    """Gets the ids of those that do."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """A run is to end."""

    run: str


@dataclass(frozen=True, slots=True)
class Line:
    """The process of an attempt has written a line, or closed its output (``None``)."""

    attempt: Attempt
    text: str | None


@dataclass(frozen=True, slots=True)
class Wake:
    """There may be something to do."""


Message = Start | Recover | Cancel | Line | Wake
