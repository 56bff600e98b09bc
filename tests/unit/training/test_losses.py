from __future__ import annotations

import json
import math
import random
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.training.losses import Losses, losses_of, lower_of


def test_the_mean_is_over_tokens() -> None:
    assert Losses((3.0, 1.0, 0.0), (1, 3, 0)).mean == 1.0
    assert Losses((), ()).mean == 0.0
    assert Losses((math.nan, 1.0), (1, 1)).mean == math.inf


@pytest.mark.parametrize(
    ("mine", "theirs", "worse"),
    [
        ((2.0, 2.0, 2.0), (1.0, 1.0, 1.0), True),
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), False),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), False),
        # One sample of eight makes all the difference, which is chance.
        ((9.0, 1, 1, 1, 1, 1, 1, 1), (1.0,) * 8, False),
        ((1.1, 1.2, 1.1, 1.0, 1.1, 1.2, 1.1, 1.2), (1.0,) * 8, True),
        ((math.nan, 1.0), (1.0, 1.0), True),
        ((1.0, 1.0), (math.inf, 1.0), False),
        # A single sample tells nothing of chance.
        ((1.1,), (1.0,), True),
    ],
)
def test_worse_beyond_chance(mine: tuple[float, ...], theirs: tuple[float, ...], worse: bool) -> None:
    counts = (4,) * len(mine)
    assert Losses(mine, counts).worse_than(Losses(theirs, counts)) is worse


def test_samples_that_one_of_them_left_out_do_not_count() -> None:
    ours, theirs = Losses((0.0, 2.0, 2.0), (0, 1, 1)), Losses((100.0, 1.0, 1.0), (1, 1, 1))
    assert ours.worse_than(theirs)
    assert not theirs.worse_than(ours)


def test_chance_is_taken_for_worse_as_often_as_two_standard_errors_say() -> None:
    chosen = random.Random(0)
    counts = tuple(chosen.randint(3, 40) for _ in range(30))
    worse = 0
    for _ in range(2_000):
        first, second = (Losses(tuple(chosen.gauss(n, 0.3 * n**0.5) for n in counts), counts) for _ in range(2))
        worse += first.worse_than(second)
    # The normal distribution has 2.3 % beyond two standard deviations, Student's with 29 degrees of freedom 2.8 %.
    assert 0.015 < worse / 2_000 < 0.05


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(1, 50)), min_size=1, max_size=12))
def test_of_two_at_most_one_is_worse_and_that_one_has_the_higher_mean(
    drawn: list[tuple[float, float, int]],
) -> None:
    counts = tuple(count for _, _, count in drawn)
    first, second = Losses(tuple(a for a, _, _ in drawn), counts), Losses(tuple(b for _, b, _ in drawn), counts)
    assert not (first.worse_than(second) and second.worse_than(first))
    assert not first.worse_than(first)
    if first.worse_than(second):
        assert lower_of(first, second) is second
        assert lower_of(second, first) is second
    assert losses_of(json.loads(json.dumps(asdict(first)))) == first


def test_the_first_is_the_lowest() -> None:
    only = Losses((1.0,), (1,))
    assert lower_of(only, None) is only
    assert losses_of(None) is None
    with pytest.raises(ValueError, match="not as many"):
        losses_of({"sums": [1.0], "counts": []})
