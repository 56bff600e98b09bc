"""The lean forward against transformers' own, on tiny random models of every architecture that it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Starcoder2Config,
)

from intract_lsp.inference import quantize
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


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
@torch.inference_mode()
def test_the_logits_are_those_of_transformers(config: Any) -> None:
    assert LeanDecoder.supports(config)
    model = model_of(config)
    ids = tokens(60)
    whole = model(torch.tensor([ids])).logits[0]
    changed = model(torch.tensor([[*ids[:20], *tokens(9, seed=2)]])).logits[0]
    lean = LeanDecoder(model, 4096)
    pieces = [lean.forward(ids[:40], 40), lean.forward(ids[40:41]), lean.forward(ids[41:60], 19)]
    torch.testing.assert_close(torch.cat(pieces), whole, atol=2e-4, rtol=1e-4)
    lean.cut(20)
    torch.testing.assert_close(lean.forward(tokens(9, seed=2), 9), changed[20:], atol=2e-4, rtol=1e-4)
    assert lean.length == 29


@torch.inference_mode()
def test_the_buffers_grow_without_losing_anything() -> None:
    model = model_of(FAMILIES["qwen2"])
    ids = tokens(FIRST_CAPACITY + 70)
    whole = model(torch.tensor([ids])).logits[0, -5:]
    lean = LeanDecoder(model, 4096)
    lean.forward(ids[: FIRST_CAPACITY - 10])
    torch.testing.assert_close(lean.forward(ids[FIRST_CAPACITY - 10 :], 5), whole, atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_memory_holds_one_copy_of_the_weights() -> None:
    model = model_of(FAMILIES["llama"])
    LeanDecoder(model, 4096)
    assert all(layer.self_attn.q_proj.weight is None for layer in model.model.layers)


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
@torch.inference_mode()
def test_what_it_does_not_know_runs_through_transformers(config: Any) -> None:
    assert not LeanDecoder.supports(config)
    model = model_of(config)
    ids = tokens(30)
    whole = model(torch.tensor([ids])).logits[0]
    network = TransformersNetwork(model)
    network.forward(ids[:25])
    network.cut(12)
    torch.testing.assert_close(network.forward(ids[12:], 4), whole[-4:], atol=2e-4, rtol=1e-4)
    network.cut(0)
    torch.testing.assert_close(network.forward(ids, 1), whole[-1:], atol=2e-4, rtol=1e-4)


def varied(seed: int) -> Any:
    """A model with an input channel that is a hundred times the others', as real ones have."""
    torch.manual_seed(seed)
    model = model_of(FAMILIES["llama with biases (Granite code)"])
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight[3] *= 100
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                projection.weight[:, 3] /= 100
    return model


@torch.inference_mode()
def test_int8_stays_close_and_needs_the_smoothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tokens(60)
    whole = LeanDecoder(varied(0), 4096).forward(ids, 60)

    def error() -> float:
        lean = LeanDecoder(varied(0), 4096)
        quantize.quantize(lean, [tokens(50, seed=5), tokens(50, seed=6)])
        return float((lean.forward(ids, 60) - whole).norm() / whole.norm())

    smoothed = error()
    assert smoothed < 0.05
    monkeypatch.setattr(quantize, "SMOOTHING", 0.0)
    assert error() > smoothed


@torch.inference_mode()
def test_int8_results_do_not_depend_on_what_is_computed_together() -> None:
    """What KV reuse and speculation rely on: the pieces' logits are the whole's, up to float32 rounding."""
    lean = LeanDecoder(model_of(FAMILIES["qwen2"]), 4096)
    quantize.quantize(lean, [tokens(50, seed=5)])
    ids = tokens(40)
    whole = lean.forward(ids, 40)
    lean.cut(0)
    pieces = torch.cat([lean.forward(ids[:17], 17), lean.forward(ids[17:18]), lean.forward(ids[18:], 22)])
    torch.testing.assert_close(pieces, whole, atol=2e-2, rtol=1e-2)
    assert pieces.argmax(-1).tolist() == whole.argmax(-1).tolist()
