"""Adapters for other programs: in peft's format, or merged into the base model's weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from intract_lsp.errors import AdapterError, ModelError
from intract_lsp.inference.adapted import LORA_CONFIG, LORA_WEIGHTS, check_adapter
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, ModelFiles
from intract_lsp.inference.merging import fits, misfit, read_lora
from intract_lsp.models import catalog
from intract_lsp.models.store import MANIFEST
from intract_lsp.training.provenance import META

_TEXTS = frozenset({".json", ".txt", ".model", ".jinja"})
"""What a model's directory has beside the weights: configuration and tokenizer."""


def export_adapter(adapter: AdapterFiles, target: Path) -> None:
    """Write a low-rank adapter in peft's format to a new directory. Raises ``AdapterError``.

    Its configuration names the base model as the hub does, instead of a place on this machine.
    """
    if adapter.kind is AdapterKind.STANDARD:
        raise AdapterError(f"{adapter.id} has all weights, not an adapter's: export it merged.")

    def fill(partial: Path) -> None:
        config = json.loads((adapter.directory / LORA_CONFIG).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = _hub_name(adapter.base_name)
        (partial / LORA_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(adapter.directory / LORA_WEIGHTS, partial / LORA_WEIGHTS)

    _written(target, fill)


def export_merged(adapter: AdapterFiles, base: Path, target: Path) -> None:
    """Write the model in ``base`` with the adapter merged in to a new directory, in the base's number format.

    Raises ``AdapterError``.
    """
    check_adapter(adapter, ModelFiles(adapter.base_name, base))

    def fill(partial: Path) -> None:
        weights = base
        if adapter.kind is AdapterKind.STANDARD:
            weights = adapter.directory
            _copy(base, partial, lambda path: not path.name.endswith(".safetensors.index.json"))
            _copy(weights, partial, lambda path: True)
            for shard in weights.glob("*.safetensors"):
                shutil.copyfile(shard, partial / shard.name)
        else:
            _copy(base, partial, lambda path: True)
            _merge_shards(adapter, base, partial)

    _written(target, fill)


def _merge_shards(adapter: AdapterFiles, base: Path, partial: Path) -> None:
    left = read_lora(adapter)
    for shard in sorted(base.glob("*.safetensors")):
        tensors = {}
        with safe_open(shard, framework="pt") as stream:
            metadata = stream.metadata() or {"format": "pt"}
            for name in stream.keys():  # noqa: SIM118 - it is no mapping
                tensors[name] = stream.get_tensor(name)
                low_rank = left.pop(name.removesuffix(".weight"), None) if name.endswith(".weight") else None
                if low_rank is not None:
                    if not fits(low_rank, tensors[name]):
                        raise misfit(adapter, name)
                    tensors[name] = low_rank.merged(tensors[name])
        save_file(tensors, partial / shard.name, metadata)
    if left:
        raise misfit(adapter, next(iter(left)))


def _copy(source: Path, target: Path, wanted: Callable[[Path], bool]) -> None:
    for path in source.iterdir():
        if path.suffix in _TEXTS and path.name not in (MANIFEST, META) and wanted(path):
            shutil.copyfile(path, target / path.name)


def _written(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory beside ``target`` and rename it, so that there is no half of it."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AdapterError(f"{target} is there already: give a directory that is not.")
    partial = target.absolute().with_name(f".{target.name}.partial")
    try:
        partial.mkdir(parents=True)
        fill(partial)
        if target.is_dir():
            target.rmdir()
        partial.replace(target)
    except (OSError, ValueError, SafetensorError) as error:
        raise AdapterError(f"The adapter cannot be written to {target} ({error}): give another directory.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _hub_name(base_name: str) -> str:
    try:
        return catalog.find(base_name).hub_repo or base_name
    except ModelError:
        return base_name
