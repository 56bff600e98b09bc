"""The unit of the index: a piece of a file that makes sense on its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import cached_property


class ChunkKind(Enum):
    """What a piece is."""

    DEFINITION = "definition"
    """A function, a method or a class, or the part of a class around its methods."""
    CODE = "code"
    """Statements between definitions, or a window of lines in a language without a grammar."""
    PROSE = "prose"
    """Text for people: Markdown and the like."""


@dataclass(frozen=True)
class SourceChunk:
    """A piece of a file of the workspace."""

    path: str
    """Relative to the workspace folder, with ``/``."""
    start_line: int
    """First line, from 0."""
    end_line: int
    """The line behind the last one."""
    kind: ChunkKind
    language: str
    """Language identifier of the protocol."""
    symbol: str
    """The qualified name of what is defined, such as ``Parser.parse``; empty where nothing is."""
    text: str
    """The piece as a model is shown it: its lines, below the header line of each class that it stands in."""

    @cached_property
    def content_hash(self) -> str:
        """32 hexadecimal digits of SHA-256 over the text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
