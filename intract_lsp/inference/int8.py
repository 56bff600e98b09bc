"""Linear layers over int8 weights and activations, by the kernel that suits the CPU.

One scale for each output channel of a weight and one for each token's activations: an outlying channel or token does
not spoil the others, and a token's result does not depend on which tokens it is computed with (what KV reuse and
speculation rely on).
"""

from __future__ import annotations

import warnings
from enum import Enum

import torch
from torch import Tensor

_SMALLEST = 1e-12
"""Least spread of a token's activations, against division by zero."""


class Kernel(Enum):
    """What multiplies."""

    ONEDNN = "oneDNN"
    """For CPUs with integer dot products (VNNI, AMX): six rows cost little more than one."""
    FBGEMM = "FBGEMM"
    """For x86 CPUs without: its kernels keep to seven bits of the activations, which AVX2 multiplies exactly."""


def kernel() -> Kernel | None:
    """Return the kernel for this CPU, ``None`` where int8 would not pay."""
    capabilities = torch.cpu.get_capabilities()
    if any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return Kernel.ONEDNN
    if capabilities.get("avx2"):
        return Kernel.FBGEMM
    return None


class Int8Linear:
    """A linear layer over int8 weights with float32 in and out."""

    def __init__(
        self, weight: Tensor, scale: Tensor, bias: Tensor | None, fine: bool = False, chosen: Kernel | None = None
    ) -> None:
        """Pack ``weight``, (out, in) in -127..127, of which row i stands for ``scale[i]`` times as much.

        ``fine`` asks for a kernel with few bits to be exact all the same: for the matrix whose inputs vary most.
        """
        chosen = chosen or kernel()
        if chosen is None:
            raise RuntimeError("this CPU has no int8 kernel")
        self._product: _OneDnn | _Fbgemm
        self._product = _OneDnn(weight, scale) if chosen is Kernel.ONEDNN else _Fbgemm(weight, scale, fine)
        self._bias = bias

    def settle(self) -> bool:
        """Pack the weight if that is still to be done; returns whether it was. Results stay the same."""
        return self._product.settle()

    def __call__(self, x: Tensor) -> Tensor:
        """Return (tokens, out) for ``x`` of (tokens, in)."""
        largest = x.abs().amax(1, keepdim=True).clamp_min_(_SMALLEST)  # (tokens, 1)
        product = self._product(x, largest)
        if self._bias is None:
            return product.mul_(largest)
        return torch.addcmul(self._bias, product, largest)


class _OneDnn:
    """Products of tokens divided by their largest magnitude, (tokens, out), through oneDNN.

    Packing a weight takes as long as reading it ten times from the disk, so it waits for an idle moment: until then the
    plain weight is multiplied, which is as fast for one row and half as fast for a few.
    """

    HINT = 64
    """Rows that the packed layout is made for: a piece of a prompt; decoding steps are no slower with it."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._plain: Tensor | None = weight.t()
        self._packed: Tensor | None = None
        self._scale = scale / 127
        self._zero = torch.zeros(len(scale), dtype=torch.int64)
        # Unsigned activations are what the instructions take; half a step more turns truncation into rounding.
        self._middle = torch.tensor(128.5)

    def settle(self) -> bool:
        if self._plain is None:
            return False
        weight = self._plain.t()
        self._packed = torch.ops.onednn.qlinear_prepack(weight, [self.HINT, weight.shape[1]])
        self._plain = None
        return True

    def __call__(self, x: Tensor, largest: Tensor) -> Tensor:
        if self._plain is not None:
            signed = torch.addcdiv(self._middle, x, largest, value=127).floor_().sub_(128).to(torch.int8)
            return torch._int_mm(signed, self._plain).float().mul_(self._scale)
        levels = torch.addcdiv(self._middle, x, largest, value=127).to(torch.uint8)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            levels, 1.0, 128, self._packed, self._scale, self._zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return product


class _Fbgemm:
    """The same through FBGEMM, which chooses one scale for all the rows that it is given.

    Every row is divided by its largest magnitude and one row of both extremes is added, so that the scale is 1/63
    whatever the rows are. Where it has to be fine, what rounding leaves of each row is multiplied as a further row.
    """

    LEVELS = 63
    """Positive levels of seven bits; there is one more negative one."""

    def __init__(self, weight: Tensor, scale: Tensor, fine: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a later torch's plans with quantised tensors
            quantized = torch._make_per_channel_quantized_tensor(
                weight, scale.double(), torch.zeros(len(scale), dtype=torch.int64), 0
            )
            self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        self._extremes = torch.zeros(1, weight.shape[1])
        self._extremes[0, 0], self._extremes[0, -1] = 1, -(self.LEVELS + 1) / self.LEVELS
        self._fine = fine

    def settle(self) -> bool:
        return False

    def __call__(self, x: Tensor, largest: Tensor) -> Tensor:
        rows = x / largest
        if not self._fine:
            return self._rows(rows)[:-1]
        # A rest is at most half a level: made larger it has levels of its own.
        rest = (rows - (rows * self.LEVELS).round_() / self.LEVELS) * (2 * self.LEVELS)
        product = self._rows(torch.cat((rows, rest)))
        return product[: len(x)].add(product[len(x) : -1], alpha=0.5 / self.LEVELS)

    def _rows(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.quantized.linear_dynamic(
            torch.cat((rows, self._extremes)), self._packed, reduce_range=True
        )
        return product
