"""A run's result on disk: an adapter in peft's format, or a whole model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from intract_lsp.errors import TrainingError
from intract_lsp.training.durable import replace_directory
from intract_lsp.training.lora import write_files
from intract_lsp.training.network import Trainable
from intract_lsp.training.spec import RunSpec


def write_output(trainable: Trainable, spec: RunSpec, target: Path) -> None:
    """Write what was trained to ``target``, whole or not at all.

    An adapter: ``adapter_config.json``, with the spec's scale in its alpha, and ``adapter_model.safetensors``. Every
    weight: ``config.json`` and ``model.safetensors`` in the base's number format, with the tokenizer's files. Raises
    ``TrainingError`` where the disk does not take it.
    """

    def fill(folder: Path) -> None:
        if trainable.adapter is not None:
            write_files(trainable.adapter, folder, spec.model, spec.trainer.scale)
            return
        source = Path(spec.model_directory)
        for path in [source / "config.json", *source.glob("tokenizer*.json")]:
            shutil.copyfile(path, folder / path.name)
        save_file(trainable.tensors(stored_dtype(source)), folder / "model.safetensors", {"format": "pt"})

    try:
        replace_directory(target, fill)
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise TrainingError(f"The result cannot be written to {target} ({error}): free some disk.") from error


def stored_dtype(directory: Path) -> torch.dtype:
    """Return the number format that a model's configuration names, float32 where it names none."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    known = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    return known.get(name, torch.float32)
