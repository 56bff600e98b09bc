"""Two versions of the model side by side, place by place, with intervals that say what may be chance. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intract_lsp.evaluation.scores import Interval
from intract_lsp.training.measure import Measured, Outcome, Shown

Pair = tuple[Outcome, Outcome]
"""Of one place, before and after."""

CONFIDENCE = 0.95
"""Of every interval."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of the candidate beside another version's, over the places that both were measured at."""

    name: str
    """``nll`` in nats a token, over all tokens, and ``nll_by_place``, the mean of the places' own;
    ``edit_similarity``, ``exact_match`` and ``saved_characters`` from 0 to 100."""
    against: str
    """``base`` or ``active``; ``gate.INSERTED`` where only some of the places are compared."""
    before: float
    after: float
    change: Interval
    """Relative for the first two (-0.06 is 6 % less), a difference for all else; not numbers where it has none."""
    n: int


def compare(against: str, before: Measured, after: Measured, resamples: int, seed: int) -> tuple[Comparison, ...]:
    """Compare all figures of two versions; nothing where they share no place."""
    pairs = shared(before, after)
    if not pairs:
        return ()
    tokens = np.array([a.tokens for a, _ in pairs], dtype=np.float64)
    old, new = np.array([a.nll for a, _ in pairs]), np.array([b.nll for _, b in pairs])
    drawn = _draw(len(pairs), resamples, seed)
    found = []
    # Few long middles may hold most of the nats: by place, each middle counts alike.
    for name, sizes in (("nll", np.full_like(tokens, tokens.mean())), ("nll_by_place", tokens)):
        a, b = old / sizes, new / sizes
        change = _interval(b - a, a, drawn)
        found.append(Comparison(name, against, float(a.mean()), float(b.mean()), change, len(pairs)))
    shown = both_shown(pairs)
    if not shown:
        return tuple(found)
    drawn = _draw(len(shown), resamples, seed)
    for name, value in _FIGURES:
        old, new = np.array([value(a) for a, _ in shown]), np.array([value(b) for _, b in shown])
        change = _interval(new - old, np.ones(len(shown)), drawn)
        found.append(Comparison(name, against, float(old.mean()), float(new.mean()), change, len(shown)))
    return tuple(found)


def shared(before: Measured, after: Measured) -> list[Pair]:
    """Return the outcomes of the places that both versions were measured at."""
    return [
        (outcome, after.outcomes[task])
        for task, outcome in before.outcomes.items()
        if task in after.outcomes and outcome.tokens > 0
    ]


def both_shown(pairs: Sequence[Pair]) -> list[tuple[Shown, Shown]]:
    """Return what was shown, where both versions were asked for a suggestion."""
    return [(a.shown, b.shown) for a, b in pairs if a.shown is not None and b.shown is not None]


def relative_change(pairs: Sequence[Pair]) -> float | None:
    """Return by which share the summed negative log-likelihood has changed; ``None`` where there is none."""
    before = sum(a.nll for a, _ in pairs)
    return sum(b.nll for _, b in pairs) / before - 1 if before > 0 else None


def beyond(pairs: Sequence[Pair], others: Sequence[Pair], resamples: int, seed: int) -> Interval:
    """Return by how much more the likelihood has changed at some places than at others, as ``relative_change`` counts.

    The two are drawn apart, as they are different places. Not numbers where one of them has none.
    """
    changes = relative_change(pairs), relative_change(others)
    if changes[0] is None or changes[1] is None or not math.isfinite(changes[0] - changes[1]):
        return Interval(math.nan, math.nan, math.nan)
    drawn = [
        relative_changes([a.nll for a, _ in each], [b.nll for _, b in each], resamples, seed + number)
        for number, each in enumerate((pairs, others))
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn[0] - drawn[1], [tail, 1 - tail])
    return Interval(changes[0] - changes[1], float(low), float(high))


def relative_changes(before: Sequence[float], after: Sequence[float], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return by which share the sum over the same places has changed, for each bootstrap resample (resamples,)."""
    drawn = _draw(len(before), resamples, seed)
    sums = np.array(before)[drawn].sum(axis=1)
    changed = np.array(after)[drawn].sum(axis=1)
    ratios: NDArray[np.float64] = np.divide(changed, sums, out=np.ones(len(drawn)), where=sums > 0)
    return ratios - 1


def _similarity(shown: Shown) -> float:
    return shown.score.edit_similarity


def _exact(shown: Shown) -> float:
    return 100.0 * shown.score.exact_match


def _saved(shown: Shown) -> float:
    return 100.0 * shown.score.saved_characters


_FIGURES = (("edit_similarity", _similarity), ("exact_match", _exact), ("saved_characters", _saved))


def _draw(n: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return which of ``n`` places are drawn, with replacement, in each resample (resamples, n)."""
    return np.random.default_rng(seed).integers(0, n, (resamples, n))


def _interval(changes: NDArray[np.float64], sizes: NDArray[np.float64], drawn: NDArray[np.int64]) -> Interval:
    """Return the ratio of the sums with its percentile bootstrap interval (Efron 1979)."""
    total = float(sizes.sum())
    if not (np.isfinite(changes).all() and math.isfinite(total) and total > 0):
        return Interval(math.nan, math.nan, math.nan)
    sums = sizes[drawn].sum(axis=1)
    ratios = np.divide(changes[drawn].sum(axis=1), sums, out=np.zeros(len(drawn)), where=sums > 0)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(float(changes.sum()) / total, float(low), float(high))
