from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from intract_lsp.inference.kv_cache import WORTH_KEEPING, PrefixCache, common_prefix

ids = st.lists(st.integers(0, 3), max_size=12)
TOKEN = 10
"""Bytes that a recorded token takes."""


class Recorded:
    """Keys and values that say which tokens they are of."""

    def __init__(self, held: Sequence[int] = ()) -> None:
        self.held = list(held)

    @property
    def size_bytes(self) -> int:
        return TOKEN * len(self.held)

    def cut(self, length: int) -> None:
        assert length <= len(self.held)
        del self.held[length:]

    def keep(self, start: int, rows: Sequence[int]) -> None:
        self.held[start:] = [self.held[start + row] for row in rows]

    def copy(self, length: int) -> Recorded:
        return Recorded(self.held[:length])


class Recorder:
    """A network that writes down which sequence it was given last."""

    branching = True

    def __init__(self) -> None:
        self.last = Recorded()
        self.failures: list[Exception] = []

    def begin(self) -> Recorded:
        return Recorded()

    def use_threads(self, count: int) -> None: ...

    def forward(
        self, sequence: Recorded, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        if self.failures:
            raise self.failures.pop()
        self.last = sequence
        sequence.held.extend(ids)
        return np.zeros((last, 4), np.float32)


def ask(cache: PrefixCache, prompt: Sequence[int]) -> int:
    """Compute a prompt and return how much of it was there already."""
    reused = cache.reuse(prompt)
    assert len(cache) == reused
    cache.append(prompt[reused:])
    return reused


@given(ids, ids)
def test_common_prefix(left: list[int], right: list[int]) -> None:
    length = common_prefix(left, right)
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


long_ids = st.builds(lambda head, count, tail: head + [9] * count + tail, ids, st.integers(0, 2 * WORTH_KEEPING), ids)


@given(st.lists(long_ids.filter(bool), min_size=1, max_size=12), st.integers(0, 400 * TOKEN))
def test_the_network_holds_what_the_prompt_says(prompts: list[list[int]], capacity: int) -> None:
    network = Recorder()
    cache = PrefixCache(network, capacity)
    before: list[int] = []
    for prompt in prompts:
        reused = ask(cache, prompt)
        assert reused >= min(common_prefix(before, prompt), len(prompt) - 1)
        assert network.last.held == prompt
        assert cache.size_bytes <= max(capacity, TOKEN * len(prompt))
        before = prompt


def test_the_last_token_is_always_left_to_compute() -> None:
    network = Recorder()
    cache = PrefixCache(network, 1000)
    cache.append([1, 2, 3])
    assert cache.reuse([1, 2, 3]) == 2
    assert network.last.held == [1, 2]


@pytest.mark.parametrize(("rows", "held"), [([0, 1], [1, 2, 3, 4]), ([1, 3], [1, 2, 4, 6]), ([], [1, 2])])
def test_of_a_tree_one_path_is_kept(rows: list[int], held: list[int]) -> None:
    network = Recorder()
    cache = PrefixCache(network, 1000)
    cache.append([1, 2, 3, 4, 5, 6], 4, [-1, 0, 1, 1, 2, 3])
    cache.keep(2, rows)
    assert network.last.held == held
    assert len(cache) == len(held)
    assert cache.reuse([*held, 9]) == len(held)


def test_several_documents_are_held_until_memory_is_short() -> None:
    cache = PrefixCache(Recorder(), 3 * 100 * TOKEN)
    first, second, third, fourth = ([n] * 100 for n in range(4))
    assert [ask(cache, each) for each in (first, second, third)] == [0, 0, 0]
    assert [ask(cache, each) for each in (first, second, third)] == [99, 99, 99]
    assert ask(cache, fourth) == 0
    assert ask(cache, second) == 99
    assert ask(cache, first) == 0


def test_a_prompt_that_branches_off_leaves_the_longer_one_there() -> None:
    cache = PrefixCache(Recorder(), 10_000)
    trunk = [1] * 60
    ask(cache, [*trunk, *[2] * WORTH_KEEPING])
    assert ask(cache, [*trunk, 3]) == 60
    assert ask(cache, [*trunk, *[2] * WORTH_KEEPING, 4]) == 60 + WORTH_KEEPING


def test_what_is_little_is_cut_off_and_not_kept() -> None:
    cache = PrefixCache(Recorder(), 10_000)
    ask(cache, [1] * 60 + [2] * 9)
    ask(cache, [1] * 60 + [3] * 9)
    assert cache.size_bytes == 69 * TOKEN


def prepare(cache: PrefixCache, prompt: Sequence[int]) -> int | None:
    """Compute a prompt that nobody has asked for and return how much of it was there already."""
    reused = cache.reuse_ahead(prompt)
    if reused is not None and reused < len(prompt):
        assert len(cache) == reused
        cache.append(prompt[reused:])
    return reused


def test_what_is_prepared_is_there_and_what_was_asked_for_stays() -> None:
    network = Recorder()
    cache = PrefixCache(network, 10_000)
    line, following = [1] * 60 + [2] * 9, [1] * 60 + [3] * 9
    ask(cache, line)
    # Little as it would lose, the sequence that was asked for is copied.
    assert prepare(cache, following) == 60
    assert network.last.held == following
    assert prepare(cache, following) == 69
    assert ask(cache, [*line, 4]) == 69
    assert ask(cache, [*following, 5]) == 69
    assert ask(cache, [*line, 4, 6]) == 70


def test_only_the_newest_preparation_is_held() -> None:
    cache = PrefixCache(Recorder(), 10_000)
    line = [1] * 100
    ask(cache, line)
    for token in (2, 3, 4):
        assert prepare(cache, [*line, *[token] * 100]) == 100
        assert cache.size_bytes == 300 * TOKEN
    assert prepare(cache, [*line, *[4] * 50, *[5] * 20]) == 150
    assert cache.size_bytes == 270 * TOKEN
    # Once it is asked for it is as good as any other.
    assert ask(cache, [*line, *[4] * 50, *[5] * 20]) == 169
    assert prepare(cache, [6] * 10) == 0
    assert ask(cache, [*line, *[4] * 50, *[5] * 20]) == 169


def test_a_preparation_makes_older_sequences_go_but_not_the_last() -> None:
    cache = PrefixCache(Recorder(), 200 * TOKEN)
    old, line = [7] * 100, [1] * 100
    ask(cache, old)
    ask(cache, line)
    assert prepare(cache, [*line[:50], *[2] * 50]) == 50
    assert cache.size_bytes == 200 * TOKEN
    assert ask(cache, line) == 99
    assert prepare(cache, [8] * 100) == 0
    assert ask(cache, line) == 99
    small = PrefixCache(Recorder(), 199 * TOKEN)
    ask(small, line)
    assert prepare(small, [*line[:50], *[2] * 50]) is None
    assert ask(small, line) == 99


def test_the_first_prompt_of_all_can_be_prepared() -> None:
    cache = PrefixCache(Recorder(), 10)
    assert prepare(cache, [1] * 100) == 0
    assert ask(cache, [1] * 101) == 100


@given(st.lists(st.tuples(st.booleans(), long_ids.filter(bool)), min_size=1, max_size=12), st.integers(0, 400 * TOKEN))
def test_preparations_change_no_prompt(prompts: list[tuple[bool, list[int]]], capacity: int) -> None:
    network = Recorder()
    cache = PrefixCache(network, capacity)
    for asked, prompt in prompts:
        if asked:
            ask(cache, prompt)
            assert network.last.held == prompt
        elif (reused := prepare(cache, prompt)) is not None and reused < len(prompt):
            assert network.last.held == prompt
        assert cache.size_bytes <= max(capacity, TOKEN * max(len(each) for _, each in prompts))


def test_where_memory_runs_short_the_other_sequences_go() -> None:
    error = MemoryError()
    network = Recorder()
    cache = PrefixCache(network, 10_000)
    ask(cache, [1] * 100)
    ask(cache, [2] * 100)
    network.failures = [error]
    assert ask(cache, [2] * 100 + [3]) == 100
    assert cache.size_bytes == 101 * TOKEN
    network.failures = [error]
    with pytest.raises(MemoryError):
        cache.append([4])
    assert network.last.held == [2] * 100 + [3]


def test_another_failure_is_no_reason_to_forget() -> None:
    network = Recorder()
    cache = PrefixCache(network, 10_000)
    ask(cache, [1] * 100)
    ask(cache, [2] * 100)
    network.failures = [RuntimeError("shapes do not fit")]
    with pytest.raises(RuntimeError):
        cache.append([4])
    assert ask(cache, [1] * 100) == 99


def test_clear_also_drops_what_a_failed_computation_left() -> None:
    network = Recorder()
    cache = PrefixCache(network, 1000)
    cache.append([1, 2, 3])
    network.last.held.append(9)
    cache.clear()
    assert cache.size_bytes == 0
    assert cache.reuse([1, 2, 3]) == 0
