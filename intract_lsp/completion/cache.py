"""Past suggestions, found again while the user types their beginning. Bounded in bytes, the longest unused go first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_AUTO_CLOSED = frozenset(")]}>\"'`")
"""What an editor inserts behind the cursor when the opening one is typed: then the suffix grew without an edit."""


@dataclass(frozen=True, slots=True)
class CachedText:
    """A model's text at a cursor, after the filters that run before the cache."""

    prefix: str
    suffix: str
    text: str
    """Lines end with ``\\n``, whatever the document's do."""
    complete: bool
    """The model had nothing to add after the text, so that the position behind it needs no request of its own."""


@dataclass(frozen=True, slots=True)
class CacheHit:
    """What is left of a cached text at a later cursor."""

    text: str
    """May be empty: then nothing is left to suggest and the model need not be asked."""
    typed: bool
    """Whether the cursor lies behind the one that the text was made for."""


class CompletionCache:
    """Typed-through reuse: an entry answers every cursor that lies inside its text, with the same suffix behind it.

    ``scope`` is whatever changes what a model would say: model, adapter, settings.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._size = 0
        self._entries: OrderedDict[tuple[str, str, str], CachedText] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Bytes held, texts counted at one byte a character as CPython holds ASCII."""
        return self._size

    def resize(self, capacity_bytes: int) -> None:
        """Change the capacity; what no longer fits goes."""
        self._capacity = capacity_bytes
        self._shrink()

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size = 0

    def put(self, scope: str, entry: CachedText) -> None:
        """Keep an entry; one that is larger than the whole capacity is not kept."""
        key = (scope, entry.prefix, entry.suffix)
        self._drop(key)
        size = _size(entry)
        if size > self._capacity:
            return
        self._entries[key] = entry
        self._size += size
        self._shrink()

    def get(self, scope: str, prefix: str, suffix: str) -> CacheHit | None:
        """Return what the best entry has left to say at a cursor, or ``None`` where the model must be asked."""
        best: tuple[tuple[str, str, str], str] | None = None
        for key, entry in self._entries.items():
            if key[0] != scope:
                continue
            rest = _rest(entry, prefix, suffix)
            if rest is not None and (best is None or len(rest) > len(best[1])):
                best = key, rest
        if best is None:
            return None
        self._entries.move_to_end(best[0])
        return CacheHit(best[1], typed=len(prefix) > len(best[0][1]))

    def _shrink(self) -> None:
        while self._size > self._capacity:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: tuple[str, str, str]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= _size(entry)


def _rest(entry: CachedText, prefix: str, suffix: str) -> str | None:
    """Return the part of an entry's text behind what was typed since, ``None`` where the entry does not fit."""
    if not 0 <= len(prefix) - len(entry.prefix) <= 2 * len(entry.text):
        return None
    typed = prefix[len(entry.prefix) :].replace("\r\n", "\n")
    if not entry.text.startswith(typed) or not prefix.startswith(entry.prefix):
        return None
    if len(typed) == len(entry.text) and not entry.complete:
        return None
    if suffix == entry.suffix or (typed and _auto_closed(suffix, entry.suffix)):
        return entry.text[len(typed) :]
    return None


def _auto_closed(suffix: str, before: str) -> bool:
    added = len(suffix) - len(before)
    return 0 < added <= 2 and suffix.endswith(before) and all(character in _AUTO_CLOSED for character in suffix[:added])


def _size(entry: CachedText) -> int:
    return len(entry.prefix) + len(entry.suffix) + len(entry.text) + 200
