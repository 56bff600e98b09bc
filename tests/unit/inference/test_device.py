from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch

from intract_lsp.errors import ModelError
from intract_lsp.inference import device as device_module
from intract_lsp.inference.device import choose_placement, free_memory
from intract_lsp.inference.jit import Kind
from intract_lsp.inference.loading import check_memory


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine whose parts the test chooses."""
    parts = SimpleNamespace(cuda=False, mps=False, cuda_bf16=True, capabilities={}, kind=Kind.PLAIN)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: parts.cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: parts.cuda_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: parts.mps)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: parts.capabilities)
    monkeypatch.setattr(device_module, "kind_of_cpu", lambda: parts.kind)
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


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_what_is_set_holds(machine: SimpleNamespace, precision: str) -> None:
    machine.cuda = True
    placement = choose_placement("cpu", precision)
    assert (placement.device.type, placement.precision, placement.reason) == ("cpu", precision, "as set")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(machine: SimpleNamespace, device: str) -> None:
    with pytest.raises(ModelError, match=f"no {device} device .* set model.device to auto"):
        choose_placement(device, "auto")


def test_memory() -> None:
    check_memory(700 << 20, 700 << 20, "cpu", "tiny")
    with pytest.raises(ModelError) as caught:
        check_memory(1500 << 20, 700 << 20, "cuda", "tiny")
    assert str(caught.value).startswith("tiny needs 1500 MiB on the cuda and 700 MiB are free:")
    assert str(caught.value).endswith(".")


def test_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=700))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 8000))
    assert free_memory(torch.device("cpu")) == 700
    assert free_memory(torch.device("cuda")) == 100


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.PLAIN])
def test_int8_where_the_cpu_has_the_instructions(machine: SimpleNamespace, kind: Kind) -> None:
    machine.kind = kind
    for precision in ("auto", "int8"):
        placement = choose_placement("cpu", precision)
        assert (placement.precision, placement.loaded_dtype) == ("int8", torch.float32)
        assert placement.reason == "as set" or kind.sentence in placement.reason
    assert choose_placement("cpu", "float32").precision == "float32"


def test_int8_where_it_would_not_pay(machine: SimpleNamespace) -> None:
    assert choose_placement("cpu", "auto").precision == "float32"
    with pytest.raises(ModelError, match=r"int8 needs model\.device cpu and a CPU with"):
        choose_placement("cpu", "int8")
