"""What this machine has, and the model that suits it. Asked without importing torch."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

GIB = 2**30
NVIDIA_SMI_SECONDS = 5.0
"""A driver that hangs must not hold the server up."""

GPU_MODELS: tuple[tuple[int, str], ...] = (
    (20 * GIB, "qwen2.5-coder-7b"),
    (5 * GIB, "qwen2.5-coder-1.5b"),
    (0, "qwen2.5-coder-0.5b"),
)
"""Default model by GPU memory (at least so many bytes, first match), sized for 16-bit weights with room for the KV
cache and a desktop. The 3B model is left out: its licence forbids commercial use."""

CPU_MODEL = "qwen2.5-coder-0.5b"
"""Default model without a GPU: larger ones take seconds for each suggestion."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What matters for choosing a model."""

    memory_bytes: int
    gpu_memory_bytes: int
    """Memory of the largest GPU that a model may use; 0 without a GPU."""
    gpu_kind: Literal["cuda", "mps", ""]
    physical_cores: int
    gpus: int = 0
    """How many NVIDIA GPUs there are."""


def detect() -> Hardware:
    """Look at this machine; takes some milliseconds, and up to seconds where an NVIDIA driver is slow."""
    memory = int(psutil.virtual_memory().total)
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if sys.platform == "darwin" and platform.machine() == "arm64":
        # The GPU shares the memory; macOS lets it use about two thirds.
        return Hardware(memory, memory * 2 // 3, "mps", cores)
    cuda = _cuda_memories()
    return Hardware(memory, max(cuda, default=0), "cuda" if cuda else "", cores, len(cuda))


def has_gpu() -> bool:
    """Return whether there is a GPU that torch may run a model on; as fast as ``detect``."""
    # AMD's driver for computing makes torch's CUDA interface work, too.
    return bool(detect().gpu_kind) or Path("/dev/kfd").exists()


def default_model(hardware: Hardware) -> str:
    """Return the catalogue name of the model to use unless the user says otherwise."""
    if not hardware.gpu_kind:
        return CPU_MODEL
    return next(name for least, name in GPU_MODELS if hardware.gpu_memory_bytes >= least)


def default_reason(hardware: Hardware) -> str:
    """Return the sentence that explains ``default_model``."""
    model = default_model(hardware)
    if not hardware.gpu_kind:
        return f"{model}: there is no GPU, and larger models are too slow on a CPU."
    kind = {"cuda": "NVIDIA GPU", "mps": "Apple GPU"}[hardware.gpu_kind]
    return f"{model}: it fits the {kind} with {hardware.gpu_memory_bytes / GIB:.0f} GiB in 16-bit weights."


def _cuda_memories() -> list[int]:
    """Return the bytes of each NVIDIA GPU, none where the driver's tool finds none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) * 2**20 for line in answer.stdout.split() if line.isdecimal()]
