"""What the editor has open, passed on to the thread that searches: each version of a text once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class OpenDocument(Protocol):
    """A document that the editor has open."""

    @property
    def uri(self) -> str:
        """Its address."""

    @property
    def version(self) -> int:
        """Changes with its text."""

    @property
    def text(self) -> str:
        """All of its text; to be read where it is changed."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed about the open documents since the last time."""

    texts: dict[str, str]
    """By address, of those that are new or were edited."""
    closed: frozenset[str]


class OpenDocuments:
    """Knows which versions were passed on. Used on the event loop, where documents change."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def changes(self, documents: Iterable[OpenDocument]) -> Changes:
        """Return what is new about all open documents, and take it for passed on."""
        present = {document.uri: document for document in documents}
        texts = {uri: one.text for uri, one in present.items() if self._versions.get(uri) != one.version}
        closed = frozenset(self._versions.keys() - present.keys())
        self._versions = {uri: one.version for uri, one in present.items()}
        return Changes(texts, closed)
