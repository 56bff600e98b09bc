from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.inference.kv_cache import PrefixCache, common_prefix

ids = st.lists(st.integers(0, 3), max_size=12)


class Recorder:
    """A network whose keys and values say which token they are of."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def forward(self, ids: Sequence[int], last: int = 1) -> torch.Tensor:
        self.held.extend(ids)
        return torch.zeros(last, 4)

    def cut(self, length: int) -> None:
        assert length <= len(self.held)
        del self.held[length:]


@given(ids, ids)
def test_common_prefix(left: list[int], right: list[int]) -> None:
    length = common_prefix(left, right)
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


@given(st.lists(ids.filter(bool), min_size=1, max_size=6))
def test_the_network_holds_what_the_prompt_says(prompts: list[list[int]]) -> None:
    network = Recorder()
    cache = PrefixCache(network)
    before: list[int] = []
    for prompt in prompts:
        reused = cache.reuse(prompt)
        assert reused == min(common_prefix(before, prompt), len(prompt) - 1)
        assert len(cache) == reused == len(network.held)
        cache.append(prompt[reused:])
        assert network.held == prompt
        before = prompt


def test_the_last_token_is_always_left_to_compute() -> None:
    network = Recorder()
    cache = PrefixCache(network)
    cache.append([1, 2, 3])
    assert cache.reuse([1, 2, 3]) == 2
    assert network.held == [1, 2]


def test_clear_also_drops_what_a_failed_computation_left() -> None:
    network = Recorder()
    cache = PrefixCache(network)
    cache.append([1, 2, 3])
    network.held.append(9)
    cache.clear()
    assert network.held == []
    assert cache.reuse([1, 2, 3]) == 0
