"""Whether an adapter in service helps: blocks of work with it are compared with blocks held back from it. Pure.

Now and then, by chance, the version before the adapter answers for a while, some dozen suggestions long. What tells the
two apart is the share of the suggestions seen that were accepted and kept. The evidence is a test martingale (Shafer
2021; for two streams Turner, Ly and Grünwald 2024): how much likelier each block's outcome is under its own version
than under either by chance. While the adapter is no worse its expectation never exceeds 1, whatever the user works on,
however alike the suggestions of a block are and however often it is looked at: so it reaches 100 in at most 1 % of the
cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

SHARE = 0.2
"""Of the blocks that are held back."""

HARM = 100.0
"""Evidence at which an adapter is taken back: wrongly so in at most one of so many cases."""

GAIN = 20.0
"""Evidence for the opposite at which nothing is held back any more."""

MOST_SEEN = 1_000
"""Suggestions after which nothing is held back any more, whatever was found."""

RATIOS = (0.8, 0.6, 0.3)
"""Of the worse version's share of kept suggestions to the better one's, on which the evidence bets in equal parts."""

_PRIOR = 1.0, 4.0
"""Kept and seen, which the first block's expectation is made of."""
_LIKELIEST = 0.99


@dataclass(frozen=True, slots=True)
class Block:
    """A while in which one version answered."""

    held: bool
    """Whether it was the one before the adapter."""
    share: float
    """With which chance it was, in 0..1."""
    seen: int
    """Suggestions that stood long enough to be read, or were accepted."""
    kept: int
    """Those of them that were accepted and not mostly deleted at once."""


class Decision(str, Enum):
    """What the blocks so far mean."""

    GO_ON = "go-on"
    """Nothing is shown yet."""
    TAKE_BACK = "take-back"
    """What was there before is better."""
    END = "end"
    """The adapter is better, or no difference has shown in a long time: it serves alone from now on."""


@dataclass(frozen=True, slots=True)
class Found:
    """A decision with what it is made of."""

    decision: Decision
    seen: int
    """With the adapter."""
    kept: int
    seen_before: int
    """With the version before it."""
    kept_before: int

    @property
    def sentence(self) -> str:
        """The figures, for people."""
        return (
            f"{self.kept} of {self.seen} suggestions seen with it were kept, "
            f"and {self.kept_before} of {self.seen_before} without it"
        )

    def values(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        return {
            "decision": self.decision.value,
            "seen": self.seen,
            "kept": self.kept,
            "seenBefore": self.seen_before,
            "keptBefore": self.kept_before,
            "message": self.sentence,
        }


def judge(blocks: Sequence[Block]) -> Found:
    """Decide by the blocks of a trial, in their order."""
    with_it, before = ([block for block in blocks if block.held is held] for held in (False, True))
    if _reached(blocks, HARM, adapter_is_worse=True):
        decision = Decision.TAKE_BACK
    elif sum(block.seen for block in blocks) >= MOST_SEEN or _reached(blocks, GAIN, adapter_is_worse=False):
        decision = Decision.END
    else:
        decision = Decision.GO_ON
    return Found(decision, *_sums(with_it), *_sums(before))


def evidence(blocks: Iterable[Block], *, adapter_is_worse: bool) -> Iterable[float]:
    """Yield, after each block, how many times likelier it all is if one version is worse than if they are alike."""
    wealth = [1.0] * len(RATIOS)
    kept, seen = _PRIOR
    for block in blocks:
        if not 0.0 < block.share < 1.0:  # it was not left to chance, and so says nothing
            continue
        rate = kept / seen
        for number, ratio in enumerate(RATIOS):
            wealth[number] *= _likelier(block, rate, ratio, adapter_is_worse)
        kept, seen = kept + block.kept, seen + block.seen
        yield sum(wealth) / len(wealth)


def _reached(blocks: Sequence[Block], threshold: float, *, adapter_is_worse: bool) -> bool:
    return any(value >= threshold for value in evidence(blocks, adapter_is_worse=adapter_is_worse))


def _likelier(block: Block, rate: float, ratio: float, adapter_is_worse: bool) -> float:
    """Return how much likelier a block is under its own version than under a random one; ``rate`` is that of both."""
    share_of_worse = 1.0 - block.share if adapter_is_worse else block.share
    better = min(_LIKELIEST, rate / (1.0 - share_of_worse + share_of_worse * ratio))
    chances = {False: better * ratio, True: better} if adapter_is_worse else {False: better, True: better * ratio}
    # Over the likelihood under the block's own version, so that nothing underflows.
    own, other = chances[block.held], chances[not block.held]
    odds = block.kept * math.log(other / own) + (block.seen - block.kept) * math.log((1.0 - other) / (1.0 - own))
    share_of_own = block.share if block.held else 1.0 - block.share
    return 1.0 / (share_of_own + (1.0 - share_of_own) * math.exp(min(odds, 700.0)))


def _sums(blocks: Sequence[Block]) -> tuple[int, int]:
    return sum(block.seen for block in blocks), sum(block.kept for block in blocks)
