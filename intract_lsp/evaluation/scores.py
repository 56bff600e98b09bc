"""Scores of one suggestion against what the author typed, and comparisons of two runs over the same items. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from rapidfuzz.distance import Levenshtein

from intract_lsp.evaluation.items import Item


@dataclass(frozen=True, slots=True)
class Score:
    """How good one answer was; all zero or false where nothing was shown."""

    shown: bool = False
    exact_match: bool = False
    """The first lines are equal, white space at both ends aside."""
    edit_similarity: float = 0.0
    """100 · (1 - levenshtein / longer length) of the first lines, stripped; 0 to 100."""
    saved_characters: float = 0.0
    """Longest correct beginning of the suggestion over the length of the whole truth (its block); 0 to 1."""
    over_long: bool = False
    """More than one line longer than the truth, or it repeats the first line below the cursor."""


def score(item: Item, text: str | None, replace: int = 0) -> Score:
    """Score a suggestion's text (``None`` for nothing shown).

    ``replace`` counts the characters behind the cursor that the text takes the place of: they belong to both sides.
    """
    if text is None:
        return Score()
    text = _unix(text)
    cover = item.suffix[:replace]
    line, block = _unix(item.truth_line), _unix(item.truth_block).rstrip()
    if text.endswith(cover):
        text = text[: len(text) - len(cover)]
    else:
        line, block = line + cover, block + cover
    first = text.split("\n", maxsplit=1)[0].strip()
    line = line.strip()
    return Score(
        shown=True,
        exact_match=first == line,
        edit_similarity=edit_similarity(first, line),
        saved_characters=_common_prefix(text, block) / len(block),
        over_long=_over_long(item, text, block),
    )


def edit_similarity(left: str, right: str) -> float:
    """Return 100 · (1 - levenshtein / longer length); two empty texts are equal."""
    longer = max(len(left), len(right))
    return 100.0 * (1.0 - Levenshtein.distance(left, right) / longer) if longer else 100.0


def _common_prefix(left: str, right: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def _over_long(item: Item, text: str, block: str) -> bool:
    lines = text.rstrip().split("\n")
    truth = block.split("\n")
    if len(lines) > len(truth) + 1:
        return True
    below = next((line.rstrip() for line in _unix(item.suffix).split("\n")[1:] if line.strip()), None)
    if below is None:
        return False
    # Whole lines with their indentation are compared, and the truth's own uses allowed for: an inner `}` is no repeat.
    start = item.prefix.rpartition("\n")[2]
    suggested = Counter(line.rstrip() for line in (start + text).split("\n"))
    wanted = Counter(line.rstrip() for line in (start + block).split("\n"))
    return suggested[below] > wanted[below]


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def mcnemar_p(left: Sequence[bool], right: Sequence[bool]) -> float:
    """Return the two-sided exact p value that two runs over the same items are equally often right.

    Only items on which the runs differ count; under the null hypothesis each falls to either side with probability 1/2
    (McNemar 1947, exact binomial form).
    """
    if len(left) != len(right):
        raise ValueError("both runs need the same items")
    only_left = sum(a and not b for a, b in zip(left, right, strict=True))
    only_right = sum(b and not a for a, b in zip(left, right, strict=True))
    total = only_left + only_right
    tail: int = sum(math.comb(total, k) for k in range(min(only_left, only_right) + 1))
    return min(1.0, 2 * tail / (1 << total))


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_difference(
    left: Sequence[float], right: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the mean of ``left - right`` over the same items with its paired percentile bootstrap interval.

    Items are drawn with replacement (Efron 1979); the same seed gives the same interval.
    """
    if len(left) != len(right) or not left:
        raise ValueError("both runs need the same items, at least one")
    differences = np.asarray(left, dtype=np.float64) - np.asarray(right, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = [generator.choice(differences, size=differences.size).mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(differences.mean()), low=float(low), high=float(high))
