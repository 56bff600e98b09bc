from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, write_model
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, Qwen2Config, Starcoder2Config

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Limits, PromptShape
from intract_lsp.errors import ModelError
from intract_lsp.inference import four_bit, torch_loading, weights
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.device import Gpu, Machine
from intract_lsp.inference.engine import LoadOrder, ModelFiles
from intract_lsp.inference.four_bit import FourBitLinear, bytes_needed
from intract_lsp.inference.graphs import GraphedDecoder
from intract_lsp.inference.model_engine import ModelEngine

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
CONFIGS: dict[str, Any] = {
    "qwen2, tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "starcoder2": Starcoder2Config(**SIZES, use_bias=True, sliding_window=None),
}
CPU = torch.device("cpu")


def taken(config: Any) -> tuple[Any, weights.Tensors]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bias" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    return weights.take_over(model, 512)


def tokens(count: int) -> list[int]:
    return torch.randint(97, (count,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.inference_mode()
def test_the_logits_are_nearly_those_of_floats_in_a_quarter_of_the_memory(config: Any) -> None:
    shape, tensors = taken(config)
    plain = LeanDecoder(shape, dict(tensors))
    expected = plain.forward(plain.begin(), tokens(40), 40)
    before = {name: each.numel() * 2 for name, each in tensors.items()}
    kept, linears = four_bit.quantize(tensors, CPU)
    assert not tensors
    assert set(linears) == {f"layers.{n}.{part}" for n in range(2) for part in weights.LINEARS}
    assert not any(
        each.dim() == 2 and name not in ("embedding.weight", "head.weight") and "layers" in name
        for name, each in kept.items()
    )
    if config.tie_word_embeddings:
        assert kept["head.weight"] is kept["embedding"]
    lean = LeanDecoder(shape, kept, linears)
    found = lean.forward(lean.begin(), tokens(40), 40)
    assert torch.cosine_similarity(found, expected, dim=1).min() > 0.97
    assert not torch.allclose(found, expected, atol=1e-4), "it is quantised"
    halves = sum(before[f"{name}.weight"] for name in linears)
    quarters = sum(linear.size_bytes for linear in linears.values() if isinstance(linear, FourBitLinear))
    assert quarters < 0.27 * halves
    assert_in_pieces(lean, found)


def assert_in_pieces(lean: LeanDecoder, whole: torch.Tensor) -> None:
    """The same in pieces, and as CUDA graphs compute it."""
    graphed = GraphedDecoder(lean, lambda compute: compute)
    for network in (lean, graphed):
        sequence = network.begin()
        pieces = [network.forward(sequence, part, len(part)) for part in (tokens(40)[:30], tokens(40)[30:39])]
        torch.testing.assert_close(torch.cat(pieces), whole[:39], atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_the_numbers_are_bitsandbytes_own() -> None:
    """Against ``Linear4bit``, which training uses."""
    import bitsandbytes

    _, tensors = taken(CONFIGS["llama"])
    weight = tensors["layers.0.down.weight"].clone()
    _, linears = four_bit.quantize(tensors, CPU)
    module = bitsandbytes.nn.Linear4bit(192, 128, bias=False, quant_type="nf4")
    module.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    module.to("cpu")
    x = torch.randn(5, 192)
    expected = x @ bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).T
    torch.testing.assert_close(linears["layers.0.down"](x), expected, atol=1e-4, rtol=1e-4)


def test_the_memory_of_a_model() -> None:
    tied, untied = CONFIGS["qwen2, tied"], CONFIGS["llama"]
    embedding = 97 * 128
    assert bytes_needed(tied, 1_000_000) == int((1_000_000 - embedding) * 0.56) + 2 * embedding
    assert bytes_needed(untied, 1_000_000) == int((1_000_000 - 2 * embedding) * 0.56) + 4 * embedding


def test_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    _, tensors = taken(CONFIGS["llama"])
    for use in (lambda: four_bit.quantize(tensors, CPU), lambda: four_bit.transformers_config(torch.bfloat16)):
        with pytest.raises(ModelError, match=r"^4-bit weights need the package bitsandbytes, which cannot be used \("):
            use()


def test_an_architecture_that_only_transformers_computes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GemmaConfig(**SIZES, head_dim=32)).eval()
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        expected = model(torch.tensor([tokens(20)])).logits[0]
    quantized = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=four_bit.transformers_config(torch.float32), device_map={"": "cpu"}
    )
    with torch.inference_mode():
        found = quantized(torch.tensor([tokens(20)])).logits[0]
    assert torch.cosine_similarity(found, expected, dim=1).min() > 0.97
    assert quantized.get_memory_footprint() < 0.6 * model.get_memory_footprint()


@pytest.mark.parametrize("architecture", ["qwen2", "gemma"])
def test_the_engine_serves_in_4_bits(tmp_path: Path, architecture: str) -> None:
    write_model(tmp_path)
    if architecture == "gemma":
        AutoModelForCausalLM.from_config(
            GemmaConfig(**{**SIZES, "vocab_size": VOCABULARY}, head_dim=32)
        ).save_pretrained(tmp_path)
    engine = ModelEngine(lambda name, report, token: ModelFiles(name, tmp_path, "qwen2.5-coder"))
    order = LoadOrder("tiny", device="cpu", precision="nf4", threads=1, flash_attention="on")
    sentences: list[str] = []
    card = engine.load(order, lambda sentence, fraction: sentences.append(sentence), CancelToken())
    assert card.precision == "nf4"
    assert any(note.startswith("Flash attention is not used (it needs a CUDA GPU") for note in card.notes)
    assert ("Quantising tiny" in sentences) == (architecture == "qwen2")
    answers = []
    for prefix in ("def f(", "x = 1\ny = x", "import os\nimport s") * 2:
        context = CompletionContext(prefix, "", "python", Extent.BLOCK)
        limits = Limits(8, 1e12, lambda text: None)
        answers.append(engine.generate(context, PromptShape(), limits, CancelToken(), str).token_ids)
    assert any(answers)
    assert answers[:3] == answers[3:], "whatever is reused of the prompt"


def test_without_memory_for_4_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that has none left; the weights are first in the machine's own memory."""
    write_model(tmp_path)
    monkeypatch.setattr(torch_loading, "free_memory", lambda device: 1 << 40 if device.type == "cpu" else 300 << 20)
    gpu = Gpu("A10", (8, 6), 300 << 20, bfloat16=True, flash=True)
    monkeypatch.setattr(torch_loading, "look", lambda: Machine(gpu=gpu, bitsandbytes=True))
    engine = ModelEngine(lambda name, report, token: ModelFiles(name, tmp_path, "qwen2.5-coder"))
    with pytest.raises(ModelError, match=r"^tiny needs 400 MiB on the cuda and 300 MiB are free: "):
        engine.load(LoadOrder("tiny"), lambda sentence, fraction: None, CancelToken())
