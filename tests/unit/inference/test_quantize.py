"""int8: what quantising costs, and the copy on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_decoder import FAMILIES, model_of, tokens

from intract_lsp.inference import quantize, quantized_copy, weights
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.int8_decoder import Int8Decoder
from intract_lsp.inference.packing import pack
from intract_lsp.inference.quantized_copy import Arrays, QuantizedModel, fingerprint
from intract_lsp.inference.shape import Shape
from intract_lsp.inference.team import Team
from intract_lsp.inference.weights import Tensors


def varied() -> tuple[Shape, Tensors]:
    """A model with an input channel that is a hundred times the others', as real ones have."""
    model = model_of(FAMILIES["llama with biases (Granite code)"])
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight[3] *= 100
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                projection.weight[:, 3] /= 100
    return weights.take_over(model, 4096)


def logits(shape: Shape, tensors: Tensors, ids: list[int]) -> torch.Tensor:
    decoder = LeanDecoder(shape, tensors)
    return decoder.forward(decoder.begin(), ids, len(ids))


def logits_in_int8(shape: Shape, arrays: Arrays, ids: list[int]) -> torch.Tensor:
    decoder = Int8Decoder(shape, arrays, Team(1))
    return torch.from_numpy(decoder.forward(decoder.begin(), ids, len(ids)))


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
@torch.inference_mode()
def test_smoothing_alone_changes_nothing(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rounding left out, what is divided out in one place is multiplied in at another."""
    ids = tokens(40)
    shape, tensors = weights.take_over(model_of(config), 4096)
    whole = logits(shape, dict(tensors), ids)
    spreads = quantize._spreads(shape, tensors, [tokens(50, seed=5)])
    for index in range(shape.layers):
        quantize._smooth_layer(shape, tensors, f"layers.{index}", spreads)
    quantize._smooth(tensors, "head", spreads["head"], "norm")
    torch.testing.assert_close(logits(shape, tensors, ids), whole, atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_int8_stays_close_and_needs_the_smoothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tokens(60)
    whole = logits(*varied(), ids)

    def error() -> float:
        shape, tensors = varied()
        quantized = quantize.quantize(shape, tensors, [tokens(50, seed=5), tokens(50, seed=6)])
        return float((logits_in_int8(shape, pack(shape, quantized), ids) - whole).norm() / whole.norm())

    smoothed = error()
    assert smoothed < 0.05
    monkeypatch.setattr(quantize, "SMOOTHING", 0.0)
    assert error() > smoothed


@pytest.fixture
def quantized() -> QuantizedModel:
    with torch.inference_mode():
        shape, tensors = weights.take_over(model_of(FAMILIES["qwen2"]), 4096)
        return QuantizedModel(shape, pack(shape, quantize.quantize(shape, tensors, [tokens(50)])), frozenset({3, 5}))


@torch.inference_mode()
def test_a_copy_is_read_as_it_was_written(quantized: QuantizedModel, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "copy.safetensors"
    ids = tokens(20)
    whole = logits_in_int8(quantized.shape, quantized.arrays, ids)
    quantized_copy.write(path, "weights of today", quantized)
    found = quantized_copy.read(path, "weights of today")
    assert found is not None
    assert (found.shape, found.end_ids) == (quantized.shape, quantized.end_ids)
    assert torch.equal(logits_in_int8(found.shape, found.arrays, ids), whole)
    assert quantized_copy.read(path, "weights of tomorrow") is None
    assert quantized_copy.read(tmp_path / "absent", "weights of today") is None
    assert [each.name for each in path.parent.iterdir()] == ["copy.safetensors"]


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_a_damaged_copy_is_no_copy(quantized: QuantizedModel, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "copy.safetensors"
    quantized_copy.write(path, "x", quantized)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert quantized_copy.read(path, "x") is None


@pytest.mark.parametrize("moment", ["while it is written", "before it takes its place"])
def test_a_kill_leaves_no_half_copy(
    quantized: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "copy.safetensors"
    quantized_copy.write(path, "old", quantized)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # a killed process tidies nothing up

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    if moment == "while it is written":
        monkeypatch.setattr(quantized_copy, "save_file", dies)
    else:
        monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        quantized_copy.write(path, "new", quantized)
    monkeypatch.undo()
    assert quantized_copy.read(path, "old") is not None
    leftover = next(tmp_path.glob("*.partial"))
    quantized_copy.write(path, "new", quantized)
    assert leftover.exists()  # it may be another server's
    os.utime(leftover, (0, 0))
    quantized_copy.write(path, "newer", quantized)
    assert [each.name for each in tmp_path.iterdir()] == ["copy.safetensors"]


def test_a_full_disk_says_so(quantized: QuantizedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        quantized_copy.write(tmp_path / "file" / "copy.safetensors", "x", quantized)


@pytest.mark.parametrize(
    "change",
    [
        lambda directory: (directory / "model.safetensors").write_bytes(b"other"),
        lambda directory: os.utime(directory / "model.safetensors", ns=(1, 1)),
        lambda directory: (directory / "config.json").write_text("{ }"),
        lambda directory: (directory / "more.safetensors").write_bytes(b""),
    ],
)
def test_the_fingerprint_follows_the_weights(tmp_path: Path, change: Callable[[Path], object]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    change(tmp_path)
    assert fingerprint(tmp_path) != before
