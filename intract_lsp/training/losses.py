"""The losses of held-out samples, and whether one model's are worse than another's beyond chance. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CERTAIN = 2.0
"""Standard errors beyond which a difference is not put down to chance."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a model makes of the same samples, in the same order, as others do."""

    sums: tuple[float, ...]
    """Nats, over each sample's supervised tokens."""
    counts: tuple[int, ...]
    """How many these are; 0 for a sample that was left out."""

    @property
    def mean(self) -> float:
        """Nats a token; 0.0 where nothing was scored, infinite where the model computes no usable numbers."""
        mean = sum(self.sums) / max(1, sum(self.counts))
        return mean if math.isfinite(mean) else math.inf

    def worse_than(self, other: Losses) -> bool:
        """Return whether the mean is higher by more than two standard errors of the difference.

        The two are paired by sample, and the error is that of a ratio estimator (Cochran 1977, 6.4), since samples
        differ in length. One error, as in the rule of Breiman et al. 1984, is too few: the lowest of several losses is
        low by luck, too. Losses that are not finite are worse than any.
        """
        if math.isinf(self.mean) or math.isinf(other.mean):
            return math.isinf(self.mean)
        pairs = [
            (mine - theirs, count)
            for mine, theirs, count, scored in zip(self.sums, other.sums, self.counts, other.counts, strict=True)
            if count and scored
        ]
        tokens = sum(count for _, count in pairs)
        if len(pairs) < 2:
            return self.mean > other.mean
        mean = sum(difference for difference, _ in pairs) / tokens
        spread = sum((difference - mean * count) ** 2 for difference, count in pairs)
        return mean * tokens > CERTAIN * math.sqrt(spread * len(pairs) / (len(pairs) - 1))


def lower_of(first: Losses, second: Losses | None) -> Losses:
    """Return the one whose mean is lower, ``first`` where there is no other."""
    return first if second is None or first.mean < second.mean else second


def losses_of(values: dict[str, Sequence[Any]] | None) -> Losses | None:
    """Return what ``dataclasses.asdict`` and JSON have made of losses. Raises ``ValueError`` and ``TypeError``."""
    if values is None:
        return None
    sums, counts = values["sums"], values["counts"]
    if len(sums) != len(counts):
        raise ValueError("not as many sums as counts")
    return Losses(tuple(float(one) for one in sums), tuple(int(one) for one in counts))
