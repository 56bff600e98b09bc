"""Random adapters for the models of ``tiny_models``, written by peft itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intract_lsp.inference.engine import AdapterFiles, AdapterKind
from intract_lsp.models.store import weights_fingerprint


def write_lora(base: Path, directory: Path, seed: int, size: float = 0.3, **options: Any) -> AdapterFiles:
    """Write low-rank matrices that change what the model says; ``options`` are of peft's ``LoraConfig``."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    given = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    adapted = get_peft_model(model, LoraConfig(**given))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.normal_(0, size)
    adapted.save_pretrained(directory)
    return files(directory, base)


def write_standard(base: Path, directory: Path, seed: int) -> AdapterFiles:
    """Write all weights anew, a little changed."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight += 0.2 * torch.randn_like(weight)
    model.save_pretrained(directory)
    return files(directory, base, AdapterKind.STANDARD)


def files(directory: Path, base: Path, kind: AdapterKind = AdapterKind.LORA) -> AdapterFiles:
    return AdapterFiles(directory.name, directory, kind, base.name, weights_fingerprint(base))
