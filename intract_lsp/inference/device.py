"""Where and in which number format a model runs, chosen by what the machine computes fastest. Imports torch."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from intract_lsp.errors import ModelError
from intract_lsp.inference.jit import Kind, kind_of_cpu
from intract_lsp.models.free_memory import available_memory

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

GPU_WORKING_MEMORY = 1 << 30
"""Bytes that a model takes on a GPU beside its weights: kernels, activations, keys and values of a few prompts."""

NF4_BYTES = 0.56
"""Of memory for each weight in NF4: half a byte, and an eighth of a byte and less for the scales of 64 weights."""

_PCI_NVIDIA = "0x10de"
_PCI_DISPLAY = "0x03"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that torch computes on through its CUDA interface."""

    name: str
    capability: tuple[int, int]
    """NVIDIA's compute capability."""
    free_bytes: int
    bfloat16: bool
    """Whether it computes bfloat16 itself, without emulation."""
    flash: bool
    """Whether torch's flash attention runs on it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What of a machine decides where and how a model runs."""

    gpu: Gpu | None = None
    gpu_trouble: str = ""
    """Why a GPU that is there cannot be used, and what to do; empty where there is none, or no trouble."""
    mps: bool = False
    """An Apple GPU."""
    mps_bfloat16: bool = False
    cpu: Kind = Kind.PLAIN
    cpu_bfloat16: bool = False
    bitsandbytes: bool = False
    """Whether the package for 4-bit weights is installed."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A device with a number format, and why."""

    device: torch.device
    dtype: torch.dtype
    """The float format: of everything, or, with ``int8``, of models that cannot be quantised, or, with ``nf4``, of what
    is computed and of the embedding."""
    reason: str
    int8: bool = False
    """Whether the weights are quantised to int8."""
    nf4: bool = False
    """Whether the layers' matrices are quantised to 4 bits."""

    @property
    def loaded_dtype(self) -> torch.dtype:
        """What the weights are loaded as, before they may be quantised."""
        return torch.float32 if self.int8 else self.dtype

    @property
    def precision(self) -> str:
        """The number format as the settings spell it."""
        if self.nf4:
            return "nf4"
        return "int8" if self.int8 else str(self.dtype).removeprefix("torch.")


def choose_placement(device: str, precision: str, parameters: int = 0) -> Placement:
    """Choose for this machine, see ``choose``. Raises ``ModelError``."""
    return choose(look(), device, precision, parameters)


def choose(machine: Machine, device: str, precision: str, parameters: int = 0) -> Placement:
    """Choose by the settings, ``auto`` meaning the fastest that the machine has; the reason is a clause for people.

    ``parameters`` is the model's number of weights, where it is known: on a GPU without room for 16-bit weights
    ``auto`` takes 4-bit ones. Raises ``ModelError`` where a device or number format is asked for that is not there.
    """
    name, noted = _device(machine, device)
    dtype, reason = _fastest(machine, name)
    if precision in PRECISIONS:
        _check_format(machine, name, precision)
        return Placement(torch.device(name), PRECISIONS[precision], "; ".join((*noted, "as set")))
    if precision == "nf4":
        _check_nf4(machine, name)
        return Placement(torch.device(name), dtype, "; ".join((*noted, "as set")), nf4=True)
    if name == "cpu" and machine.cpu is not Kind.PLAIN:
        why = "as set" if precision == "int8" else f"the CPU multiplies int8 fastest, by {machine.cpu.sentence}"
        return Placement(torch.device(name), dtype, "; ".join((*noted, why)), int8=True)
    if precision == "int8":
        raise ModelError(
            "model.precision int8 needs model.device cpu and a CPU with AVX2 or ARM dot products: set it to auto."
        )
    tight = _too_large(machine, name, dtype, parameters)
    if tight and machine.bitsandbytes:
        return Placement(torch.device(name), dtype, "; ".join((*noted, reason, tight)), nf4=True)
    if tight:
        tight += ", and 4-bit weights need the package bitsandbytes"
    return Placement(torch.device(name), dtype, "; ".join(filter(None, (*noted, reason, tight))))


def look() -> Machine:
    """Return what this machine has."""
    gpu, trouble = _gpu()
    capabilities = torch.cpu.get_capabilities()
    mps = torch.backends.mps.is_available()
    return Machine(
        gpu=gpu,
        gpu_trouble=trouble,
        mps=mps,
        mps_bfloat16=mps and torch.backends.mps.is_macos_or_newer(14, 0),
        cpu=kind_of_cpu(),
        cpu_bfloat16=bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        bitsandbytes=find_spec("bitsandbytes") is not None,
    )


def flash_attention(machine: Machine, placement: Placement, asked: str) -> tuple[bool, str]:
    """Return whether prompts are computed with flash attention, and a sentence where ``on`` asks for it in vain.

    ``asked`` is ``auto``, ``on`` or ``off``.
    """
    if asked == "off":
        return False, ""
    if placement.device.type != "cuda" or machine.gpu is None:
        lacking = f"it needs a CUDA GPU, and the model runs on the {placement.device.type}"
    elif not machine.gpu.flash:
        lacking = f"torch has none for the {machine.gpu.name}"
    elif placement.dtype is torch.float32:
        lacking = "it needs a 16-bit number format"
    else:
        return True, ""
    note = f"Flash attention is not used ({lacking}): set model.use_flash_attention to auto." if asked == "on" else ""
    return False, note


def free_memory(device: torch.device) -> int:
    """Return the bytes that a model may still take on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    available = available_memory()
    if device.type == "mps":  # its memory is the machine's, of which Metal lends a part
        return min(available, int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    return available


def _device(machine: Machine, asked: str) -> tuple[str, list[str]]:
    """Return a device's name, and what else is to be said about the choice."""
    if asked == "auto":
        if machine.gpu is not None:
            return "cuda", []
        noted = [machine.gpu_trouble] if machine.gpu_trouble else []
        return ("mps" if machine.mps else "cpu"), noted
    if asked == "cuda" and machine.gpu is None and machine.gpu_trouble:
        raise ModelError(f"model.device cuda cannot be used, as {machine.gpu_trouble}; or set it to auto.")
    if (asked == "cuda" and machine.gpu is None) or (asked == "mps" and not machine.mps):
        raise ModelError(f"There is no {asked} device that torch can use here; set model.device to auto.")
    return asked, []


def _fastest(machine: Machine, device: str) -> tuple[torch.dtype, str]:
    if device == "cuda" and machine.gpu is not None:
        major, minor = machine.gpu.capability
        named = f"the {machine.gpu.name} (compute capability {major}.{minor}) computes"
        if machine.gpu.bfloat16:
            return torch.bfloat16, f"{named} bfloat16"
        return torch.float16, f"{named} float16, not bfloat16"
    if device == "mps":
        return torch.float16, "Metal computes float16"
    if machine.cpu_bfloat16:
        return torch.bfloat16, "the CPU has bfloat16 instructions"
    return torch.float32, "the CPU has no bfloat16 instructions"


def _check_format(machine: Machine, device: str, precision: str) -> None:
    """Raise ``ModelError`` for a float format that the device does not have."""
    if precision != "bfloat16":
        return
    if device == "cuda" and machine.gpu is not None and not machine.gpu.bfloat16:
        major, minor = machine.gpu.capability
        raise ModelError(
            f"model.precision bfloat16 needs a GPU of compute capability 8.0 or newer and the {machine.gpu.name} has "
            f"{major}.{minor}: set it to auto."
        )
    if device == "mps" and not machine.mps_bfloat16:
        raise ModelError("model.precision bfloat16 needs macOS 14 or newer on an Apple GPU: set it to auto.")


def _check_nf4(machine: Machine, device: str) -> None:
    """Raise ``ModelError`` where 4-bit weights cannot be computed with."""
    if device == "mps":
        raise ModelError("model.precision nf4 needs model.device cuda or cpu: set it to auto.")
    if not machine.bitsandbytes:
        raise ModelError(
            "model.precision nf4 needs the package bitsandbytes: run `pip install bitsandbytes` or set it to auto."
        )


def _too_large(machine: Machine, device: str, dtype: torch.dtype, parameters: int) -> str:
    """Say that a GPU has too little free memory for the weights in ``dtype``; empty where they fit."""
    if device != "cuda" or machine.gpu is None:
        return ""
    needed = parameters * dtype.itemsize + GPU_WORKING_MEMORY
    if not parameters or needed <= machine.gpu.free_bytes:
        return ""
    return f"16-bit weights would need {needed >> 20} MiB of its memory and {machine.gpu.free_bytes >> 20} MiB are free"


def _gpu() -> tuple[Gpu | None, str]:
    """Return the GPU that torch computes on, or why one that is there is of no use."""
    if not torch.cuda.is_available():
        return None, _without_cuda() if _nvidia_present() else ""
    try:
        properties = torch.cuda.get_device_properties(0)
        capability = (int(properties.major), int(properties.minor))
        free, _ = torch.cuda.mem_get_info(0)
    except RuntimeError as error:
        return None, f"the GPU does not answer ({_first_line(error)}): restart the machine or update its driver"
    trouble = too_old(properties.name, capability, torch.cuda.get_arch_list())
    if trouble:
        return None, trouble
    return Gpu(
        name=properties.name,
        capability=capability,
        free_bytes=int(free),
        bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
        flash=torch.backends.cuda.is_flash_attention_available() and capability >= (8, 0),
    ), ""


def too_old(name: str, capability: tuple[int, int], compiled: list[str]) -> str:
    """Say that a GPU is older than all that torch was ``compiled`` for (``sm_75``, ...); empty where it is not."""
    numbers = [int(found[1]) for each in compiled if (found := re.fullmatch(r"sm_(\d+)[a-z]?", each))]
    least = divmod(min(numbers, default=0), 10)
    if capability >= least:
        return ""
    has, needs = (".".join(map(str, each)) for each in (capability, least))
    return f"the {name} has compute capability {has} and this torch needs {needs}: install a torch made for older GPUs"


def _without_cuda() -> str:
    """Say why torch cannot use the NVIDIA GPU of this machine."""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch was built without CUDA: install a CUDA build of torch to use the NVIDIA GPU"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return f"torch cannot use the NVIDIA GPU ({_first_line(error)}): update its driver"
    return "torch finds no NVIDIA GPU that it may use (see CUDA_VISIBLE_DEVICES)"


def _nvidia_present() -> bool:
    """Whether there is an NVIDIA GPU, whatever the state of its driver."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:
            continue
        if vendor.strip() == _PCI_NVIDIA and kind.startswith(_PCI_DISPLAY):
            return True
    # Where there is no list of devices (Windows, WSL) the driver's own tool tells.
    return shutil.which("nvidia-smi") is not None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
