from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch

from intract_lsp.completion.generation import PromptBudget
from intract_lsp.errors import ModelError
from intract_lsp.inference.device import Placement, check_memory, choose_placement

CPU = Placement(torch.device("cpu"), torch.float32, "")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine whose parts the test chooses."""
    parts = SimpleNamespace(cuda=False, mps=False, cuda_bf16=True, capabilities={})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: parts.cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: parts.cuda_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: parts.mps)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: parts.capabilities)
    return parts


@pytest.mark.parametrize(
    ("parts", "device", "precision"),
    [
        ({}, "cpu", "float32"),
        ({"capabilities": {"avx512_bf16": True}}, "cpu", "bfloat16"),
        ({"capabilities": {"amx_bf16": True}}, "cpu", "bfloat16"),
        ({"capabilities": {"avx512_bf16": False}}, "cpu", "float32"),
        ({"mps": True}, "mps", "float16"),
        ({"cuda": True, "mps": True}, "cuda", "bfloat16"),
        ({"cuda": True, "cuda_bf16": False}, "cuda", "float16"),
    ],
)
def test_auto_takes_the_fastest(
    machine: SimpleNamespace, parts: dict[str, object], device: str, precision: str
) -> None:
    vars(machine).update(parts)
    placement = choose_placement("auto", "auto")
    assert (placement.device.type, placement.precision) == (device, precision)
    assert placement.reason
    assert placement.budget == (PromptBudget(512, 128) if device == "cpu" else PromptBudget(2048, 512))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_what_is_set_holds(machine: SimpleNamespace, precision: str) -> None:
    machine.cuda = True
    placement = choose_placement("cpu", precision)
    assert (placement.device.type, placement.precision, placement.reason) == ("cpu", precision, "as set")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(machine: SimpleNamespace, device: str) -> None:
    with pytest.raises(ModelError, match=f"no {device} device .* set model.device to auto"):
        choose_placement(device, "auto")


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=700 << 20))
    check_memory(700 << 20, CPU, "tiny")
    with pytest.raises(ModelError) as caught:
        check_memory(1500 << 20, CPU, "tiny")
    assert str(caught.value).startswith("tiny needs 1500 MiB on the cpu and 700 MiB are free:")
    assert str(caught.value).endswith(".")


def test_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 << 20, 8000 << 20))
    gpu = Placement(torch.device("cuda"), torch.bfloat16, "")
    with pytest.raises(ModelError, match="needs 101 MiB on the cuda and 100 MiB are free"):
        check_memory(101 << 20, gpu, "tiny")


@pytest.mark.parametrize(
    ("capabilities", "kernel"),
    [
        ({"avx512_vnni": True}, "oneDNN"),
        ({"avx_vnni": True, "avx2": True}, "oneDNN"),
        ({"amx_int8": True}, "oneDNN"),
        ({"avx2": True}, "FBGEMM"),
    ],
)
def test_int8_where_the_cpu_has_the_instructions(
    machine: SimpleNamespace, capabilities: dict[str, bool], kernel: str
) -> None:
    machine.capabilities = capabilities
    for precision in ("auto", "int8"):
        placement = choose_placement("cpu", precision)
        assert (placement.precision, placement.loaded_dtype) == ("int8", torch.float32)
        assert placement.reason == "as set" or kernel in placement.reason
    assert choose_placement("cpu", "float32").precision == "float32"


@pytest.mark.parametrize("capabilities", [{}, {"neon": True}, {"sve2": True}])
def test_int8_where_it_would_not_pay(machine: SimpleNamespace, capabilities: dict[str, bool]) -> None:
    machine.capabilities = capabilities
    assert choose_placement("cpu", "auto").precision == "float32"
    with pytest.raises(ModelError, match="int8 needs an x86 CPU with AVX2"):
        choose_placement("cpu", "int8")
