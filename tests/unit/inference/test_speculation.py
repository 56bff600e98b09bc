from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.inference.kv_cache import PrefixCache
from intract_lsp.inference.speculation import LONGEST_DRAFT, REMEMBERED, Lookup, Pace, greedy_tokens

ids = st.lists(st.integers(0, 3), min_size=1, max_size=20)


class Table:
    """A network whose next token follows from the last two by a table: deterministic, with repetitions."""

    def __init__(self, seed: int, vocabulary: int = 4) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._table = torch.rand(vocabulary, vocabulary, vocabulary, generator=generator)
        self.held: list[int] = []
        self.steps = 0

    def forward(self, ids: Sequence[int], last: int = 1) -> torch.Tensor:
        self.steps += 1
        start = len(self.held)
        self.held.extend(ids)
        rows = [self._table[self.held[i - 1] if i else 0, self.held[i]] for i in range(start, len(self.held))]
        return torch.stack(rows)[-last:]

    def cut(self, length: int) -> None:
        del self.held[length:]


class Eager(Pace):
    """Always drafts, whatever it costs."""

    @property
    def length(self) -> int:
        return LONGEST_DRAFT


def run(network: Table, prompt: list[int], count: int, pace: Pace, lookup: Lookup | None = None) -> list[int]:
    cache = PrefixCache(network)
    first = int(cache.append(prompt)[-1].argmax())
    tokens = list(islice(greedy_tokens(cache, prompt, first, lookup or Lookup(), pace), count))
    sequence = [*prompt, *tokens]
    # Of the last draft more may be right, and held, than was asked for.
    common = min(len(network.held), len(sequence))
    assert network.held[:common] == sequence[:common], "the cache holds the sequence"
    assert len(cache) == len(network.held)
    return tokens


def plain(network: Table, prompt: list[int], count: int) -> list[int]:
    tokens = [int(network.forward(prompt)[-1].argmax())]
    while len(tokens) < count:
        tokens.append(int(network.forward([tokens[-1]])[-1].argmax()))
    return tokens


@given(st.integers(0, 1000), ids, st.integers(1, 40), st.lists(ids, max_size=3))
def test_the_tokens_are_those_of_plain_decoding(
    seed: int, prompt: list[int], count: int, answers: list[list[int]]
) -> None:
    lookup = Lookup()
    for answer in answers:
        lookup.remember(answer)
    assert run(Table(seed), prompt, count, Eager(), lookup) == plain(Table(seed), prompt, count)


def test_a_text_that_repeats_itself_takes_fewer_steps() -> None:
    network = Table(seed=3)
    run(network, [0, 1, 2, 3], 60, Eager())
    assert network.steps < 20


@pytest.mark.parametrize(
    ("tokens", "length", "expected"),
    [
        ([1, 2, 3, 9, 1, 2], 3, [3, 9, 1]),
        ([1, 2, 3, 9, 1, 2], 1, [3]),
        ([1, 2, 5, 1, 2, 7, 1, 2], 2, [7, 1]),  # the latest occurrence
        ([8, 1, 2, 5, 7, 1, 2, 6, 8, 1, 2], 1, [5]),  # a longer match before a later one
        ([4, 6, 4], 2, [6, 4]),
        ([1, 2, 3], 2, []),
        ([1, 2, 3, 9, 1, 2], 0, []),
        ([], 4, []),
    ],
)
def test_lookup(tokens: list[int], length: int, expected: list[int]) -> None:
    assert Lookup().draft(tokens, length) == expected


def test_lookup_in_earlier_answers() -> None:
    lookup = Lookup()
    lookup.remember([5, 6, 7, 8])
    assert lookup.draft([1, 5, 6], 4) == [7, 8]
    assert lookup.draft([1, 7, 8], 4) == []
    for _ in range(REMEMBERED):
        lookup.remember([1, 1])
    assert lookup.draft([9, 5, 6], 4) == []


def test_nothing_is_drafted_before_a_plain_step_was_timed() -> None:
    pace = Pace()
    assert pace.length == 0
    pace.learn(0, 0, 0.1)
    assert pace.length > 0


def test_drafts_grow_where_they_turn_out_right_and_cost_little() -> None:
    pace = Pace()
    pace.learn(0, 0, 0.1)
    before = pace.length
    for _ in range(30):
        pace.learn(pace.length, pace.length, 0.1 * (1 + 0.02 * pace.length))
    assert before < pace.length <= LONGEST_DRAFT


def test_no_drafts_where_a_token_more_costs_a_step_more_and_again_when_that_ends() -> None:
    pace = Pace()
    pace.learn(0, 0, 0.1)
    for _ in range(60):
        drafted = pace.length
        pace.learn(drafted, 0, 0.1 * (1 + drafted))
    assert pace.length == 0
    for _ in range(200):
        pace.learn(pace.length, 0, 0.1)
        if pace.length:
            break
    assert pace.length > 0
