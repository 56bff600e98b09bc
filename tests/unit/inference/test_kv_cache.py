from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.inference.kv_cache import PrefixCache, common_prefix

ids = st.lists(st.integers(0, 3), max_size=12)


def compute(cache: PrefixCache, new: list[int]) -> None:
    """Append what a one-layer model would: keys that say which token they are of."""
    keys = torch.tensor(new, dtype=torch.float32).reshape(1, 1, len(new), 1)
    cache.layers.update(keys, -keys, 0)
    cache.extend(new)


def held(cache: PrefixCache) -> list[int]:
    layer = cache.layers.layers[0]
    assert torch.equal(layer.keys, -layer.values)
    return [int(key) for key in layer.keys.flatten()]


@given(ids, ids)
def test_common_prefix(left: list[int], right: list[int]) -> None:
    length = common_prefix(left, right)
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


@given(st.lists(ids.filter(bool), min_size=1, max_size=6))
def test_the_layers_hold_what_the_prompt_says(prompts: list[list[int]]) -> None:
    cache = PrefixCache()
    before: list[int] = []
    for prompt in prompts:
        reused = cache.reuse(prompt)
        assert reused == min(common_prefix(before, prompt), len(prompt) - 1)
        assert len(cache) == reused == cache.layers.get_seq_length()
        compute(cache, prompt[reused:])
        assert held(cache) == prompt
        before = prompt


def test_the_last_token_is_always_left_to_compute() -> None:
    cache = PrefixCache()
    compute(cache, [1, 2, 3])
    assert cache.reuse([1, 2, 3]) == 2
    assert held(cache) == [1, 2]


def test_clear() -> None:
    cache = PrefixCache()
    compute(cache, [1, 2, 3])
    cache.clear()
    assert len(cache) == cache.layers.get_seq_length() == 0
    assert cache.reuse([1, 2, 3]) == 0
