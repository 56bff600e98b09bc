"""When an adapter in service is taken back: never without reason, and soon where it harms."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.training.hold_back import HARM, MOST_SEEN, SHARE, Block, Decision, evidence, judge

SEEN = 12
"""Suggestions of a block, about."""


def trial(
    seed: int, with_it: float, before: float, most: int = MOST_SEEN, uneven: float = 0.0, share: float = SHARE
) -> list[Block]:
    """Draw the blocks of a trial; ``uneven`` is how much blocks differ from each other, whatever the version."""
    chance = random.Random(seed)
    blocks: list[Block] = []
    while sum(block.seen for block in blocks) < most:
        held, seen = chance.random() < share, chance.randint(SEEN - 8, SEEN + 8)
        rate = (before if held else with_it) * (1 + uneven * chance.uniform(-1, 1))
        blocks.append(Block(held, share, seen, sum(chance.random() < rate for _ in range(seen))))
    return blocks


def decided_after(blocks: list[Block]) -> tuple[Decision, int]:
    """Return the first decision and after how many suggestions it falls."""
    for number, seen in enumerate(accumulate(block.seen for block in blocks)):
        found = judge(blocks[: number + 1])
        if found.decision is not Decision.GO_ON:
            return found.decision, seen
    return Decision.GO_ON, sum(block.seen for block in blocks)


def harmful(blocks: list[Block]) -> bool:
    return max(evidence(blocks, adapter_is_worse=True)) >= HARM


@pytest.mark.parametrize(("rate", "uneven"), [(0.3, 0.0), (0.1, 0.0), (0.3, 0.9)])
def test_an_adapter_that_is_no_worse_is_taken_back_at_most_once_in_a_hundred(rate: float, uneven: float) -> None:
    wrong = sum(harmful(trial(seed, rate, rate, uneven=uneven)) for seed in range(400))
    assert wrong <= 8, "4 expected at the very most, 8 is beyond chance"


def test_nor_where_all_gets_worse_with_time() -> None:
    """The user turns to harder work: comparing with what was before the promotion would take the adapter back."""
    wrong = 0
    for seed in range(200):
        easy, hard = trial(seed, 0.5, 0.5, MOST_SEEN // 2), trial(seed + 1000, 0.1, 0.1, MOST_SEEN // 2)
        wrong += harmful(easy + hard)
    assert wrong <= 5


def test_harm_is_found_within_days_of_work() -> None:
    halved = [decided_after(trial(seed, 0.15, 0.3)) for seed in range(60)]
    ruined = [decided_after(trial(seed, 0.03, 0.3)) for seed in range(60)]
    assert sum(decision is Decision.TAKE_BACK for decision, _ in halved) >= 42
    assert all(decision is Decision.TAKE_BACK for decision, _ in ruined)
    assert sorted(seen for _, seen in ruined)[30] < 300


def test_an_adapter_that_helps_soon_serves_alone() -> None:
    found = [decided_after(trial(seed, 0.4, 0.1)) for seed in range(40)]
    assert all(decision is Decision.END for decision, _ in found)
    assert sorted(seen for _, seen in found)[20] < MOST_SEEN / 2


def test_without_a_difference_it_ends_when_enough_was_seen() -> None:
    blocks = [Block(number % 5 == 0, SHARE, 10, 3) for number in range(MOST_SEEN // 10)]
    assert (judge(blocks[:-1]).decision, judge(blocks).decision) == (Decision.GO_ON, Decision.END)
    assert judge([]).decision is Decision.GO_ON


def test_the_figures_are_told() -> None:
    found = judge([Block(False, 0.2, 10, 3), Block(True, 0.2, 8, 4), Block(False, 0.2, 2, 0)])
    assert found.sentence == "3 of 12 suggestions seen with it were kept, and 4 of 8 without it"


@given(st.integers(1, 6), st.floats(0.05, 0.95), st.floats(0.05, 0.5), st.booleans())
def test_the_evidence_of_a_block_is_fair(seen: int, rate: float, share: float, worse: bool) -> None:
    """Its expectation is 1 where both versions are alike, whatever their rate."""

    def outcomes() -> Iterator[float]:
        for kept in range(seen + 1):
            # Any distribution of the outcome will do: this one has as little to do with the bets as can be.
            likely = rate if kept == 0 else (1 - rate) / seen
            for held, chance in ((True, share), (False, 1 - share)):
                (value,) = evidence([Block(held, share, seen, kept)], adapter_is_worse=worse)
                yield likely * chance * value

    assert sum(outcomes()) == pytest.approx(1.0)


def test_what_was_not_left_to_chance_is_no_evidence() -> None:
    assert not list(evidence([Block(False, 0.0, 50, 0), Block(True, 1.0, 50, 50)], adapter_is_worse=True))
