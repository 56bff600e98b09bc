from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from intract_lsp.index.pending import Batch, Pace
from intract_lsp.index.watcher import WorkspaceWatcher

inotify_c = pytest.importorskip("watchdog.observers.inotify_c", exc_type=Exception) if sys.platform == "linux" else None

# watchdog warns where a watch is set up twice; raised on its thread that ends the watching, which the tests notice.
pytestmark = pytest.mark.filterwarnings("error")

PACE = Pace(quiet=0.05, longest=0.5, most=200, poll=0.1, again=0.05)


class Watched:
    """A folder under a watcher, with what it told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notices: list[str] = []
        self._batches: list[Batch] = []
        self._condition = threading.Condition()
        self.failure: Exception | None = None
        self.watcher = WorkspaceWatcher(root, self._take, self._ignored, self.notices.append, PACE)

    @staticmethod
    def _ignored(path: str) -> bool:
        name = path.rstrip("/").rpartition("/")[2]
        return name in ("node_modules", "__pycache__") or path.endswith(".log")

    def _take(self, batch: Batch) -> None:
        with self._condition:
            self._batches.append(batch)
            self._condition.notify_all()
        if self.failure is not None:
            raise self.failure

    def start(self) -> Watched:
        self.watcher.start()
        self.until(lambda batches: batches[-1].rescan)
        return self

    def until(self, seen: Callable[[list[Batch]], bool], seconds: float = 10) -> list[Batch]:
        """Wait for batches; return those up to now and forget them."""
        with self._condition:
            arrived = self._condition.wait_for(lambda: bool(self._batches) and seen(self._batches), seconds)
            batches, self._batches = self._batches, []
            assert arrived, batches
            return batches

    def until_changed(self, *paths: str) -> list[Batch]:
        return self.until(lambda batches: set(paths) <= changed(batches))

    def until_removed(self, *paths: str) -> list[Batch]:
        return self.until(lambda batches: set(paths) <= set().union(*(batch.removed for batch in batches)))


def changed(batches: list[Batch]) -> set[str]:
    return set().union(*(batch.changed for batch in batches))


@pytest.fixture(params=["native", "polling"])
def watched(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    if request.param == "polling":
        refuse_watches(monkeypatch, errno.EMFILE)
    root = tmp_path / "root"
    (root / "pkg" / "deep").mkdir(parents=True)
    (root / "pkg" / "a.py").write_text("x")
    (root / "pkg" / "deep" / "b.py").write_text("x")
    before = set(threading.enumerate())
    watched = Watched(root)
    try:
        yield watched.start()
    finally:
        watched.watcher.stop()
    assert set(threading.enumerate()) <= before


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Watched]:
    root = tmp_path / "root"
    root.mkdir()
    watched = Watched(root)
    try:
        yield watched.start()
    finally:
        watched.watcher.stop()


def refuse_watches(monkeypatch: pytest.MonkeyPatch, code: int, after: int = 0) -> None:
    """Let the system refuse inotify watches after some of them."""
    if inotify_c is None:
        pytest.skip("Linux only")
    given = inotify_c.InotifyFD.add_callback
    left = [after]

    def add_callback(self: object, *arguments: Any) -> Any:
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        left[0] -= 1
        return given(self, *arguments)

    monkeypatch.setattr(inotify_c.InotifyFD, "add_callback", add_callback)


def test_written_made_and_removed_files(watched: Watched) -> None:
    (watched.root / "pkg" / "a.py").write_text("changed")
    (watched.root / "new.py").write_text("x")
    watched.until_changed("pkg/a.py", "new.py")
    (watched.root / "new.py").unlink()
    assert "new.py" not in changed(watched.until_removed("new.py"))


def test_a_file_saved_by_renaming(watched: Watched) -> None:
    (watched.root / "pkg" / "a.py~").write_text("changed")
    (watched.root / "pkg" / "a.py~").replace(watched.root / "pkg" / "a.py")
    watched.until_changed("pkg/a.py")


def test_a_directory_moved_within_is_followed(watched: Watched) -> None:
    (watched.root / "pkg").rename(watched.root / "moved")
    batches = watched.until(
        lambda batches: (
            {"moved/a.py", "moved/deep/b.py"} <= changed(batches) and any("pkg" in batch.removed for batch in batches)
        )
    )
    assert not any(path.startswith("pkg") for path in changed(batches))
    (watched.root / "moved" / "deep" / "b.py").write_text("again")
    watched.until_changed("moved/deep/b.py")


def test_a_tree_moved_in_and_out(watched: Watched, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "one" / "two").mkdir(parents=True)
    (outside / "one" / "two" / "x.py").write_text("x")
    outside.rename(watched.root / "inside")
    watched.until_changed("inside/one/two/x.py")
    (watched.root / "inside" / "one" / "y.py").write_text("y")
    watched.until_changed("inside/one/y.py")
    (watched.root / "inside").rename(outside)
    watched.until_removed("inside")


def test_a_removed_tree_and_one_made_again(watched: Watched) -> None:
    shutil.rmtree(watched.root / "pkg")
    watched.until_removed("pkg")
    (watched.root / "pkg" / "deep").mkdir(parents=True)
    (watched.root / "pkg" / "deep" / "c.py").write_text("x")
    watched.until_changed("pkg/deep/c.py")
    (watched.root / "pkg" / "deep" / "d.py").write_text("x")
    watched.until_changed("pkg/deep/d.py")


def test_ignored_paths_are_not_told(watched: Watched) -> None:
    for path in ("node_modules/x/y.js", ".git/HEAD", "pkg/__pycache__/a.pyc", "pkg/run.log", "sub/node_modules/z.js"):
        (watched.root / path).parent.mkdir(parents=True, exist_ok=True)
        (watched.root / path).write_text("x")
    watched.watcher.note(["node_modules/x/y.js", ".git/HEAD", "pkg/run.log"])
    (watched.root / "last.py").write_text("x")
    assert changed(watched.until_changed("last.py")) == {"last.py"}


def test_names_of_all_kinds(watched: Watched) -> None:
    names = {"日本語.py", "with space.py", "zoë.py", "new\nline.py"}
    if sys.platform == "linux":
        names.add(os.fsdecode(b"\xff.py"))
    for name in names:
        (watched.root / name).write_text("x")
    watched.until_changed(*names)


def test_links_are_not_followed(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (watched.root / "loop").symlink_to(watched.root)
    (watched.root / "out").symlink_to(tmp_path / "elsewhere")
    watched.until_changed("loop", "out")
    (tmp_path / "elsewhere" / "secret.py").write_text("x")
    (watched.root / "last.py").write_text("x")
    assert changed(watched.until_changed("last.py")) <= {"last.py", "loop", "out"}


def test_a_root_that_vanishes_and_comes_back(watched: Watched) -> None:
    shutil.rmtree(watched.root)
    batches = watched.until(lambda batches: batches[-1].vanished)
    assert sum(batch.vanished for batch in batches) == 1
    (watched.root / "pkg").mkdir(parents=True)
    assert watched.until(lambda batches: batches[-1].rescan) == [Batch(rescan=True)]
    (watched.root / "pkg" / "a.py").write_text("x")
    watched.until_changed("pkg/a.py")


def test_what_the_client_tells(watched: Watched) -> None:
    watched.watcher.note(["pkg/a.py", "never/was.py", "../outside.py", "/etc/passwd", "", "a//b", "./c", "nul\0"])
    (batch,) = watched.until_changed("pkg/a.py")
    assert batch == Batch(frozenset({"pkg/a.py"}), frozenset({"never/was.py"}))


def test_more_files_than_a_batch_holds_are_a_rescan(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(PACE.most + 1):
        (tmp_path / "many" / f"{number}.py").write_text("x")
    (tmp_path / "many").rename(watched.root / "many")
    watched.until(lambda batches: batches[-1].rescan)


def test_a_batch_that_fails_does_not_end_the_watching(native: Watched, caplog: pytest.LogCaptureFixture) -> None:
    native.failure = ValueError("private words")
    (native.root / "a.py").write_text("x")
    native.until_changed("a.py")
    native.failure = None
    (native.root / "b.py").write_text("x")
    native.until_changed("b.py")
    assert "taking a batch of changes failed: ValueError" in caplog.text
    assert "private words" not in caplog.text


def test_a_root_that_was_renamed(native: Watched) -> None:
    native.root.rename(native.root.with_name("other"))
    assert native.until(lambda batches: batches[-1].vanished) == [Batch(vanished=True)]


@pytest.mark.parametrize("root", ["missing", "file", "missing/deep"])
def test_a_root_that_is_not_there_yet(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_text("x")
    watched = Watched(tmp_path / root)
    watched.watcher.start()
    try:
        assert watched.until(lambda batches: True) == [Batch(vanished=True)]
        (tmp_path / "file").unlink()
        watched.root.mkdir(parents=True)
        assert watched.until(lambda batches: True) == [Batch(rescan=True)]
    finally:
        watched.watcher.stop()


def test_stopping_twice_and_unstarted(native: Watched, tmp_path: Path) -> None:
    native.watcher.stop()
    native.watcher.stop()
    native.watcher.note(["late.py"])
    Watched(tmp_path).watcher.stop()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize("after", [0, 1])
def test_too_few_watches_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, after: int
) -> None:
    refuse_watches(monkeypatch, code, after)
    (tmp_path / "pkg").mkdir()
    watched = Watched(tmp_path).start()
    try:
        (tmp_path / "pkg" / "a.py").write_text("x")
        watched.until_changed("pkg/a.py")
    finally:
        watched.watcher.stop()
    assert len(watched.notices) == 1 and "max_user_watches" in watched.notices[0]
    assert caplog.text.count("grants no more watches") == 1


def test_too_few_watches_later(native: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_watches(monkeypatch, errno.ENOSPC, after=1)
    for name in ("one", "two", "three"):
        (native.root / name).mkdir()
    native.until(lambda batches: batches[-1].rescan)
    assert len(native.notices) == 1
    (native.root / "three" / "a.py").write_text("x")
    native.until_changed("three/a.py")


@pytest.mark.skipif(inotify_c is None, reason="Linux only")
def test_events_that_the_system_dropped_are_a_rescan(native: Watched) -> None:
    (native.root / "missed").mkdir()
    source: Any = native.watcher._source
    source.on_queue_overflow()
    native.until(lambda batches: batches[-1].rescan)
    (native.root / "missed" / "a.py").write_text("x")
    native.until_changed("missed/a.py")


def test_a_branch_switch_of_git(native: Watched) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=native.root, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    (native.root / "a.py").write_text("one")
    (native.root / "old.py").write_text("x")
    git("add", ".")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "other")
    (native.root / "a.py").write_text("two")
    (native.root / "old.py").rename(native.root / "new.py")
    git("add", ".")
    git("commit", "-qm", "two")
    (native.root / "mark1").touch()
    native.until_changed("mark1")
    git("checkout", "-q", "main")
    batches = native.until(lambda batches: {"a.py", "old.py"} <= changed(batches))
    assert {"new.py"} <= set().union(*(batch.removed for batch in batches))
    assert not any(".git" in path for batch in batches for path in batch.changed | batch.removed)


def test_nothing_is_done_while_nothing_happens(native: Watched) -> None:
    before = time.process_time()
    with pytest.raises(AssertionError):
        native.until(lambda batches: True, seconds=0.5)
    assert time.process_time() - before < 0.1
