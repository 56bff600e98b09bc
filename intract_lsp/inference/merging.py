"""Low-rank adapters in peft's format merged into a model's weights: W + scale * B @ A (Hu et al. 2021).

What cannot be merged in that form (DoRA, trained embeddings or biases, methods that change the base) is refused by its
name in the configuration or in the weights, so that nothing is left out in silence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from intract_lsp.errors import AdapterError
from intract_lsp.inference.adapted import LORA_CONFIG, LORA_WEIGHTS
from intract_lsp.inference.engine import AdapterFiles

_HARMLESS = frozenset(
    {
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "use_rslora"),
        *("layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
    }
)
"""Fields of the configuration that change nothing of what is merged, or that are heeded."""

_PLAIN = {"bias": ("none",), "init_lora_weights": (True, False, "gaussian")}
"""Fields that change nothing as long as they have one of these values; any other field has to be empty."""

_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to one linear layer."""

    a: Tensor
    """(r, in)"""
    b: Tensor
    """(out, r)"""
    scale: float

    def merged(self, weight: Tensor) -> Tensor:
        """Return ``weight``, (out, in), with the product added; summed in float32, in the weight's own format."""
        added = self.b.to(weight.device, torch.float32) @ self.a.to(weight.device, torch.float32)
        return (weight.float() + self.scale * added).to(weight.dtype)


def read_lora(adapter: AdapterFiles) -> dict[str, LowRank]:
    """Return what an adapter adds, by the name of the linear layer's module. Raises ``AdapterError``."""
    try:
        config = json.loads((adapter.directory / LORA_CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(adapter.directory / LORA_WEIGHTS)
        scale = _scale(adapter, config)
        return {name: LowRank(*pair, scale) for name, pair in _pairs(adapter, tensors).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise AdapterError(
            f"The adapter {adapter.id} is damaged ({error}): roll back to another one or train again."
        ) from error


def merge(model: Any, adapter: AdapterFiles) -> None:
    """Merge an adapter into a transformers model with float weights.

    Raises ``AdapterError``; the model is then of no use.
    """
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    for name, low_rank in read_lora(adapter).items():
        try:
            module = model.get_submodule(name)
        except AttributeError:
            module = None
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or not fits(low_rank, weight):
            raise misfit(adapter, name)
        if tied and module is head:
            raise AdapterError(
                f"The adapter {adapter.id} changes {name}, which is the embedding too: leave it out and train again."
            )
        with torch.no_grad():
            weight.data = low_rank.merged(weight.data)


def fits(low_rank: LowRank, weight: Tensor) -> bool:
    """Return whether a weight is a float matrix of the size that is added to it."""
    return weight.is_floating_point() and tuple(weight.shape) == (low_rank.b.shape[0], low_rank.a.shape[1])


def misfit(adapter: AdapterFiles, name: str) -> AdapterError:
    """Return the error for a layer that the model has not, or has in another size or format."""
    return AdapterError(
        f"The adapter {adapter.id} does not fit the model: it changes {name}, which the model lacks or has in another "
        "size or number format. Choose the model that it was trained on."
    )


def _scale(adapter: AdapterFiles, config: dict[str, Any]) -> float:
    for field, value in config.items():
        if field in _PLAIN and value in _PLAIN[field]:
            continue
        if field not in _HARMLESS and value:
            raise AdapterError(f"The adapter {adapter.id} cannot be merged: its {LORA_CONFIG} has {field} set.")
    if config["peft_type"] != "LORA":
        raise AdapterError(f"The adapter {adapter.id} cannot be merged: it is {config['peft_type']}, not LORA.")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _pairs(adapter: AdapterFiles, tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    names = set()
    for key in tensors:
        name, _, part = key.removeprefix(_PREFIX).rpartition(".lora_")
        if not key.startswith(_PREFIX) or part not in ("A.weight", "B.weight") or tensors[key].dim() != 2:
            raise AdapterError(f"The adapter {adapter.id} cannot be merged: it holds {key}.")
        names.add(name)
    if not names:
        raise AdapterError(f"The adapter {adapter.id} holds no weights: train again.")
    pairs = {
        name: (tensors[f"{_PREFIX}{name}.lora_A.weight"], tensors[f"{_PREFIX}{name}.lora_B.weight"]) for name in names
    }
    if any(a.shape[0] != b.shape[1] for a, b in pairs.values()):
        raise ValueError("its matrices do not fit each other")
    return pairs
