from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from intract_lsp.models.free_memory import available_memory

MIB = 1 << 20


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8000 * MIB))


def group(root: Path, path: str, **files: object) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def of_process(root: Path, *lines: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))


def test_without_groups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert available_memory(tmp_path) == 8000 * MIB


def test_a_container_of_version_2(tmp_path: Path) -> None:
    of_process(tmp_path, "0::/")
    group(tmp_path, "", memory__max=4000 * MIB, memory__current=3000 * MIB)
    assert available_memory(tmp_path) == 1000 * MIB
    group(tmp_path, "", memory__stat=f"anon 5\ninactive_file {500 * MIB}\nactive_file 7")
    assert available_memory(tmp_path) == 1500 * MIB


def test_the_narrowest_of_nested_groups_counts(tmp_path: Path) -> None:
    of_process(tmp_path, "0::/user.slice/session.scope")
    group(tmp_path, "user.slice/session.scope", memory__max="max", memory__current=10 * MIB)
    group(tmp_path, "user.slice", memory__max=2000 * MIB, memory__current=1900 * MIB)
    assert available_memory(tmp_path) == 100 * MIB


def test_version_1_where_the_path_is_the_one_outside(tmp_path: Path) -> None:
    of_process(tmp_path, "5:cpu,cpuacct:/docker/abc", "4:memory:/docker/abc", "0::/")
    usage = {"memory__usage_in_bytes": 900 * MIB, "memory__stat": f"total_inactive_file {100 * MIB}"}
    group(tmp_path, "memory", memory__limit_in_bytes=1000 * MIB, **usage)
    assert available_memory(tmp_path) == 200 * MIB


@pytest.mark.parametrize(("limit", "used"), [(2**63 - 4096, 5), ("max", 5), ("rubbish", 5), (5, "")])
def test_no_limit_is_none(tmp_path: Path, limit: object, used: object) -> None:
    of_process(tmp_path, "4:memory:/", "0::/", "rubbish")
    group(tmp_path, "memory", memory__limit_in_bytes=limit, memory__usage_in_bytes=used)
    group(tmp_path, "", memory__max=limit, memory__current=used)
    assert available_memory(tmp_path) == 8000 * MIB


def test_more_taken_than_allowed_is_none_left(tmp_path: Path) -> None:
    of_process(tmp_path, "0::/")
    group(tmp_path, "", memory__max=10, memory__current=20)
    assert available_memory(tmp_path) == 0
