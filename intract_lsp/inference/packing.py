"""int8 weights in the order in which ``kernels`` reads them: blocks of 64 columns, four inputs side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intract_lsp.inference.jit import BLOCK, QUAD
from intract_lsp.inference.quantized_copy import Arrays
from intract_lsp.inference.shape import Shape
from intract_lsp.inference.weights import LINEARS, Tensors


def pack(shape: Shape, tensors: Tensors) -> Arrays:
    """Return the arrays that ``Int8Decoder`` takes, emptying ``tensors`` on the way, which ``quantize`` made.

    Of each matrix the layers are stacked; columns and inputs are padded to multiples of 64 with zeros.
    """
    layers = range(shape.layers)
    packed: Arrays = {}
    packed["embedding"] = tensors.pop("embedding").numpy()
    packed["frequencies"] = tensors.pop("frequencies").numpy()
    width = _padded(packed["embedding"].shape[1])
    for name in ("before_attention", "before_feed_forward"):
        _put_norm(packed, name, [f"layers.{layer}.{name}" for layer in layers], width, tensors)
    _put_norm(packed, "norm", ["norm"], width, tensors)
    for name in LINEARS:
        parts = 2 if name == "up" and shape.gated else 1
        _put(packed, name, [_matrix(tensors, f"layers.{layer}.{name}", parts) for layer in layers])
    _put(packed, "head", [_matrix(tensors, "head", 1)])
    for array in packed.values():
        array.flags.writeable = False  # as a mapped copy's, for which the kernels are compiled
    return packed


def _matrix(tensors: Tensors, name: str, parts: int) -> tuple[NDArray[np.generic], ...]:
    """Return weight, scale and bias; each of ``parts`` equal pieces of the columns is padded on its own."""
    weight: NDArray[np.int8] = tensors.pop(f"{name}.weight").numpy()
    scale: NDArray[np.float32] = tensors.pop(f"{name}.scale").numpy()
    given = tensors.pop(f"{name}.bias", None)
    bias = np.zeros_like(scale) if given is None else given.float().numpy()
    rows, inputs = len(weight) // parts, weight.shape[1]
    width, depth = _padded(rows), _padded(inputs)
    whole = np.full((parts, width, depth), 128, np.uint8)
    whole[:, :rows, :inputs] = (weight.reshape(parts, rows, inputs).view(np.uint8)) ^ 128
    blocks = whole.reshape(parts * width // BLOCK, BLOCK, depth // QUAD, QUAD).transpose(0, 2, 1, 3)
    vectors = []
    for values in (scale, bias):
        padded = np.zeros((parts, width), np.float32)
        padded[:, :rows] = values.reshape(parts, rows)
        vectors.append(padded.reshape(-1))
    return np.ascontiguousarray(blocks), *vectors


def _put(packed: Arrays, name: str, layers: list[tuple[NDArray[np.generic], ...]]) -> None:
    for part, arrays in zip(("weight", "scale", "bias"), zip(*layers, strict=True), strict=True):
        packed[f"{name}.{part}"] = np.stack(arrays)


def _put_norm(packed: Arrays, name: str, sources: list[str], width: int, tensors: Tensors) -> None:
    for key, part in ((name, "weight"), (f"{name}_bias", "bias")):
        rows = np.zeros((len(sources), width), np.float32)
        for row, source in zip(rows, sources, strict=True):
            given = tensors.pop(f"{source}.{part}", None)
            if given is not None:
                row[: len(given)] = given.float().numpy()
        packed[key] = rows


def _padded(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
