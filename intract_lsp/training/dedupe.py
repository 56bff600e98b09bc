"""Texts that say the same: exactly, nearly (MinHash), or as a part of others.

Words and signs are compared, white space is not, so that a re-indented copy counts as one. MinHash and its index are
datasketch's (Broder 1997); shingles of five tokens and a similarity of 0.85 are what code corpora are filtered with
(The Stack, Kocetkov et al. 2022; StarCoder).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

SHINGLE = 5
"""Tokens."""

PERMUTATIONS = 128

SIMILARITY = 0.85
"""Jaccard's, of the sets of shingles."""

LEAST_SHINGLES = 20
"""Of a text that is compared at all: shorter ones are alike by chance."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_PIECE = 4096
"""Shingles that are hashed at once: each takes a kilobyte."""


def shingles(text: str) -> NDArray[np.uint32]:
    """Return the hashes of a text's shingles, each once and sorted; none where it has fewer than five tokens."""
    tokens = np.fromiter((zlib.crc32(token.encode()) for token in _TOKEN.findall(text)), np.uint32)
    count = len(tokens) - SHINGLE + 1
    if count < 1:
        return np.empty(0, np.uint32)
    mixed = np.zeros(count, np.uint32)
    for offset in range(SHINGLE):
        mixed = mixed * np.uint32(0x9E3779B1) + tokens[offset : offset + count]
        mixed ^= mixed >> np.uint32(15)
    return np.unique(mixed)


class NearDuplicates:
    """Texts seen so far, and which of them a new one nearly equals."""

    def __init__(self) -> None:
        self._index = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)
        self._sketches: dict[str, MinHash] = {}
        self._exact: dict[bytes, str] = {}

    def find(self, text: str) -> str | None:
        """Return the name of a text that says nearly the same, ``None`` if there is none; the first one given."""
        hashes = shingles(text)
        exact = self._exact.get(hashes.tobytes()) if len(hashes) else None
        if exact is not None or len(hashes) < LEAST_SHINGLES:
            return exact
        sketch = _sketch(hashes)
        found = [name for name in self._index.query(sketch) if sketch.jaccard(self._sketches[name]) >= SIMILARITY]
        order = list(self._sketches)
        return min(found, key=order.index, default=None) if found else None

    def add(self, name: str, text: str) -> None:
        """Remember a text by a name of its own."""
        hashes = shingles(text)
        if len(hashes):
            self._exact.setdefault(hashes.tobytes(), name)
        if len(hashes) >= LEAST_SHINGLES:
            self._sketches[name] = _sketch(hashes)
            self._index.insert(name, self._sketches[name])


class Containment:
    """All shingles of some texts: how much of another text can be found among them."""

    def __init__(self, texts: Iterable[str]) -> None:
        parts = [shingles(text) for text in texts]
        self._known: NDArray[np.uint32] = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint32)

    def share(self, text: str) -> float:
        """Return the share of a text's shingles that are known; 0 for a text that is too short to tell."""
        hashes = shingles(text)
        if len(hashes) < LEAST_SHINGLES or not len(self._known):
            return 0.0
        at = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        return float((self._known[at] == hashes).mean())


def _sketch(hashes: NDArray[np.uint32]) -> MinHash:
    sketch = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    for start in range(0, len(hashes), _PIECE):
        sketch.update_batch(hashes[start : start + _PIECE].tolist())
    return sketch


def first_of_each(texts: Sequence[tuple[str, str]], seen: NearDuplicates) -> dict[str, str]:
    """Return, by name, which earlier text each of some (name, text) nearly equals; the others are added to ``seen``."""
    twins: dict[str, str] = {}
    for name, text in texts:
        twin = seen.find(text)
        if twin is None:
            seen.add(name, text)
        else:
            twins[name] = twin
    return twins
