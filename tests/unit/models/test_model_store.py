from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_files import write_gguf, write_model, write_safetensors

from intract_lsp.errors import ModelError
from intract_lsp.models import store
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import Paths


def publish(name: str, paths: Paths, tmp_path: Path) -> InstalledModel:
    paths.models.mkdir(parents=True, exist_ok=True)
    assembled = write_model(tmp_path / "assembled")
    return store.publish(InstalledModel(name, paths.models / name, "none", "hub:a/b@c", "ab", 0), assembled)


def test_a_published_model_is_installed_and_located(paths: Paths, tmp_path: Path) -> None:
    model = publish("smollm2-135m", paths, tmp_path)
    assert model.size_bytes > 0
    assert store.installed(paths) == [model]
    assert store.locate("smollm2-135m", paths) == model
    assert store.locate("HuggingFaceTB/SmolLM2-135M", paths) == model
    assert store.locate("starcoder2-3b", paths) is None


def test_an_incomplete_model_is_not_published(paths: Paths, tmp_path: Path) -> None:
    assembled = write_model(tmp_path / "assembled")
    (assembled / "tokenizer.json").unlink()
    target = paths.models / "smollm2-135m"
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        store.publish(InstalledModel("smollm2-135m", target, "none", "", "", 0), assembled)
    assert not target.exists()


def test_partial_directories_are_not_models_and_go_with_remove(paths: Paths, tmp_path: Path) -> None:
    left = store.partial("smollm2-135m", paths)
    left.mkdir(parents=True)
    (left / "part").write_bytes(b"x" * 100)
    assert store.installed(paths) == []
    assert store.locate("smollm2-135m", paths) is None
    model = publish("smollm2-135m", paths, tmp_path)
    assert store.remove("smollm2-135m", paths) > 100 + model.size_bytes
    assert not left.exists()
    assert store.locate("smollm2-135m", paths) is None
    with pytest.raises(ModelError, match="not in the cache"):
        store.remove("smollm2-135m", paths)


def test_remove_never_leaves_the_cache(paths: Paths, tmp_path: Path) -> None:
    own = write_model(tmp_path / "own")
    paths.models.mkdir(parents=True)
    for name in (str(own), "..", "."):
        with pytest.raises(ModelError):
            store.remove(name, paths)
    assert own.is_dir()
    assert paths.models.is_dir()


def test_a_damaged_cached_model_says_how_to_get_it_again(paths: Paths, tmp_path: Path) -> None:
    model = publish("smollm2-135m", paths, tmp_path)
    weights = model.directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match="models remove smollm2-135m"):
        store.locate("smollm2-135m", paths)
    manifest = model.directory / store.MANIFEST
    manifest.write_text(json.dumps({"format": 99}))
    assert store.installed(paths) == []
    with pytest.raises(ModelError, match="models remove smollm2-135m"):
        store.locate("smollm2-135m", paths)
    store.remove("smollm2-135m", paths)


def test_a_users_directory(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write_model(tmp_path / "own")
    found = store.locate(str(own), paths)
    assert found is not None
    assert (found.directory, found.fim_family, found.source) == (own, "", "path")
    monkeypatch.chdir(tmp_path)
    again = store.locate("./own", paths)
    assert again is not None
    assert again.directory.samefile(own)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "no model directory"),
        (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "pickled"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\x05\0"), "damaged"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 64), "damaged"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\2" + b"\0" * 7 + b"[]"), "damaged"),
        (lambda d: write_safetensors(d / "model.safetensors") or _append(d / "model.safetensors"), "damaged"),
        (lambda d: (d / "config.json").unlink(), r"no config\.json"),
        (lambda d: (d / "config.json").write_text("{"), "cannot be read"),
        (lambda d: (d / "tokenizer.json").unlink(), "tokenizer"),
        (
            lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-2.safetensors"}}'),
            r"lacks model-2\.safetensors",
        ),
    ],
)
def test_what_is_no_model_gets_one_sentence(paths: Paths, tmp_path: Path, spoil: object, sentence: str) -> None:
    own = write_model(tmp_path / "own")
    spoil(own)  # type: ignore[operator]
    with pytest.raises(ModelError, match=sentence) as caught:
        store.locate(str(own), paths)
    assert "\n" not in str(caught.value)


def _append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


def test_paths_that_are_nothing(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no"):
        store.locate(str(tmp_path / "absent"), paths)
    other = tmp_path / "model.gguf"
    other.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="no GGUF file"):
        store.locate(str(other), paths)
    with pytest.raises(ModelError, match="no model 'nonsense'"):
        store.locate("nonsense", paths)


def test_a_gguf_file_is_known_by_its_content(paths: Paths, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "My Model.gguf")
    assert store.locate(str(file), paths) is None
    name = store.gguf_cache_name(file)
    assert name.startswith("gguf-my-model-")
    model = publish(name, paths, tmp_path)
    assert store.locate(str(file), paths) == model
    assert store.locate(name, paths) == model
    file.write_bytes(file.read_bytes() + b"\0")
    assert store.locate(str(file), paths) is None
