"""Which suggestions the user saw, accepted and kept. Pure; texts are held for half a minute and written nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from intract_lsp.completion.request import CompletionResult, RejectReason, Source

SEEN_SECONDS = 0.75
"""For which a suggestion stands before it counts as seen: what is typed past at once was not looked at."""

KEPT_SECONDS = 30.0
"""After an acceptance, when it is looked at what is left of the text."""

KEPT_SHARE = 0.5
"""Of an accepted text's characters, line by line, that must still be in the document."""

_OVERTAKEN = frozenset({RejectReason.SUPERSEDED, RejectReason.STALE, RejectReason.CANCELLED})
"""Answers that nobody saw: what was shown before is still there."""


@dataclass
class _Offer:
    """A suggestion with what is left of it while it is typed through."""

    since: float
    texts: dict[str, str]
    """By id: what each of its answers offered."""
    last: str


@dataclass(frozen=True, slots=True)
class _Accepted:
    uri: str
    text: str
    due: float


@dataclass
class Offers:
    """Counts the suggestions of one model from its making on. Times are in seconds of any one clock."""

    model: str
    """``CompletionResult.model`` of the answers that count."""
    seen: int = 0
    kept: int = 0
    """Of those seen; what was accepted counts, for either, from ``settle`` on."""
    _open: dict[str, _Offer] = field(default_factory=dict)
    _accepted: list[_Accepted] = field(default_factory=list)

    def answered(self, uri: str, result: CompletionResult, now: float) -> None:
        """Take note of an answer for a document."""
        if result.reject_reason in _OVERTAKEN:
            return
        offer, suggestion = self._open.get(uri), result.suggestion
        if suggestion is not None and result.model == self.model:
            if offer is not None and suggestion.source is not Source.MODEL and offer.last.endswith(suggestion.text):
                offer.texts[suggestion.id] = offer.last = suggestion.text
                return
            self._close(uri, now)
            self._open[uri] = _Offer(now, {suggestion.id: suggestion.text}, suggestion.text)
        else:
            self._close(uri, now)

    def accepted(self, id_: str, now: float) -> None:
        """Take note that the user took a suggestion."""
        found = next(((uri, offer) for uri, offer in self._open.items() if id_ in offer.texts), None)
        if found is not None:
            uri, offer = found
            del self._open[uri]
            self._accepted.append(_Accepted(uri, offer.texts[id_], now + KEPT_SECONDS))

    def settle(self, now: float, text_of: Callable[[str], str | None]) -> None:
        """Look at what became of accepted texts; ``text_of`` returns a document's text, ``None`` for a closed one."""
        due = [one for one in self._accepted if one.due <= now]
        self._accepted = [one for one in self._accepted if one.due > now]
        self.seen += len(due)
        self.kept += sum(_is_kept(one.text, text_of(one.uri)) for one in due)

    @property
    def settled(self) -> bool:
        """Whether no acceptance waits to be looked at."""
        return not self._accepted

    def _close(self, uri: str, now: float) -> None:
        offer = self._open.pop(uri, None)
        self.seen += offer is not None and now - offer.since >= SEEN_SECONDS


def _is_kept(accepted: str, text: str | None) -> bool:
    if text is None:
        return True
    lines = [line.strip() for line in accepted.splitlines() if line.strip()]
    left = sum(len(line) for line in lines if line in text)
    return left >= KEPT_SHARE * sum(len(line) for line in lines)
