"""Where and in which number format a model runs, chosen by what the machine computes fastest. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from intract_lsp.errors import ModelError
from intract_lsp.inference.jit import Kind, kind_of_cpu

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Placement:
    """A device with a number format, and why."""

    device: torch.device
    dtype: torch.dtype
    """The float format: of everything, or, with ``int8``, of models that cannot be quantised."""
    reason: str
    int8: bool = False
    """Whether the weights are quantised."""

    @property
    def loaded_dtype(self) -> torch.dtype:
        """What the weights are loaded as, before they may be quantised."""
        return torch.float32 if self.int8 else self.dtype

    @property
    def precision(self) -> str:
        """The number format as the settings spell it."""
        return "int8" if self.int8 else str(self.dtype).removeprefix("torch.")


def choose_placement(device: str, precision: str) -> Placement:
    """Choose by the settings, ``auto`` meaning the fastest that this machine has.

    Raises ``ModelError`` where a device or number format is asked for that is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name, there in available.items() if there)
    elif not available[device]:
        raise ModelError(f"There is no {device} device that torch can use here; set model.device to auto.")
    dtype, reason = _fastest(device)
    if precision in PRECISIONS:
        return Placement(torch.device(device), PRECISIONS[precision], "as set")
    kind = kind_of_cpu() if device == "cpu" else Kind.PLAIN
    if kind is not Kind.PLAIN:
        why = "as set" if precision == "int8" else f"the CPU multiplies int8 fastest, by {kind.sentence}"
        return Placement(torch.device(device), dtype, why, int8=True)
    if precision == "int8":
        raise ModelError(
            "model.precision int8 needs model.device cpu and a CPU with AVX2 or ARM dot products: set it to auto."
        )
    return Placement(torch.device(device), dtype, reason)


def _fastest(device: str) -> tuple[torch.dtype, str]:
    if device == "cuda":
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "the GPU computes bfloat16"
        return torch.float16, "the GPU computes float16, not bfloat16"
    if device == "mps":
        return torch.float16, "Metal computes float16"
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        return torch.bfloat16, "the CPU has bfloat16 instructions"
    return torch.float32, "the CPU has no bfloat16 instructions"


def free_memory(device: torch.device) -> int:
    """Return the bytes that a model may still take on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return int(psutil.virtual_memory().available)
