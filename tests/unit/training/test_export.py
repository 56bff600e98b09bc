from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from training_models import write_qwen
from transformers import AutoModelForCausalLM

from intract_lsp.errors import AdapterError
from intract_lsp.inference.engine import AdapterKind
from intract_lsp.models.store import weights_fingerprint
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.provenance import Provenance

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_qwen(tmp_path_factory.mktemp("models") / "tiny")
    for name in ("intract.json", "tokenizer.json"):
        (directory / name).write_text("{}")
    return directory


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[AdapterRegistry]:
    registry = AdapterRegistry(tmp_path / "data", open_state(tmp_path / "data" / "state.db"))
    yield registry
    registry.close()


def made(registry: AdapterRegistry, base: Path, candidate: Path, kind: AdapterKind, name: str = "tiny") -> str:
    return registry.create(candidate, kind, Provenance("/private/project", "r", name, weights_fingerprint(base))).id


def write_adapter(base: Path, directory: Path, kind: AdapterKind) -> None:
    torch.manual_seed(0)
    model = load(base)
    if kind is AdapterKind.LORA:
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name and (kind is AdapterKind.STANDARD or "lora_" in name):
                weight += 0.2 * torch.randn_like(weight)
    model.save_pretrained(directory)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(IDS).logits
    return found


def load(directory: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def test_peft_loads_what_is_exported(registry: AdapterRegistry, base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "a", AdapterKind.LORA)
    id_ = made(registry, base, tmp_path / "a", AdapterKind.LORA, "qwen2.5-coder-0.5b")
    target = tmp_path / "new" / "exported"
    registry.export(id_, target)
    assert sorted(path.name for path in target.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = (target / "adapter_config.json").read_text()
    assert json.loads(config)["base_model_name_or_path"] == "Qwen/Qwen2.5-Coder-0.5B"
    assert str(tmp_path) not in config
    own = logits(PeftModel.from_pretrained(load(base), target).eval())
    torch.testing.assert_close(own, logits(PeftModel.from_pretrained(load(base), tmp_path / "a").eval()))
    assert not torch.allclose(own, logits(load(base)))


@pytest.mark.parametrize("kind", AdapterKind)
def test_transformers_loads_what_is_merged(
    registry: AdapterRegistry, base: Path, tmp_path: Path, kind: AdapterKind
) -> None:
    write_adapter(base, tmp_path / "a", kind)
    id_ = made(registry, base, tmp_path / "a", kind)
    (tmp_path / "merged").mkdir()
    registry.export(id_, tmp_path / "merged", base)
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"intract.json", "meta.json"}
    assert kind is AdapterKind.STANDARD or not names & {"adapter_config.json"}
    trained = (
        PeftModel.from_pretrained(load(base), tmp_path / "a").eval()
        if kind is AdapterKind.LORA
        else load(tmp_path / "a")
    )
    torch.testing.assert_close(logits(load(tmp_path / "merged")), logits(trained), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported(registry: AdapterRegistry, base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "a", AdapterKind.LORA)
    write_adapter(base, tmp_path / "b", AdapterKind.STANDARD)
    lora = made(registry, base, tmp_path / "a", AdapterKind.LORA)
    standard = made(registry, base, tmp_path / "b", AdapterKind.STANDARD)
    with pytest.raises(AdapterError, match=r"has all weights.*export it merged"):
        registry.export(standard, tmp_path / "new")
    with pytest.raises(AdapterError, match="is there already"):
        registry.export(lora, tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterError, match="give another directory"):
        registry.export(lora, tmp_path / "file" / "new")
    other = tmp_path / "other"
    load(tmp_path / "b").save_pretrained(other)
    with pytest.raises(AdapterError, match="was trained on tiny"):
        registry.export(lora, tmp_path / "new", other)
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))
