from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from intract_lsp.errors import ModelError
from intract_lsp.inference import device as device_module
from intract_lsp.inference.device import (
    GPU_WORKING_MEMORY,
    Gpu,
    Machine,
    Placement,
    choose,
    choose_placement,
    flash_attention,
    free_memory,
    too_old,
)
from intract_lsp.inference.jit import Kind
from intract_lsp.inference.loading import check_memory
from intract_lsp.inference.torch_network import TorchNetwork

GIB = 1 << 30
AMPERE = Gpu("A10", (8, 6), 23 * GIB, bfloat16=True, flash=True)
TURING = Gpu("T4", (7, 5), 15 * GIB, bfloat16=False, flash=False)
SMALL = replace(AMPERE, free_bytes=8 * GIB)
BROKEN = "torch cannot use the NVIDIA GPU (the driver is too old): update its driver"
SEVEN = 7_600_000_000


@pytest.mark.parametrize(
    ("machine", "parameters", "device", "precision", "reason"),
    [
        (Machine(), 0, "cpu", "float32", "the CPU has no bfloat16 instructions"),
        (Machine(cpu_bfloat16=True), 0, "cpu", "bfloat16", "the CPU has bfloat16 instructions"),
        (Machine(mps=True), 0, "mps", "float16", "Metal computes float16"),
        (Machine(mps=True, mps_bfloat16=True), SEVEN, "mps", "float16", "Metal computes float16"),
        (Machine(gpu=AMPERE, mps=True), 0, "cuda", "bfloat16", "the A10 (compute capability 8.6) computes bfloat16"),
        (Machine(gpu=AMPERE, cpu=Kind.VNNI512, bitsandbytes=True), SEVEN, "cuda", "bfloat16", "computes bfloat16"),
        (Machine(gpu=TURING), 0, "cuda", "float16", "the T4 (compute capability 7.5) computes float16, not bfloat16"),
        (Machine(gpu=SMALL, bitsandbytes=True), 0, "cuda", "bfloat16", "computes bfloat16"),
        (
            Machine(gpu=SMALL, bitsandbytes=True),
            SEVEN,
            "cuda",
            "nf4",
            "would need 15519 MiB of its memory and 8192 MiB",
        ),
        (Machine(gpu=SMALL), SEVEN, "cuda", "bfloat16", "are free, and 4-bit weights need the package bitsandbytes"),
        (Machine(gpu_trouble=BROKEN), 0, "cpu", "float32", f"{BROKEN}; the CPU has no bfloat16 instructions"),
        (Machine(gpu_trouble=BROKEN, cpu=Kind.VNNI512), 0, "cpu", "int8", f"{BROKEN}; the CPU multiplies int8 fastest"),
    ],
)
def test_auto_takes_the_fastest(machine: Machine, parameters: int, device: str, precision: str, reason: str) -> None:
    placement = choose(machine, "auto", "auto", parameters)
    assert (placement.device.type, placement.precision) == (device, precision)
    assert reason in placement.reason


def test_4_bits_are_taken_only_where_16_do_not_fit() -> None:
    just = 2 * SEVEN + GPU_WORKING_MEMORY
    for free, precision in ((just, "bfloat16"), (just - 1, "nf4")):
        machine = Machine(gpu=replace(AMPERE, free_bytes=free), bitsandbytes=True)
        assert choose(machine, "auto", "auto", SEVEN).precision == precision
        assert choose(machine, "cuda", "bfloat16", SEVEN).precision == "bfloat16"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16", "nf4"])
def test_what_is_set_holds(precision: str) -> None:
    for device in ("cpu", "cuda"):
        placement = choose(Machine(gpu=AMPERE, bitsandbytes=True), device, precision)
        assert (placement.device.type, placement.precision, placement.reason) == (device, precision, "as set")


@pytest.mark.parametrize(
    ("machine", "device", "precision", "sentence"),
    [
        (Machine(), "cuda", "auto", "There is no cuda device that torch can use here; set model.device to auto."),
        (
            Machine(gpu=AMPERE),
            "mps",
            "auto",
            "There is no mps device that torch can use here; set model.device to auto.",
        ),
        (
            Machine(gpu_trouble=BROKEN),
            "cuda",
            "auto",
            f"model.device cuda cannot be used, as {BROKEN}; or set it to auto.",
        ),
        (
            Machine(gpu=TURING),
            "cuda",
            "bfloat16",
            "model.precision bfloat16 needs a GPU of compute capability 8.0 or newer and the T4 has 7.5: "
            "set it to auto.",
        ),
        (
            Machine(mps=True),
            "auto",
            "bfloat16",
            "model.precision bfloat16 needs macOS 14 or newer on an Apple GPU: set it to auto.",
        ),
        (
            Machine(gpu=AMPERE),
            "cuda",
            "nf4",
            "model.precision nf4 needs the package bitsandbytes: run `pip install bitsandbytes` or set it to auto.",
        ),
        (
            Machine(mps=True, bitsandbytes=True),
            "mps",
            "nf4",
            "model.precision nf4 needs model.device cuda or cpu: set it to auto.",
        ),
        (
            Machine(),
            "cpu",
            "int8",
            "model.precision int8 needs model.device cpu and a CPU with AVX2 or ARM dot products: set it to auto.",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_a_sentence(
    machine: Machine, device: str, precision: str, sentence: str
) -> None:
    with pytest.raises(ModelError) as caught:
        choose(machine, device, precision)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.PLAIN])
def test_int8_where_the_cpu_has_the_instructions(kind: Kind) -> None:
    for precision in ("auto", "int8"):
        placement = choose(Machine(cpu=kind), "cpu", precision)
        assert (placement.precision, placement.loaded_dtype) == ("int8", torch.float32)
        assert placement.reason == "as set" or kind.sentence in placement.reason
    assert choose(Machine(cpu=kind), "cpu", "float32").precision == "float32"


@pytest.mark.parametrize(
    ("capability", "compiled", "trouble"),
    [
        ((7, 5), ["sm_75", "sm_80", "sm_90a", "sm_120", "compute_120"], ""),
        ((12, 0), ["sm_75", "sm_80"], ""),
        ((9, 0), ["gfx90a", "gfx1100"], ""),
        (
            (6, 1),
            ["sm_75", "sm_100"],
            "the P40 has compute capability 6.1 and this torch needs 7.5: install a torch made for older GPUs",
        ),
    ],
)
def test_a_gpu_older_than_torch(capability: tuple[int, int], compiled: list[str], trouble: str) -> None:
    assert too_old("P40", capability, compiled) == trouble


@pytest.mark.parametrize(
    ("machine", "placement", "asked", "used", "note"),
    [
        (Machine(gpu=AMPERE), ("cuda", torch.bfloat16), "auto", True, ""),
        (Machine(gpu=AMPERE), ("cuda", torch.bfloat16), "on", True, ""),
        (Machine(gpu=AMPERE), ("cuda", torch.bfloat16), "off", False, ""),
        (Machine(gpu=AMPERE), ("cuda", torch.float32), "on", False, "it needs a 16-bit number format"),
        (Machine(gpu=TURING), ("cuda", torch.float16), "on", False, "torch has none for the T4"),
        (Machine(gpu=TURING), ("cuda", torch.float16), "auto", False, ""),
        (Machine(), ("cpu", torch.float32), "on", False, "it needs a CUDA GPU, and the model runs on the cpu"),
        (Machine(), ("cpu", torch.float32), "auto", False, ""),
    ],
)
def test_flash_attention(
    machine: Machine, placement: tuple[str, torch.dtype], asked: str, used: bool, note: str
) -> None:
    found, said = flash_attention(machine, Placement(torch.device(placement[0]), placement[1], ""), asked)
    assert found == used
    assert note in said
    assert bool(said) == bool(note)


@pytest.fixture
def torch_finds(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What torch says of the GPU; the test chooses."""
    parts = SimpleNamespace(available=True, error=None, present=True, free=(8 * GIB, 16 * GIB))

    def properties(device: int) -> SimpleNamespace:
        if parts.error is not None:
            raise parts.error
        return SimpleNamespace(name="A10", major=8, minor=6)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: parts.available)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: parts.free)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80"])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(device_module, "_nvidia_present", lambda: parts.present)
    return parts


def test_a_gpu_is_looked_at(torch_finds: SimpleNamespace) -> None:
    assert device_module.look().gpu == Gpu("A10", (8, 6), 8 * GIB, bfloat16=True, flash=True)
    assert choose_placement("auto", "auto").precision == "bfloat16"


def test_a_gpu_that_does_not_answer(torch_finds: SimpleNamespace) -> None:
    torch_finds.error = RuntimeError("CUDA error: unknown error\nCUDA kernel errors might be reported later.")
    with pytest.raises(ModelError, match=r"^model.device cuda cannot be used, as the GPU does not answer \(CUDA"):
        choose_placement("cuda", "auto")
    assert choose_placement("auto", "auto").device.type == "cpu"


def test_a_driver_that_is_broken(torch_finds: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old.\nMore about it.")

    torch_finds.available = False
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    trouble = "torch cannot use the NVIDIA GPU (The NVIDIA driver on your system is too old): update its driver"
    assert device_module.look().gpu_trouble == trouble
    monkeypatch.setattr(torch.version, "cuda", None)
    assert device_module.look().gpu_trouble.startswith("this torch was built without CUDA: install")
    torch_finds.present = False
    assert device_module.look() == replace(device_module.look(), gpu=None, gpu_trouble="")


def test_memory() -> None:
    check_memory(700 << 20, 700 << 20, "cpu", "tiny")
    with pytest.raises(ModelError) as caught:
        check_memory(1500 << 20, 700 << 20, "cuda", "tiny")
    assert str(caught.value).startswith("tiny needs 1500 MiB on the cuda and 700 MiB are free:")
    assert str(caught.value).endswith(".")


def test_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=700))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 8000))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 500)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 90)
    assert free_memory(torch.device("cpu")) == 700
    assert free_memory(torch.device("cuda")) == 100
    assert free_memory(torch.device("mps")) == 410


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), MemoryError),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.1 GB). Tried to allocate 1 GB"), MemoryError),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), MemoryError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: Exception, raised: type[Exception]) -> None:
    def forward(*arguments: object) -> torch.Tensor:
        raise error

    network: TorchNetwork[Any] = TorchNetwork(SimpleNamespace(forward=forward))
    with pytest.raises(raised) as caught:
        network.forward(None, [1])
    assert type(caught.value) is raised
