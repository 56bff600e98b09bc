from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from intract_lsp.models import catalog
from intract_lsp.models.hardware import GIB, GPU_MODELS, Hardware, default_model, default_reason, detect


@pytest.mark.parametrize(
    ("gpu_gib", "kind", "model"),
    [
        (0, "", "qwen2.5-coder-0.5b"),
        (4, "cuda", "qwen2.5-coder-0.5b"),
        (8, "cuda", "qwen2.5-coder-1.5b"),
        (12, "mps", "qwen2.5-coder-1.5b"),
        (24, "cuda", "qwen2.5-coder-7b"),
    ],
)
def test_default_by_hardware(gpu_gib: int, kind: str, model: str) -> None:
    hardware = Hardware(16 * GIB, gpu_gib * GIB, kind, 4)  # type: ignore[arg-type]
    assert default_model(hardware) == model
    assert default_reason(hardware).startswith(model + ":")


@pytest.mark.parametrize(("least", "name"), GPU_MODELS[:-1])
def test_a_default_fits_the_smallest_gpu_it_is_chosen_for(least: int, name: str) -> None:
    assert catalog.find(name).memory_bytes("bfloat16") < least


@pytest.mark.skipif(sys.platform != "linux", reason="a shell script stands in for nvidia-smi")
def test_gpu_memory_comes_from_the_drivers_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 8192\necho 24576\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert (detect().gpu_kind, detect().gpu_memory_bytes, detect().gpus) == ("cuda", 24 * GIB, 2)
    tool.write_text("#!/bin/sh\necho no driver >&2\nexit 9\n")
    assert (detect().gpu_kind, detect().gpu_memory_bytes, detect().gpus) == ("", 0, 0)


def test_models_import_without_torch() -> None:
    code = (
        "import sys, intract_lsp.models.fetch, intract_lsp.models.pull_child;"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'tokenizers', 'gguf') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
