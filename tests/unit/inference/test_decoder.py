"""The lean forward against transformers' own, on tiny random models of every architecture that it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Starcoder2Config,
)

from intract_lsp.inference import weights
from intract_lsp.inference.decoder import FIRST_CAPACITY, LeanDecoder
from intract_lsp.inference.transformers_network import TransformersNetwork

TINY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
}

FAMILIES: dict[str, Any] = {
    "qwen2": Qwen2Config(**TINY, tie_word_embeddings=True),
    "qwen2, untied": Qwen2Config(**TINY, tie_word_embeddings=False),
    "llama": LlamaConfig(**TINY),
    "llama with biases (Granite code)": LlamaConfig(**TINY, attention_bias=True, mlp_bias=True),
    "llama, one key head a query head (DeepSeek-Coder 1.3B)": LlamaConfig(
        **{**TINY, "num_key_value_heads": 4},
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 100_000.0},
    ),
    "llama 3 rope": LlamaConfig(
        **TINY,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "mistral with its own head size": MistralConfig(**TINY, head_dim=12, sliding_window=None),
    "starcoder2": Starcoder2Config(**TINY, use_bias=True, sliding_window=None),
}

OTHERS: dict[str, Any] = {
    "another architecture": GemmaConfig(**TINY, head_dim=8),
    "a sliding window": MistralConfig(**TINY, sliding_window=128),
    "frequencies that follow the length": LlamaConfig(
        **TINY, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    ),
    "another activation": LlamaConfig(**TINY, hidden_act="relu"),
}


def model_of(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bias" in name or "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.1)  # as made they are 0 and 1, which hides mistakes
    return model


def tokens(count: int, seed: int = 1) -> list[int]:
    return torch.randint(97, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def lean_of(model: Any) -> LeanDecoder:
    return LeanDecoder(*weights.take_over(model, 4096))


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
@torch.inference_mode()
def test_the_logits_are_those_of_transformers(config: Any) -> None:
    assert weights.supported(config)
    model = model_of(config)
    ids = tokens(60)
    whole = model(torch.tensor([ids])).logits[0]
    changed = model(torch.tensor([[*ids[:20], *tokens(9, seed=2)]])).logits[0]
    lean = lean_of(model)
    sequence = lean.begin()
    pieces = [lean.forward(sequence, part, len(part)) for part in (ids[:40], ids[40:41], ids[41:60])]
    torch.testing.assert_close(torch.cat(pieces), whole, atol=2e-4, rtol=1e-4)
    twin = sequence.copy(20)
    sequence.cut(20)
    for each in (sequence, twin):
        torch.testing.assert_close(lean.forward(each, tokens(9, seed=2), 9), changed[20:], atol=2e-4, rtol=1e-4)
        assert each.length == 29


def path_to(node: int, parents: list[int]) -> list[int]:
    """Indices from the root to a node."""
    return [*path_to(parents[node], parents), node] if node >= 0 else []


def assert_tree(lean: LeanDecoder, before: list[int], ids: list[int], parents: list[int], kept: int) -> None:
    """Compare a tree's logits with those of its paths, and what follows once the path to ``kept`` is all that stays."""
    sequence, plain = lean.begin(), lean.begin()
    lean.forward(sequence, before)
    lean.forward(plain, before)
    found = lean.forward(sequence, ids, len(ids), parents)
    for node in range(len(ids)):
        plain.cut(len(before))
        expected = lean.forward(plain, [ids[each] for each in path_to(node, parents)])[-1]
        torch.testing.assert_close(found[node], expected, atol=2e-4, rtol=1e-4)
    path = path_to(kept, parents)
    sequence.keep(len(before), path)
    assert sequence.length == len(before) + len(path)
    plain.cut(len(before))
    further = tokens(3, seed=5)
    expected = lean.forward(plain, [*(ids[each] for each in path), *further], 3)
    torch.testing.assert_close(lean.forward(sequence, further, 3), expected, atol=2e-4, rtol=1e-4)
    # A later prompt may have no more than the path's beginning in common: the rows lie in the path's order.
    for each in (sequence, plain):
        each.cut(len(before) + len(path) // 2)
    expected = lean.forward(plain, further, 3)
    torch.testing.assert_close(lean.forward(sequence, further, 3), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
@torch.inference_mode()
def test_the_logits_of_a_tree_are_those_of_its_paths(config: Any) -> None:
    lean = lean_of(model_of(config))
    assert lean.branching
    ids = tokens(9, seed=3)
    assert_tree(lean, tokens(40), ids, parents=[-1, 0, 0, 1, 2, 2, 0, 5, 7], kept=8)
    assert_tree(lean, tokens(40), ids, parents=[-1, -1, 0, 1, 3, 3, -1, 2, 6], kept=5)


@pytest.fixture(scope="module")
def small() -> LeanDecoder:
    with torch.inference_mode():
        return lean_of(model_of(FAMILIES["starcoder2"]))


random_trees = st.lists(st.tuples(st.integers(0, 96), st.integers(0, 9)), min_size=1, max_size=10)


@given(count=st.integers(1, 30), tree=random_trees, kept=st.integers(-1, 9))
@torch.inference_mode()
def test_any_tree(small: LeanDecoder, count: int, tree: list[tuple[int, int]], kept: int) -> None:
    parents = [parent % (index + 1) - 1 for index, (_, parent) in enumerate(tree)]
    assert_tree(small, tokens(count), [id_ for id_, _ in tree], parents, min(kept, len(tree) - 1))


@torch.inference_mode()
def test_a_chain_is_a_plain_sequence(small: LeanDecoder) -> None:
    ids = tokens(6)
    with_parents = small.forward(small.begin(), ids, 6, list(range(-1, 5)))
    assert torch.equal(with_parents, small.forward(small.begin(), ids, 6))


@torch.inference_mode()
def test_a_tree_across_the_end_of_the_buffers(small: LeanDecoder) -> None:
    before = tokens(FIRST_CAPACITY - 2)
    assert_tree(small, before, tokens(5, seed=4), parents=[-1, 0, 0, 2, 1], kept=3)


@torch.inference_mode()
def test_the_buffers_grow_without_losing_anything() -> None:
    model = model_of(FAMILIES["qwen2"])
    ids = tokens(FIRST_CAPACITY + 70)
    whole = model(torch.tensor([ids])).logits[0, -5:]
    lean = lean_of(model)
    sequence = lean.begin()
    assert sequence.capacity == FIRST_CAPACITY
    lean.forward(sequence, ids[: FIRST_CAPACITY - 10])
    before = sequence.size_bytes
    torch.testing.assert_close(lean.forward(sequence, ids[FIRST_CAPACITY - 10 :], 5), whole, atol=2e-4, rtol=1e-4)
    assert sequence.size_bytes == 2 * before


@torch.inference_mode()
def test_memory_holds_one_copy_of_the_weights() -> None:
    model = model_of(FAMILIES["llama"])
    lean_of(model)
    assert all(layer.self_attn.q_proj.weight is None for layer in model.model.layers)


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
@torch.inference_mode()
def test_what_it_does_not_know_runs_through_transformers(config: Any) -> None:
    assert not weights.supported(config)
    model = model_of(config)
    ids = tokens(30)
    whole = model(torch.tensor([ids])).logits[0]
    network = TransformersNetwork(model)
    sequence = network.begin()
    assert sequence.size_bytes == 0
    network.forward(sequence, ids[:25])
    assert sequence.size_bytes > 0
    twin = sequence.copy(12)
    sequence.cut(12)
    for each in (sequence, twin):
        torch.testing.assert_close(network.forward(each, ids[12:], 4), whole[-4:], atol=2e-4, rtol=1e-4)
    assert not network.branching
    with pytest.raises(ValueError, match="no trees"):
        network.forward(sequence, ids[:2], 2, [-1, -1])
    twin.keep(12, [0, 1, 2])
    assert twin.length == 15
    torch.testing.assert_close(network.forward(twin, ids[15:], 4), whole[-4:], atol=2e-4, rtol=1e-4)
    sequence.cut(0)
    torch.testing.assert_close(network.forward(sequence, ids, 1), whole[-1:], atol=2e-4, rtol=1e-4)
