"""A training sample: token ids with what of them is to be learnt, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class SampleKind(str, Enum):
    """What a sample teaches."""

    TEXT = "text"
    """Plain text; every token is supervised."""
    LINE = "line"
    """From a cursor to the end of its line."""
    BLOCK = "block"
    """A statement or block of the syntax tree."""
    INLINE = "inline"
    """Part of a line: arguments, the right side of an assignment, the rest of a name."""
    TYPED = "typed"
    """A line of which the user has typed the beginning, in the anchored form that serving uses."""
    EMPTY = "empty"
    """Nothing is missing: the answer is the end token."""
    RANDOM = "random"
    """Between two characters anywhere."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sequence of at most the run's context length."""

    ids: tuple[int, ...]
    supervised_from: int
    """Index of the first id that is a target: each id from it on is to be predicted from those before it."""
    kind: SampleKind
    path: str = ""
    """Of the file in the workspace, with ``/``; empty for replayed text."""
    blob: str = ""
    """Hash of the file's content: which adapters saw a file is known by it."""
    with_context: bool = False
    """Whether pieces of other files are shown in it."""

    @property
    def prompt(self) -> range:
        """Indices of the ids before the supervised ones that could be targets; the first id follows nothing."""
        return range(1, self.supervised_from)

    @property
    def answer(self) -> range:
        """Indices of the supervised ids that are targets."""
        return range(max(1, self.supervised_from), len(self.ids))
