"""From float weights to int8: a scale for each output channel, outlying input channels smoothed into the weights.

SmoothQuant (Xiao et al. 2023): what an input channel spreads more than others is divided out of whatever produces it (a
norm's weights, the value rows, the up rows) and multiplied into the weights that take it in, so that serving pays
nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from intract_lsp.inference.decoder import LeanDecoder, Transform
from intract_lsp.inference.shape import Shape
from intract_lsp.inference.weights import LINEARS, Tensors

SMOOTHING = 0.6
"""SmoothQuant's alpha: how much of an input channel's spread moves from the activations into the weights."""

_SMALLEST = 1e-5


def quantize(shape: Shape, tensors: Tensors, texts: Sequence[Sequence[int]]) -> Tensors:
    """Return float32 ``tensors`` with every linear layer in int8; ``texts`` are prompts to see the spread on.

    The float linears are taken out of ``tensors`` one by one, so that memory never holds all weights twice. The
    embedding is kept in float16: it is only ever looked up.
    """
    spreads = _spreads(shape, tensors, texts)
    tensors["embedding"] = tensors["embedding"].half()
    for index in range(shape.layers):
        _smooth_layer(shape, tensors, f"layers.{index}", spreads)
    _smooth(tensors, "head", spreads["head"], "norm")
    names = [f"layers.{index}.{part}" for index in range(shape.layers) for part in LINEARS]
    for name in [*names, "head"]:
        weight = tensors[f"{name}.weight"]
        scale = weight.abs().amax(1).clamp_min(_SMALLEST) / 127  # (out,)
        tensors[f"{name}.weight"] = (weight / scale[:, None]).round_().to(torch.int8)
        tensors[f"{name}.scale"] = scale
    return tensors


def _spreads(shape: Shape, tensors: Tensors, texts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return the largest magnitude of each input channel of each linear layer, (in,), over some text."""
    spreads: dict[str, Tensor] = {}
    decoder = LeanDecoder(shape, tensors)
    decoder.watch_linears(lambda name, linear: partial(_watched, spreads, name, linear))
    for ids in texts:
        decoder.forward(decoder.begin(), ids, last=len(ids))
    return spreads


def _watched(spreads: dict[str, Tensor], name: str, linear: Transform, x: Tensor) -> Tensor:
    largest = x.abs().amax(0)
    spreads[name] = torch.maximum(spreads[name], largest) if name in spreads else largest
    return linear(x)


def _smooth_layer(shape: Shape, tensors: Tensors, layer: str, spreads: dict[str, Tensor]) -> None:
    _smooth(tensors, f"{layer}.qkv", spreads[f"{layer}.qkv"], f"{layer}.before_attention")
    _smooth(tensors, f"{layer}.up", spreads[f"{layer}.up"], f"{layer}.before_feed_forward")
    _smooth_values(shape, tensors, layer, spreads[f"{layer}.out"])
    if shape.gated:
        _smooth_gated(tensors, layer, spreads[f"{layer}.down"])


def _smooth(tensors: Tensors, linear: str, spread: Tensor, norm: str) -> None:
    factor = _factor(spread, tensors[f"{linear}.weight"].abs().amax(0))
    tensors[f"{linear}.weight"] = tensors[f"{linear}.weight"] * factor
    for name in (f"{norm}.weight", f"{norm}.bias"):
        if name in tensors:
            tensors[name] = tensors[name] / factor


def _smooth_values(shape: Shape, tensors: Tensors, layer: str, spread: Tensor) -> None:
    """The inputs of ``out`` are mixtures of values; heads that share values share their factors."""
    weight = tensors[f"{layer}.out.weight"]
    grouped = (shape.kv_heads, shape.heads // shape.kv_heads, shape.head_size)
    largest = weight.abs().amax(0).view(grouped).amax(1)  # (kv heads, head size)
    factor = _factor(spread.view(grouped).amax(1), largest)
    tensors[f"{layer}.out.weight"] = weight * factor[:, None].expand(grouped).reshape(-1)
    _divide_rows(tensors, f"{layer}.qkv", slice(-factor.numel(), None), factor.reshape(-1))


def _smooth_gated(tensors: Tensors, layer: str, spread: Tensor) -> None:
    """The inputs of ``down`` are gates times ups, of which the ups are linear."""
    weight = tensors[f"{layer}.down.weight"]
    factor = _factor(spread, weight.abs().amax(0))
    tensors[f"{layer}.down.weight"] = weight * factor
    _divide_rows(tensors, f"{layer}.up", slice(len(factor), None), factor)


def _divide_rows(tensors: Tensors, linear: str, rows: slice, factor: Tensor) -> None:
    for name, by in ((f"{linear}.weight", factor[:, None]), (f"{linear}.bias", factor)):
        if name in tensors:
            tensors[name] = tensors[name].clone()
            tensors[name][rows] /= by


def _factor(spread: Tensor, largest: Tensor) -> Tensor:
    """Return what to multiply a weight's input channels by, given their spread and the weight's largest entries."""
    return spread.clamp_min(_SMALLEST) ** SMOOTHING / largest.clamp_min(_SMALLEST) ** (1 - SMOOTHING)
