"""A model's int8 weights on disk, so that quantising is paid once: one safetensors file, whole or absent.

Its metadata names what it was made from and by which rules; a copy that does not fit, or is damaged, is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from intract_lsp.inference.shape import Shape

log = logging.getLogger(__name__)

VERSION = "2"
"""Of the file's layout and of the rules in ``quantize`` and ``packing``; whoever changes any of it counts it up."""

Arrays = dict[str, NDArray[np.generic]]

_TYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}
"""Of the arrays, by the file format's names."""

LEFTOVER_AGE = 3600
"""Seconds after which an unfinished file is nobody's."""


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """What a decoder is built from, and the tokens that end its answers."""

    shape: Shape
    arrays: Arrays
    """As ``packing.pack`` makes them; nothing writes into them."""
    end_ids: frozenset[int]


def fingerprint(directory: Path) -> str:
    """Return what changes whenever a model directory's weights or configuration do: names, sizes and times."""
    digest = hashlib.sha256(VERSION.encode())
    for path in sorted([*directory.glob("*.safetensors"), *directory.glob("*.json")]):
        found = path.stat()
        digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read(path: Path, wanted: str) -> QuantizedModel | None:
    """Return the copy at ``path`` if it was made from what ``wanted`` stands for.

    Its arrays are the file itself, mapped: they are in memory as far as they are used, once for all servers, and the
    first answer does not wait for them to be copied.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != wanted:
                log.info("the int8 copy %s was made from other weights or by other rules", path.name)
                return None
            shape = Shape(**json.loads(metadata["shape"]))
            ends = frozenset(json.loads(metadata["end_ids"]))
        return QuantizedModel(shape, _mapped(path), ends)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("the int8 copy %s is damaged (%s)", path.name, type(error).__name__)
        return None


def _mapped(path: Path) -> Arrays:
    """Return a safetensors file's arrays without copying them, which its own library does not offer for numpy.

    The format: eight bytes of the header's length, a JSON header, the data.
    """
    with path.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(whole[:8], "little")
    arrays: Arrays = {}
    for name, entry in json.loads(whole[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype = np.dtype(_TYPES[entry["dtype"]])
            flat = np.frombuffer(whole, dtype, (end - begin) // dtype.itemsize, start + begin)
            arrays[name] = flat.reshape(entry["shape"])
    return arrays


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
        save_file(model.arrays, partial, metadata)
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
