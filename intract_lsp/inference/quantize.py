"""int8 weights and activations for CPUs with integer dot products (VNNI, AMX): a third of bfloat16's time a token.

One scale for each output channel of a weight and one for each token's activations, so that neither an outlying channel
nor an outlying token spoils the others, and a token's result does not depend on which tokens it is computed with (what
KV reuse and speculation rely on). Outlying input channels are smoothed into the weights (SmoothQuant, Xiao et al.
2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from intract_lsp.inference.decoder import LeanDecoder, Linear

SMOOTHING = 0.5
"""SmoothQuant's alpha: how much of an input channel's spread moves from the activations into the weights."""

_SMALLEST = 1e-5


def supported() -> bool:
    """Return whether this CPU multiplies int8 fast enough for it to pay."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


class Int8Linear:
    """A linear layer over int8 weights, (in, out), with float32 in and out."""

    def __init__(self, linear: Linear, spread: Tensor) -> None:
        """Quantise ``linear``; ``spread`` (in,) is the largest magnitude of each input channel over some text."""
        weight = linear.weight.float()
        largest = weight.abs().amax(0).clamp_min(_SMALLEST)
        smooth = spread.clamp_min(_SMALLEST) ** SMOOTHING / largest ** (1 - SMOOTHING)
        weight = weight * smooth
        self._shrink = 1 / smooth
        self._scale = weight.abs().amax(1).clamp_min(_SMALLEST) / 127  # (out,)
        self._weight = (weight / self._scale[:, None]).round().to(torch.int8).t()
        self._bias = None if linear.bias is None else linear.bias.float()

    def __call__(self, x: Tensor) -> Tensor:
        """Return (tokens, out) for ``x`` of (tokens, in)."""
        x = x * self._shrink
        scale = x.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127  # (tokens, 1)
        product = torch._int_mm((x / scale).round_().to(torch.int8), self._weight)
        result = product.float().mul_(scale).mul_(self._scale)
        return result if self._bias is None else result.add_(self._bias)


def quantize(decoder: LeanDecoder, texts: Sequence[Sequence[int]]) -> None:
    """Replace every linear layer of a float32 decoder; ``texts`` are prompts to see the activations' spread on."""
    spreads: dict[int, Tensor] = {}
    originals: dict[int, Linear] = {}

    def watch(place: int, linear: Linear) -> Callable[[Tensor], Tensor]:
        originals[place] = linear
        return partial(_watched, spreads, place, linear)

    decoder.replace_linears(watch)
    for ids in texts:
        decoder.cut(0)
        decoder.forward(ids)
    decoder.cut(0)
    # The original is let go of as soon as its layer is done, so that memory never holds all weights twice.
    decoder.replace_linears(lambda place, _: Int8Linear(originals.pop(place), spreads[place]))


def _watched(spreads: dict[int, Tensor], place: int, linear: Linear, x: Tensor) -> Tensor:
    largest = x.abs().amax(0)
    spreads[place] = torch.maximum(spreads[place], largest) if place in spreads else largest
    return linear(x)
