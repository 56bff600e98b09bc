"""Greedy tokens, several a step where the text repeats itself.

What followed the last few tokens elsewhere (in the prompt, in earlier answers) is tried as what follows now: one
forward pass checks such a draft and costs little more than a single token, since reading the weights takes the time.
The tokens are those of plain greedy decoding. Prompt lookup decoding, Saxena 2023; speculative decoding, Leviathan et
al. 2023.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intract_lsp.inference.kv_cache import PrefixCache

LONGEST_MATCH = 4
"""Tokens at the end that are looked for elsewhere; then fewer, down to one."""

LONGEST_DRAFT = 8
REMEMBERED = 16
"""Answers kept as places to find a continuation in."""

_WEIGHT = 0.1
"""Of a new observation in the running means."""

_FIRST_GUESS = 0.4
_FIRST_EXTRA = 0.1
_FORGETTING = 0.02


class Lookup:
    """Finds what followed the present tokens before: in the prompt and this answer, else in earlier answers."""

    def __init__(self) -> None:
        self._answers: deque[tuple[int, ...]] = deque(maxlen=REMEMBERED)

    def remember(self, answer: Sequence[int]) -> None:
        """Keep an answer's tokens as a place to look in."""
        if len(answer) > 1:
            self._answers.append(tuple(answer))

    def draft(self, tokens: Sequence[int], length: int) -> list[int]:
        """Return at most ``length`` tokens that may follow ``tokens``; the longest, then the latest match decides."""
        places = [tokens, *reversed(self._answers)] if length else []
        for size in range(min(LONGEST_MATCH, len(tokens)), 0, -1):
            tail = list(tokens[-size:])
            for place in places:
                found = _after(place, tail, length)
                if found:
                    return found
        return []


class Pace:
    """Chooses how many tokens to draft so that the expected tokens a second are most.

    Learns as it goes what share of drafted tokens turns out right, and what a step costs with and without a draft on
    this machine: a number format in which five rows cost five times one drafts nothing.
    """

    def __init__(self) -> None:
        self._right = _FIRST_GUESS
        self._plain: float | None = None
        self._extra = _FIRST_EXTRA
        """Cost of one drafted token as a share of a step without a draft."""

    @property
    def length(self) -> int:
        """Tokens to draft now; 0 where drafting does not pay, and before a plain step was timed."""
        if self._plain is None:
            return 0
        right = min(0.95, self._right)
        value = [(1 - right ** (n + 1)) / (1 - right) / (1 + self._extra * n) for n in range(LONGEST_DRAFT + 1)]
        return max(range(len(value)), key=value.__getitem__)

    def learn(self, drafted: int, accepted: int, seconds: float) -> None:
        """Note how a step went; a draft's tokens behind the first wrong one say nothing."""
        for index in range(min(drafted, accepted + 1)):
            self._right += _WEIGHT * ((index < accepted) - self._right)
        if not drafted:
            self._plain = seconds if self._plain is None else self._plain + _WEIGHT * (seconds - self._plain)
            # Where drafting stopped paying, text and machine may have changed since: it gets another try before long.
            self._right += _FORGETTING * (_FIRST_GUESS - self._right)
            self._extra += _FORGETTING * (_FIRST_EXTRA - self._extra)
        elif self._plain:
            extra = max(0.0, (seconds / self._plain - 1) / drafted)
            self._extra += _WEIGHT * (extra - self._extra)


def greedy_tokens(cache: PrefixCache, prompt: Sequence[int], first: int, lookup: Lookup, pace: Pace) -> Iterator[int]:
    """Yield the most likely tokens behind a prompt without end, from ``first`` on, which the prefill gave.

    The cache holds the prompt. Nothing is computed before it is asked for; whoever stops asking leaves the cache whole.
    """
    tokens = [*prompt, first]
    yield first
    while True:
        draft = lookup.draft(tokens, pace.length)
        began = time.perf_counter()
        choices = cache.append([tokens[-1], *draft], last=len(draft) + 1).argmax(-1).tolist()
        accepted = next((n for n, id_ in enumerate(draft) if id_ != choices[n]), len(draft))
        cache.cut(len(cache) - len(draft) + accepted)
        pace.learn(len(draft), accepted, time.perf_counter() - began)
        for id_ in choices[: accepted + 1]:
            tokens.append(id_)
            yield id_


def _after(place: Sequence[int], tail: list[int], length: int) -> list[int]:
    """Return what followed the last occurrence of ``tail`` in a place, the occurrence at its very end left aside."""
    size, first = len(tail), tail[0]
    for start in range(len(place) - size - 1, -1, -1):
        if place[start] == first and list(place[start : start + size]) == tail:
            return list(place[start + size : start + size + length])
    return []
