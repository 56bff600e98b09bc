"""Checks of a model's files by their headers alone: cheap enough for every start."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from intract_lsp.errors import ModelError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit."""


def check_directory(directory: Path) -> None:
    """Raise ``ModelError`` unless ``directory`` holds a complete model: configuration, safetensors and tokenizer."""
    if not directory.is_dir():
        raise ModelError(f"There is no directory {directory}: give a model directory, a GGUF file or a model's name.")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        if any(file.suffix in PICKLE_SUFFIXES for file in directory.iterdir()):
            raise ModelError(
                f"{directory} holds only pickled weights, which can run code when they are loaded: "
                "convert them to safetensors first."
            )
        raise ModelError(f"{directory} is no model directory: it has no *.safetensors file.")
    _read_json(directory / "config.json")
    if not any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise ModelError(f"{directory} has no tokenizer.json or tokenizer.model: add the model's tokenizer.")
    for index in directory.glob("*.safetensors.index.json"):
        shards = _read_json(index).get("weight_map")
        names = set(shards.values()) if isinstance(shards, dict) else set()
        missing = sorted(str(name) for name in names if not (directory / str(name)).is_file())
        if missing:
            raise ModelError(f"{directory} lacks {missing[0]}, which {index.name} names: copy the whole model again.")
    for file in weights:
        check_safetensors(file)


def check_safetensors(file: Path) -> None:
    """Raise ``ModelError`` unless the file is as long as its header says."""
    size = file.stat().st_size
    damaged = ModelError(f"{file} is damaged or was cut short ({size:,} bytes): fetch or copy it again.")
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise damaged
        (length,) = struct.unpack("<Q", start)
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise damaged
        try:
            header = json.loads(stream.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise damaged from error
    if size != 8 + length + end:
        raise damaged


def _read_json(file: Path) -> dict[str, object]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{file.parent} is no model directory: it has no {file.name}.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error}): fetch or copy the model again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} is no JSON object: fetch or copy the model again.")
    return value
