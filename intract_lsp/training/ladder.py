"""How much memory a training takes, and what is given up, one thing after another, where it does not suffice."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, replace

import psutil
import torch

LEAST_CONTEXT = 64
"""Tokens: with shorter samples nothing is left to learn from."""

_SIGNS = ("not enough memory", "can't allocate memory", "out of memory", "alloc failed")
"""How torch's allocators say that memory is out, other than by their own kind of error."""


@dataclass(frozen=True, slots=True)
class Rung:
    """How much memory a step may need."""

    micro_tokens: int
    """Most tokens of a micro-batch."""
    context_length: int
    """Most tokens of a sample."""
    checkpointing: bool
    """Whether each layer is computed twice instead of kept."""

    def lower(self) -> tuple[Rung, str] | None:
        """Return the next rung and a sentence that says what it costs; ``None`` at the last one."""
        if self.micro_tokens > self.context_length:
            half = max(self.context_length, self.micro_tokens // 2)
            return replace(
                self, micro_tokens=half
            ), f"Memory is short: samples are now computed {half} tokens at a time."
        if not self.checkpointing:
            return replace(self, checkpointing=True), "Memory is short: layers are now computed twice instead of kept."
        half = self.context_length // 2
        if half < LEAST_CONTEXT:
            return None
        sentence = f"Memory is short: samples of more than {half} tokens are now left out."
        return Rung(half, half, self.checkpointing), sentence


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def give_back(optimiser: torch.optim.Optimizer, device: torch.device) -> None:
    """Free what a failed step has left behind."""
    optimiser.zero_grad(set_to_none=True)
    let_go(device.type)


def let_go(device: str) -> None:
    """Free what nobody refers to any more, on a GPU (``cuda``) also what torch keeps of that for later."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that the process has held so far, of the GPU's memory where it trains there."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
