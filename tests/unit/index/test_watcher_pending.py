from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from intract_lsp.index.pending import Batch, Gathered, Pace, PendingChanges, folds_case, read_folder, settle


def nothing_ignored(path: str) -> bool:
    return False


def settled(root: Path, *touched: str, gone: tuple[str, ...] = (), folds: bool = False, most: int = 100) -> Batch:
    return settle(str(root), Gathered(set(touched), set(gone)), nothing_ignored, most, folds)


def test_changes_that_pause_come_together() -> None:
    pending = PendingChanges(Pace(quiet=0.05, longest=5))
    pending.touch(["a"])
    pending.touch(["b", "a"])
    start = time.monotonic()
    gathered = pending.take(None)
    assert gathered is not None and gathered.touched == {"a", "b"}
    assert 0.03 < time.monotonic() - start < 2
    assert pending.take(0.01) == Gathered()


def test_changes_that_do_not_pause_come_anyhow() -> None:
    pending = PendingChanges(Pace(quiet=0.2, longest=0.4))
    stop = threading.Event()

    def storm() -> None:
        number = 0
        while not stop.wait(0.01):
            pending.touch([str(number)])
            number += 1

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        start = time.monotonic()
        gathered = pending.take(None)
        assert gathered is not None and len(gathered.touched) > 1
        assert 0.3 < time.monotonic() - start < 5
    finally:
        stop.set()
        thread.join()


def test_too_many_changes_are_a_rescan_and_take_no_memory() -> None:
    pending = PendingChanges(Pace(quiet=0.01, most=10))
    for number in range(100_000):
        pending.touch([str(number)])
    gathered = pending.take(None)
    assert gathered == Gathered(rescan=True)


def test_what_was_told_can_be_dropped() -> None:
    pending = PendingChanges(Pace(quiet=0.01))
    pending.limit()
    pending.vanish()
    pending.drop()
    assert pending.take(0.05) == Gathered()


def test_closing_wakes_whoever_waits() -> None:
    pending = PendingChanges(Pace())
    thread = threading.Thread(target=pending.close)
    thread.start()
    assert pending.take(None) is None
    thread.join()
    pending.touch(["late"])
    assert pending.take(None) is None


def test_the_disk_tells_what_became_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    found = settled(tmp_path, "file", "link", "fifo", "gone", "file/below", "nul\0", "\ud800", "long" * 200)
    assert found.changed == {"file", "link"}
    assert found.removed == {"gone", "file/below", "nul\0", "\ud800", "long" * 200}


def test_directories_become_their_files(tmp_path: Path) -> None:
    for path in ("new/a.py", "new/deep/b.py", "new/node_modules/c.js", "new/deep/d.pyc"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "new" / "loop").symlink_to(tmp_path)

    def ignored(path: str) -> bool:
        return path.endswith((".pyc", "node_modules/"))

    found = settle(str(tmp_path), Gathered({"new"}), ignored, 100, False)
    assert found == Batch(frozenset({"new/a.py", "new/deep/b.py", "new/loop"}))
    assert settle(str(tmp_path), Gathered({"new/node_modules"}), ignored, 100, False) == Batch()


def test_a_directory_that_was_replaced_is_removed_first(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "new.py").write_text("x")
    found = settled(tmp_path, "folder", gone=("folder",))
    assert found == Batch(frozenset({"folder/new.py"}), frozenset({"folder"}))


@pytest.mark.parametrize("path", [".gitignore", "sub/.gitignore", ".intractignore"])
def test_new_rules_are_a_rescan(tmp_path: Path, path: str) -> None:
    assert settled(tmp_path, path, "x.py") == Batch(rescan=True)


def test_a_directory_with_too_many_files_is_a_rescan(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(20):
        (tmp_path / "many" / str(number)).touch()
    assert settled(tmp_path, "many", most=10) == Batch(rescan=True)


@pytest.mark.parametrize("told", ["src/foo.py", "SRC/FOO.PY", "Src/Foo.py"])
def test_names_whose_case_does_not_count(tmp_path: Path, told: str) -> None:
    (tmp_path / "Src").mkdir()
    (tmp_path / "Src" / "Foo.py").write_text("x")
    found = settled(tmp_path, told, folds=True)
    assert found.changed == {"Src/Foo.py"}
    assert found.removed == {told} - {"Src/Foo.py"}
    assert settled(tmp_path, "src/bar.py", folds=True) == Batch(removed=frozenset({"src/bar.py"}))


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    (tmp_path / "zoe\u0308.py").write_text("x")
    assert settled(tmp_path, "zo\u00eb.py", folds=True).changed == {"zoe\u0308.py"}


def test_whether_case_counts(tmp_path: Path) -> None:
    assert not folds_case(str(tmp_path))
    assert not folds_case(str(tmp_path / "missing"))
    (tmp_path / "probe").touch()
    assert folds_case(str(tmp_path)) == (tmp_path / "PROBE").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to the superuser")
def test_a_closed_directory_is_empty(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert read_folder(str(tmp_path), "closed") == ([], [])
    assert settled(tmp_path, "closed/x").removed == {"closed/x"}


def test_a_missing_directory_is_empty(tmp_path: Path) -> None:
    assert read_folder(str(tmp_path), "missing") == ([], [])
