"""Small random models on disk, and samples that they can learn by heart."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from intract_lsp.training.sample import Sample, SampleKind
from intract_lsp.training.spec import DataSpec, LoraSpec, Method, RunSpec, TrainerSpec

VOCABULARY = 97


def write_qwen(directory: Path, *, tied: bool = False, dtype: str = "float32", **changes: Any) -> Path:
    """Write a random two-layer Qwen2 with biases and grouped keys."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**(sizes | changes))).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(directory)
    return directory


def some_samples(count: int, length: int = 24, middle: int = 8, seed: int = 1) -> list[Sample]:
    """Return samples of different lengths whose middles follow from their first token."""
    chosen = random.Random(seed)
    samples = []
    for _ in range(count):
        first = chosen.randrange(VOCABULARY)
        prompt = [first, *(chosen.randrange(VOCABULARY) for _ in range(chosen.randrange(2, length - middle)))]
        answer = [(first + 3 * index) % VOCABULARY for index in range(1, middle + 1)]
        samples.append(Sample(tuple(prompt + answer), len(prompt), SampleKind.LINE))
    return samples


def run_spec(
    model: Path, *, r: int = 4, dropout: float = 0.0, targets: tuple[str, ...] = (), **trainer: Any
) -> RunSpec:
    """Return a run of a few steps on the CPU."""
    values: dict[str, Any] = {
        "method": Method.LORA,
        "lora": LoraSpec(r=r, alpha=2 * r, dropout=dropout, target_modules=targets),
        "learning_rate": 0.01,
        "scale": 1.0,
        "minutes": 0.0,
        "steps": 20,
        "batch_size": 4,
        "context_length": 64,
        "threads": 1,
    }
    return RunSpec(
        id="run",
        workspace=str(model.parent),
        folder=str(model.parent),
        model="tiny",
        model_directory=str(model),
        fim_family="none",
        data=DataSpec(context_length=64, replay_share=0.2),
        trainer=TrainerSpec(**(values | trainer)),
    )
