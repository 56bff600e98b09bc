"""A model's int8 weights on disk, so that quantising is paid once: one safetensors file, whole or absent.

Its metadata names what it was made from and by which rules; a copy that does not fit, or is damaged, is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from intract_lsp.inference.weights import Shape, Tensors

log = logging.getLogger(__name__)

VERSION = "1"
"""Of the file's layout and of the rules in ``quantize``; whoever changes either counts it up."""

LEFTOVER_AGE = 3600
"""Seconds after which an unfinished file is nobody's."""


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """What a decoder is built from, and the tokens that end its answers."""

    shape: Shape
    tensors: Tensors
    end_ids: frozenset[int]


def fingerprint(directory: Path) -> str:
    """Return what changes whenever a model directory's weights or configuration do: names, sizes and times."""
    digest = hashlib.sha256(VERSION.encode())
    for path in sorted([*directory.glob("*.safetensors"), *directory.glob("*.json")]):
        found = path.stat()
        digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read(path: Path, wanted: str) -> QuantizedModel | None:
    """Return the copy at ``path`` if it was made from what ``wanted`` stands for, with weights mapped from the file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != wanted:
                log.info("the int8 copy %s was made from other weights or by other rules", path.name)
                return None
            shape = Shape(**json.loads(metadata["shape"]))
            ends = frozenset(json.loads(metadata["end_ids"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("the int8 copy %s is damaged (%s)", path.name, type(error).__name__)
        return None
    # Only the embedding stays mapped once the matrices are packed: through a mapping of its own, and what is small is
    # copied, so that the pages read for packing can go.
    small = {name: tensor.clone() for name, tensor in tensors.items() if tensor.dim() == 1}
    with safe_open(path, framework="pt") as file:
        embedding = file.get_tensor("embedding")
    return QuantizedModel(shape, {**tensors, **small, "embedding": embedding}, ends)


def write(path: Path, made_from: str, model: QuantizedModel) -> None:
    """Write a copy in one step. Raises ``OSError`` where the disk does not take it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.glob(f"{path.name}.*.partial"))
    metadata = {
        "fingerprint": made_from,
        "shape": json.dumps(asdict(model.shape)),
        "end_ids": json.dumps(sorted(model.end_ids)),
    }
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        save_file({name: tensor.contiguous() for name, tensor in model.tensors.items()}, partial, metadata)
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _remove_leftovers(partials: Iterable[Path]) -> None:
    """Remove what killed processes left behind; another server may be writing one that is younger."""
    for each in partials:
        if time.time() - each.stat().st_mtime > LEFTOVER_AGE:
            each.unlink(missing_ok=True)
