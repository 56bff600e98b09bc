from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from intract_lsp.errors import AdapterError
from intract_lsp.inference.engine import AdapterKind
from intract_lsp.state import open_state
from intract_lsp.training import adapters
from intract_lsp.training.adapter_directory import new_id
from intract_lsp.training.adapter_table import AdapterStatus
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.provenance import Provenance

BASE, OTHER = "f" * 64, "0" * 64
MADE_OF = Provenance(
    "/project",
    "run-1",
    "qwen2.5-coder-0.5b-instruct",
    BASE,
    git_head="abc",
    cut="abb",
    data="d",
    settings={"trainer": {"steps": 3}},
    metrics={"nll": 1.5},
    files=(("src/a.py", "1"), ("src/b.py", "2"), ("srcs.py", "3")),
)

KILLS = int(os.environ.get("INTRACT_KILLS", "12"))
"""How many processes are killed; 30 for the note."""


def write_candidate(directory: Path, size: int = 100) -> Path:
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    save_file({"a": np.arange(size, dtype=np.float32)}, directory / "adapter_model.safetensors")
    (directory / "README.md").write_text("not kept")
    return directory


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "candidate")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[AdapterRegistry]:
    registry = AdapterRegistry(tmp_path / "data", open_state(tmp_path / "data" / "state.db"))
    registry.recover()
    yield registry
    registry.close()


def made(registry: AdapterRegistry, candidate: Path, provenance: Provenance = MADE_OF) -> str:
    return registry.create(candidate, AdapterKind.LORA, provenance).id


def statuses(registry: AdapterRegistry) -> dict[str, str]:
    return {adapter.id: adapter.status.value for adapter in registry.list()}


def serving(registry: AdapterRegistry, workspace: str = "/project", base: str = BASE) -> str:
    adapter = registry.active(workspace, base)
    return adapter.id if adapter else ""


# --- taking in


def test_an_adapter_is_taken_in_whole_and_says_where_it_is_from(
    registry: AdapterRegistry, candidate: Path, tmp_path: Path
) -> None:
    adapter = registry.create(candidate, AdapterKind.LORA, MADE_OF, AdapterStatus.SHADOW)
    assert adapter.directory == tmp_path / "data" / "adapters" / adapter.id
    assert sorted(path.name for path in adapter.directory.iterdir()) == [
        *("adapter_config.json", "adapter_model.safetensors", "meta.json")
    ]
    assert (adapter.workspace, adapter.base, adapter.run, adapter.status) == (
        *("/project", BASE, "run-1"),
        AdapterStatus.SHADOW,
    )
    assert adapter.id.startswith("qwen2.5-coder-0.5b-instruct-20")
    meta = registry.meta(adapter.id)
    assert meta.provenance == MADE_OF
    assert meta.created == adapter.created
    assert set(meta.sha256) == {"adapter_config.json", "adapter_model.safetensors"}
    assert {"torch", "transformers", "peft"} <= set(meta.versions)
    files = registry.files(adapter.id)
    assert (files.id, files.directory, files.base) == (adapter.id, adapter.directory, BASE)
    assert candidate.is_dir(), "the run's own directory is its own affair"


def test_all_weights_are_an_adapter_too(registry: AdapterRegistry, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    with pytest.raises(AdapterError, match=r"whole is no adapter: it has no config\.json"):
        registry.create(whole, AdapterKind.STANDARD, MADE_OF)
    (whole / "config.json").write_text("{}")
    with pytest.raises(AdapterError, match=r"it has no model\.safetensors"):
        registry.create(whole, AdapterKind.STANDARD, MADE_OF)
    save_file({"a": np.zeros(3)}, whole / "model.safetensors")
    adapter = registry.create(whole, AdapterKind.STANDARD, MADE_OF)
    assert registry.files(adapter.id).kind is AdapterKind.STANDARD
    assert set(registry.meta(adapter.id).sha256) == {"config.json", "model.safetensors"}


def test_what_is_no_adapter_leaves_nothing(registry: AdapterRegistry, candidate: Path, tmp_path: Path) -> None:
    (candidate / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"it has no adapter_model\.safetensors"):
        made(registry, candidate)
    for id_ in ("../up", "", ".hidden", "a/b"):
        if id_:
            with pytest.raises(AdapterError, match="cannot be an adapter's name"):
                registry.create(candidate, AdapterKind.LORA, MADE_OF, id_=id_)
    assert registry.list() == ()
    assert [path.name for path in (tmp_path / "data" / "adapters").iterdir()] == [".lock"]


def test_a_full_disk_is_told_and_leaves_nothing(
    registry: AdapterRegistry, candidate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(AdapterError, match=r"No space left on device.*free space"):
        made(registry, candidate)
    assert [path.name for path in (tmp_path / "data" / "adapters").iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-Coder", "/home/user/my model", "größe", ""])
def test_an_id_can_be_a_file_name(name: str) -> None:
    assert new_id(name, 0).split("-19700101-")[0].replace("-", "").replace(".", "").isalnum()
    assert len(new_id(name, 0).rpartition("-")[2]) == 4


def test_unknown_ones_are_told(registry: AdapterRegistry) -> None:
    for ask in (registry.get, registry.meta, registry.files, registry.remove, lambda id_: registry.promote(id_, "/p")):
        with pytest.raises(AdapterError, match="There is no adapter nobody: `intract-lsp adapters list`"):
            ask("nobody")


# --- which one serves


def test_promote_and_roll_back(registry: AdapterRegistry, candidate: Path) -> None:
    one, two, three = (made(registry, candidate) for _ in range(3))
    assert serving(registry) == ""
    with pytest.raises(AdapterError, match="nothing to roll back"):
        registry.rollback("/project", BASE)
    for id_ in (one, two, two, three):
        assert registry.promote(id_, "/project").status is AdapterStatus.ACTIVE
        assert serving(registry) == id_
    assert statuses(registry) == {one: "retired", two: "retired", three: "active"}
    assert serving(registry, "/elsewhere") == serving(registry, base=OTHER) == ""
    back = registry.rollback("/project", BASE)
    assert back is not None
    assert (back.id, serving(registry)) == (two, two)
    assert statuses(registry) == {one: "retired", two: "active", three: "retired"}
    registry.promote(one, "/project")
    for before in (two, one):
        back = registry.rollback("/project", BASE)
        assert back is not None
        assert back.id == serving(registry) == before
    assert registry.rollback("/project", BASE) is None
    assert set(statuses(registry).values()) == {"retired"}


def test_folders_and_bases_are_apart(registry: AdapterRegistry, candidate: Path) -> None:
    one, other = made(registry, candidate), made(registry, candidate, replace(MADE_OF, base=OTHER))
    registry.promote(one, "/project")
    registry.promote(one, "/second")
    registry.promote(other, "/project")
    assert (serving(registry), serving(registry, base=OTHER), serving(registry, "/second")) == (one, other, one)
    assert registry.rollback("/project", BASE) is None
    assert statuses(registry)[one] == "active", "it serves in the second folder"
    assert registry.worth_keeping(BASE) == {one}
    registry.rollback("/second", BASE)
    assert statuses(registry) == {one: "retired", other: "active"}
    assert registry.worth_keeping(BASE) == frozenset()


def test_a_damaged_one_is_not_promoted_and_is_passed_over(registry: AdapterRegistry, candidate: Path) -> None:
    ids = [made(registry, candidate) for _ in range(3)]
    for id_ in ids:
        registry.promote(id_, "/project")
    weights = registry.get(ids[1]).directory / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for ask in (registry.verify, registry.files, lambda id_: registry.promote(id_, "/elsewhere")):
        with pytest.raises(AdapterError, match=r"damaged: adapter_model\.safetensors is not what was trained\."):
            ask(ids[1])
    assert serving(registry, "/elsewhere") == ""
    back = registry.rollback("/project", BASE)
    assert back is not None
    assert back.id == ids[0]
    (registry.get(ids[0]).directory / "meta.json").write_text("{}")
    with pytest.raises(AdapterError, match=r"meta\.json is missing or damaged"):
        registry.verify(ids[0])


def test_what_serves_cannot_be_removed_or_rejected(registry: AdapterRegistry, candidate: Path) -> None:
    id_ = made(registry, candidate)
    assert registry.mark(id_, AdapterStatus.REJECTED).status is AdapterStatus.REJECTED
    registry.promote(id_, "/project")
    for change in (registry.remove, lambda id_: registry.mark(id_, AdapterStatus.REJECTED)):
        with pytest.raises(AdapterError, match=r"serves and cannot be \w+: roll back first"):
            change(id_)
    registry.rollback("/project", BASE)
    directory = registry.get(id_).directory
    registry.remove(id_)
    assert registry.list() == ()
    assert not directory.exists()


def test_one_that_was_removed_is_not_rolled_back_to(registry: AdapterRegistry, candidate: Path) -> None:
    one, two, three = (made(registry, candidate) for _ in range(3))
    for id_ in (one, two, three):
        registry.promote(id_, "/project")
    registry.remove(two)
    registry.rollback("/project", BASE)
    assert serving(registry) == one


def test_the_oldest_are_pruned_but_for_those_that_served(registry: AdapterRegistry, candidate: Path) -> None:
    ids = [made(registry, candidate) for _ in range(5)]
    registry.promote(ids[0], "/project")
    elsewhere = made(registry, candidate, replace(MADE_OF, workspace="/elsewhere"))
    assert registry.prune("/project", BASE, keep=2) == (ids[2], ids[1])
    assert set(statuses(registry)) == {ids[0], ids[3], ids[4], elsewhere}


def test_which_adapters_saw_a_file(registry: AdapterRegistry, candidate: Path) -> None:
    one = made(registry, candidate)
    two = made(registry, candidate, replace(MADE_OF, workspace="/other", files=(("src/a.py", "9"),)))

    def saw(path: str, workspace: str | None = None) -> list[str]:
        return [adapter.id for adapter in registry.saw(path, workspace)]

    assert saw("src/a.py") == saw("src") == saw("src/") == [two, one]
    assert saw("src/a.py", "/project") == [one]
    assert saw("src/b.py") == saw("srcs.py") == [one]
    assert saw("src/a.p") == saw("sr") == saw("a.py") == []
    registry.remove(one)
    assert saw("src") == [two]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["promote 0", "promote 1", "promote 2", "rollback"]), max_size=12))
def test_the_pointer_is_a_stack(registry: AdapterRegistry, candidate: Path, steps: list[str]) -> None:
    ids = sorted(adapter.id for adapter in registry.list()) or sorted(made(registry, candidate) for _ in range(3))
    workspace = f"/{os.urandom(4).hex()}"
    stack: list[str] = []
    for step in steps:
        action, _, number = step.partition(" ")
        if action == "promote":
            id_ = ids[int(number)]
            registry.promote(id_, workspace)
            stack += [id_] if stack[-1:] != [id_] else []
        elif stack:
            registry.rollback(workspace, BASE)
            stack.pop()
        assert serving(registry, workspace) == (stack[-1] if stack else "")


# --- after a kill, and beside others


def test_what_killed_processes_leave_is_put_in_order(
    registry: AdapterRegistry, candidate: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data" / "adapters"
    one, two, three = (made(registry, candidate) for _ in range(3))
    registry.promote(one, "/project")
    registry.close()
    (root / ".half.partial").mkdir()
    (root / ".half.partial" / "adapter_model.safetensors").write_bytes(b"half")
    (root / two).rename(root / f".{two}.removed")
    with sqlite3.connect(tmp_path / "data" / "state.db") as connection:
        connection.execute("DELETE FROM adapters WHERE id = ?", (three,))
    shutil.rmtree(root / one)
    state = open_state(tmp_path / "data" / "state.db")
    again = AdapterRegistry(tmp_path / "data", state)
    again.recover()
    assert statuses(again) == {one: "active", three: "candidate"}
    assert again.saw("src/a.py")[0].id == three, "what it saw is known again"
    assert {path.name for path in root.iterdir()} == {".lock", three}
    with pytest.raises(AdapterError, match=r"meta\.json is missing"):
        again.files(one)
    assert again.rollback("/project", BASE) is None
    again.close()


def test_nothing_is_touched_where_another_process_writes(
    registry: AdapterRegistry, candidate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(registry, candidate)
    root = tmp_path / "data" / "adapters"
    (root / ".theirs.partial").mkdir()
    monkeypatch.setattr(adapters, "LOCK_SECONDS", 0.05)
    with FileLock(root / ".lock"):
        registry.recover()
        assert (root / ".theirs.partial").is_dir()
    registry.recover()
    assert not (root / ".theirs.partial").exists()


def test_many_threads_at_once(registry: AdapterRegistry, candidate: Path) -> None:
    errors: list[BaseException] = []

    def work(workspace: str) -> None:
        try:
            for _ in range(3):
                registry.promote(made(registry, candidate), workspace)
            registry.rollback(workspace, BASE)
            assert registry.active(workspace, BASE) is not None
        except BaseException as error:  # noqa: BLE001 - told to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"/{name}",)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(registry.list()) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need signals and fork")
def test_kills_at_random_moments_lose_nothing_and_leave_nothing_half(tmp_path: Path) -> None:
    candidate = write_candidate(tmp_path / "candidate", 300_000)
    (tmp_path / "data").mkdir()
    program = Path(__file__).with_name("killed_registry.py")
    seed = int.from_bytes(os.urandom(2), "big")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "data"), str(candidate), str(KILLS), str(seed)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-2000:]}"
    word, amid = done.stdout.split()
    print(f"{KILLS} kills, {amid} amid a change, seed {seed}")
    assert word == "ok"
    assert int(amid) >= KILLS // 3
