"""Keys and values of past prompts, kept so that the next one costs only what is new in it.

Several sequences are held, the least recently used let go first: a second document, or the prompt before the cursor
moved, is still there when it is asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""(positions, vocabulary)"""

WORTH_KEEPING = 48
"""Tokens that a new prompt would cut off a held sequence for which it is copied instead; a copy takes milliseconds."""


class KeyValues(Protocol):
    """One sequence's keys and values, as a network made them."""

    @property
    def size_bytes(self) -> int:
        """Memory held."""

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""

    def keep(self, start: int, rows: Sequence[int]) -> None:
        """Of the positions from ``start`` on keep those at ``start`` + each of ``rows``, moved together.

        The rows are one path of a tree of tokens, from its root on, and rise.
        """

    def copy(self: K, length: int) -> K:
        """Return a sequence of its own with the first ``length`` positions of this one."""


K = TypeVar("K", bound=KeyValues)


class Network(Protocol[K]):
    """A model's forward pass over sequences whose keys and values the caller holds."""

    @property
    def branching(self) -> bool:
        """Whether ``forward`` takes ``parents``."""

    def begin(self) -> K:
        """Return an empty sequence."""

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on, at most as many as it was made for; a GPU's affair it is not."""

    def forward(self, sequence: K, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None) -> Logits:
        """Append ``ids`` to a sequence and return the logits of its ``last`` positions. Raises ``MemoryError``.

        With ``parents`` the ids are a tree: ``parents[i]`` is the index of the id that ``ids[i]`` follows, less than
        ``i``, or -1 where it follows the sequence. All of it is appended; ``keep`` leaves one path.
        """


@dataclass(slots=True)
class _Held:
    ids: list[int]
    values: KeyValues
    ahead: bool = False
    """Of a prompt that nobody has asked for yet."""


class PrefixCache:
    """The tokens behind held keys and values: knows what of a new prompt is there already.

    Works on one sequence, the present one, which ``reuse`` chooses.
    """

    def __init__(self, network: Network[K], capacity_bytes: int) -> None:
        """Hold as many sequences as ``capacity_bytes`` takes, and always the present one."""
        self._network = network
        self._capacity = capacity_bytes
        self._present = _Held([], network.begin())
        self._past: list[_Held] = []
        """The other sequences, the longest unused first."""

    def __len__(self) -> int:
        return len(self._present.ids)

    @property
    def size_bytes(self) -> int:
        """Memory of all sequences held."""
        return sum(held.values.size_bytes for held in (self._present, *self._past))

    def reuse(self, prompt: Sequence[int]) -> int:
        """Go on with the sequence that has most in common with ``prompt``; return how many tokens that is.

        At least the prompt's last token is left to be computed, since its logits are needed. A sequence that would
        lose much is copied first and stays.
        """
        # Of equals the first counts, which is the present one.
        common, best = max(
            ((common_prefix(held.ids, prompt[:-1]), held) for held in (self._present, *self._past)),
            key=lambda pair: pair[0],
        )
        if best is not self._present:
            self._past.remove(best)
            self._past.append(self._present)
            self._present = best
        if len(best.ids) - common >= WORTH_KEEPING:
            fresh = best.values.copy(common) if common else self._network.begin()
            self._past.append(best)
            self._present = _Held(best.ids[:common], fresh)
        else:
            best.ahead = False
            self.cut(common)
        self._shrink()
        return common

    def reuse_ahead(self, prompt: Sequence[int]) -> int | None:
        """As ``reuse``, for a prompt that nobody has asked for yet: what was asked for stays as it is.

        There is one sequence of that kind, which the next call begins anew. Return how many tokens of the prompt are
        there, which may be all, or ``None`` where the sequence used last and a further one do not fit in memory.
        """
        held = (*self._past, self._present)
        common, _, best = max(
            ((common_prefix(each.ids, prompt), each.ahead, each) for each in held), key=lambda found: found[:2]
        )
        if common == len(prompt):
            return common
        asked = [each for each in held if each.ids and not each.ahead]
        # How much memory the new one will take is the network's affair: as much as the largest, most likely.
        largest = max(each.values.size_bytes for each in held)
        if asked and asked[-1].values.size_bytes + largest > self._capacity:
            return None
        if best.ahead:
            fresh = best
        elif common:
            fresh = _Held(best.ids[:common], best.values.copy(common), ahead=True)
        else:
            fresh = _Held([], self._network.begin(), ahead=True)
        self._past, self._present = asked, fresh
        self.cut(common)
        self._shrink()
        return common

    def append(self, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None) -> Logits:
        """Compute ``ids`` behind what is held and return the logits of the ``last`` positions, (last, vocabulary).

        With ``parents`` the ids are a tree, see ``Network.forward``, of which one path has to be kept next.
        Where memory runs short the other sequences are let go of and it is tried once more.
        """
        try:
            logits = self._forward(ids, last, parents)
        except MemoryError:
            if not self._past:
                raise
            self._past.clear()
            logits = self._forward(ids, last, parents)
        self._present.ids.extend(ids)
        self._shrink()
        return logits

    def cut(self, length: int) -> None:
        """Forget the present sequence's positions from ``length`` on."""
        if length < len(self._present.ids):
            self._present.values.cut(length)
            del self._present.ids[length:]

    def keep(self, start: int, rows: Sequence[int]) -> None:
        """Of the present sequence's positions from ``start`` on keep those at ``start`` + each of ``rows``."""
        ids = self._present.ids
        self._present.values.keep(start, rows)
        ids[start:] = [ids[start + row] for row in rows]

    def clear(self) -> None:
        """Forget everything, also what a computation that failed half-way may have left."""
        self._past.clear()
        self._present = _Held([], self._network.begin())

    def _forward(self, ids: Sequence[int], last: int, parents: Sequence[int] | None) -> Logits:
        return self._network.forward(self._present.values, ids, last, parents)  # type: ignore[arg-type]

    def _shrink(self) -> None:
        while self._past and self.size_bytes > self._capacity:
            del self._past[0]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common from their start on."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
